// How often nodes beat and when silence means something. Pure.

export interface HeartbeatTiming {
  readonly intervalMs: number;
  readonly graceMs: number;
  /** Replaces the default rule for LOST when set. */
  readonly lostAfterMs: number | undefined;
  /** Beats a second that a replica wants to take at the most. */
  readonly rateMax: number;
}

/**
 * Time between beats: the configured interval, or longer where that many nodes would exceed the rate. The idea of a
 * load-shaped interval is Nomad's (its TTL is max(10 s, n / 50 per second)).
 */
export const baseIntervalMs = (timing: HeartbeatTiming, connected: number): number =>
  Math.max(timing.intervalMs, Math.ceil((connected / timing.rateMax) * 1000));

/** Time to a node's next beat: the base and up to 10 % more. `random` is in [0, 1). */
export const nextBeatAfterMs = (baseMs: number, random: number): number => Math.floor(baseMs * (1 + 0.1 * random));

/** Silence after which a node is LOST: the setting, or max(300 s, 2 x (interval + grace)). */
export const lostAfterMs = (timing: HeartbeatTiming, intervalMs: number): number =>
  timing.lostAfterMs ?? Math.max(300_000, 2 * (intervalMs + timing.graceMs));

export interface Silence {
  /** When the node was last heard, on the judge's monotonic clock; -Infinity when not since the judge began. */
  readonly lastHeardMs: number;
  /** The interval it was told. */
  readonly intervalMs: number;
}

export interface Judge {
  readonly nowMs: number;
  /** Since when the judge itself has been able to hear: its start, its last stall, the store's return. */
  readonly ableSinceMs: number;
  /** The longest interval that may have been given before the judge began. */
  readonly longestIntervalMs: number;
}

export type Verdict = "alive" | "disconnected" | "lost";

/**
 * What a node's silence means. A node not heard since the judge was able to hear is presumed alive from that moment, so
 * that our outage never becomes the fleet's; one heard since is judged by its own silence.
 */
export function verdict(node: Silence, judge: Judge, timing: HeartbeatTiming): Verdict {
  const heardSince = node.lastHeardMs >= judge.ableSinceMs;
  const silentMs = judge.nowMs - Math.max(node.lastHeardMs, judge.ableSinceMs);
  const longest = heardSince ? node.intervalMs : Math.max(node.intervalMs, judge.longestIntervalMs);
  if (silentMs >= lostAfterMs(timing, longest)) return "lost";
  return silentMs >= node.intervalMs + timing.graceMs ? "disconnected" : "alive";
}

/** A sequence is the node's word alone: a jump beyond this says nothing of beats that were lost. */
const missedMax = 10_000n;

/** How a beat's sequence continues the last one seen; `missed` is at most 10,000. */
export function sequenceStep(last: bigint, sequence: bigint): { readonly fresh: boolean; readonly missed: number } {
  if (sequence <= last) return { fresh: false, missed: 0 };
  const missed = sequence - last - 1n;
  return { fresh: true, missed: Number(missed < missedMax ? missed : missedMax) };
}

/** What a node's registrations of late look like: bounded lists of monotonic times. */
export interface Registrations {
  readonly opened: readonly number[];
  readonly takeovers: readonly { readonly atMs: number; readonly from: string; readonly to: string }[];
}

export const noRegistrations: Registrations = { opened: [], takeovers: [] };

const registrationsMax = 3;
const registrationWindowMs = 8_000;
const takeoversMax = 5;
const takeoverWindowMs = 60_000;

/** A node may open 3 sessions in 8 s. Answers the list with this one, or how long to wait. */
export function register(
  seen: Registrations,
  nowMs: number,
): { readonly registrations: Registrations } | { readonly retryAfterMs: number } {
  const opened = seen.opened.filter((at) => nowMs - at < registrationWindowMs);
  const first = opened[0];
  if (opened.length >= registrationsMax && first !== undefined) {
    return { retryAfterMs: registrationWindowMs - (nowMs - first) };
  }
  return { registrations: { ...seen, opened: [...opened, nowMs] } };
}

/**
 * Notes that a session took over from another one. More than 5 times in a minute back to a boot id seen before are two
 * machines under one identity; an agent that keeps crashing has a new boot id each time and is not.
 */
export function takeOver(
  seen: Registrations,
  boots: { readonly from: string; readonly to: string },
  nowMs: number,
): { readonly registrations: Registrations; readonly duplicateIdentity: boolean } {
  if (boots.from === boots.to) return { registrations: seen, duplicateIdentity: false };
  const recent = seen.takeovers.filter(({ atMs }) => nowMs - atMs < takeoverWindowMs);
  const takeovers = [...recent, { atMs: nowMs, from: boots.from, to: boots.to }].slice(-2 * takeoversMax - 2);
  const back = takeovers.filter(({ to }, place) => takeovers.slice(0, place).some(({ from }) => from === to));
  return { registrations: { ...seen, takeovers }, duplicateIdentity: back.length > takeoversMax };
}

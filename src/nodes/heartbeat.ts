// How often nodes beat and when silence means something. Pure.

export interface HeartbeatTiming {
  readonly intervalMs: number;
  readonly graceMs: number;
  /** Replaces the default rule for LOST when set. */
  readonly lostAfterMs: number | undefined;
  /** Beats per second that a replica aims at: it shapes the interval that nodes are told, and refuses nothing. */
  readonly rateMax: number;
}

/**
 * Time between beats: the configured interval, or longer when that many nodes would exceed the rate. The idea of a
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
  /** When the node was last heard, on the judge's monotonic clock; -Infinity if not since the judge began. */
  readonly lastHeardMs: number;
  /** The interval that the node was told. */
  readonly intervalMs: number;
}

export interface Judge {
  readonly nowMs: number;
  /** Since when the judge itself has been able to hear: since its start, its last stall, or the store's return. */
  readonly ableSinceMs: number;
  /** The longest interval that a node may have been given before the judge began. */
  readonly longestIntervalMs: number;
}

export type Judgement = "alive" | "disconnected" | "lost";

/**
 * What a node's silence means. A node not heard since the judge was able to hear is presumed alive from that moment, so
 * that our outage never becomes the fleet's. A node heard since then is judged by its own silence.
 */
export function judgement(node: Silence, judge: Judge, timing: HeartbeatTiming): Judgement {
  const heardSince = node.lastHeardMs >= judge.ableSinceMs;
  const silentMs = judge.nowMs - Math.max(node.lastHeardMs, judge.ableSinceMs);
  const longest = heardSince ? node.intervalMs : Math.max(node.intervalMs, judge.longestIntervalMs);
  if (silentMs >= lostAfterMs(timing, longest)) return "lost";
  return silentMs >= node.intervalMs + timing.graceMs ? "disconnected" : "alive";
}

/** The node alone chooses its sequence, so a jump beyond this says nothing about lost beats. */
const missedMax = 10_000n;

/** How a beat's sequence continues the last one seen; `missed` is at most 10,000. */
export function sequenceStep(last: bigint, sequence: bigint): { readonly fresh: boolean; readonly missed: number } {
  if (sequence <= last) return { fresh: false, missed: 0 };
  const missed = sequence - last - 1n;
  return { fresh: true, missed: Number(missed < missedMax ? missed : missedMax) };
}

const takeoversMax = 5;
const takeoverWindowMs = 60_000;

/**
 * Whether two machines seem to share an identity, judged by a node's last sessions, oldest first: more than 5 times in
 * a minute a session went back to a boot id seen before. An agent that keeps crashing does not match, because each
 * start has a new boot id.
 */
export function sharedIdentity(sessions: readonly { readonly boot_id: string; readonly at: Date }[]): boolean {
  const last = sessions.at(-1)?.at.getTime() ?? 0;
  const recent = sessions.filter(({ at }) => last - at.getTime() < takeoverWindowMs);
  const boots = recent.map(({ boot_id }) => boot_id).filter((boot, place, all) => boot !== all[place - 1]);
  // The first session took over from none that is seen here.
  return boots.filter((boot, place) => boots.indexOf(boot) < place).length > takeoversMax;
}

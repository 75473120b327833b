// The service's time as the node knows it: what Welcome and Ack told last, and how long ago that was by a clock that never
// steps. The node's own wall clock may be off, or be set, and proofs and tokens are none the worse.
import type { Clock } from "../clock.js";

export interface ServiceTime {
  /** The node's own wall clock until the service has told its time. */
  now(): Date;
  /**
   * Whether that time may date a proof: not between a step of the wall clock, or a sleep of the machine, and the next time
   * that the service tells.
   */
  isKnown(): boolean;
  /** Takes what the service said in an answer that arrives now; `roundTripMs` since what it answers was sent. */
  hear(serverTime: Date, roundTripMs: number): void;
}

/** A clock that is further off than this is worth a word. */
const skewMaxMs = 5_000;
/** An answer that took longer says too little of the moment that it was written in. */
const roundTripMaxMs = 2_000;

/** A wall clock that has moved this much against the monotonic one was set, or the machine was suspended. */
const jumpMs = 5_000;

/**
 * Tells, whenever it is asked, whether the wall clock has jumped against the monotonic one since now. On Linux the
 * monotonic clock stands still while the machine is suspended, and only the wall clock shows it.
 */
export function watchForJump(clock: Clock): () => boolean {
  const apartMs = () => clock.now().getTime() - clock.monotonicMs();
  const formerMs = apartMs();
  return () => Math.abs(apartMs() - formerMs) > jumpMs;
}

/** `onSkew` is told once, with how far the node's clock is ahead of the service's, until the two agree again. */
export function createServiceTime(clock: Clock, onSkew: (aheadMs: number) => void): ServiceTime {
  let offsetMs: number | undefined;
  let told = false;
  let hasJumped = () => false;
  return {
    isKnown: () => !hasJumped(),
    now: () => (offsetMs === undefined ? clock.now() : new Date(clock.monotonicMs() + offsetMs)),
    hear: (serverTime, roundTripMs) => {
      const atMs = serverTime.getTime();
      if (!Number.isFinite(atMs) || atMs <= 0) return;
      const prompt = roundTripMs <= roundTripMaxMs;
      if (!prompt && offsetMs !== undefined && !hasJumped()) return;
      offsetMs = atMs + Math.min(roundTripMs, roundTripMaxMs) / 2 - clock.monotonicMs();
      hasJumped = watchForJump(clock);
      if (!prompt) return;
      const aheadMs = clock.now().getTime() - (clock.monotonicMs() + offsetMs);
      const skewed = Math.abs(aheadMs) > skewMaxMs;
      if (skewed && !told) onSkew(aheadMs);
      told = skewed;
    },
  };
}

/** "This machine's clock is 120 s ahead of the service's": for a person. */
export const wordsOfSkew = (aheadMs: number): string =>
  `This machine's clock is ${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? "ahead of" : "behind"} the ` +
  "service's: proofs are dated by the service's time; set the clock (NTP)";

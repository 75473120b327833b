// The service's time as the node knows it: the last time in a Welcome or Ack, plus the time since then by the monotonic
// clock. So a wrong or changed wall clock of the node harms neither proofs nor tokens.
import type { Clock } from "../clock.js";

export interface ServiceTime {
  /** The node's own wall clock until the service has told its time. */
  now(): Date;
  /**
   * Whether that time may date a proof. False after a step of the wall clock or a suspend of the machine, until the service
   * tells its time again.
   */
  isKnown(): boolean;
  /** Records the service's time in an answer that arrives now; `roundTripMs` is the time since the request was sent. */
  hear(serverTime: Date, roundTripMs: number): void;
}

/** A clock that is off by more than this is reported. */
const skewMaxMs = 5_000;
/** A slower answer says too little about the moment when it was written. */
const roundTripMaxMs = 2_000;

/** A wall clock that moved this much against the monotonic one was set, or the machine was suspended. */
const jumpMs = 5_000;

/**
 * Returns a function that tells whether the wall clock has jumped against the monotonic one since now. On Linux the
 * monotonic clock stops while the machine is suspended, so only the wall clock shows it.
 */
export function watchForJump(clock: Clock): () => boolean {
  const apartMs = () => clock.now().getTime() - clock.monotonicMs();
  const formerMs = apartMs();
  return () => Math.abs(apartMs() - formerMs) > jumpMs;
}

/** `onSkew` is called once, with how far the node's clock is ahead of the service's, until the two agree again. */
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

/** A sentence for people, such as "This machine's clock is 120 s ahead of the service's". */
export const wordsOfSkew = (aheadMs: number): string =>
  `This machine's clock is ${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? "ahead of" : "behind"} the ` +
  "service's: proofs are dated by the service's time; set the clock (NTP)";

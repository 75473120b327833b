// The service's time as the node knows it: what Welcome and Ack told last, and how long ago that was by a clock that never
// steps. The node's own wall clock may be off, or be set, and proofs and tokens are none the worse.
import type { Clock } from "../clock.js";

export interface ServiceTime {
  /** The node's own wall clock until the service has told its time. */
  now(): Date;
  /** Takes what the service said in an answer that arrives now; `roundTripMs` since what it answers was sent. */
  hear(serverTime: Date, roundTripMs: number): void;
}

/** A clock that is further off than this is worth a word. */
const skewMaxMs = 5_000;
/** An answer that took longer says too little of the moment that it was written in. */
const roundTripMaxMs = 2_000;

/** `onSkew` is told once, with how far the node's clock is ahead of the service's, until the two agree again. */
export function createServiceTime(clock: Clock, onSkew: (aheadMs: number) => void): ServiceTime {
  let offsetMs: number | undefined;
  let told = false;
  return {
    now: () => (offsetMs === undefined ? clock.now() : new Date(clock.monotonicMs() + offsetMs)),
    hear: (serverTime, roundTripMs) => {
      const atMs = serverTime.getTime();
      if (!Number.isFinite(atMs) || atMs <= 0) return;
      const prompt = roundTripMs <= roundTripMaxMs;
      if (!prompt && offsetMs !== undefined) return;
      offsetMs = atMs + Math.min(roundTripMs, roundTripMaxMs) / 2 - clock.monotonicMs();
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

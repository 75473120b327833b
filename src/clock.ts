// Time as an argument: whoever needs it is handed a Clock, so that a test moves it and nothing sleeps for real.
import { setTimeout as delay } from "node:timers/promises";

export interface Clock {
  /** The wall clock. It may step; it only dates things, it never judges a node. */
  now(): Date;
  /** Milliseconds that only grow; the origin means nothing. */
  monotonicMs(): number;
  /** Waits; returns early, without an error, when the signal aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) => delay(ms, undefined, { signal, ref: true }).catch(() => undefined),
};

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

/** The longest that a timer of Node.js waits, some 24 days: asked for more, it fires at once. */
export const timerMaxMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: async (ms, signal) => {
    for (let leftMs = ms; leftMs > 0 && !signal.aborted; leftMs -= timerMaxMs) {
      await delay(Math.min(leftMs, timerMaxMs), undefined, { signal, ref: true }).catch(() => undefined);
    }
  },
};

/** A signal that aborts after so many milliseconds of real time, for what waits for others than us. */
export const timeLimit = (ms: number): AbortSignal => AbortSignal.timeout(ms);

/** Chance, in [0, 1): an argument wherever it decides something, so that a test can choose it. */
export const systemRandom: () => number = Math.random;

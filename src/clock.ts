// Time as an argument: code that needs the time is given a Clock, so a test can move it and never sleeps for real.
import { setTimeout as delay } from "node:timers/promises";

export interface Clock {
  /** The wall clock. It may step, so it only dates things and never judges a node. */
  now(): Date;
  /** Milliseconds that only grow. The origin has no meaning. */
  monotonicMs(): number;
  /** Waits. Returns early, without an error, when the signal aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** The longest wait of a Node.js timer, about 24 days. A timer set for longer fires at once. */
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

/** A signal that aborts after so many milliseconds of real time, for calls to other programs. */
export const timeLimit = (ms: number): AbortSignal => AbortSignal.timeout(ms);

/** A random number in [0, 1). It is an argument wherever it decides something, so that a test can choose it. */
export const systemRandom: () => number = Math.random;

// Limits how long a caller waits for an answer. All waits have the same limit, so one sleeper watches them all. A timer
// for each wait would cost a good part of the operation itself.
import { type Clock, systemClock } from "../../clock.js";

export interface Deadline {
  /**
   * The work's result; if the work takes longer, rejects with `late`. The signal then aborts with the same error, and
   * the work must start nothing more.
   */
  within<Result>(work: (signal: AbortSignal) => Promise<Result>, late: () => Error): Promise<Result>;
  /** Stops watching. Nothing may wait any more, since its wait would have no limit. */
  end(): void;
}

interface Waiting {
  readonly dueMs: number;
  expire(): void;
}

export function createDeadline(limitMs: number, clock: Clock = systemClock): Deadline {
  /** In order of their beginning, and so of their end. */
  const waiting = new Set<Waiting>();
  const ended = new AbortController();
  let isWatched = false;

  const watch = async () => {
    isWatched = true;
    for (let [oldest] = waiting; oldest && !ended.signal.aborted; [oldest] = waiting) {
      const leftMs = oldest.dueMs - clock.monotonicMs();
      if (leftMs > 0) await clock.sleep(Math.ceil(leftMs), ended.signal);
      else {
        waiting.delete(oldest);
        oldest.expire();
      }
    }
    isWatched = false;
  };
  return {
    within: (work, late) =>
      new Promise((resolve, reject) => {
        const control = new AbortController();
        const expire = () => {
          const reason = late();
          reject(reason);
          control.abort(reason);
        };
        const entry = { dueMs: clock.monotonicMs() + limitMs, expire };
        waiting.add(entry);
        if (!isWatched) void watch();
        work(control.signal)
          .then(resolve, reject)
          .finally(() => waiting.delete(entry));
      }),
    end: () => ended.abort(),
  };
}

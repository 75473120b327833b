// A limit on how long an answer is waited for. All waits have the same limit, so that one sleeper watches them all: a timer
// for each, made and called off, would cost a good part of what the operation itself does.
import { type Clock, systemClock } from "../../clock.js";

export interface Deadline {
  /**
   * The work's result, or what `late` answers as a rejection when it takes longer. The signal then aborts with that
   * rejection: work begins nothing more from there on.
   */
  within<Result>(work: (signal: AbortSignal) => Promise<Result>, late: () => Error): Promise<Result>;
  /** Watches no longer: nothing may be waiting any more, or it would wait without a limit. */
  end(): void;
}

interface Waiting {
  readonly dueMs: number;
  expire(): void;
}

export function createDeadline(limitMs: number, clock: Clock = systemClock): Deadline {
  /** In the order of their beginning, which is that of their end. */
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

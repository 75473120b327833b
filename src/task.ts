// Long-lived work: each piece is a Task, all of them stand in one list and share one end.
import type { Clock } from "./clock.js";
import { StoreUnavailableError } from "./storage/collection.js";

/** Runs until the signal aborts, then returns. Throwing means that the process cannot go on. */
export type Task = (signal: AbortSignal) => Promise<void>;

/** Work that is tried once a second while the store is away, and then done. What else it throws ends the process. */
export const untilDone =
  (work: (signal: AbortSignal) => Promise<void>, clock: Clock): Task =>
  async (signal) => {
    while (!signal.aborted) {
      try {
        return await work(signal);
      } catch (error) {
        if (!(error instanceof StoreUnavailableError)) throw error;
        await clock.sleep(1_000, signal);
      }
    }
  };

export interface RunningTasks {
  /** Rejects with the first failure of a task, resolves when all have ended. */
  readonly ended: Promise<void>;
  /** Aborts all and waits for them. */
  stop(): Promise<void>;
}

/** Starts all tasks; the first one that fails ends the others. */
export function runTasks(tasks: readonly Task[]): RunningTasks {
  const control = new AbortController();
  const running = tasks.map((task) =>
    task(control.signal).catch((error: unknown) => {
      control.abort();
      throw error;
    }),
  );
  const ended = Promise.allSettled(running).then((results) => {
    const failed = results.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
  });
  ended.catch(() => undefined);
  return {
    ended,
    stop: async () => {
      control.abort();
      await ended.catch(() => undefined);
    },
  };
}

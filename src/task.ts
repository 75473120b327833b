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

/**
 * What comes of a turn that failed and is tried again soon. That the store is away is told of by those who write heartbeats;
 * anything else is a mistake of this program, which would repeat in silence.
 */
export const turnFailed =
  (log: { error(message: string, context: Record<string, unknown>): void }, what: string) =>
  (error: unknown): void => {
    if (!(error instanceof StoreUnavailableError)) log.error(`${what} failed by a mistake of this program`, { error });
  };

/** Does the work for each item, so many at a time, in the order of the items. Rejects with the first failure. */
export async function eachOf<Item>(
  items: readonly Item[],
  atOnce: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  // One iterator for all: each item goes to whoever is free.
  const waiting = items.values();
  const worker = async () => {
    for (const item of waiting) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}

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

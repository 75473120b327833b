// Long-lived work: every piece is a Task; all tasks are in one list and stop together. A loop retries during an outage
// only. A mistake of ours ends the process, since the loop would otherwise repeat it in silence.
import type { Clock } from "./clock.js";
import { CoordinationUnavailableError } from "./coordination/coordination.js";
import { Failure } from "./failure.js";
import { StoreUnavailableError } from "./storage/collection.js";
import type { Log } from "./telemetry/log.js";

/** Runs until the signal aborts, then returns. A throw means that the process cannot go on. */
export type Task = (signal: AbortSignal) => Promise<void>;

/** Whether the error says that the store or the coordination is away or overloaded, so that a later retry is right. */
export const isOutage = (error: unknown): boolean =>
  error instanceof StoreUnavailableError ||
  error instanceof CoordinationUnavailableError ||
  (error instanceof Failure && error.reason === "LUCID_ERR_5031");

/** For work that may be lost to known errors: `.catch(unless(isOutage))` ignores those and throws every other. */
export const unless =
  (...known: readonly ((error: unknown) => boolean)[]) =>
  (error: unknown): undefined => {
    if (!known.some((isKnown) => isKnown(error))) throw error;
  };

/** Reports an outage: once when it begins and once when it is over, however many turns it lasts. */
export interface Outage {
  began(error: unknown): void;
  ended(): void;
}

/** Logs an outage. `began` says what does not happen meanwhile, `ended` that it happens again. */
export const outage = (parts: {
  readonly log: Pick<Log, "info" | "warn">;
  readonly began: string;
  readonly ended: string;
}): Outage => ({
  began: (error) => parts.log.warn(parts.began, { error }),
  ended: () => parts.log.info(parts.ended),
});

/**
 * What follows a turn. Undefined: the next turn, after the wait. "at once": the next turn without a wait, since there
 * may be more to do. "idle": the next turn after the wait; this one asked nothing of the store, so it does not know
 * whether an outage is over. "done": no turn follows.
 */
export type Next = "at once" | "idle" | "done" | undefined;

export interface Loop {
  readonly task: Task;
  /** Starts the next turn without the wait, or right after the running turn. */
  wake(): void;
}

/**
 * Runs a turn again and again until the signal aborts, then `last` once. A turn that meets an outage is tried again
 * after the wait. Any other error of a turn rejects the task.
 */
export function turns(parts: {
  readonly clock: Pick<Clock, "sleep">;
  /** Milliseconds between the end of a turn and the beginning of the next. */
  readonly everyMs: number;
  readonly turn: (signal: AbortSignal) => Promise<Next> | Promise<void>;
  /** If absent, the turn handles outages itself, and an outage that it throws is a mistake. */
  readonly away?: Outage;
  /** Final work after the signal has aborted. It is not retried. */
  readonly last?: () => Promise<void>;
}): Loop {
  const { clock, everyMs, turn, away, last } = parts;
  let woken = false;
  let endWait: (() => void) | undefined;

  const wait = async (signal: AbortSignal): Promise<void> => {
    if (woken) return;
    const waiting = new AbortController();
    endWait = () => waiting.abort();
    await clock.sleep(everyMs, AbortSignal.any([signal, waiting.signal]));
    endWait = undefined;
  };

  const task: Task = async (signal) => {
    let isAway = false;
    const attempt = async (work: (signal: AbortSignal) => Promise<Next> | Promise<void>): Promise<Next> => {
      try {
        const next = (await work(signal)) ?? undefined;
        if (isAway && next !== "idle") {
          isAway = false;
          away?.ended();
        }
        return next;
      } catch (error) {
        if (away === undefined || !isOutage(error)) throw error;
        if (!isAway) away.began(error);
        isAway = true;
        return undefined;
      }
    };

    while (!signal.aborted) {
      // The coming turn answers every earlier wake-up.
      woken = false;
      const next = await attempt(turn);
      if (next === "done") return;
      if (next !== "at once") await wait(signal);
    }
    if (last !== undefined) await attempt(last);
  };

  return {
    task,
    wake: () => {
      woken = true;
      endWait?.();
    },
  };
}

/** Work that is retried once a second during an outage, until it succeeds. */
export const untilDone = (parts: {
  readonly work: (signal: AbortSignal) => Promise<void>;
  readonly clock: Pick<Clock, "sleep">;
  readonly away: Outage;
}): Task =>
  turns({
    ...{ clock: parts.clock, everyMs: 1_000, away: parts.away },
    turn: async (signal) => {
      await parts.work(signal);
      return "done";
    },
  }).task;

/** Does the work for each item in order, up to a number of items at a time. Rejects with the first failure. */
export async function eachOf<Item>(
  items: readonly Item[],
  atOnce: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  // All workers share one iterator: a free worker takes the next item.
  const waiting = items.values();
  const worker = async () => {
    for (const item of waiting) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}

/** A task failed; the cause is what it threw. */
export class TaskError extends Error {
  override readonly name = "TaskError";
  /** Its name in the list of tasks. */
  readonly task: string;

  constructor(task: string, cause: unknown) {
    super(`The task ${task} failed`, { cause });
    this.task = task;
  }
}

export interface RunningTasks {
  /** The names of all tasks, ended ones included. */
  readonly names: readonly string[];
  /** Names of the tasks that have not ended yet. */
  running(): readonly string[];
  /** Rejects with the TaskError of the first failed task once all others have ended; resolves when none failed. */
  readonly ended: Promise<void>;
  /** Aborts all tasks and waits for them. Only `ended` reports a failure meanwhile. */
  stop(): Promise<void>;
}

/** Starts all tasks under their names. The first failure ends the others. */
export function runTasks(tasks: Readonly<Record<string, Task>>): RunningTasks {
  const control = new AbortController();
  const running = new Set(Object.keys(tasks));
  let failure: TaskError | undefined;
  const run = async (name: string, task: Task): Promise<void> => {
    try {
      await task(control.signal);
    } catch (error) {
      failure ??= new TaskError(name, error);
      control.abort();
    }
    running.delete(name);
  };
  const ended = Promise.all(Object.entries(tasks).map(([name, task]) => run(name, task))).then(() => {
    if (failure !== undefined) throw failure;
  });
  ended.catch(() => undefined);
  return {
    names: Object.keys(tasks),
    running: () => [...running],
    ended,
    stop: async () => {
      control.abort();
      await ended.catch(() => undefined);
    },
  };
}

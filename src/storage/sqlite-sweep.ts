// Deletes documents whose time to live is over. Reads never depend on it; it only keeps the file from growing.
import { setTimeout as delay } from "node:timers/promises";
import { type Clock, systemClock } from "../clock.js";
import type { CollectionDefinition, IndexDefinition } from "./collection.js";
import type { CommitQueue } from "./sqlite-commit.js";
import type { Statements } from "./sqlite-file.js";
import { deleteExpired } from "./sqlite-query.js";

export interface StoreLog {
  warn(message: string, fields: Readonly<Record<string, unknown>>): void;
}

export interface SweepParts {
  readonly clock: Clock;
  readonly log: StoreLog | undefined;
  readonly queue: CommitQueue;
  readonly statements: Statements;
  /** Those open at the moment. */
  readonly definitions: () => Iterable<CollectionDefinition>;
  /** Gives a bounded number of free pages back to the disk. */
  readonly shrink: () => void;
}

const everyMs = 30_000;
/** More would keep the event loop busy for longer than a heartbeat should wait. */
const turnMax = 200;

/** Sweeps about every 30 seconds of the clock until the signal aborts; a failed sweep is logged and tried again then. */
export async function sweepExpired(parts: SweepParts, signal: AbortSignal): Promise<void> {
  const clock = unreferenced(parts.clock);
  for (;;) {
    await clock.sleep(everyMs, signal);
    if (signal.aborted) return;
    await sweepOnce(parts, signal).catch((error: unknown) => {
      if (!signal.aborted) parts.log?.warn("Expired documents could not be deleted", { error });
    });
  }
}

async function sweepOnce(parts: SweepParts, signal: AbortSignal): Promise<void> {
  for (const definition of parts.definitions()) {
    for (const index of definition.indexes) {
      if (index.ttlSeconds === undefined) continue;
      while (!signal.aborted && (await deleteSome(parts, definition, index, index.ttlSeconds)) === turnMax);
    }
  }
  if (!signal.aborted) parts.shrink();
}

/** Each turn is its own piece of work in the commit queue, so other writes come between. */
function deleteSome(
  { clock, queue, statements }: SweepParts,
  definition: CollectionDefinition,
  index: IndexDefinition,
  ttlSeconds: number,
): Promise<number> {
  const until = clock.now().getTime() - ttlSeconds * 1000;
  return queue.run(() => statements.run(deleteExpired(definition, index), until, turnMax));
}

/** The system's clock keeps a process alive while something sleeps by it, which must not hold for housekeeping. */
function unreferenced(clock: Clock): Pick<Clock, "sleep"> {
  if (clock !== systemClock) return clock;
  return { sleep: (ms, signal) => delay(ms, undefined, { signal, ref: false }).catch(() => undefined) };
}

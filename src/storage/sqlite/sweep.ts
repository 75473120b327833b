// Deletes expired documents. Reads never depend on it; it only keeps the file from growing.
import { setTimeout as delay } from "node:timers/promises";
import { type Clock, systemClock } from "../../clock.js";
import type { CollectionDefinition, IndexDefinition } from "../collection.js";
import type { CommitQueue } from "./commit.js";
import type { Statements } from "./file.js";
import { deleteExpired } from "./query.js";

export interface StoreLog {
  warn(message: string, fields: Readonly<Record<string, unknown>>): void;
}

export interface SweepParts {
  readonly clock: Clock;
  /** The time that decides expiry, in milliseconds since 1970. */
  readonly nowMs: () => number;
  readonly log: StoreLog | undefined;
  readonly queue: CommitQueue;
  readonly statements: Statements;
  /** The collections that are open. */
  readonly definitions: () => Iterable<CollectionDefinition>;
  /** Returns a bounded number of free pages to the disk. */
  readonly shrink: () => void;
}

const everyMs = 30_000;
/** If the wall clock gets further ahead of the monotonic clock than this, it has jumped. */
const jumpMs = 3_600_000;
/** A jump that has lasted this long is taken as a correction of the clock. */
const believedAfterMs = 86_400_000;
/** The most documents that one piece of work in the commit queue deletes. */
const turnMax = 200;
/** Documents deleted before the work checks again whether the turn is over. */
const stepMax = 20;

/** Sweeps about every 30 seconds until the signal aborts. A failed sweep is logged and tried again at the next one. */
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
      while (!signal.aborted && (await deleteSome(parts, definition, index, index.ttlSeconds)));
    }
  }
  if (!signal.aborted) parts.shrink();
}

/**
 * The milliseconds since 1970 by the wall clock. After a jump ahead of more than an hour, the time without the jump,
 * for a day: documents deleted by mistake cannot be recovered. A jump is logged.
 */
export function createSteadyTime({ clock, log }: Pick<SweepParts, "clock" | "log">): () => number {
  const aheadMs = () => clock.now().getTime() - clock.monotonicMs();
  let trustedMs = aheadMs();
  let jumpedAtMs: number | undefined;
  return () => {
    const jumpedMs = aheadMs() - trustedMs;
    if (jumpedMs <= jumpMs) {
      jumpedAtMs = undefined;
      trustedMs = aheadMs();
    } else if (jumpedAtMs === undefined) {
      jumpedAtMs = clock.monotonicMs();
      log?.warn("The clock jumped ahead; nothing expires by the jump for a day", { jumped_ms: jumpedMs });
    } else if (clock.monotonicMs() - jumpedAtMs >= believedAfterMs) {
      trustedMs = aheadMs();
    }
    return clock.monotonicMs() + trustedMs;
  };
}

/**
 * Each turn is its own piece of work in the commit queue, so other writes come between. Returns whether there may be
 * more to delete.
 */
function deleteSome(
  { nowMs, queue, statements }: SweepParts,
  definition: CollectionDefinition,
  index: IndexDefinition,
  ttlSeconds: number,
): Promise<boolean> {
  const until = nowMs() - ttlSeconds * 1000;
  return queue.run((turn) => {
    for (let left = turnMax; left > 0; left -= stepMax) {
      if (statements.run(deleteExpired(definition, index), until, stepMax) < stepMax) return false;
      if (turn.isOver()) break;
    }
    return true;
  });
}

/** The system's clock keeps the process alive while something sleeps on it. Housekeeping must not. */
function unreferenced(clock: Clock): Pick<Clock, "sleep"> {
  if (clock !== systemClock) return clock;
  return { sleep: (ms, signal) => delay(ms, undefined, { signal, ref: false }).catch(() => undefined) };
}

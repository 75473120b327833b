// The tail of the log as this replica follows it: read once, passed to all followers. Changes on other replicas come
// this way too; a message between replicas only makes them come sooner.
import { type Announcement, createAnnouncer } from "../../announcement.js";
import type { Clock } from "../../clock.js";
import { type Next, outage, turns } from "../../task.js";
import type { Log } from "../../telemetry/log.js";
import type { NodeDocument } from "../node.js";
import type { NodeRepository } from "../repository.js";
import { type LogEntry, type NodeLog, positionOf } from "./log.js";

/** Consecutive entries of the log. */
export interface Chunk {
  /** The position of the entry before the first one, and the position of the last one. */
  readonly from: number;
  readonly to: number;
  readonly entries: readonly LogEntry[];
  /** The live nodes of these entries, as they are now; read once for all callers. */
  nodes(): Promise<ReadonlyMap<string, NodeDocument>>;
}

export type Feed = ReturnType<typeof createFeed>;

const chunkMax = 500;
/** Entries kept for followers that are a little behind; a follower further behind reads the log. */
const keptMax = 2000;
const pollMs = 1000;

export function createFeed(parts: {
  readonly log: Pick<NodeLog, "after" | "tail">;
  readonly repository: Pick<NodeRepository, "findMany">;
  readonly clock: Clock;
  readonly logger: Pick<Log, "info" | "warn">;
}) {
  const { log, repository, clock } = parts;
  const chunks = createAnnouncer<Chunk, Promise<void> | void>();
  const kept: Chunk[] = [];
  let position: number | undefined;
  const waiting = new Set<() => void>();

  const chunkOf = (from: number, entries: readonly LogEntry[]): Chunk => {
    let nodes: Promise<ReadonlyMap<string, NodeDocument>> | undefined;
    const last = entries.at(-1);
    return {
      from,
      to: last === undefined ? from : positionOf(last),
      entries,
      nodes: () => {
        // A failure must not be remembered as the answer.
        nodes ??= repository.findMany([...new Set(entries.map(({ node_id }) => node_id))]).catch((error: unknown) => {
          nodes = undefined;
          throw error;
        });
        return nodes;
      },
    };
  };

  const keep = (chunk: Chunk): void => {
    kept.push(chunk);
    let count = kept.reduce((sum, { entries }) => sum + entries.length, 0);
    while (count > keptMax && kept.length > 1) count -= kept.shift()?.entries.length ?? 0;
  };

  const begin = async (): Promise<void> => {
    position ??= await log.tail();
  };

  const readOn = async (): Promise<Next> => {
    if (position === undefined) {
      await begin();
      return undefined;
    }
    const chunk = chunkOf(position, await log.after(position, chunkMax));
    if (chunk.entries.length === 0) return undefined;
    await Promise.all(chunks.announce(chunk));
    position = chunk.to;
    keep(chunk);
    for (const wake of [...waiting]) wake();
    return chunk.entries.length === chunkMax ? "at once" : undefined;
  };

  const away = outage({
    log: parts.logger,
    began: "Changes to nodes on other replicas are not read now",
    ended: "Changes to nodes on other replicas are read again",
  });
  const loop = turns({ clock, everyMs: pollMs, turn: readOn, away });

  return {
    task: loop.task,
    /**
     * Each new chunk, in order; the same chunk again if a listener met an outage of the store. Any other rejection by a
     * listener ends the task.
     */
    chunks: chunks as Announcement<Chunk, Promise<void> | void>,
    /** Sets the position to follow from; the task does so otherwise. Rejects when the store is away. */
    begin,
    /** Whether this replica follows yet. Before that, nobody may rely on hearing what other replicas do. */
    follows: (): boolean => position !== undefined,
    /** Says that the log has new entries. */
    wake: loop.wake,

    /**
     * The entries after that position, waiting for them up to `waitMs`; undefined when none came. For a follower that
     * is far behind the log is read again.
     */
    next: async (after: number, waitMs: number, signal: AbortSignal): Promise<Chunk | undefined> => {
      if (position === undefined || after >= position) await newer(after, waitMs, signal);
      if (signal.aborted || position === undefined || after >= position) return undefined;
      const known = kept.find(({ from, to }) => from <= after && after < to);
      if (known === undefined) return chunkOf(after, await log.after(after, chunkMax));
      return known.from === after ? known : rest(known, after);
    },
  };

  function rest(chunk: Chunk, after: number): Chunk {
    const entries = chunk.entries.filter((entry) => positionOf(entry) > after);
    return { from: after, to: chunk.to, entries, nodes: chunk.nodes };
  }

  async function newer(after: number, waitMs: number, signal: AbortSignal): Promise<void> {
    const control = new AbortController();
    const wake = () => {
      if (position !== undefined && position > after) control.abort();
    };
    waiting.add(wake);
    await clock.sleep(waitMs, AbortSignal.any([signal, control.signal]));
    waiting.delete(wake);
  }
}

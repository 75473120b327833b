// The history of nodes: one dense log over all of them. A change is written into its node's document first, in the same
// write that makes it; any replica then moves it here, where its number is its position. A crash in between loses
// nothing: the document still holds the change, and the unique (node, change) refuses a second move of it.
import { type Announcement, createAnnouncer } from "../../announcement.js";
import type { Clock } from "../../clock.js";
import type { CollectionDefinition, Cursor, Page, Store } from "../../storage/collection.js";
import { type Next, outage, turns } from "../../task.js";
import type { Log } from "../../telemetry/log.js";
import type { Change, NodeDocument } from "../node.js";
import type { NodeRepository } from "../repository.js";

/** A change in the log; `_id` is its number in 16 digits. */
export interface LogEntry extends Change {
  readonly _id: string;
  readonly node_id: string;
}

/** Nodes whose changes move at a time, and changes of each node: a busy node waits its turn like any other. */
const nodesMax = 200;
const changesMax = 100;
const partlyMax = 10_000;
const retentionMs = 30 * 86_400_000;
const leftoversMs = 3_000;
const purgeMs = 3_600_000;
const turnMs = 1_000;

export const nodeLogCollection: CollectionDefinition = {
  name: "node_log",
  durability: "durable",
  dates: ["at"],
  indexes: [
    { name: "idx_node_id", key: ["node_id"] },
    { name: "idx_node_change", key: ["node_id", "change"], unique: true },
    { name: "idx_at", key: ["at"] },
  ],
};

export type NodeLog = Awaited<ReturnType<typeof createNodeLog>>;

const entryId = (position: number) => String(position).padStart(16, "0");

/** The position of an entry in the log, from 1. */
export const positionOf = ({ _id }: LogEntry): number => Number(_id);

export async function createNodeLog(parts: {
  readonly store: Store;
  readonly repository: NodeRepository;
  readonly clock: Clock;
  readonly logger: Pick<Log, "info" | "warn">;
}) {
  const { store, repository, clock } = parts;
  const log = await store.collection<LogEntry>(nodeLogCollection);
  const appended = createAnnouncer<void>();
  const own = new Set<string>();
  /**
   * By node: the last of its changes that the log holds, kept until the node's document has dropped its own copy of
   * them. An entry may be missing: the append is then refused, and the log is read.
   */
  const partly = new Map<string, number>();
  let queue: Promise<unknown> = Promise.resolve();
  let purgedMs = Number.NEGATIVE_INFINITY;
  /** When this replica last looked for changes that others left behind; -Infinity while there is more of them. */
  let leftMs = Number.NEGATIVE_INFINITY;

  const tail = async (): Promise<number> => {
    const last = await log.page({}, { index: "_id_", descending: true, limit: 1 });
    return Number(last.items[0]?._id ?? 0);
  };

  /**
   * Appends in order. If a change is in the log already, all changes of its node that are there are skipped. The log
   * holds a node's changes in their order, so one read of the greatest is enough.
   */
  const append = async (changes: readonly Omit<LogEntry, "_id">[]): Promise<void> => {
    let rest = changes;
    while (rest.length > 0) {
      const from = (await tail()) + 1;
      const entries = rest.slice(0, 1000).map((change, index) => ({ ...change, _id: entryId(from + index) }));
      const { inserted } = await log.insertMany(entries, { ordered: true });
      rest = rest.slice(inserted);
      const refused = inserted < entries.length ? rest[0] : undefined;
      if (refused === undefined) continue;
      // Either another replica took its number, and it goes behind the new tail, or it is in the log already.
      const greatest = await greatestOf(refused.node_id);
      if (refused.change <= greatest) {
        partly.set(refused.node_id, greatest);
        rest = rest.filter(({ node_id, change }) => node_id !== refused.node_id || change > greatest);
      }
    }
  };

  /** The greatest change of the node in the log; 0 while there is none. */
  const greatestOf = async (nodeId: string): Promise<number> => {
    const last = await log.page({ node_id: nodeId }, { index: "idx_node_change", descending: true, limit: 1 });
    return last.items[0]?.change ?? 0;
  };

  /** Answers whether any of these nodes had more changes than move at once. */
  const move = async (nodes: readonly NodeDocument[]): Promise<boolean> => {
    const waiting = nodes.map((node) => {
      const logged = partly.get(node._id) ?? 0;
      return { node, changes: node.unlogged.filter(({ change }) => change > logged) };
    });
    const moved = waiting.map(({ node, changes }) => ({ node, changes: changes.slice(0, changesMax) }));
    await append(moved.flatMap(({ node, changes }) => changes.map((change) => ({ ...change, node_id: node._id }))));
    const logged = moved.map(({ node, changes }) => ({
      nodeId: node._id,
      // A node without anything to log has all its changes in the log.
      change: Math.max(changes.at(-1)?.change ?? node.change, partly.get(node._id) ?? 0),
      deleted: node.deleted_at !== undefined,
    }));
    // One call, so that the writes share a commit. What the log holds is remembered until the nodes drop it.
    for (const { nodeId, change } of logged) partly.set(nodeId, change);
    const forgotten = await repository.markLogged(logged, clock.now());
    if (forgotten) for (const { nodeId } of logged) partly.delete(nodeId);
    while (partly.size > partlyMax) partly.delete(partly.keys().next().value as string);
    if (nodes.length > 0) appended.announce();
    const more = waiting.filter(({ changes }) => changes.length > changesMax);
    for (const { node } of more) own.add(node._id);
    return more.length > 0;
  };

  /** Moves all changes that these nodes had when they were read. */
  const moveAll = async (nodes: readonly NodeDocument[]): Promise<void> => {
    while (await move(nodes));
  };

  /** One move at a time in this process, so that its own moves never collide. A move that fails holds up no other. */
  const inTurn = <Result>(work: () => Promise<Result>): Promise<Result> => {
    const done = Promise.allSettled([queue]).then(work);
    queue = done;
    return done;
  };

  /** Keeps the newest entry for ever: the next number follows from it. */
  const purge = async (): Promise<void> => {
    // By the store's clock, because this machine's clock may be years ahead.
    const before = new Date((await store.now()).getTime() - retentionMs);
    const last = entryId(await tail());
    while (
      (await log.deleteMany({ at: { $lt: before }, _id: { $lt: last } }, { index: "idx_at", limit: 500 })) === 500
    );
  };

  /** Moves the changes of nodes that this replica changed itself, so that replicas seldom compete for a node. */
  const moveOwn = async (): Promise<void> => {
    const ids = [...own].slice(0, nodesMax);
    if (ids.length === 0) return;
    for (const id of ids) own.delete(id);
    try {
      await move(await repository.unloggedAmong(ids));
    } catch (error) {
      for (const id of ids) own.add(id);
      throw error;
    }
  };

  /** Moves changes that a replica left behind because it died or lost its store. Answers whether there may be more. */
  const moveLeft = async (): Promise<boolean> => {
    const nodes = await repository.unlogged(nodesMax);
    const more = await move(nodes);
    return more || nodes.length === nodesMax;
  };

  const turn = async (): Promise<Next> => {
    const looks = clock.monotonicMs() - leftMs >= leftoversMs;
    const purges = clock.monotonicMs() - purgedMs > purgeMs;
    const asks = own.size > 0 || looks || purges;
    if (looks) leftMs = clock.monotonicMs();
    await inTurn(moveOwn);
    if (looks && (await inTurn(moveLeft))) leftMs = Number.NEGATIVE_INFINITY;
    if (purges) {
      purgedMs = clock.monotonicMs();
      await purge();
    }
    if (own.size > 0 || leftMs === Number.NEGATIVE_INFINITY) return "at once";
    return asks ? undefined : "idle";
  };

  const away = outage({
    log: parts.logger,
    began: "The history of nodes is not moved to the log now; nothing of it is lost",
    ended: "The history of nodes is moved to the log again",
  });
  const loop = turns({ clock, everyMs: turnMs, turn, away });

  return {
    task: loop.task,
    /** Entries have been appended by this replica. */
    appended: appended as Announcement<void>,
    /** Says that a node was changed here, so that its history moves on soon. */
    wake: (nodeId: string): void => {
      own.add(nodeId);
      loop.wake();
    },

    /** The position of the newest entry; 0 while there is none. */
    tail,
    /** The position of the oldest entry that is still kept; 1 while there is none. */
    head: async (): Promise<number> => {
      const first = await log.page({}, { index: "_id_", limit: 1 });
      return Number(first.items[0]?._id ?? 1);
    },
    /** Entries after that position, in order. `limit` is 1 to 1000. */
    after: async (position: number, limit: number): Promise<LogEntry[]> =>
      (await log.page({ _id: { $gt: entryId(position) } }, { index: "_id_", limit })).items,
    /** Moves the changes that these nodes have not logged yet; to be called before anybody is told their state. */
    settle: (nodes: readonly NodeDocument[]): Promise<void> => {
      const waiting = nodes.filter(({ unlogged }) => unlogged.length > 0);
      return waiting.length === 0 ? Promise.resolve() : inTurn(() => moveAll(waiting));
    },

    /** A node's history in the log's order, or in reverse. Changes that the node has not logged yet are moved first. */
    eventsOf: async (
      nodeId: string,
      query: { since?: Date; descending: boolean; limit: number; skip: number; after?: Cursor },
    ): Promise<Page<LogEntry>> => {
      const node = await repository.find(nodeId);
      if (node !== null && node.unlogged.length > 0) await inTurn(() => moveAll([node]));
      return log.page(filterOf(nodeId, query.since), {
        index: "idx_node_id",
        descending: query.descending,
        limit: query.limit,
        skip: query.skip,
        ...(query.after === undefined ? {} : { after: query.after }),
      });
    },
    countOf: (nodeId: string, since: Date | undefined): Promise<number> =>
      log.count(filterOf(nodeId, since), { index: "idx_node_id" }),
  };
}

const filterOf = (nodeId: string, since: Date | undefined) => ({
  node_id: nodeId,
  ...(since === undefined ? {} : { at: { $gte: since } }),
});

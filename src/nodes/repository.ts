// The store's view of nodes. Every change is a compare-and-set on one document and carries its history entry with it,
// so that no change can lack its event. Beats are not changes: they move last_heartbeat under the session's epoch.
import { type Announcement, createAnnouncer } from "../announcement.js";
import { Failure, nodeExists, nodeNotFound, unavailable } from "../failure.js";
import type { NodeId } from "../ids.js";
import { present } from "../present.js";
import { notFenced } from "../replicas/lease.js";
import {
  type CollectionDefinition,
  type Cursor,
  DuplicateKeyError,
  type Filter,
  type Page,
  type Store,
  type Update,
} from "../storage/collection.js";
import { updateMarked } from "../storage/marked.js";
import type { Change, NodeDocument, Patch } from "./node.js";

export const nodesCollection: CollectionDefinition = {
  name: "nodes",
  durability: "durable",
  dates: [
    "last_heartbeat",
    "started_at",
    "payout_address_usable_at",
    "enrollment_reset_at",
    "enrollment_epoch_at",
    "transition.deadline",
    "maintenance_until",
    "allocations.created_at",
    "allocations.expires_at",
    "unlogged.at",
    "unlogged_since",
    "boots.at",
    "silent_since",
    "created_at",
    "updated_at",
    "deleted_at",
  ],
  indexes: [
    { name: "idx_created_at", key: ["created_at"], partial: { live: true } },
    { name: "idx_name", key: ["name"], partial: { live: true } },
    { name: "idx_poot_score", key: ["poot_score"], partial: { live: true } },
    { name: "idx_last_heartbeat", key: ["last_heartbeat"], partial: { live: true } },
    { name: "idx_status", key: ["status", "created_at"], partial: { live: true } },
    { name: "idx_pool_id", key: ["pool_id", "created_at"], partial: { live: true } },
    { name: "idx_connectivity", key: ["connectivity", "created_at"], partial: { live: true } },
    {
      name: "idx_session_replica",
      key: ["session_replica", "connectivity"],
      partial: { session_replica: { $exists: true } },
    },
    { name: "idx_name_scope", key: ["name_scope", "name"], unique: true, partial: { name_scope: { $exists: true } } },
    { name: "idx_pool_slot", key: ["pool_id", "pool_slot"], unique: true, partial: { pool_slot: { $exists: true } } },
    {
      name: "idx_idempotency_id",
      key: ["idempotency_id"],
      unique: true,
      partial: { idempotency_id: { $exists: true } },
    },
    {
      name: "idx_transition_deadline",
      key: ["transition.deadline"],
      partial: { "transition.operation_id": { $exists: true } },
    },
    { name: "idx_maintenance_until", key: ["maintenance_until"], partial: { maintenance_until: { $exists: true } } },
    {
      name: "idx_enrollment_reset_at",
      key: ["enrollment_reset_at"],
      partial: { enrollment_reset_at: { $exists: true } },
    },
    { name: "idx_unlogged_since", key: ["unlogged_since"], partial: { unlogged_since: { $exists: true } } },
    { name: "idx_fence", key: ["fence"], partial: { fence: { $exists: true } } },
  ],
};

export type NodeOrder = "created_at" | "name" | "poot_score" | "last_heartbeat";

/** Stored in place of a replica's id when the node reports by unary calls, which any replica may take. */
export const unaryReplica = "unary";
const bootsMax = 12;
/** How many changes a node keeps that may be in the log already. */
const unloggedKept = 100;

export interface NodeFilter {
  readonly status?: string;
  readonly poolId?: string;
  readonly nodeType?: string;
  readonly connectivity?: string;
  readonly labels?: Filter;
}

export interface PageQuery {
  readonly order: NodeOrder;
  readonly descending: boolean;
  readonly limit: number;
  readonly skip: number;
  readonly after?: Cursor | undefined;
}

export type NodeRepository = Awaited<ReturnType<typeof createNodeRepository>>;

/** Whether the node that was to be read or changed is gone. */
export const isNodeGone = (error: unknown): boolean => error instanceof Failure && error.reason === "LUCID_ERR_5001";

/** Attempts of one change under contention. Each lost attempt means that another writer changed the node first. */
const attemptsMax = 50;

export async function createNodeRepository(store: Store) {
  const nodes = await store.collection<NodeDocument>(nodesCollection);
  const changes = createAnnouncer<NodeDocument>();

  const find = (nodeId: string): Promise<NodeDocument | null> => nodes.findOne({ _id: nodeId, live: true });

  /** @throws Failure 5001 */
  const get = async (nodeId: string): Promise<NodeDocument> => {
    const node = await find(nodeId);
    if (node === null) throw nodeNotFound(nodeId);
    return node;
  };

  /**
   * Applies the patch if the node still has the version that was read, and announces the node after it. Null: another
   * writer has changed the node since. `fence` is the token of the leader that writes; absent for all other writers.
   * @throws DuplicateKeyError when a name or a pool's slot is taken, StoreUnavailableError when the outcome is unknown
   */
  const compareAndSet = async (
    node: NodeDocument,
    patch: Patch,
    now: Date,
    { guard = {}, fence }: { readonly guard?: Filter; readonly fence?: number | undefined } = {},
  ): Promise<NodeDocument | null> => {
    const ofSession = patch.ofEpoch === undefined ? {} : { session_epoch: patch.ofEpoch };
    const asRead = { _id: node._id, version: node.version, live: true, ...ofSession, ...guard };
    const changed =
      fence === undefined
        ? await updateMarked(nodes, asRead, toUpdate(node, patch, now))
        : await updateMarked(
            nodes,
            { ...asRead, ...notFenced(fence) },
            toUpdate(node, { ...patch, set: { ...patch.set, fence } }, now),
          );
    if (changed !== null) changes.announce(changed);
    return changed;
  };

  /**
   * Reads, decides and writes until a write succeeds. `decide` answers undefined to leave the node as it is, and may
   * throw a Failure. Answers the node after the change.
   */
  const change = async (
    nodeId: string,
    now: () => Date,
    decide: (node: NodeDocument) => Patch | undefined | Promise<Patch | undefined>,
  ): Promise<NodeDocument> => {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const node = await get(nodeId);
      const patch = await decide(node);
      if (patch === undefined) {
        // The answer to an earlier write of this very change may have been lost: nobody here has been told of it then.
        changes.announce(node);
        return node;
      }
      try {
        const changed = await compareAndSet(node, patch, now());
        if (changed !== null) return changed;
      } catch (error) {
        if (!(error instanceof DuplicateKeyError)) throw error;
        if (error.index === "idx_name_scope") throw nameTaken(patch.set?.name ?? node.name);
        // Another node took the pool's slot first: decide again with the next free one.
      }
    }
    throw unavailable(`Node ${nodeId} is being changed by many at once`, 1000);
  };

  /** Announces the new node. @throws DuplicateKeyError (idx_idempotency_id, idx_pool_slot), Failure 5007 when the name is taken */
  const insert = async (node: NodeDocument): Promise<void> => {
    const place = node.pool_id === undefined ? {} : { pool_id: node.pool_id };
    const placed = { ...node, unlogged: node.unlogged.map((change) => ({ ...change, ...place })) };
    try {
      await nodes.insertOne(placed);
    } catch (error) {
      if (error instanceof DuplicateKeyError && error.index === "idx_name_scope") throw nameTaken(node.name);
      throw error;
    }
    changes.announce(placed);
  };

  const list = (filter: NodeFilter, query: PageQuery): Promise<Page<NodeDocument>> =>
    nodes.page(toFilter(filter), {
      index: indexFor(filter, query.order),
      descending: query.descending,
      limit: query.limit,
      skip: query.skip,
      after: query.after,
    });

  return {
    /**
     * Each node that was inserted or changed here, as the write left it. The caller waits for listeners, so they
     * touch memory only. Beats, sessions and scores are not changes; changes by other replicas come from the log.
     */
    changes: changes as Announcement<NodeDocument>,
    get,
    find,
    change,
    compareAndSet,
    insert,
    list,
    countOf: (filter: NodeFilter): Promise<number> =>
      nodes.count(toFilter(filter), { index: indexFor(filter, "created_at") }),
    findByIdempotencyId: (id: string): Promise<NodeDocument | null> =>
      nodes.findOne({ idempotency_id: id, live: true }, { index: "idx_idempotency_id" }),

    /** The slots taken in a pool; at most 1000, the size of the largest pool. */
    takenSlots: async (poolId: string): Promise<Set<number>> => {
      const page = await nodes.page(
        { pool_id: poolId, pool_slot: { $exists: true } },
        { index: "idx_pool_slot", limit: 1000 },
      );
      return new Set(page.items.flatMap((node) => (node.pool_slot === undefined ? [] : [node.pool_slot])));
    },

    /** How many nodes hold a slot in that pool, counted up to `max`. */
    countPlaces: (poolId: string, max: number): Promise<number> =>
      nodes.count({ pool_id: poolId, pool_slot: { $exists: true } }, { index: "idx_pool_slot", max }),

    /** The first pool after that id, in the order of ids, that has a member; undefined when there is none. */
    nextPool: async (poolId: string): Promise<string | undefined> =>
      (
        await nodes.page(
          { pool_slot: { $exists: true }, pool_id: { $gt: poolId } },
          { index: "idx_pool_slot", limit: 1 },
        )
      ).items[0]?.pool_id,

    /**
     * Opens a session in one write: takes the epoch after the one that was read, and dates the node's liveness. Answers
     * the node after the write. Null: another epoch was taken meanwhile, or the node is unknown, deleted or banned.
     * `replica` is the holder of the stream, or `unaryReplica`.
     */
    openSession: (
      nodeId: NodeId,
      session: { readonly epoch: number; readonly bootId: string; readonly replica: string; readonly at: Date },
    ): Promise<NodeDocument | null> =>
      nodes.findOneAndUpdate(
        { _id: nodeId, session_epoch: session.epoch, banned: false, live: true },
        {
          $inc: { session_epoch: 1 },
          $set: { session_boot_id: session.bootId, session_replica: session.replica, last_heartbeat: session.at },
          $push: { boots: { $each: [{ boot_id: session.bootId, at: session.at }], $slice: -bootsMax } },
        },
      ),

    /** Lets a session without a stream go on by unary calls. Null: it is no longer the node's newest. */
    makeUnary: (nodeId: NodeId, epoch: number): Promise<NodeDocument | null> =>
      nodes.findOneAndUpdate(
        { _id: nodeId, session_epoch: epoch, live: true },
        { $set: { session_replica: unaryReplica } },
      ),

    /** Nodes whose newest session is held by that replica, a page at a time. */
    heldBy: (replica: string, connectivity: string, after?: Cursor): Promise<Page<NodeDocument>> =>
      nodes.page(
        { session_replica: replica, connectivity, live: true },
        { index: "idx_session_replica", limit: 1000, after },
      ),

    /** The live nodes of that pool, at most 1000, the size of the largest pool. */
    membersOf: async (poolId: string): Promise<NodeDocument[]> =>
      (await nodes.page({ live: true, pool_id: poolId }, { index: "idx_pool_id", limit: 1000 })).items,

    /** The live nodes among these, at most 1000. */
    findMany: async (nodeIds: readonly string[]): Promise<Map<string, NodeDocument>> => {
      const page = await nodes.page({ _id: { $in: nodeIds }, live: true }, { index: "_id_", limit: 1000 });
      return new Map(page.items.map((node) => [node._id, node]));
    },

    /** Writes last-seen times, each only while its epoch is the node's newest. Answers how many were written. */
    flush: async (beats: readonly { nodeId: string; epoch: number; at: Date }[]): Promise<number> => {
      const { matched } = await nodes.bulkUpdate(
        beats.map(({ nodeId, epoch, at }) => ({
          filter: { _id: nodeId, session_epoch: epoch },
          update: { $set: { last_heartbeat: at } },
        })),
      );
      return matched;
    },

    /** Nodes by connectivity, a page at a time. */
    byConnectivity: (connectivity: string, after?: Cursor): Promise<Page<NodeDocument>> =>
      nodes.page({ live: true, connectivity }, { index: "idx_connectivity", limit: 500, after }),

    /** Nodes in a start, stop or restart, the earliest deadline first. */
    inTransition: (limit: number, after?: Cursor): Promise<Page<NodeDocument>> =>
      nodes.page({ "transition.operation_id": { $exists: true } }, { index: "idx_transition_deadline", limit, after }),

    /** Nodes whose maintenance has run out. */
    maintenanceOver: async (now: Date, limit: number): Promise<NodeDocument[]> =>
      (await nodes.page({ maintenance_until: { $exists: true, $lte: now } }, { index: "idx_maintenance_until", limit }))
        .items,

    /** Nodes whose enrolment was reset last at that time or later, a page at a time. */
    resetSince: (since: Date, after?: Cursor): Promise<Page<NodeDocument>> =>
      nodes.page(
        { enrollment_reset_at: { $exists: true, $gte: since } },
        { index: "idx_enrollment_reset_at", limit: 500, after },
      ),

    /** The nodes among these, at most 1000, that have changes which are not in the log yet; deleted nodes too. */
    unloggedAmong: async (nodeIds: readonly string[]): Promise<NodeDocument[]> =>
      (await nodes.page({ _id: { $in: nodeIds }, unlogged_since: { $exists: true } }, { index: "_id_", limit: 1000 }))
        .items,

    /** Nodes with changes that are not in the log yet, the longest waiting first; deleted nodes too. */
    unlogged: async (limit: number): Promise<NodeDocument[]> =>
      (await nodes.page({ unlogged_since: { $exists: true } }, { index: "idx_unlogged_since", limit })).items,

    /**
     * Drops changes that the log holds, up to the given change of each of at most 200 nodes; deleted nodes are removed
     * for good. A node with newer changes keeps its newest ones, some of them logged, and waits behind the other nodes.
     * Answers whether none of these nodes has anything left to log.
     */
    markLogged: async (
      logged: readonly { readonly nodeId: string; readonly change: number; readonly deleted: boolean }[],
      now: Date,
    ): Promise<boolean> => {
      const deleted = logged.filter(({ deleted }) => deleted);
      const gone = await Promise.all(
        deleted.map(({ nodeId, change }) => nodes.deleteMany({ _id: nodeId, change }, { limit: 1 })),
      );
      const living = logged.filter(({ deleted }) => !deleted);
      if (living.length === 0) return gone.every((count) => count === 1);
      const { matched } = await nodes.bulkUpdate(
        living.map(({ nodeId, change }) => ({
          filter: { _id: nodeId, change },
          update: { $set: { unlogged: [] }, $unset: { unlogged_since: true as const } },
        })),
      );
      if (matched === living.length) return gone.every((count) => count === 1);
      await nodes.bulkUpdate(
        living.map(({ nodeId, change }) => ({
          // The newest changes, up to the bound, include all that came since.
          filter: { _id: nodeId, change: { $gt: change, $lte: change + unloggedKept } },
          update: { $set: { unlogged_since: now }, $push: { unlogged: { $each: [], $slice: -unloggedKept } } },
        })),
      );
      return false;
    },

    /**
     * Writes the node's score with the number of the count it comes from: an older count never overwrites a newer one.
     * This is not a change of the node: neither version nor history show it.
     */
    setPootScore: async (nodeId: string, score: number, count: number): Promise<void> => {
      await nodes.updateOne(
        { _id: nodeId, live: true, $or: [{ poot_count: { $exists: false } }, { poot_count: { $lt: count } }] },
        { $set: { poot_score: score, poot_count: count } },
      );
    },
    /** The greatest token of a leader that has written a node; 0 while none has. */
    highestFence: async (): Promise<number> =>
      (await nodes.page({ fence: { $exists: true } }, { index: "idx_fence", descending: true, limit: 1 })).items[0]
        ?.fence ?? 0,
    countByStatus: (status: string): Promise<number> => nodes.count({ status, live: true }, { index: "idx_status" }),
  };
}

const nameTaken = (name: string) => nodeExists(`A node named ${name} exists in that pool`);

function toUpdate(node: NodeDocument, patch: Patch, now: Date): Update {
  const unset = patch.unset ?? [];
  const after = { ...node, ...patch.set };
  const poolId = unset.includes("pool_id") ? undefined : after.pool_id;
  const change: Change = {
    change: node.change + 1,
    type: patch.event.type,
    status: after.status,
    connectivity: after.connectivity,
    reason: patch.event.reason,
    actor: patch.event.actor,
    version: node.version + 1,
    at: now,
    ...(poolId === undefined ? {} : { pool_id: poolId }),
    ...(node.pool_id === undefined || node.pool_id === poolId ? {} : { left_pool_id: node.pool_id }),
  };
  return {
    $set: {
      ...patch.set,
      updated_at: now,
      // Always written: another replica may have cleared it meanwhile, and clearing does not bump the version.
      unlogged_since: node.unlogged_since ?? now,
    },
    ...(unset.length === 0 ? {} : { $unset: Object.fromEntries(unset.map((field) => [field, true as const])) }),
    $inc: { version: 1, change: 1 },
    $push: { unlogged: { $each: [change] } },
  };
}

const toFilter = ({ status, poolId, nodeType, connectivity, labels }: NodeFilter): Filter =>
  present({ live: true, status, pool_id: poolId, node_type: nodeType, connectivity, $and: labels && [labels] });

/** The index that narrows most and gives the order; the rest of the filter is checked on what it finds. */
function indexFor(filter: NodeFilter, order: NodeOrder): string {
  if (order !== "created_at") return `idx_${order}`;
  if (filter.poolId !== undefined) return "idx_pool_id";
  if (filter.status !== undefined) return "idx_status";
  return filter.connectivity === undefined ? "idx_created_at" : "idx_connectivity";
}

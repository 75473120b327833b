// Allocations by their own ids. They are part of their node's document, so that one write decides whether an allocation
// fits. Each has a pointer beside it, written first, which leads from the allocation's id, and from an idempotency key,
// to the node.
import type { Clock } from "../../clock.js";
import { type Keyed, once } from "../../conventions/idempotency.js";
import { allocationNotFound, Failure } from "../../failure.js";
import { newAllocationId } from "../../ids.js";
import type { Allocation, Json, NodeDocument, Patch } from "../../nodes/node.js";
import type { NodeRepository } from "../../nodes/repository.js";
import { present } from "../../present.js";
import type { CollectionDefinition, Store } from "../../storage/collection.js";
import { isOutage, unless } from "../../task.js";
import { dayMs } from "../samples/rollup.js";
import { type Amounts, allocate, release, unexpired } from "./allocation.js";

/** `_id` is the id of the allocation. */
interface PointerDocument extends Keyed, Omit<Allocation, "allocation_id"> {
  readonly _id: string;
  readonly node_id: string;
  readonly released_at?: Date;
  /** With an idempotency key: the allocation was made, so that asking again makes no second one. */
  readonly confirmed?: true;
  /** Absent while the allocation may last for ever. */
  readonly purge_at?: Date;
}

export const resourceAllocationsCollection: CollectionDefinition = {
  name: "resource_allocations",
  durability: "durable",
  dates: ["created_at", "expires_at", "released_at", "purge_at"],
  indexes: [
    { name: "idx_purge_at", key: ["purge_at"], ttlSeconds: 0 },
    {
      name: "idx_idempotency_id",
      key: ["idempotency_id"],
      unique: true,
      partial: { idempotency_id: { $exists: true } },
    },
  ],
};

/** An allocation as it is, or as it was when it ended. */
export interface Allocated extends Allocation {
  readonly node_id: string;
  readonly released_at?: Date;
}

export interface AllocationRequest {
  readonly nodeId: string;
  readonly amounts: Amounts;
  /** Undefined: the allocation lasts until it is released. */
  readonly ttlMs: number | undefined;
  readonly idempotencyId: string | undefined;
  readonly meaning: string;
  readonly actor: string;
}

export type Allocator = Awaited<ReturnType<typeof createAllocator>>;

/** A released or expired allocation is remembered this long. */
const rememberedMs = dayMs;
const endedMax = 100_000;

export async function createAllocator(parts: {
  readonly store: Store;
  readonly nodes: Pick<NodeRepository, "change" | "get">;
  /** A pool's ceilings for each of its nodes; undefined when the pool has none, or is gone. */
  readonly poolLimits: (poolId: string) => Promise<Json | undefined>;
  readonly clock: Clock;
}) {
  const { nodes, clock } = parts;
  const pointers = await parts.store.collection<PointerDocument>(resourceAllocationsCollection);
  const inTurn = createTurns();
  /** Allocations of nodes that were deleted here, whose pointers are still to be released. */
  const ended = new Set<string>();
  const later = (date: Date): Date => new Date(date.getTime() + rememberedMs);

  /** A pointer that should be gone counts as gone, whether or not the sweep has deleted it. */
  const unlessPurged = (pointer: PointerDocument | null): PointerDocument | null =>
    pointer?.purge_at !== undefined && pointer.purge_at <= clock.now() ? null : pointer;

  /** Undefined when the node has the allocation already. @throws Failure 5003, 5004, 5009 */
  const patchFor = async (pointer: PointerDocument, node: NodeDocument, actor: string): Promise<Patch | undefined> => {
    const limits = node.pool_id === undefined ? undefined : await parts.poolLimits(node.pool_id);
    return allocate(node, limits, allocationOf(pointer), clock.now(), actor);
  };

  /** @throws Failure 5001, 5003, 5004, 5009 */
  const insert = async (request: AllocationRequest, key: Keyed): Promise<PointerDocument> => {
    const now = clock.now();
    const expiresAt = request.ttlMs === undefined ? undefined : new Date(now.getTime() + request.ttlMs);
    const pointer: PointerDocument = {
      _id: newAllocationId(now),
      node_id: request.nodeId,
      ...request.amounts,
      created_at: now,
      ...(expiresAt === undefined ? {} : { expires_at: expiresAt, purge_at: later(expiresAt) }),
      ...key,
    };
    // A request that would be refused leaves no pointer; the write into the node decides again.
    await patchFor(pointer, await nodes.get(pointer.node_id), request.actor);
    await pointers.insertOne(pointer);
    return pointer;
  };

  const findByKey = async (id: string): Promise<PointerDocument | null> => {
    const found = await pointers.findOne({ idempotency_id: id }, { index: "idx_idempotency_id" });
    if (found === null) return null;
    const now = clock.now();
    const isOver = (date: Date | undefined) => date !== undefined && date <= now;
    // A pointer that was never confirmed and has expired is replaced; so is one past purge_at that the sweep has not
    // deleted yet.
    const lapsed = !found.confirmed && found.released_at === undefined && isOver(found.expires_at);
    if (!lapsed && !isOver(found.purge_at)) return found;
    const unchanged = lapsed ? { confirmed: { $exists: false } } : { purge_at: { $lte: now } };
    await pointers.deleteMany({ _id: found._id, ...unchanged }, { limit: 1 });
    return null;
  };

  /** Writes the allocation into its node. Answers whether it was there. @throws Failure 5001, 5003, 5004, 5009 */
  const place = async (pointer: PointerDocument, actor: string): Promise<boolean> => {
    let wasThere = false;
    await nodes.change(pointer.node_id, clock.now, async (current) => {
      const patch = await patchFor(pointer, current, actor);
      wasThere = patch === undefined;
      return patch;
    });
    return wasThere;
  };

  /** Nothing was made. Without a key nobody asks for it again; with a key it is kept for a twin on another replica. */
  const forget = async (pointer: PointerDocument): Promise<void> => {
    if (pointer.idempotency_id === undefined) await pointers.deleteMany({ _id: pointer._id }, { limit: 1 });
    else {
      await pointers.updateOne(
        { _id: pointer._id, confirmed: { $exists: false } },
        { $set: { purge_at: later(clock.now()) } },
      );
    }
  };

  /** Answers false when the allocation was released meanwhile. */
  const confirm = async ({ _id, idempotency_id, expires_at }: PointerDocument): Promise<boolean> => {
    if (idempotency_id === undefined) return true;
    const { matched } = await pointers.updateOne(
      { _id, released_at: { $exists: false } },
      expires_at === undefined
        ? { $set: { confirmed: true }, $unset: { purge_at: true } }
        : { $set: { confirmed: true, purge_at: later(expires_at) } },
    );
    return matched === 1;
  };

  const takeAway = async ({ _id, node_id }: Pick<PointerDocument, "_id" | "node_id">, actor: string): Promise<void> => {
    await nodes.change(node_id, clock.now, (current) => release(current, _id, clock.now(), actor)).catch(ifNodeGone);
  };

  /** Answers the pointer afterwards; an allocation that has expired or was released before stays as it was. */
  const markReleased = async (pointer: PointerDocument): Promise<PointerDocument> => {
    const now = clock.now();
    const isOver = pointer.expires_at !== undefined && pointer.expires_at <= now;
    if (isOver || pointer.released_at !== undefined) return pointer;
    const released = await pointers.findOneAndUpdate(
      { _id: pointer._id, released_at: { $exists: false } },
      { $set: { released_at: now, purge_at: later(now) } },
    );
    return released ?? (await pointers.findOne({ _id: pointer._id })) ?? pointer;
  };

  /**
   * Takes allocations off the node that nobody can release, because their pointer is released or gone. A pointer always
   * exists before its allocation. Answers whether there were any.
   */
  const reclaim = async (nodeId: string, actor: string): Promise<boolean> => {
    const ids = unexpired(await nodes.get(nodeId), clock.now()).map(({ allocation_id }) => allocation_id);
    const { items } = await pointers.page({ _id: { $in: ids } }, { index: "_id_", limit: 1000 });
    const held = new Set(items.filter((pointer) => pointer.released_at === undefined).map(({ _id }) => _id));
    const lost = ids.filter((id) => !held.has(id));
    for (const _id of lost) await takeAway({ _id, node_id: nodeId }, actor);
    return lost.length > 0;
  };

  const make = async (request: AllocationRequest): Promise<{ allocation: Allocated; replayed: boolean }> => {
    const { made, replayed } = await once({
      id: request.idempotencyId,
      meaning: request.meaning,
      find: findByKey,
      make: (key) => insert(request, key),
    });
    const over = made.released_at !== undefined || (made.expires_at !== undefined && made.expires_at <= clock.now());
    // A twin on a replica that lost its store may have written it into the node after the release.
    if (replayed && made.released_at !== undefined) await takeAway(made, request.actor);
    if (replayed && (over || made.confirmed)) return { allocation: allocatedOf(made), replayed: true };
    // What an earlier attempt began and did not finish is finished now, under the same id.
    try {
      const wasThere = await place(made, request.actor);
      if (await confirm(made)) return { allocation: allocatedOf(made), replayed: wasThere };
      // A twin of this request made it, and it was released, before this write: it stays released.
      await takeAway(made, request.actor);
      return { allocation: allocatedOf((await pointers.findOne({ _id: made._id })) ?? made), replayed: true };
    } catch (error) {
      // A store that fell silent may have made the allocation: then the pointer must lead to it.
      if (error instanceof Failure && error.reason !== "LUCID_ERR_5031") await forget(made).catch(unless(isOutage));
      throw error;
    }
  };

  return {
    /**
     * Sets resources of a node aside; with an idempotency key only once.
     * @throws Failure 5001, 5003, 5004, 5007, 5009
     */
    allocate: (request: AllocationRequest): Promise<{ allocation: Allocated; replayed: boolean }> =>
      inTurn(request.nodeId, async () => {
        try {
          return await make(request);
        } catch (error) {
          const full = error instanceof Failure && error.reason === "LUCID_ERR_5004";
          if (!full || !(await reclaim(request.nodeId, request.actor))) throw error;
          return make(request);
        }
      }),

    /**
     * Gives an allocation back, whether or not the node still has it: a late replica may have written it into the node
     * after an earlier release. The pointer is marked first, so that a twin of the request that writes into the node
     * later finds the mark and takes its own allocation away.
     * @throws Failure 5001 when there was none for a day
     */
    release: async (allocationId: string, actor: string): Promise<Allocated> => {
      const pointer = unlessPurged(await pointers.findOne({ _id: allocationId }));
      if (pointer === null) throw allocationNotFound(allocationId);
      const released = await markReleased(pointer);
      await inTurn(pointer.node_id, () => takeAway(pointer, actor));
      return allocatedOf(released);
    },

    /** A node was changed here: a deletion ends its allocations. */
    nodeChanged: (node: NodeDocument): void => {
      if (node.deleted_at === undefined || ended.size > endedMax) return;
      for (const { allocation_id } of node.allocations ?? []) ended.add(allocation_id);
    },

    /** Releases pointers to deleted nodes. A replica that dies before this leaves some for good; they do no harm. */
    settleDeleted: async (): Promise<void> => {
      while (ended.size > 0) {
        const now = clock.now();
        const batch = [...ended].slice(0, 1000);
        await pointers.bulkUpdate(
          batch.map((id) => ({
            filter: { _id: id, released_at: { $exists: false } },
            update: { $set: { released_at: now, purge_at: later(now) } },
          })),
        );
        for (const id of batch) ended.delete(id);
      }
    },

    /** The unexpired allocations of a node, oldest first. */
    unexpired: (node: NodeDocument): Allocated[] =>
      unexpired(node, clock.now()).map((allocation) => ({ ...allocation, node_id: node._id })),
  };
}

const allocationOf = (pointer: PointerDocument): Allocation => ({
  allocation_id: pointer._id,
  cpu_percent: pointer.cpu_percent,
  memory_bytes: pointer.memory_bytes,
  disk_bytes: pointer.disk_bytes,
  network_mbps: pointer.network_mbps,
  created_at: pointer.created_at,
  ...present({ expires_at: pointer.expires_at }),
});

const allocatedOf = (pointer: PointerDocument): Allocated => ({
  ...allocationOf(pointer),
  node_id: pointer.node_id,
  ...present({ released_at: pointer.released_at }),
});

const ifNodeGone = (error: unknown): undefined => {
  if (!(error instanceof Failure && error.reason === "LUCID_ERR_5001")) throw error;
};

/** Runs work on one key one after the other: concurrent writes to one node would only make each other fail. */
function createTurns() {
  const last = new Map<string, Promise<unknown>>();
  return async <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const before = last.get(key) ?? Promise.resolve();
    const own = before.then(work, work);
    last.set(key, own);
    try {
      return await own;
    } finally {
      if (last.get(key) === own) last.delete(key);
    }
  };
}

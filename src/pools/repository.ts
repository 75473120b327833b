// The stored pools.

import { poolExists, poolNotFound, unavailable } from "../failure.js";
import { notFenced } from "../replicas/lease.js";
import {
  type CollectionDefinition,
  type Cursor,
  DuplicateKeyError,
  type Page,
  type Store,
} from "../storage/collection.js";
import { updateMarked } from "../storage/marked.js";
import type { PoolDocument } from "./pool.js";

export const poolsCollection: CollectionDefinition = {
  name: "node_pools",
  durability: "durable",
  dates: ["closed_at", "disrupted_since", "recovered_at", "created_at", "updated_at"],
  indexes: [
    { name: "idx_created_at", key: ["created_at"] },
    { name: "idx_name", key: ["name"], unique: true },
    { name: "idx_fence", key: ["fence"], partial: { fence: { $exists: true } } },
    { name: "idx_disrupted_since", key: ["disrupted_since"], partial: { disrupted_since: { $exists: true } } },
    {
      name: "idx_idempotency_id",
      key: ["idempotency_id"],
      unique: true,
      partial: { idempotency_id: { $exists: true } },
    },
  ],
};

export interface PoolPatch {
  readonly set?: Partial<PoolDocument>;
  readonly unset?: readonly (keyof PoolDocument)[];
}

export type PoolRepository = Awaited<ReturnType<typeof createPoolRepository>>;

const attemptsMax = 20;

export async function createPoolRepository(store: Store) {
  const pools = await store.collection<PoolDocument>(poolsCollection);

  const find = (poolId: string): Promise<PoolDocument | null> => pools.findOne({ _id: poolId });

  /** @throws Failure 5002 */
  const get = async (poolId: string): Promise<PoolDocument> => {
    const pool = await find(poolId);
    if (pool === null) throw poolNotFound(poolId);
    return pool;
  };

  /**
   * Applies the patch if the pool still has the version that was read. Null: another writer has changed it since.
   * @throws DuplicateKeyError, StoreUnavailableError when the outcome is unknown
   */
  const compareAndSet = (pool: PoolDocument, patch: PoolPatch, now: Date): Promise<PoolDocument | null> => {
    const unset = patch.unset ?? [];
    return updateMarked(
      pools,
      { _id: pool._id, version: pool.version },
      {
        $set: { ...patch.set, updated_at: now },
        ...(unset.length === 0 ? {} : { $unset: Object.fromEntries(unset.map((field) => [field, true as const])) }),
        $inc: { version: 1 },
      },
    );
  };

  return {
    find,
    get,
    findByIdempotencyId: (id: string): Promise<PoolDocument | null> =>
      pools.findOne({ idempotency_id: id }, { index: "idx_idempotency_id" }),

    /** @throws Failure 5008 when the name is taken, DuplicateKeyError (idx_idempotency_id) */
    insert: async (pool: PoolDocument): Promise<void> => {
      try {
        await pools.insertOne(pool);
      } catch (error) {
        throw error instanceof DuplicateKeyError && error.index === "idx_name" ? poolExists(pool.name) : error;
      }
    },

    /**
     * Reads, decides and writes until a write succeeds; undefined leaves the pool as it is.
     * @throws Failure 5002, 5008
     */
    change: async (
      poolId: string,
      now: () => Date,
      decide: (pool: PoolDocument) => PoolPatch | undefined,
    ): Promise<PoolDocument> => {
      for (let attempt = 0; attempt < attemptsMax; attempt++) {
        const pool = await get(poolId);
        const patch = decide(pool);
        if (patch === undefined) return pool;
        try {
          const changed = await compareAndSet(pool, patch, now());
          if (changed !== null) return changed;
        } catch (error) {
          throw error instanceof DuplicateKeyError ? poolExists(patch.set?.name ?? pool.name) : error;
        }
      }
      throw unavailable(`Pool ${poolId} is being changed by many at once`, 1000);
    },

    list: (query: { limit: number; skip: number; after?: Cursor }): Promise<Page<PoolDocument>> =>
      pools.page(
        {},
        {
          index: "idx_created_at",
          limit: query.limit,
          skip: query.skip,
          after: query.after,
        },
      ),
    count: (): Promise<number> => pools.count({}, { index: "idx_created_at" }),

    /** Nobody may join after `at`. Closing and opening do not change the pool's version. @throws Failure 5002 */
    close: async (poolId: string, at: Date): Promise<void> => {
      const closed = await pools.findOneAndUpdate({ _id: poolId }, { $set: { closed_at: at } });
      if (closed === null) throw poolNotFound(poolId);
    },

    /** Takes back the closing at `closedAt`, but no later one. */
    reopen: async (poolId: string, closedAt: Date): Promise<void> => {
      await pools.findOneAndUpdate({ _id: poolId, closed_at: closedAt }, { $unset: { closed_at: true } });
    },

    /** Pools that are disrupted, at most 1000. */
    disrupted: async (): Promise<PoolDocument[]> =>
      (await pools.page({ disrupted_since: { $exists: true } }, { index: "idx_disrupted_since", limit: 1000 })).items,

    /**
     * Marks a pool as disrupted, or as heard again, for the leader; the pool's version stays. False: the pool is marked
     * so already, or a later leader has written.
     */
    setDisrupted: async (poolId: string, disrupted: boolean, now: Date, fence: number): Promise<boolean> => {
      const filter = {
        _id: poolId,
        disrupted_since: { $exists: !disrupted },
        ...notFenced(fence),
      };
      const update = disrupted
        ? { $set: { fence, disrupted_since: now }, $unset: { recovered_at: true as const } }
        : { $set: { fence, recovered_at: now }, $unset: { disrupted_since: true as const } };
      return (await pools.updateOne(filter, update)).matched === 1;
    },

    /** Takes the pool for this leader: earlier leaders can no longer mark it. */
    claim: async (poolId: string, fence: number): Promise<void> => {
      await pools.updateOne({ _id: poolId, ...notFenced(fence) }, { $set: { fence } });
    },

    /** The greatest token of a leader that has written a pool; 0 while none has. */
    highestFence: async (): Promise<number> =>
      (await pools.page({ fence: { $exists: true } }, { index: "idx_fence", descending: true, limit: 1 })).items[0]
        ?.fence ?? 0,

    /** Deletes the pool if it is still closed since `closedAt`. Answers whether this call deleted it. */
    remove: async (poolId: string, closedAt: Date): Promise<boolean> =>
      (await pools.deleteMany({ _id: poolId, closed_at: closedAt }, { limit: 1 })) === 1,
  };
}

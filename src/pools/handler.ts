// PoolService: each RPC reads its request, asks the feature, and shapes the answer.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type CreatePoolRequest,
  CreatePoolRequestSchema,
  type NodePoolSchema,
  type PoolService,
  type UpdatePoolRequest,
} from "../../gen/lucid/node/v1/pool_service_pb.js";
import type { Policy } from "../access/permission.js";
import type { Clock } from "../clock.js";
import { idempotencyId, meaningOf, once } from "../conventions/idempotency.js";
import type { Paging } from "../conventions/paging.js";
import { checkVersion, maskedPaths } from "../conventions/update.js";
import { Failure, malformed, wrongStatus } from "../failure.js";
import type { Membership } from "../nodes/membership.js";
import type { NodeRepository } from "../nodes/repository.js";
import { countsToWire, nodeToWire } from "../nodes/wire.js";
import { present } from "../present.js";
import { callerOf } from "../rpc/context.js";
import { isOutage, unless } from "../task.js";
import { type LastSample, poolFigures } from "./figures.js";
import type { PoolDocument } from "./pool.js";
import type { PoolRepository } from "./repository.js";
import { newPool, updatable, updatePatch } from "./requests.js";
import { poolToWire } from "./wire.js";

export const poolPolicies: Readonly<Record<keyof typeof PoolService.method, Policy>> = {
  createPool: { permission: "pool:write" },
  getPool: { permission: "pool:read" },
  listPools: { permission: "pool:read" },
  updatePool: { permission: "pool:write" },
  deletePool: { permission: "pool:write" },
  addNodeToPool: { permission: "pool:assign" },
  removeNodeFromPool: { permission: "pool:assign" },
  listPoolNodes: { permission: "pool:read" },
  getPoolMetrics: { permission: "pool:read" },
  scalePool: { permission: "pool:write" },
};

export function createPoolHandler(parts: {
  readonly repository: PoolRepository;
  readonly nodes: NodeRepository;
  readonly membership: Membership;
  readonly paging: Paging;
  readonly clock: Clock;
  /** The last samples of these nodes, at most 1000; a sample that is too old is left out. */
  readonly lastSamples: (nodeIds: readonly string[]) => Promise<readonly LastSample[]>;
}): ServiceImpl<typeof PoolService> {
  const { repository, nodes, membership, paging, clock } = parts;

  const toWire = async (pool: PoolDocument): Promise<MessageInitShape<typeof NodePoolSchema>> =>
    poolToWire(pool, await nodes.countOf({ poolId: pool._id }));

  const createPool = async (request: CreatePoolRequest, context: HandlerContext) => {
    const { made, replayed } = await once({
      id: idempotencyId(context.method.name, callerOf(context).subject, request.idempotencyKey),
      meaning: meaningOf(CreatePoolRequestSchema, request),
      find: repository.findByIdempotencyId,
      make: async (key): Promise<PoolDocument> => {
        const pool = { ...newPool(request, clock.now()), ...key };
        await repository.insert(pool);
        return pool;
      },
    });
    return { pool: await toWire(made), replayed };
  };

  const updatePool = async (request: UpdatePoolRequest) => {
    const wanted = request.pool;
    if (wanted === undefined || wanted.poolId === "")
      throw malformed({ field: "pool.pool_id", description: "is required" });
    const paths = maskedPaths(request.updateMask, updatable);
    if (paths.has("max_nodes")) await requireRoom(wanted.poolId, wanted.maxNodes);
    let former = 0;
    const pool = await repository.change(wanted.poolId, clock.now, (current) => {
      checkVersion(request.expectedVersion, current);
      former = current.max_nodes;
      return updatePatch(wanted, paths, current);
    });
    // A node may have joined between the check and the write. If the nodes no longer fit, the change is taken back. The
    // former value may be too low by now as well, if another lowering is being taken back at the same time.
    const inside = pool.max_nodes < former ? await countInside(wanted.poolId) : 0;
    if (inside > pool.max_nodes) {
      await repository.change(wanted.poolId, clock.now, (current) =>
        current.max_nodes < inside ? { set: { max_nodes: Math.max(former, inside) } } : undefined,
      );
      throw tooFew(wanted.poolId, inside, pool.max_nodes);
    }
    return { pool: await toWire(pool) };
  };

  const countInside = async (poolId: string): Promise<number> => (await nodes.takenSlots(poolId)).size;

  /** @throws Failure 5004 when the pool has more nodes than that */
  const requireRoom = async (poolId: string, maxNodes: number): Promise<void> => {
    const inside = await countInside(poolId);
    if (maxNodes > 0 && inside > maxNodes) throw tooFew(poolId, inside, maxNodes);
  };

  /** @throws Failure 5003 when the pool has nodes */
  const requireEmpty = async (poolId: string): Promise<void> => {
    const count = await countInside(poolId);
    if (count > 0) throw wrongStatus(`Pool ${poolId} has ${count} nodes`);
  };

  /** Closes the pool first, then looks inside: a later join is turned away, an earlier one is seen. */
  const removeEmpty = async (poolId: string): Promise<void> => {
    const closedAt = clock.now();
    await repository.close(poolId, closedAt);
    try {
      await requireEmpty(poolId);
      if (await repository.remove(poolId, closedAt)) return;
      await repository.get(poolId);
      throw wrongStatus(`Pool ${poolId} was opened again meanwhile`);
    } catch (error) {
      // If the store does not take even this, the pool opens by itself after a minute.
      await repository.reopen(poolId, closedAt).catch(unless(isOutage));
      throw error;
    }
  };

  return {
    createPool,
    getPool: async ({ poolId }) => ({ pool: await toWire(await repository.get(poolId)) }),

    listPools: async (request) => {
      const window = paging.window(request, "pools");
      const page = await repository.list(window);
      return {
        pools: await Promise.all(page.items.map(toWire)),
        pagination: await paging.pagination(window, "pools", page.next, repository.count),
      };
    },

    updatePool,

    deletePool: async ({ poolId }) => {
      await repository.get(poolId);
      // Checked before anything is written, so that a deletion refused for its members turns nobody away meanwhile.
      await requireEmpty(poolId);
      await removeEmpty(poolId);
      return {};
    },

    addNodeToPool: async ({ poolId, nodeId, priority }, context) => {
      const node = await membership.join(nodeId, poolId, priority, callerOf(context).subject);
      return { node: nodeToWire(node) };
    },

    removeNodeFromPool: async ({ poolId, nodeId }, context) => {
      await repository.get(poolId);
      const node = await nodes.change(nodeId, clock.now, (current) => {
        if (current.pool_id !== poolId) throw wrongStatus(`Node ${nodeId} is not in pool ${poolId}`);
        return membership.leaving(callerOf(context).subject);
      });
      return { node: nodeToWire(node) };
    },

    listPoolNodes: async (request) => {
      const { poolId } = request;
      await repository.get(poolId);
      const binding = `pool nodes\n${poolId}`;
      const window = paging.window(request, binding);
      const page = await nodes.list({ poolId }, { order: "created_at", descending: false, ...window });
      return {
        nodes: page.items.map(nodeToWire),
        pagination: await paging.pagination(window, binding, page.next, () => nodes.countOf({ poolId })),
      };
    },

    getPoolMetrics: async ({ poolId }) => {
      await repository.get(poolId);
      const members = await nodes.membersOf(poolId);
      const figures = poolFigures(members, await parts.lastSamples(members.map(({ _id }) => _id)));
      const counts = await countsToWire(
        (status) => members.filter((member) => member.status === status).length,
        (connectivity) => members.filter((member) => member.connectivity === connectivity).length,
      );
      return { poolId, ...counts, ...present(figures) };
    },

    scalePool: async ({ poolId, targetSize }) => {
      const pool = await repository.change(poolId, clock.now, (current) => {
        if (targetSize > current.max_nodes) {
          throw new Failure("LUCID_ERR_5004", `target_size ${targetSize} is above max_nodes ${current.max_nodes}`);
        }
        return current.desired_size === targetSize ? undefined : { set: { desired_size: targetSize } };
      });
      return { pool: await toWire(pool) };
    },
  };
}

const tooFew = (poolId: string, inside: number, maxNodes: number) =>
  new Failure("LUCID_ERR_5004", `Pool ${poolId} has ${inside} nodes, more than max_nodes ${maxNodes}`);

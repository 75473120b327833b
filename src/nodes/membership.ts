// Which pool a node is in. A member holds a slot 1..max_nodes under a unique (pool, slot), so the unique index is the
// referee of capacity: no counter can drift, and any number of concurrent joins fill a pool exactly.
import { poolFull, poolNotFound } from "../failure.js";
import { DuplicateKeyError } from "../storage/collection.js";
import type { NodeDocument, Patch } from "./node.js";
import type { NodeRepository } from "./repository.js";

/** What joining needs to know of a pool; null when it does not exist or is being deleted. */
export type FindPool = (poolId: string) => Promise<{ readonly maxNodes: number } | null>;

export const defaultPriority = 50;

/**
 * The slots that may be claimed, lowest first; none means full. Slots above max_nodes are left from before it was lowered:
 * each takes away one of the claimable ones from the top, so that claimants with different views of the pool still
 * compete for the same slots and the sum stays within max_nodes.
 */
export function claimableSlots(taken: ReadonlySet<number>, maxNodes: number): number[] {
  const above = [...taken].filter((slot) => slot > maxNodes).length;
  const free: number[] = [];
  for (let slot = 1; slot <= maxNodes - above; slot++) if (!taken.has(slot)) free.push(slot);
  return free.slice(0, Math.max(0, maxNodes - taken.size));
}

/** Where a node stands before it moves. */
export interface Member {
  readonly poolId: string;
  readonly priority: number;
}

export const memberOf = ({ pool_id: poolId, pool_priority: priority }: NodeDocument): Member | undefined =>
  poolId === undefined ? undefined : { poolId, priority: priority ?? defaultPriority };

export type Membership = ReturnType<typeof createMembership>;

/** `random` is in [0, 1); joins start at different slots, so that many at once seldom meet. */
export function createMembership(parts: {
  readonly repository: NodeRepository;
  readonly findPool: FindPool;
  readonly now: () => Date;
  readonly random: () => number;
}) {
  const { repository, findPool, now, random } = parts;

  /** The fields of a member with a slot of its own. @throws Failure 5002, 5004 */
  const claim = async (poolId: string, priority: number): Promise<Partial<NodeDocument>> => {
    const pool = await findPool(poolId);
    if (pool === null) throw poolNotFound(poolId);
    const slots = claimableSlots(await repository.takenSlots(poolId), pool.maxNodes);
    const slot = slots[Math.floor(random() * slots.length)];
    if (slot === undefined) throw poolFull(poolId, pool.maxNodes);
    return { pool_id: poolId, pool_slot: slot, pool_priority: priority, name_scope: poolId };
  };

  /**
   * Whether the claim stands now that it is written: a pool that was deleted or shrunk in between gives it back.
   * @throws Failure 5002, 5004 when it must be given back
   */
  const confirm = async (poolId: string): Promise<void> => {
    const pool = await findPool(poolId);
    if (pool === null) throw poolNotFound(poolId);
    if ((await repository.takenSlots(poolId)).size > pool.maxNodes) throw poolFull(poolId, pool.maxNodes);
  };

  const leaving = (actor: string): Patch => ({
    set: { name_scope: "-" },
    unset: ["pool_id", "pool_slot", "pool_priority"],
    event: { type: "updated", reason: "left its pool", actor },
  });

  /** Back to the pool it came from if that has room still, else to none. */
  const turnBack = async (former: Member | undefined, actor: string): Promise<Patch> => {
    const place = former && (await claim(former.poolId, former.priority).catch(() => undefined));
    if (place === undefined) return leaving(actor);
    return { set: place, event: { type: "updated", reason: "back in its pool", actor } };
  };

  /**
   * To be called when a node's claim is written: a pool that was deleted or shrank in between turns the node back.
   * @throws Failure 5002, 5004 when it was turned back
   */
  const settle = async (nodeId: string, poolId: string, former: Member | undefined, actor: string): Promise<void> => {
    try {
      await confirm(poolId);
    } catch (error) {
      await repository.change(nodeId, now, (current) =>
        current.pool_id === poolId ? turnBack(former, actor) : undefined,
      );
      throw error;
    }
  };

  return {
    claim,
    confirm,
    settle,

    /** Puts a node into a pool, or changes its priority there. @throws Failure 5001, 5002, 5004, 5007 */
    join: async (
      nodeId: string,
      poolId: string,
      priority: number | undefined,
      actor: string,
    ): Promise<NodeDocument> => {
      let claimed = false;
      let former: Member | undefined;
      const node = await repository.change(nodeId, now, async (current) => {
        claimed = current.pool_id !== poolId;
        former = memberOf(current);
        if (claimed) {
          const event = { type: "updated", reason: `joined pool ${poolId}`, actor } as const;
          return { set: await claim(poolId, priority ?? defaultPriority), event };
        }
        if (priority === undefined || current.pool_priority === priority) return undefined;
        const event = { type: "updated", reason: "pool priority changed", actor } as const;
        return { set: { pool_priority: priority }, event };
      });
      if (claimed) await settle(nodeId, poolId, former, actor);
      return node;
    },

    /** The patch that takes a node out of its pool. */
    leaving,
  };
}

/** Runs an insert again while another node takes the claimed slot first. `attempt` claims anew each time. */
export async function whileSlotsCollide<T>(attempt: () => Promise<T>): Promise<T> {
  for (let collisions = 0; ; collisions++) {
    try {
      return await attempt();
    } catch (error) {
      const collided = error instanceof DuplicateKeyError && error.index === "idx_pool_slot";
      if (!collided || collisions >= 50) throw error;
    }
  }
}

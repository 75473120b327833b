// Which pool a node is in. A member holds a slot 1..max_nodes under a unique (pool, slot), so the unique index is the
// referee of capacity: no counter can drift, and any number of concurrent joins fill a pool exactly.
import { isDeepStrictEqual } from "node:util";
import { Failure, poolFull, poolNotFound } from "../failure.js";
import { DuplicateKeyError } from "../storage/collection.js";
import { isOutage, unless } from "../task.js";
import type { NodeDocument, Patch } from "./node.js";
import type { NodeRepository } from "./repository.js";

/**
 * What joining needs to know of a pool; null when it does not exist or is being deleted. May reopen a pool whose
 * deletion was given up.
 */
export type OpenForJoining = (poolId: string) => Promise<{ readonly maxNodes: number } | null>;

export const defaultPriority = 50;

/**
 * The slots that may be claimed, lowest first; none means full. A slot above max_nodes is left from before max_nodes
 * was lowered. Each such slot takes away one claimable slot from the top, so that claimants with different views of the
 * pool still compete for the same slots and the total stays within max_nodes.
 */
export function claimableSlots(taken: ReadonlySet<number>, maxNodes: number): number[] {
  const above = [...taken].filter((slot) => slot > maxNodes).length;
  const free: number[] = [];
  for (let slot = 1; slot <= maxNodes - above; slot++) if (!taken.has(slot)) free.push(slot);
  return free.slice(0, Math.max(0, maxNodes - taken.size));
}

/** A written move: the node before it, and everything that the same write changed. */
export interface Move {
  readonly poolId: string;
  readonly before: NodeDocument;
  readonly patch: Patch;
}

export type Membership = ReturnType<typeof createMembership>;

/** `random` is in [0, 1). Joins start at different slots, so that concurrent joins seldom collide. */
export function createMembership(parts: {
  readonly repository: NodeRepository;
  readonly openForJoining: OpenForJoining;
  readonly now: () => Date;
  readonly random: () => number;
}) {
  const { repository, openForJoining, now, random } = parts;

  /** The fields of a member with a slot of its own. @throws Failure 5002, 5004 */
  const claim = async (poolId: string, priority: number): Promise<Partial<NodeDocument>> => {
    const pool = await openForJoining(poolId);
    if (pool === null) throw poolNotFound(poolId);
    const slots = claimableSlots(await repository.takenSlots(poolId), pool.maxNodes);
    const slot = slots[Math.floor(random() * slots.length)];
    if (slot === undefined) throw poolFull(poolId, pool.maxNodes);
    return { pool_id: poolId, pool_slot: slot, pool_priority: priority, name_scope: poolId };
  };

  /**
   * Checks the claim after it is written: if the pool was deleted or shrunk in between, the claim must be given back.
   * @throws Failure 5002, 5004 when it must be given back
   */
  const confirm = async (poolId: string): Promise<void> => {
    const pool = await openForJoining(poolId);
    if (pool === null) throw poolNotFound(poolId);
    if ((await repository.takenSlots(poolId)).size > pool.maxNodes) throw poolFull(poolId, pool.maxNodes);
  };

  const leaving = (actor: string): Patch => ({
    set: { name_scope: "-" },
    unset: ["pool_id", "pool_slot", "pool_priority"],
    event: { type: "updated", reason: "left its pool", actor },
  });

  /** Returns the node to its former pool if that has room, else to no pool; restores what else the move changed. */
  const turnBack = async (current: NodeDocument, { before, patch }: Move, actor: string): Promise<Patch> => {
    const { pool_id: poolId, pool_priority: priority = defaultPriority } = before;
    const place = poolId === undefined ? undefined : await claim(poolId, priority).catch(unless(isOutage, isFailure));
    const event = { type: "updated", reason: "back in its pool", actor } as const;
    const back = place === undefined ? leaving(actor) : { set: place, event };
    const { set, unset } = restoring(current, before, patch);
    return { set: { ...set, ...back.set }, unset: [...unset, ...(back.unset ?? [])], event: back.event };
  };

  /**
   * To be called when a node's claim is written: turns the node back if the pool was deleted or shrunk in between.
   * @throws Failure 5002, 5004 when it was turned back
   */
  const settle = async (move: Move, actor: string): Promise<void> => {
    try {
      await confirm(move.poolId);
    } catch (error) {
      const { _id: nodeId } = move.before;
      const back = (rename: boolean) =>
        repository.change(nodeId, now, async (current) => {
          if (current.pool_id !== move.poolId) return undefined;
          const patch = await turnBack(current, move, actor);
          return rename ? renamed(current, patch) : patch;
        });
      // The node cannot stay in the pool. If its former name was taken meanwhile, it gets a new one.
      await back(false).catch((failure: unknown) => {
        if (!(failure instanceof Failure && failure.reason === "LUCID_ERR_5007")) throw failure;
        return back(true);
      });
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
      let move: Move | undefined;
      const node = await repository.change(nodeId, now, async (current) => {
        move = undefined;
        if (current.pool_id !== poolId) {
          const event = { type: "updated", reason: `joined pool ${poolId}`, actor } as const;
          const patch = { set: await claim(poolId, priority ?? defaultPriority), event };
          move = { poolId, before: current, patch };
          return patch;
        }
        if (priority === undefined || current.pool_priority === priority) return undefined;
        const event = { type: "updated", reason: "pool priority changed", actor } as const;
        return { set: { pool_priority: priority }, event };
      });
      if (move !== undefined) await settle(move, actor);
      return node;
    },

    /** The patch that takes a node out of its pool. */
    leaving,

    /**
     * Takes a node out of its pool for the leader. If its name is taken outside the pool, it gets a name made from its
     * id. False: the node has changed since it was read, a later leader has written, or that name is taken as well.
     */
    takeOut: async (node: NodeDocument, fence: number): Promise<boolean> => {
      const patch = leaving("system");
      const write = (chosen: Patch) => repository.compareAndSet(node, chosen, now(), { fence });
      const changed = await write(patch)
        .catch(ifNameTaken(() => write(renamed(node, patch))))
        .catch(ifNameTaken(() => null));
      return changed !== null;
    },
  };
}

const isFailure = (error: unknown): boolean => error instanceof Failure;

const ifNameTaken =
  <Result>(instead: () => Result) =>
  (error: unknown): Result => {
    if (!(error instanceof DuplicateKeyError && error.index === "idx_name_scope")) throw error;
    return instead();
  };

const nameMax = 100;

/** The same patch with a new name, which holds the node's own id so that no other node has it. */
function renamed(node: NodeDocument, patch: Patch): Patch {
  const name = patch.set?.name ?? node.name;
  const own = `${name.slice(0, nameMax - 1 - node._id.length)}-${node._id}`;
  const reason = `${patch.event.reason}; the name ${name} was taken meanwhile`;
  return { ...patch, set: { ...patch.set, name: own }, event: { ...patch.event, reason } };
}

const places: ReadonlySet<string> = new Set(["pool_id", "pool_slot", "pool_priority", "name_scope"]);

/**
 * The former values of the fields that a patch changed, except its place in the pool and fields that were changed again
 * since.
 */
function restoring(current: NodeDocument, before: NodeDocument, patch: Patch) {
  const written = Object.keys({
    ...patch.set,
    ...Object.fromEntries((patch.unset ?? []).map((field) => [field, true])),
  });
  const fields = (written as (keyof NodeDocument)[]).filter(
    (field) => !places.has(field) && isDeepStrictEqual(current[field], patch.set?.[field]),
  );
  const set = Object.fromEntries(fields.filter((field) => field in before).map((field) => [field, before[field]]));
  // The node may have been sent the new configuration already: it takes over only a configuration with a higher number.
  if (fields.includes("configuration_version")) set.configuration_version = current.configuration_version + 1;
  return { set: set as Partial<NodeDocument>, unset: fields.filter((field) => !(field in before)) };
}

/** Repeats an insert while another node takes the claimed slot first. `attempt` makes a new claim each time. */
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

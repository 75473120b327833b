// Finds nodes that are in a deleted pool, or beyond what their pool may hold, because their join was cut off between
// its two steps or could not be taken back. The leader looks for them and takes them out.
import type { Clock } from "../clock.js";
import type { Membership } from "../nodes/membership.js";
import type { NodeRepository } from "../nodes/repository.js";
import type { Leadership } from "../replicas/lease.js";
import { type Next, outage, type Task, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";
import type { PoolRepository } from "./repository.js";

const turnMs = 1000;
/** How many pools one turn looks at, and the shortest time from the start of one round to the next. */
const poolsPerTurn = 20;
const roundMs = 10_000;
/** A join that is under way corrects itself within this time, even with a slow store. */
const patienceMs = 30_000;
const nodesPerTurn = 50;

export function createStrays(parts: {
  readonly pools: Pick<PoolRepository, "find">;
  readonly nodes: Pick<NodeRepository, "nextPool" | "countPlaces" | "membersOf">;
  readonly membership: Pick<Membership, "takeOut">;
  readonly leadership: () => Leadership | undefined;
  readonly clock: Clock;
  readonly log: Pick<Log, "info" | "warn">;
}): { readonly task: Task } {
  const { pools, nodes, clock } = parts;
  /** Since when a pool has had more members than it may, as seen by this leader; monotonic. */
  const sinceMs = new Map<string, number>();
  /** The pools of `sinceMs` that this round has found again. */
  const seen = new Set<string>();
  let token: number | undefined;
  let place = "";
  let roundAtMs = Number.NEGATIVE_INFINITY;

  const look = async (poolId: string, leadership: Leadership): Promise<void> => {
    // No node may stay in a pool that is gone.
    const maxNodes = (await pools.find(poolId))?.max_nodes ?? 0;
    if ((await nodes.countPlaces(poolId, maxNodes + 1)) <= maxNodes) return;
    seen.add(poolId);
    const nowMs = clock.monotonicMs();
    const since = sinceMs.get(poolId) ?? nowMs;
    sinceMs.set(poolId, since);
    if (nowMs - since < patienceMs) return;
    // The highest slots go first: the nodes above max_nodes are the ones that do not fit.
    const members = (await nodes.membersOf(poolId)).sort((a, b) => (b.pool_slot ?? 0) - (a.pool_slot ?? 0));
    for (const node of members.slice(0, Math.min(members.length - maxNodes, nodesPerTurn))) {
      if (!leadership.holds()) return;
      if (!(await parts.membership.takeOut(node, leadership.token))) continue;
      parts.log.warn("A node was taken out of a pool that is gone or too full", { node_id: node._id, pool_id: poolId });
    }
  };

  /** Looks at the next pools; after the last one it starts over once the time of a round is over. */
  const turn = async (): Promise<Next> => {
    const leadership = parts.leadership();
    if (leadership === undefined) return "idle";
    if (token !== leadership.token) {
      token = leadership.token;
      sinceMs.clear();
      seen.clear();
    }
    if (place === "") {
      if (clock.monotonicMs() - roundAtMs < roundMs) return "idle";
      roundAtMs = clock.monotonicMs();
    }
    for (let looked = 0; looked < poolsPerTurn; looked++) {
      const poolId = await nodes.nextPool(place);
      place = poolId ?? "";
      if (poolId === undefined) {
        for (const known of sinceMs.keys()) if (!seen.has(known)) sinceMs.delete(known);
        seen.clear();
        return undefined;
      }
      await look(poolId, leadership);
    }
    return undefined;
  };

  const away = outage({
    log: parts.log,
    began: "Nodes that do not fit into their pool are not looked for now",
    ended: "Nodes that do not fit into their pool are looked for again",
  });
  return { task: turns({ clock, everyMs: turnMs, turn, away }).task };
}

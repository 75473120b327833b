// A pool: what the store keeps of it. Its members are known only from the nodes. Pure.
import type { ConnectivityState, Json } from "../nodes/node.js";

export interface PoolDocument {
  readonly _id: string;
  readonly name: string;
  readonly description: string;
  readonly max_nodes: number;
  readonly resource_limits?: Json;
  readonly auto_scaling: boolean;
  readonly scaling_policy?: Json;
  readonly pricing?: Json;
  readonly desired_size?: number;
  readonly idempotency_id?: string;
  readonly idempotency_meaning?: string;
  /** Set while the pool is being deleted: nobody may join for `closedMsMax` after this time. */
  readonly closed_at?: Date;
  /** Since when the pool is disrupted; absent when it is not. */
  readonly disrupted_since?: Date;
  /** When the pool was heard again after its last disruption. */
  readonly recovered_at?: Date;
  /** The fencing token of the leader that last judged whether the pool is disrupted. */
  readonly fence?: number;
  /** Random id of the last write. A writer whose answer was lost compares it to learn whether its write was applied. */
  readonly write_id?: string;
  readonly version: number;
  readonly created_at: Date;
  readonly updated_at: Date;
}

export const maxNodesDefault = 100;
/** A deletion takes far less time. A longer one counts as dead, and the pool is open again. */
export const closedMsMax = 60_000;

const disruptedPercent = 55;
const disruptedMin = 3;
/** After this long, nodes of a disrupted pool may be LOST again, step by step. */
export const disruptionMsMax = 3_600_000;

/**
 * Whether a pool fell silent as a whole: 55 % or more of its connected and silent nodes are silent, and there are more
 * than 3 of these nodes. Nodes that said goodbye, never came or are LOST do not count. Kubernetes uses the same share
 * for a zone in trouble.
 */
export function isDisrupted(
  members: readonly { readonly connectivity: ConnectivityState; readonly silent_since?: Date }[],
): boolean {
  const heard = members.filter(({ connectivity }) => connectivity === "connected").length;
  const silent = members.filter(
    ({ connectivity, silent_since }) => connectivity === "disconnected" && silent_since !== undefined,
  ).length;
  return heard + silent > disruptedMin && silent * 100 >= disruptedPercent * (heard + silent);
}

// A pool: what is kept of it. Its members are known from the nodes alone.
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
  /** Set while it is being deleted: nobody may join for `closedMsMax` from then on. */
  readonly closed_at?: Date;
  /** Since when it is disrupted; absent when it is not. */
  readonly disrupted_since?: Date;
  /** When it was last heard again after a disruption. */
  readonly recovered_at?: Date;
  /** The fencing token of the leader that last said so or the contrary. */
  readonly fence?: number;
  /** Of the last change, to find out whether one whose answer was lost took place. */
  readonly write_id?: string;
  readonly version: number;
  readonly created_at: Date;
  readonly updated_at: Date;
}

export const maxNodesDefault = 100;
/** A deletion takes far less; one that takes longer has died with its process, and the pool is open again. */
export const closedMsMax = 60_000;

const disruptedPercent = 55;
const disruptedMin = 3;
/** After this long nodes of a disrupted pool may be LOST again, step by step. */
export const disruptionMsMax = 3_600_000;

/**
 * Whether a pool fell silent as one: 55 % or more of the nodes that are heard or silent, and more than 3 of those. Nodes
 * that said goodbye, never came or are LOST do not count. The share is that of Kubernetes for a zone in trouble.
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

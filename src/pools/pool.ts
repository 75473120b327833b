// A pool: what is kept of it. Its members are known from the nodes alone.
import type { Json } from "../nodes/node.js";

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
  readonly version: number;
  readonly created_at: Date;
  readonly updated_at: Date;
}

export const maxNodesDefault = 100;
/** A deletion takes far less; one that takes longer has died with its process, and the pool is open again. */
export const closedMsMax = 60_000;

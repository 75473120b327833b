// Writes what a node's silence means, under the condition that nothing has been heard of the node since: the same
// session, no later beat, the version that was read. So a late judgement never beats a beat.
import type { Clock } from "../../clock.js";
import type { Filter } from "../../storage/collection.js";
import type { NodeDocument } from "../node.js";
import type { NodeRepository } from "../repository.js";
import { silenced } from "../sessions/session.js";

/** A node as its judge knows it. */
export interface Silent {
  readonly nodeId: string;
  readonly epoch: number;
  /** The replica that holds its session, according to the node's document. */
  readonly replica: string;
  /** The last beat that the judge knows of. */
  readonly heardAt: Date;
}

export type Expiry =
  | { readonly kind: "expired"; readonly node: NodeDocument }
  /** The node has another session or another replica, so it is no longer this judge's. Absent: the node is gone. */
  | { readonly kind: "foreign"; readonly node: NodeDocument | undefined }
  /** The node's whole pool is silent, or recovered `agoMs` ago. Restart this node's timer from that moment. */
  | { readonly kind: "withheld"; readonly agoMs: number }
  /** The node was heard or changed while the judgement was on its way: judge it again. */
  | { readonly kind: "moved" };

export type Expire = ReturnType<typeof createExpire>;

export function createExpire(parts: {
  readonly repository: NodeRepository;
  readonly clock: Clock;
  /** Milliseconds since the pool recovered; 0 while it is still disrupted; undefined when LOST need not be withheld. */
  readonly withholdsLoss: (poolId: string) => Promise<number | undefined>;
}) {
  const { repository, clock } = parts;

  /**
   * `stillSilent` is asked again after the node was read. `fence` is the token of the leader that judges; absent when a
   * replica judges its own nodes.
   */
  return async (
    silent: Silent,
    to: "disconnected" | "lost",
    stillSilent: () => boolean,
    fence?: number,
  ): Promise<Expiry> => {
    const node = await repository.find(silent.nodeId);
    const own = node?.session_epoch === silent.epoch && node.session_replica === silent.replica;
    if (node === null || !own) return { kind: "foreign", node: node ?? undefined };
    const agoMs = to === "lost" && node.pool_id !== undefined ? await parts.withholdsLoss(node.pool_id) : undefined;
    if (agoMs !== undefined) return { kind: "withheld", agoMs };
    if (!stillSilent()) return { kind: "moved" };
    const guard: Filter = {
      session_epoch: silent.epoch,
      session_replica: silent.replica,
      // A replica knows its own beats, and some of them are not written yet. The leader knows only what it has read, so
      // any other date is a beat. An earlier date comes from a replica whose clock is behind.
      last_heartbeat: fence === undefined ? { $lte: silent.heardAt } : silent.heardAt,
    };
    const changed = await repository.compareAndSet(node, silenced(to, clock.now()), clock.now(), { guard, fence });
    if (changed === null) return { kind: "moved" };
    return { kind: "expired", node: changed };
  };
}

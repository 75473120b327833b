// Writes what a node's silence means, under the condition that nothing has been heard of it since: that session, no later
// beat, the version that was read. So a judgement that comes late never beats a beat.
import type { Clock } from "../../clock.js";
import type { Filter } from "../../storage/collection.js";
import type { NodeDocument } from "../node.js";
import type { NodeRepository } from "../repository.js";
import { silenced } from "../sessions/session.js";

/** A node as its judge knows it. */
export interface Silent {
  readonly nodeId: string;
  readonly epoch: number;
  /** Who holds its session, by the node's document. */
  readonly replica: string;
  /** The last beat that the judge knows of. */
  readonly heardAt: Date;
}

export type Expiry =
  | { readonly kind: "expired"; readonly node: NodeDocument }
  /** Another session, another replica or a later beat: it is no longer this judge's. Absent: the node is gone. */
  | { readonly kind: "foreign"; readonly node: NodeDocument | undefined }
  /** Not now: its whole pool is silent, or was until that long ago, from when on the node is to be timed. */
  | { readonly kind: "withheld"; readonly agoMs: number }
  /** Heard, or changed by somebody, while the judgement was on its way: judge anew. */
  | { readonly kind: "moved" };

export type Expire = ReturnType<typeof createExpire>;

export function createExpire(parts: {
  readonly repository: NodeRepository;
  readonly clock: Clock;
  /**
   * How long ago the silence of that pool's nodes began to mean something: 0 while the pool is silent as one. Undefined
   * when it means what it always does.
   */
  readonly withholdsLoss: (poolId: string) => Promise<number | undefined>;
}) {
  const { repository, clock } = parts;

  /**
   * `stillSilent` is asked again after the node was read. `fence` is the token of the leader that judges; absent where a
   * replica judges its own.
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
      // A replica knows its own beats, of which some are not written yet. The leader knows what it has read: any other
      // date is a beat, an earlier one of a replica whose clock is behind.
      last_heartbeat: fence === undefined ? { $lte: silent.heardAt } : silent.heardAt,
    };
    const changed = await repository.compareAndSet(node, silenced(to, clock.now()), clock.now(), { guard, fence });
    if (changed === null) return { kind: "moved" };
    return { kind: "expired", node: changed };
  };
}

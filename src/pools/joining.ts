// Whether a pool may be joined. A deletion closes its pool first; a deletion that was cut off after that must not keep
// the pool closed for ever.
import type { Clock } from "../clock.js";
import type { OpenForJoining } from "../nodes/membership.js";
import { closedMsMax } from "./pool.js";
import type { PoolRepository } from "./repository.js";

/**
 * What joining needs to know of a pool; null for a pool that is gone or is being deleted. A pool that has been closed
 * for longer than any deletion takes is opened in the store before the answer, so that a slow deletion can no longer
 * remove it.
 */
export function createOpenForJoining(repository: PoolRepository, clock: Pick<Clock, "now">): OpenForJoining {
  const openForJoining: OpenForJoining = async (poolId) => {
    const pool = await repository.find(poolId);
    if (pool === null) return null;
    if (pool.closed_at === undefined) return { maxNodes: pool.max_nodes };
    if (clock.now().getTime() - pool.closed_at.getTime() <= closedMsMax) return null;
    await repository.reopen(poolId, pool.closed_at);
    return openForJoining(poolId);
  };
  return openForJoining;
}

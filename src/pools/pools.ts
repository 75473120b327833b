// Puts the feature of pools together. What nodes need to know of pools (createOpenForJoining, createDisruption) is made
// before nodes; the rest needs nodes and is made here.
import type { Clock } from "../clock.js";
import type { Paging } from "../conventions/paging.js";
import type { Feed } from "../nodes/history/feed.js";
import type { Membership } from "../nodes/membership.js";
import type { NodeRepository } from "../nodes/repository.js";
import type { Leadership } from "../replicas/lease.js";
import type { Log } from "../telemetry/log.js";
import type { Disruption } from "./disruption.js";
import type { LastSample } from "./figures.js";
import { createPoolHandler } from "./handler.js";
import type { PoolRepository } from "./repository.js";
import { createStrays } from "./strays.js";

export function createPools(parts: {
  readonly repository: PoolRepository;
  readonly disruption: Disruption;
  readonly nodes: NodeRepository;
  readonly membership: Membership;
  readonly feed: Pick<Feed, "chunks">;
  /** The last samples of these nodes, at most 1000; a sample that is too old is left out. */
  readonly lastSamples: (nodeIds: readonly string[]) => Promise<readonly LastSample[]>;
  readonly leadership: () => Leadership | undefined;
  readonly paging: Paging;
  readonly clock: Clock;
  readonly log: Log;
}) {
  const { repository, disruption, nodes, membership, feed, leadership, clock, log } = parts;
  const strays = createStrays({ pools: repository, nodes, membership, leadership, clock, log: log.module("pools") });
  feed.chunks.listen(disruption.heard);
  return {
    handler: createPoolHandler({ ...parts, repository, nodes }),
    tasks: { disruption: disruption.task, strays: strays.task },
  };
}

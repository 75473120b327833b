// Puts this folder together for the composition root.
import type { Clock } from "../clock.js";
import type { Paging } from "../conventions/paging.js";
import type { NodeId } from "../ids.js";
import type { Json } from "../nodes/node.js";
import type { NodeRepository } from "../nodes/repository.js";
import type { Sample } from "../nodes/sessions/session.js";
import type { Leadership } from "../replicas/lease.js";
import type { Store } from "../storage/collection.js";
import type { Log } from "../telemetry/log.js";
import type { Metrics } from "../telemetry/metrics.js";
import { createAlerter } from "./alerts/alerter.js";
import { createAlertRepository } from "./alerts/repository.js";
import { createAllocator } from "./allocations/allocator.js";
import { resourceHandlers } from "./handler.js";
import { createRetention } from "./retention.js";
import { createMonitor, lastSamples, pointsMaxOf, sampleAgeMaxMs } from "./samples/monitor.js";
import { createResourceRepository } from "./samples/repository.js";

/** What this folder needs to know of a pool. */
interface PoolFacts {
  /** The most that may be set aside of each of its nodes. */
  readonly resource_limits?: Json;
  readonly disrupted_since?: Date;
}

export type Resources = Awaited<ReturnType<typeof createResources>>;

export async function createResources(parts: {
  readonly store: Store;
  readonly nodes: NodeRepository;
  readonly pools: {
    readonly find: (poolId: string) => Promise<PoolFacts | null>;
    /** Ids of the disrupted pools, at most 1000. */
    readonly disrupted: () => Promise<string[]>;
  };
  readonly leadership: () => Leadership | undefined;
  readonly paging: Paging;
  readonly clock: Clock;
  readonly settings: {
    readonly collectionIntervalMs: number;
    readonly retentionDays: number;
    readonly cleanupIntervalMs: number;
  };
  readonly metrics: Metrics;
  readonly log: Log;
}) {
  const { store, nodes, pools, clock, settings, metrics, log } = parts;
  const { collectionIntervalMs } = settings;
  const resources = await createResourceRepository(store, pointsMaxOf(collectionIntervalMs));
  const alerts = await createAlertRepository(store);
  const poolLimits = async (poolId: string) => (await pools.find(poolId))?.resource_limits;
  const allocator = await createAllocator({ ...parts, poolLimits });
  const alerter = createAlerter({ alerts, nodes, clock, memoryMs: sampleAgeMaxMs(collectionIntervalMs) });
  const monitor = createMonitor({
    ...{ append: resources.append, judge: alerter.judge, clock, collectionIntervalMs, log },
    settleDeleted: async () => {
      await alerter.settleDeleted();
      await allocator.settleDeleted();
    },
    metrics: {
      taken: metrics.resourceSamples,
      dropped: metrics.resourceSamplesDropped,
      flushed: metrics.resourceFlush,
    },
  });
  const retention = createRetention({
    ...{ ...parts, ...settings, resources, alerts, gauge: metrics.resourceAlertsActive },
    storeNow: () => store.now(),
  });
  nodes.changes.listen((node) => {
    alerter.nodeChanged(node);
    allocator.nodeChanged(node);
  });
  let lastSampleAt = clock.now();
  return {
    /** Takes a sample of a node that is heard here; touches memory only. */
    take: (nodeId: NodeId, sample: Sample, at: Date): void => {
      lastSampleAt = at;
      monitor.take(nodeId, sample);
    },
    /**
     * When the last sample came. Without streams here no sample can be missing, so the wait for a sample begins with
     * the first stream.
     */
    lastSampleAt: (streams: number): Date => {
      if (streams === 0) lastSampleAt = clock.now();
      return lastSampleAt;
    },
    /** Takes the entries of the log, for nodes that were changed on other replicas. */
    heard: alerter.heard,
    lastSamples: lastSamples(resources, clock, collectionIntervalMs),
    handlers: resourceHandlers({
      ...parts,
      ...{ resources, alerts, allocator, retentionDays: settings.retentionDays, disruptedPools: pools.disrupted },
      findPool: async (poolId) => {
        const pool = await pools.find(poolId);
        return pool && { disrupted: pool.disrupted_since !== undefined };
      },
    }),
    tasks: { monitor: monitor.task, retention: retention.task },
  };
}

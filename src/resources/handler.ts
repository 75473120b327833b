// The resource RPCs of NodeService: what nodes use, alerts when they use too much, and allocations.
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  AllocateResourcesRequestSchema,
  Granularity,
  type NodeService,
  TimeRange,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Policy } from "../access/permission.js";
import type { Clock } from "../clock.js";
import { idempotencyId, meaningOf } from "../conventions/idempotency.js";
import type { Paging } from "../conventions/paging.js";
import { malformed, poolNotFound } from "../failure.js";
import type { NodeRepository } from "../nodes/repository.js";
import { countsToWire } from "../nodes/wire.js";
import { callerOf } from "../rpc/context.js";
import type { AlertRepository } from "./alerts/repository.js";
import { thresholdProblems, thresholdsOf } from "./alerts/thresholds.js";
import type { Allocator } from "./allocations/allocator.js";
import { spanOfRange, spanOfRequest } from "./requests.js";
import type { ResourceRepository } from "./samples/repository.js";
import { summaryOf } from "./samples/rollup.js";
import {
  alertToWire,
  allocationToWire,
  metricToWire,
  pointToWire,
  summaryToWire,
  thresholdsFromWire,
  thresholdsToWire,
} from "./wire.js";

export const resourcePolicies = {
  getNodeResources: { permission: "resource:read", nodeToken: "self" },
  getResourceMetrics: { permission: "resource:metrics" },
  setResourceThresholds: { permission: "node:write" },
  getResourceThresholds: { permission: "resource:read", nodeToken: "self" },
  listResourceAlerts: { permission: "resource:read", nodeToken: "self" },
  allocateResources: { permission: "node:write" },
  releaseResources: { permission: "node:write" },
  getFleetSummary: { permission: "node:read" },
} as const satisfies Partial<Record<keyof typeof NodeService.method, Policy>>;

export type ResourceHandlers = Pick<ServiceImpl<typeof NodeService>, keyof typeof resourcePolicies>;

export interface ResourceHandlerParts {
  readonly resources: ResourceRepository;
  readonly alerts: AlertRepository;
  readonly allocator: Allocator;
  readonly nodes: NodeRepository;
  /** Whether a pool is disrupted; null when there is no such pool. */
  readonly findPool: (poolId: string) => Promise<{ readonly disrupted: boolean } | null>;
  /** Ids of the disrupted pools, at most 1000. */
  readonly disruptedPools: () => Promise<string[]>;
  readonly paging: Paging;
  readonly clock: Clock;
  readonly retentionDays: number;
}

export function resourceHandlers(parts: ResourceHandlerParts): ResourceHandlers {
  const { resources, alerts, allocator, nodes, paging, clock } = parts;
  return {
    getNodeResources: async (request) => {
      const node = await nodes.get(request.nodeId);
      const timeRange = request.timeRange || TimeRange.TIME_RANGE_1H;
      const { bucketMs, fromMs, toMs } = spanOfRange(timeRange, clock.now());
      const buckets = await resources.read(node._id, bucketMs, fromMs, toMs);
      const summary = summaryOf(buckets);
      return {
        nodeId: node._id,
        timeRange,
        metrics: buckets.map(pointToWire),
        ...(summary && { summary: summaryToWire(summary) }),
        allocations: allocator.unexpired(node).map(allocationToWire),
      };
    },

    getResourceMetrics: async (request) => {
      const { bucketMs, fromMs, toMs } = spanOfRequest(request, clock.now(), parts.retentionDays);
      const node = await nodes.get(request.nodeId);
      const buckets = await resources.read(node._id, bucketMs, fromMs, toMs);
      return {
        nodeId: node._id,
        metricType: request.metricType,
        granularity: request.granularity || Granularity.GRANULARITY_5M,
        points: buckets
          .map((bucket) => metricToWire(bucket, request.metricType))
          .filter((point) => point !== undefined),
      };
    },

    setResourceThresholds: async ({ nodeId, thresholds: given }, context) => {
      const thresholds = given === undefined ? {} : thresholdsFromWire(given);
      const problems = thresholdProblems(thresholds);
      if (problems.length > 0) throw malformed(...problems);
      const event = { type: "updated", reason: "thresholds changed", actor: callerOf(context).subject } as const;
      const node = await nodes.change(nodeId, clock.now, () => ({ set: { thresholds }, event }));
      return { thresholds: thresholdsToWire(thresholdsOf(node.thresholds)) };
    },

    getResourceThresholds: async ({ nodeId }) => ({
      thresholds: thresholdsToWire(thresholdsOf((await nodes.get(nodeId)).thresholds)),
    }),

    listResourceAlerts: async (request) => {
      const { nodeId, activeOnly } = request;
      if (nodeId !== "") await nodes.get(nodeId);
      const filter = { activeOnly, ...(nodeId === "" ? {} : { nodeId }) };
      const binding = JSON.stringify(["alerts", filter]);
      const window = paging.window(request, binding);
      const page = await alerts.list(filter, window);
      return {
        alerts: page.items.map(alertToWire),
        pagination: await paging.pagination(window, binding, page.next, () => alerts.countOf(filter)),
      };
    },

    allocateResources: async (request, context) => {
      const { subject } = callerOf(context);
      const { allocation, replayed } = await allocator.allocate({
        nodeId: request.nodeId,
        amounts: {
          cpu_percent: request.cpuPercent,
          memory_bytes: Number(request.memoryBytes),
          disk_bytes: Number(request.diskBytes),
          network_mbps: request.networkMbps,
        },
        ttlMs: request.ttl && durationMs(request.ttl),
        idempotencyId: idempotencyId(context.method.name, subject, request.idempotencyKey),
        meaning: meaningOf(AllocateResourcesRequestSchema, request),
        actor: subject,
      });
      return { allocation: allocationToWire(allocation), replayed };
    },

    releaseResources: async ({ allocationId }, context) => ({
      allocation: allocationToWire(await allocator.release(allocationId, callerOf(context).subject)),
    }),

    getFleetSummary: async ({ poolId }) => {
      const inPool = poolId === "" ? {} : { poolId };
      const pool = poolId === "" ? undefined : await parts.findPool(poolId);
      if (pool === null) throw poolNotFound(poolId);
      const [{ byStatus, byConnectivity }, disruptedPools] = await Promise.all([
        countsToWire(
          (status) => nodes.countOf({ status, ...inPool }),
          (connectivity) => nodes.countOf({ connectivity, ...inPool }),
        ),
        pool === undefined ? parts.disruptedPools() : pool.disrupted ? [poolId] : [],
      ]);
      const total = Object.values(byStatus).reduce((sum, count) => sum + count, 0);
      return { total, byStatus, byConnectivity, disruptedPools };
    },
  };
}

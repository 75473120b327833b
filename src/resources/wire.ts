// Between the contract's messages and what this folder speaks: plain translation, no decisions.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  AlertSeverity,
  Granularity,
  MetricType,
  type ResourceAlertSchema,
  type ResourceAllocationSchema,
  type ResourceFiguresSchema,
  type ResourceMetricPointSchema,
  type ResourcePointSchema,
  type ResourceSummarySchema,
  type ResourceThresholds,
  type ResourceThresholdsSchema,
  TimeRange,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import type { ThresholdSettings } from "../nodes/node.js";
import type { AlertDocument } from "./alerts/repository.js";
import type { Thresholds } from "./alerts/thresholds.js";
import type { Allocated } from "./allocations/allocator.js";
import { averageOf, type Bucket, dayMs, type Figures, hourMs, minuteMs } from "./samples/rollup.js";

/** How far back a range goes, and in which buckets; unspecified has no entry. */
export const spans: ReadonlyMap<TimeRange, { readonly spanMs: number; readonly bucketMs: number }> = new Map([
  [TimeRange.TIME_RANGE_1H, { spanMs: hourMs, bucketMs: minuteMs }],
  [TimeRange.TIME_RANGE_6H, { spanMs: 6 * hourMs, bucketMs: 5 * minuteMs }],
  [TimeRange.TIME_RANGE_24H, { spanMs: dayMs, bucketMs: 15 * minuteMs }],
  [TimeRange.TIME_RANGE_7D, { spanMs: 7 * dayMs, bucketMs: hourMs }],
]);

export const bucketLengths: ReadonlyMap<Granularity, number> = new Map([
  [Granularity.GRANULARITY_1M, minuteMs],
  [Granularity.GRANULARITY_5M, 5 * minuteMs],
  [Granularity.GRANULARITY_15M, 15 * minuteMs],
  [Granularity.GRANULARITY_1H, hourMs],
]);

const metricOfResource = { cpu: MetricType.CPU, memory: MetricType.MEMORY, disk: MetricType.DISK } as const;
const severityToWire = { warn: AlertSeverity.WARN, critical: AlertSeverity.CRITICAL } as const;

type FiguresInit = MessageInitShape<typeof ResourceFiguresSchema>;

const figuresToWire = (figures: Figures): Exclude<FiguresInit, { $typeName: string }> => ({
  min: figures.min,
  avg: averageOf(figures),
  max: figures.max,
  last: figures.last,
});
/** Every point has a value for the processor. */
const cpuOf = ({ figures: { cpu } }: Bucket): Figures => {
  if (cpu === undefined) throw new Error("a bucket without cpu");
  return cpu;
};
const dateOfMs = (ms: number) => timestampFromDate(new Date(ms));

export function pointToWire(bucket: Bucket): MessageInitShape<typeof ResourcePointSchema> {
  const { mem, disk, rx, tx } = bucket.figures;
  return {
    at: dateOfMs(bucket.at),
    count: cpuOf(bucket).count,
    cpuPercent: averageOf(cpuOf(bucket)),
    ...(mem && { memoryUsedBytes: averageOf(mem), memoryTotalBytes: bucket.memTotal }),
    ...(disk && { diskUsedBytes: averageOf(disk), diskTotalBytes: bucket.diskTotal }),
    ...(rx && { networkRxBytesPerSecond: averageOf(rx) }),
    ...(tx && { networkTxBytesPerSecond: averageOf(tx) }),
  };
}

export function summaryToWire(bucket: Bucket): MessageInitShape<typeof ResourceSummarySchema> {
  const { mem, disk, rx, tx } = bucket.figures;
  return {
    count: cpuOf(bucket).count,
    cpuPercent: figuresToWire(cpuOf(bucket)),
    ...(mem && { memoryUsedBytes: figuresToWire(mem), memoryTotalBytes: bucket.memTotal }),
    ...(disk && { diskUsedBytes: figuresToWire(disk), diskTotalBytes: bucket.diskTotal }),
    ...(rx && { networkRxBytesPerSecond: figuresToWire(rx) }),
    ...(tx && { networkTxBytesPerSecond: figuresToWire(tx) }),
  };
}

/** Undefined when the bucket has no value of that metric. */
export function metricToWire(
  bucket: Bucket,
  metric: MetricType,
): MessageInitShape<typeof ResourceMetricPointSchema> | undefined {
  const of = (figures: Figures | undefined) =>
    figures && { at: dateOfMs(bucket.at), ...figuresToWire(figures), count: figures.count };
  switch (metric) {
    case MetricType.CPU:
      return of(bucket.figures.cpu);
    case MetricType.MEMORY:
      return bucket.figures.mem && { ...of(bucket.figures.mem), total: bucket.memTotal };
    case MetricType.DISK:
      return bucket.figures.disk && { ...of(bucket.figures.disk), total: bucket.diskTotal };
    case MetricType.NETWORK: {
      const { rx, tx } = bucket.figures;
      const sent = tx && figuresToWire(tx);
      return rx && sent && { ...of(rx), sent };
    }
    default:
      return undefined;
  }
}

export const thresholdsToWire = ({
  cpu,
  memory,
  disk,
}: Thresholds): MessageInitShape<typeof ResourceThresholdsSchema> => ({
  cpuWarnPercent: cpu.warn,
  cpuCriticalPercent: cpu.critical,
  memoryWarnPercent: memory.warn,
  memoryCriticalPercent: memory.critical,
  diskWarnPercent: disk.warn,
  diskCriticalPercent: disk.critical,
});

/** The given fields; a field that was left out stays out. */
export function thresholdsFromWire(given: ResourceThresholds): ThresholdSettings {
  const all: Readonly<Record<keyof ThresholdSettings, number | undefined>> = {
    cpu_warn_percent: given.cpuWarnPercent,
    cpu_critical_percent: given.cpuCriticalPercent,
    memory_warn_percent: given.memoryWarnPercent,
    memory_critical_percent: given.memoryCriticalPercent,
    disk_warn_percent: given.diskWarnPercent,
    disk_critical_percent: given.diskCriticalPercent,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

export const alertToWire = (alert: AlertDocument): MessageInitShape<typeof ResourceAlertSchema> => ({
  alertId: alert._id,
  nodeId: alert.node_id,
  metricType: metricOfResource[alert.resource],
  severity: severityToWire[alert.severity],
  valuePercent: alert.value_percent,
  thresholdPercent: alert.threshold_percent,
  active: alert.active ?? false,
  raisedAt: timestampFromDate(alert.raised_at),
  updatedAt: timestampFromDate(alert.updated_at),
  ...(alert.cleared_at && { clearedAt: timestampFromDate(alert.cleared_at) }),
});

export const allocationToWire = (allocation: Allocated): MessageInitShape<typeof ResourceAllocationSchema> => ({
  allocationId: allocation.allocation_id,
  nodeId: allocation.node_id,
  cpuPercent: allocation.cpu_percent,
  memoryBytes: BigInt(allocation.memory_bytes),
  diskBytes: BigInt(allocation.disk_bytes),
  networkMbps: allocation.network_mbps,
  createdAt: timestampFromDate(allocation.created_at),
  ...(allocation.expires_at && { expiresAt: timestampFromDate(allocation.expires_at) }),
  ...(allocation.released_at && { releasedAt: timestampFromDate(allocation.released_at) }),
});

// Rolls points up into buckets of time: count, minimum, sum, maximum and latest value of each metric. Pure.
// Buckets begin at whole multiples of their length since the epoch, so the same time is always in the same bucket.
import type { Point } from "./sample.js";

export const metricNames = ["cpu", "mem", "disk", "rx", "tx"] as const;
export type MetricName = (typeof metricNames)[number];

export interface Figures {
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
  readonly last: number;
}

export interface Bucket {
  /** The start of the bucket, in milliseconds since the epoch. */
  readonly at: number;
  /** The time of its latest point, in milliseconds since the epoch. */
  readonly lastAt: number;
  readonly memTotal: number;
  readonly diskTotal: number;
  /** A metric is missing if no point of the bucket has it. */
  readonly figures: Readonly<Partial<Record<MetricName, Figures>>>;
}

export const minuteMs = 60_000;
export const hourMs = 3_600_000;
export const dayMs = 86_400_000;
/** The length of time that one stored document of points covers. */
export const slotMs = 5 * minuteMs;

export const floorTo = (atMs: number, bucketMs: number): number => Math.floor(atMs / bucketMs) * bucketMs;
export const ceilTo = (atMs: number, bucketMs: number): number => Math.ceil(atMs / bucketMs) * bucketMs;

export const averageOf = ({ sum, count }: Figures): number => sum / count;

/** Takes buckets or points in any order; holds one bucket for each stretch of time that has any. */
export function createRollup(bucketMs: number) {
  const buckets = new Map<number, Growing>();
  const at = (ms: number): Growing => {
    const start = floorTo(ms, bucketMs);
    let bucket = buckets.get(start);
    if (bucket === undefined) {
      bucket = { at: start, lastAt: Number.NEGATIVE_INFINITY, memTotal: 0, diskTotal: 0, figures: {} };
      buckets.set(start, bucket);
    }
    return bucket;
  };
  return {
    add: (bucket: Bucket): void => addBucket(at(bucket.at), bucket),
    addPoint: (point: Point): void => addPoint(at(point.at), point),
    /** Oldest first. */
    buckets: (): Bucket[] => [...buckets.values()].sort((a, b) => a.at - b.at),
  };
}

/** All buckets as one; undefined when there are none. */
export function summaryOf(buckets: readonly Bucket[]): Bucket | undefined {
  const all = createRollup(Number.MAX_SAFE_INTEGER);
  for (const bucket of buckets) all.add({ ...bucket, at: 0 });
  return all.buckets()[0];
}

type Changing<T> = { -readonly [Name in keyof T]: T[Name] };
/** A bucket while it is filled. It is changed in place, because a query may take tens of thousands of points. */
interface Growing extends Changing<Omit<Bucket, "figures">> {
  readonly figures: Partial<Record<MetricName, Changing<Figures>>>;
}

function addPoint(bucket: Growing, point: Point): void {
  const isLatest = point.at >= bucket.lastAt;
  for (const name of metricNames) {
    const value = point[name];
    if (value !== undefined) addFigures(bucket.figures, name, 1, value, value, value, value, isLatest);
  }
  if (isLatest) date(bucket, point.at, point.mem_total, point.disk_total);
}

function addBucket(bucket: Growing, other: Bucket): void {
  const isLatest = other.lastAt >= bucket.lastAt;
  for (const name of metricNames) {
    const more = other.figures[name];
    if (more === undefined) continue;
    addFigures(bucket.figures, name, more.count, more.sum, more.min, more.max, more.last, isLatest);
  }
  if (isLatest) date(bucket, other.lastAt, other.memTotal, other.diskTotal);
}

function addFigures(
  all: Growing["figures"],
  name: MetricName,
  count: number,
  sum: number,
  min: number,
  max: number,
  last: number,
  isLatest: boolean,
): void {
  const figures = all[name];
  if (figures === undefined) {
    all[name] = { count, sum, min, max, last };
    return;
  }
  figures.count += count;
  figures.sum += sum;
  if (min < figures.min) figures.min = min;
  if (max > figures.max) figures.max = max;
  if (isLatest) figures.last = last;
}

function date(bucket: Growing, lastAt: number, memTotal: number, diskTotal: number): void {
  bucket.lastAt = lastAt;
  // A sample without totals leaves the totals of earlier samples as they are.
  if (memTotal > 0) bucket.memTotal = memTotal;
  if (diskTotal > 0) bucket.diskTotal = diskTotal;
}

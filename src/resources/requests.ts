// Spans of time that requests ask for, in whole buckets.
import {
  type GetResourceMetricsRequest,
  Granularity,
  type TimeRange,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import { dateOf } from "../conventions/time.js";
import { malformed } from "../failure.js";
import { ceilTo, dayMs, floorTo, hourMs } from "./samples/rollup.js";
import { bucketLengths, spans } from "./wire.js";

/** From the start of one bucket to the start of another, in milliseconds since the epoch. */
export interface Span {
  readonly bucketMs: number;
  readonly fromMs: number;
  readonly toMs: number;
}

export const bucketsMax = 10_000;
/** How far a caller's clock may be ahead. */
const aheadMsMax = 60_000;

/** The span that ends now. */
export function spanOfRange(range: TimeRange, now: Date): Span {
  const known = spans.get(range);
  if (known === undefined) throw malformed({ field: "time_range", description: "is not known" });
  const { spanMs, bucketMs } = known;
  return {
    bucketMs,
    fromMs: floorTo(now.getTime() - spanMs, bucketMs),
    toMs: floorTo(now.getTime(), bucketMs) + bucketMs,
  };
}

/** @throws Failure 4001 for times that make no span, for too many buckets, and for times that are no longer kept */
export function spanOfRequest(request: GetResourceMetricsRequest, now: Date, retentionDays: number): Span {
  const bucketMs = bucketLengths.get(request.granularity || Granularity.GRANULARITY_5M) ?? hourMs;
  const endMs = request.endTime === undefined ? now.getTime() : dateOf("end_time", request.endTime).getTime();
  const startMs = request.startTime === undefined ? endMs - hourMs : dateOf("start_time", request.startTime).getTime();
  if (endMs > now.getTime() + aheadMsMax) throw malformed({ field: "end_time", description: "is in the future" });
  if (startMs >= endMs) throw malformed({ field: "start_time", description: "must be before end_time" });
  const span = { bucketMs, fromMs: floorTo(startMs, bucketMs), toMs: ceilTo(endMs, bucketMs) };
  const count = (span.toMs - span.fromMs) / bucketMs;
  if (count > bucketsMax) {
    const description = `${count} buckets are more than ${bucketsMax}: ask for a coarser granularity, or for at most ${spanText(bucketsMax * bucketMs)}`;
    throw malformed({ field: "granularity", description });
  }
  // The bucket that is being deleted just now is answered as far as it exists.
  if (bucketMs < hourMs && startMs < now.getTime() - retentionDays * dayMs - hourMs) {
    const description = `is more than ${retentionDays} days ago; for older times only GRANULARITY_1H is kept`;
    throw malformed({ field: "start_time", description });
  }
  return span;
}

const spanText = (ms: number): string => `${Math.floor(ms / hourMs)} hours`;

// A sample of a machine as it is stored: gauges as reported, network counters turned into rates. Pure.
import type { Sample } from "../../nodes/sessions/session.js";

/** Field names are short because each node stores one of these a minute. All sizes are in bytes. */
export interface Point {
  /** Milliseconds since the epoch, by the server's clock; it identifies a point among its node's points. */
  readonly at: number;
  /** Percent of all cores, 0 to 100. */
  readonly cpu: number;
  /** Absent when the node could not read it; its total is then 0. */
  readonly mem?: number | undefined;
  readonly mem_total: number;
  readonly disk?: number | undefined;
  readonly disk_total: number;
  /** Bytes per second, received and sent; absent when no former sample allows a rate. */
  readonly rx?: number | undefined;
  readonly tx?: number | undefined;
}

/** The counters of a node's former sample, timed by the monotonic clock. */
export interface Counters {
  readonly atMs: number;
  readonly rx: bigint;
  readonly tx: bigint;
}

/** A former sample older than this says nothing about the time in between. */
const gapMsMax = 900_000;

export function toPoint(sample: Sample, at: Date, nowMs: number, former: Counters | undefined): Point {
  return {
    at: at.getTime(),
    cpu: sample.cpuPercent,
    ...(sample.memoryTotalBytes > 0n && { mem: Number(sample.memoryUsedBytes) }),
    mem_total: Number(sample.memoryTotalBytes),
    ...(sample.diskTotalBytes > 0n && { disk: Number(sample.diskUsedBytes) }),
    disk_total: Number(sample.diskTotalBytes),
    ...ratesOf(sample, nowMs, former),
  };
}

/** No rates when a counter went back, because the machine has restarted. */
function ratesOf(sample: Sample, nowMs: number, former: Counters | undefined): { rx?: number; tx?: number } {
  if (former === undefined) return {};
  const seconds = (nowMs - former.atMs) / 1000;
  const [rx, tx] = [sample.networkRxBytes - former.rx, sample.networkTxBytes - former.tx];
  // Counters that are all zero come from a machine that could not read them.
  if (sample.networkRxBytes === 0n && sample.networkTxBytes === 0n) return {};
  if (seconds <= 0 || seconds * 1000 > gapMsMax || rx < 0n || tx < 0n) return {};
  return { rx: Number(rx) / seconds, tx: Number(tx) / seconds };
}

// A sample of a machine as it is kept: gauges as they were told, network counters turned into rates. Pure.
import type { Sample } from "../../nodes/sessions/session.js";

/** Field names are short because each node has one of these a minute. All sizes in bytes. */
export interface Point {
  /** Milliseconds since the epoch, by the server's clock; tells a node's points apart. */
  readonly at: number;
  /** Percent of all cores, 0 to 100. */
  readonly cpu: number;
  /** Absent where the node could not read it; its total is 0 then. */
  readonly mem?: number | undefined;
  readonly mem_total: number;
  readonly disk?: number | undefined;
  readonly disk_total: number;
  /** Bytes a second, received and sent; absent where no former sample tells them. */
  readonly rx?: number | undefined;
  readonly tx?: number | undefined;
}

/** The counters of a node's former sample, by a clock that only grows. */
export interface Counters {
  readonly atMs: number;
  readonly rx: bigint;
  readonly tx: bigint;
}

/** A sample further back than this says nothing of the time in between. */
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

/** None where a counter went back: the machine has started anew. */
function ratesOf(sample: Sample, nowMs: number, former: Counters | undefined): { rx?: number; tx?: number } {
  if (former === undefined) return {};
  const seconds = (nowMs - former.atMs) / 1000;
  const [rx, tx] = [sample.networkRxBytes - former.rx, sample.networkTxBytes - former.tx];
  // Counters of nothing but zeros are those of a machine that could not read them.
  if (sample.networkRxBytes === 0n && sample.networkTxBytes === 0n) return {};
  if (seconds <= 0 || seconds * 1000 > gapMsMax || rx < 0n || tx < 0n) return {};
  return { rx: Number(rx) / seconds, tx: Number(tx) / seconds };
}

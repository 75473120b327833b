// Takes the samples of the nodes heard here. A sample touches memory only; every few seconds the new samples are
// written in bulk and compared with thresholds. While the store is away samples wait; beyond a bound the oldest are
// dropped.
import type { Clock } from "../../clock.js";
import type { Sample } from "../../nodes/sessions/session.js";
import { createStride } from "../../stride.js";
import { isOutage, turns } from "../../task.js";
import type { Log } from "../../telemetry/log.js";
import type { NodePoint, ResourceRepository } from "./repository.js";
import { slotMs } from "./rollup.js";
import { type Counters, toPoint } from "./sample.js";

const flushMs = 5_000;
const batchMax = 500;
const batchMin = 5;
/** Samples that may wait, some 25 MB: five minutes of the 20,000 nodes that a replica holds by default. */
const pendingMax = 100_000;
/** Nodes whose previous network counters are kept. */
const formerMax = 50_000;

/** Samples of a node closer together than this are dropped: half the interval it is asked for, and at most 5 s. */
const spacingOf = (collectionIntervalMs: number): number => Math.min(flushMs, collectionIntervalMs / 2);

/** Maximum age of a sample that still counts as current: two intervals plus 30 s for flushing. */
export const sampleAgeMaxMs = (collectionIntervalMs: number): number => 2 * collectionIntervalMs + 30_000;

/** The most points of a node in one slot, including a second replica's share. */
export const pointsMaxOf = (collectionIntervalMs: number): number =>
  2 * Math.ceil(slotMs / spacingOf(collectionIntervalMs));

export function createMonitor(parts: {
  /** Takes at most 500 points, one per node; repeats are harmless. */
  readonly append: (points: readonly NodePoint[]) => Promise<void>;
  readonly judge: (points: readonly NodePoint[]) => Promise<void>;
  readonly settleDeleted: () => Promise<void>;
  readonly clock: Clock;
  readonly collectionIntervalMs: number;
  readonly metrics: {
    readonly taken: { inc(): void };
    readonly dropped: { inc(): void };
    /** In seconds. */
    readonly flushed: { observe(seconds: number): void };
  };
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { clock, metrics, log } = parts;
  const spacingMs = spacingOf(parts.collectionIntervalMs);
  const former = new Map<string, Counters>();
  /** In order of arrival. */
  const pending = new Map<number, NodePoint>();
  const stride = createStride(batchMax, batchMin);
  let arrivals = 0;

  const remember = (nodeId: string, counters: Counters): void => {
    // Moved to the end, because it was heard last.
    former.delete(nodeId);
    former.set(nodeId, counters);
    dropOldest(former, formerMax);
  };

  const take = (nodeId: string, sample: Sample): void => {
    const nowMs = clock.monotonicMs();
    const earlier = former.get(nodeId);
    if (earlier !== undefined && nowMs - earlier.atMs < spacingMs) {
      metrics.dropped.inc();
      return;
    }
    metrics.taken.inc();
    pending.set(arrivals++, { nodeId, point: toPoint(sample, clock.now(), nowMs, earlier) });
    remember(nodeId, { atMs: nowMs, rx: sample.networkRxBytes, tx: sample.networkTxBytes });
    if (dropOldest(pending, pendingMax)) metrics.dropped.inc();
  };

  /** The points that wait longest, one per node, because a node's points are written in order. */
  const nextBatch = (): Map<number, NodePoint> => {
    const batch = new Map<number, NodePoint>();
    const nodeIds = new Set<string>();
    for (const [arrival, one] of pending) {
      if (batch.size >= stride.size()) break;
      if (nodeIds.has(one.nodeId)) continue;
      nodeIds.add(one.nodeId);
      batch.set(arrival, one);
    }
    return batch;
  };

  /** Writes the points that wait. Points whose write failed go on waiting. */
  const flush = async (): Promise<void> => {
    const startedMs = clock.monotonicMs();
    const last = arrivals;
    const waited = pending.size > 0;
    let unjudged: unknown;
    while ((pending.keys().next().value ?? last) < last) {
      const batch = nextBatch();
      const points = [...batch.values()];
      await stride.attempt(() => parts.append(points));
      for (const arrival of batch.keys()) pending.delete(arrival);
      // A failure to read or write alerts does not hold up samples.
      await parts.judge(points).catch((error: unknown) => {
        if (!isOutage(error)) throw error;
        unjudged ??= error;
      });
    }
    if (unjudged !== undefined) {
      log.warn("Samples were not compared with thresholds; the next samples will be", { error: unjudged });
    }
    await parts.settleDeleted();
    if (waited) metrics.flushed.observe((clock.monotonicMs() - startedMs) / 1000);
  };

  const away = {
    began: (error: unknown) => log.warn("Samples cannot be written; they wait", { error, waiting: pending.size }),
    ended: () => log.info("Samples are written again"),
  };
  return { take, task: turns({ clock, everyMs: flushMs, turn: flush, away, last: flush }).task };
}

/** The last samples of nodes, at most 1000, that are not older than `sampleAgeMaxMs`. */
export const lastSamples =
  (resources: Pick<ResourceRepository, "latest">, clock: Pick<Clock, "now">, collectionIntervalMs: number) =>
  async (nodeIds: readonly string[]) => {
    const now = clock.now();
    const since = new Date(now.getTime() - sampleAgeMaxMs(collectionIntervalMs));
    const found = await resources.latest(nodeIds, since, now);
    return [...found.values()].map(({ figures, memTotal, diskTotal }) => ({
      cpuPercent: figures.cpu?.last ?? 0,
      memoryUsed: figures.mem?.last ?? 0,
      memoryTotal: memTotal,
      diskUsed: figures.disk?.last ?? 0,
      diskTotal,
      rx: figures.rx?.last,
      tx: figures.tx?.last,
    }));
  };

/** Drops the oldest entry if there are too many; answers whether it did. */
function dropOldest<Key>(map: Map<Key, unknown>, max: number): boolean {
  if (map.size <= max) return false;
  for (const key of map.keys()) {
    map.delete(key);
    break;
  }
  return true;
}

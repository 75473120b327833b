// Takes the samples of the nodes heard here. A sample touches memory only; every few seconds what has come is written in
// bulk and held against thresholds. While the store is away samples wait, bounded, the oldest going first.
import type { Clock } from "../../clock.js";
import type { Sample } from "../../nodes/sessions/session.js";
import { createStride } from "../../stride.js";
import { isOutage, turns } from "../../task.js";
import type { Log } from "../../telemetry/log.js";
import type { NodePoint, ResourceRepository } from "./repository.js";
import { slotMs } from "./rollup.js";
import { type Counters, toPoint } from "./sample.js";

export type Monitor = ReturnType<typeof createMonitor>;

const flushMs = 5_000;
const batchMax = 500;
const batchMin = 5;
/** Waiting at a time, some 25 MB: five minutes of the 20,000 nodes that a replica holds by default. */
const pendingMax = 100_000;
/** Nodes whose former counters are kept. */
const formerMax = 50_000;

/** A node's samples closer together than this are not kept: half of what it is asked for, and never more than 5 s. */
const spacingOf = (collectionIntervalMs: number): number => Math.min(flushMs, collectionIntervalMs / 2);

/** How old a node's last sample may be to speak of it: two intervals and what a flush and a slow store take. */
export const sampleAgeMaxMs = (collectionIntervalMs: number): number => 2 * collectionIntervalMs + 30_000;

/** Points of a node in one slot, a second replica's share among them. */
export const pointsMaxOf = (collectionIntervalMs: number): number =>
  2 * Math.ceil(slotMs / spacingOf(collectionIntervalMs));

export function createMonitor(parts: {
  /** At most 500 points, of each node one; repeats are harmless. */
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
    // Behind all others, as the one heard last.
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

  /** The longest waiting, of each node one: a node's points are written in order. */
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

  /** Writes what waits. Points whose write failed wait on. */
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
      // Alerts that cannot be read or written hold up no samples.
      await parts.judge(points).catch((error: unknown) => {
        if (!isOutage(error)) throw error;
        unjudged ??= error;
      });
    }
    if (unjudged !== undefined) {
      log.warn("Samples were not held against thresholds; the next ones are", { error: unjudged });
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

/** The last values of nodes, at most 1000, not older than two intervals and what a flush takes. */
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

/** Whether one had to go. */
function dropOldest<Key>(map: Map<Key, unknown>, max: number): boolean {
  if (map.size <= max) return false;
  for (const key of map.keys()) {
    map.delete(key);
    break;
  }
  return true;
}

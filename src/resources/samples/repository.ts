// The stored usage: points of a node in documents of five minutes, and their rollup by hour. Written in bulk, read by
// index in pages. If an answer was lost a point may be written twice. Among the points it is then stored twice, and the
// reader drops the second one. To its hour it is added once, because an hour takes only points later than all it has.
import type { CollectionDefinition, Cursor, Filter, Store, StoredDocument, Update } from "../../storage/collection.js";
import { pages } from "../../storage/pages.js";
import {
  type Bucket,
  createRollup,
  type Figures,
  floorTo,
  hourMs,
  type MetricName,
  metricNames,
  minuteMs,
  slotMs,
} from "./rollup.js";
import type { Point } from "./sample.js";

/** The fields of a slot's points, in arrays that grow together: reading them costs a third of reading single points. */
const columnNames = ["cpu", "mem", "mem_total", "disk", "disk_total", "rx", "tx"] as const;
type Columns = Readonly<Record<(typeof columnNames)[number], readonly (number | null)[]>>;

/** `_id` is the node and the slot's start in minutes since the epoch. */
interface SlotDocument extends StoredDocument, Columns {
  readonly node_id: string;
  readonly slot: Date;
  /** Milliseconds after the slot's start. */
  readonly at: readonly number[];
}

/**
 * `_id` is the node and the hour's start in minutes since the epoch. A metric that was never reported in the hour is
 * missing.
 */
interface HourDocument extends StoredDocument, Partial<Readonly<Record<MetricName, Figures>>> {
  readonly node_id: string;
  readonly hour: Date;
  readonly last_at: Date;
  readonly mem_total: number;
  readonly disk_total: number;
}

export const resourceMetricsCollection: CollectionDefinition = {
  name: "resource_metrics",
  durability: "relaxed",
  dates: ["slot"],
  indexes: [
    { name: "idx_node_id_slot", key: ["node_id", "slot"] },
    { name: "idx_slot", key: ["slot"] },
  ],
};
export const resourceHoursCollection: CollectionDefinition = {
  name: "resource_hours",
  durability: "relaxed",
  dates: ["hour", "last_at"],
  indexes: [
    { name: "idx_node_id_hour", key: ["node_id", "hour"] },
    { name: "idx_hour", key: ["hour"] },
  ],
};

export interface NodePoint {
  readonly nodeId: string;
  readonly point: Point;
}

export type ResourceRepository = Awaited<ReturnType<typeof createResourceRepository>>;

const pageMax = 1000;
const idOf = (nodeId: string, startMs: number): string => `${nodeId}:${startMs / minuteMs}`;

/** `pointsMax`: the most points of a node that one slot of five minutes keeps; the newest stay. */
export async function createResourceRepository(store: Store, pointsMax: number) {
  const slots = await store.collection<SlotDocument>(resourceMetricsCollection);
  const hours = await store.collection<HourDocument>(resourceHoursCollection);

  const hoursOf = async (nodeId: string, fromMs: number, toMs: number): Promise<Bucket[]> => {
    const buckets: Bucket[] = [];
    const filter = { node_id: nodeId, hour: { $gte: new Date(fromMs), $lt: new Date(toMs) } };
    for await (const page of pages((after) => hours.page(filter, pageBy("idx_node_id_hour", after)))) {
      buckets.push(...page.map(bucketOfHour));
    }
    return buckets;
  };

  const rolledUp = async (nodeId: string, bucketMs: number, fromMs: number, toMs: number): Promise<Bucket[]> => {
    const rollup = createRollup(bucketMs);
    const first = new Date(floorTo(fromMs, slotMs));
    const filter = { node_id: nodeId, slot: { $gte: first, $lt: new Date(toMs) } };
    for await (const page of pages((after) => slots.page(filter, pageBy("idx_node_id_slot", after)))) {
      for (const slot of page) {
        for (const point of pointsOf(slot)) if (point.at >= fromMs && point.at < toMs) rollup.addPoint(point);
      }
    }
    return rollup.buckets();
  };

  return {
    /** At most 1000 points, one per node. Repeats are harmless. @throws StoreUnavailableError: some may be written */
    append: async (points: readonly NodePoint[]): Promise<void> => {
      await Promise.all([
        slots.bulkUpdate(points.map((one) => slotUpdate(one, pointsMax))),
        hours.bulkUpdate(points.map(hourUpdate)),
      ]);
    },

    /**
     * A node's usage from `fromMs` (inclusive) to `toMs` (exclusive), in buckets, oldest first; both are bucket
     * boundaries. Whole hours are read from the rollup, anything finer from the points.
     */
    read: (nodeId: string, bucketMs: number, fromMs: number, toMs: number): Promise<Bucket[]> =>
      bucketMs === hourMs ? hoursOf(nodeId, fromMs, toMs) : rolledUp(nodeId, bucketMs, fromMs, toMs),

    /** The latest bucket of each of these nodes, at most 1000, that has reported anything since that time. */
    latest: async (nodeIds: readonly string[], since: Date, now: Date): Promise<Map<string, Bucket>> => {
      const found = new Map<string, Bucket>();
      for (let hour = floorTo(now.getTime(), hourMs); hour >= floorTo(since.getTime(), hourMs); hour -= hourMs) {
        const missing = nodeIds.filter((nodeId) => !found.has(nodeId));
        if (missing.length === 0) break;
        const ids = missing.map((nodeId) => idOf(nodeId, hour));
        const { items } = await hours.page({ _id: { $in: ids } }, { index: "_id_", limit: pageMax });
        for (const item of items) if (item.last_at >= since) found.set(item.node_id, bucketOfHour(item));
      }
      return found;
    },

    /** Deletes up to 1000 documents of points, or of hours, from before that time; answers how many. */
    deletePoints: (before: Date): Promise<number> =>
      slots.deleteMany({ slot: { $lt: before } }, { index: "idx_slot", limit: pageMax }),
    deleteHours: (before: Date): Promise<number> =>
      hours.deleteMany({ hour: { $lt: before } }, { index: "idx_hour", limit: pageMax }),
  };
}

interface BulkUpdate {
  readonly filter: Filter;
  readonly update: Update;
  readonly upsert: true;
}

function slotUpdate({ nodeId, point }: NodePoint, pointsMax: number): BulkUpdate {
  const startMs = floorTo(point.at, slotMs);
  const pushed = (value: number | null) => ({ $each: [value], $slice: -pointsMax });
  return {
    filter: { _id: idOf(nodeId, startMs) },
    update: {
      $setOnInsert: { node_id: nodeId, slot: new Date(startMs) },
      $push: {
        at: pushed(point.at - startMs),
        ...Object.fromEntries(columnNames.map((name) => [name, pushed(point[name] ?? null)])),
      },
    },
    upsert: true,
  };
}

/** Each point once: of two points with the same time, left by a repeated write, the first one. */
function pointsOf(slot: SlotDocument): Point[] {
  const { at, cpu, mem, mem_total, disk, disk_total, rx, tx } = slot;
  const startMs = slot.slot.getTime();
  const points: Point[] = [];
  for (const [place, offset] of at.entries()) {
    if (at.indexOf(offset) !== place) continue;
    points.push({
      at: startMs + offset,
      cpu: cpu[place] ?? 0,
      mem: mem[place] ?? undefined,
      mem_total: mem_total[place] ?? 0,
      disk: disk[place] ?? undefined,
      disk_total: disk_total[place] ?? 0,
      rx: rx[place] ?? undefined,
      tx: tx[place] ?? undefined,
    });
  }
  return points;
}

/**
 * If the hour already has that point or a later one, the upsert collides with the document itself and is refused as a
 * duplicate.
 */
function hourUpdate({ nodeId, point }: NodePoint): BulkUpdate {
  const startMs = floorTo(point.at, hourMs);
  const at = new Date(point.at);
  const told = metricNames.flatMap((name): [MetricName, number][] => {
    const value = point[name];
    return value === undefined ? [] : [[name, value]];
  });
  const each = (field: keyof Figures, figure: (value: number) => number) =>
    Object.fromEntries(told.map(([name, value]) => [`${name}.${field}`, figure(value)]));
  const same = (value: number) => value;
  // A sample without a total leaves the stored one.
  const totals = (which: (total: number) => boolean) =>
    Object.fromEntries((["mem_total", "disk_total"] as const).flatMap((n) => (which(point[n]) ? [[n, point[n]]] : [])));
  return {
    filter: { _id: idOf(nodeId, startMs), last_at: { $lt: at } },
    update: {
      $setOnInsert: { node_id: nodeId, hour: new Date(startMs), ...totals((total) => total === 0) },
      $set: { last_at: at, ...totals((total) => total > 0), ...each("last", same) },
      $inc: { ...each("count", () => 1), ...each("sum", same) },
      $min: each("min", same),
      $max: each("max", same),
    },
    upsert: true,
  };
}

function bucketOfHour(document: HourDocument): Bucket {
  const told = metricNames.flatMap((name) => (document[name] === undefined ? [] : [[name, document[name]] as const]));
  return {
    at: document.hour.getTime(),
    lastAt: document.last_at.getTime(),
    memTotal: document.mem_total,
    diskTotal: document.disk_total,
    figures: Object.fromEntries(told),
  };
}

const pageBy = (index: string, after: Cursor | undefined) => ({ index, limit: pageMax, after });

// How long a caller waits for a week of one node's samples, one a minute: 95th percentiles of sequential calls,
// compared with GetNode in the same round and through the same client.

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  GetResourceMetricsRequestSchema,
  Granularity,
  MetricType,
  TimeRange,
} from "../dist/gen/lucid/node/v1/node_service_pb.js";
import { systemClock } from "../dist/src/clock.js";
import { createResourceRepository } from "../dist/src/resources/samples/repository.js";
import { openSqliteStore } from "../dist/src/storage/sqlite/store.js";

const minuteMs = 60_000;
const weekMs = 7 * 24 * 60 * minuteMs;

/**
 * Writes a week of that node's samples, up to now, into the embedded store in that directory, which must not be open
 * elsewhere.
 */
export async function writeWeek(directory, nodeId) {
  await using store = await openSqliteStore({ dir: directory, clock: systemClock });
  const resources = await createResourceRepository(store, 120);
  const now = Date.now();
  const sizes = { mem: 4e9, mem_total: 16e9, disk: 1e11, disk_total: 5e11 };
  // The points of an hour in order, as in reality; the hours in parallel.
  const hours = Map.groupBy(
    Array.from({ length: weekMs / minuteMs }, (_, place) => ({ place, at: now - weekMs + place * minuteMs })),
    ({ at }) => Math.floor(at / (60 * minuteMs)),
  );
  const writeHour = async (minutes) => {
    for (const { place, at } of minutes) {
      const point = { at, cpu: place % 100, ...sizes, rx: place * 1000.5, tx: place * 10.25 };
      await resources.append([{ nodeId, point }]);
    }
  };
  await Promise.all([...hours.values()].map(writeHour));
}

/** The 95th percentile of each round in milliseconds, for each kind of call. */
export async function measureWeek(nodes, nodeId, { rounds, calls }) {
  const span = () => ({ startTime: timestampFromMs(Date.now() - weekMs), endTime: timestampFromMs(Date.now()) });
  const metrics = () =>
    create(GetResourceMetricsRequestSchema, {
      nodeId,
      metricType: MetricType.CPU,
      granularity: Granularity.GRANULARITY_5M,
      ...span(),
    });
  const cells = {
    getNode: () => nodes.getNode({ nodeId }),
    resources: () => nodes.getNodeResources({ nodeId, timeRange: TimeRange.TIME_RANGE_7D }),
    metrics: () => nodes.getResourceMetrics(metrics()),
  };
  const found = Object.fromEntries(Object.keys(cells).map((name) => [name, []]));
  const answers = { resources: await cells.resources(), metrics: await cells.metrics() };
  if (answers.resources.metrics.length < 168 || answers.metrics.points.length < 2016) {
    throw new Error("the week is not whole");
  }
  // The first round of each is a warm-up.
  for (let round = 0; round <= rounds; round++) {
    for (const [name, call] of Object.entries(cells)) {
      const waits = [];
      for (let place = 0; place < calls; place++) {
        const before = performance.now();
        await call();
        waits.push(performance.now() - before);
      }
      if (round > 0) found[name].push(percentile(waits, 0.95));
    }
  }
  return found;
}

const percentile = (list, share) => [...list].sort((a, b) => a - b)[Math.ceil(list.length * share) - 1];

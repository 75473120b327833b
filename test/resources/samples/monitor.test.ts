// Samples between their arrival and the store: how many wait, and how they are written.

import { expect, test } from "vitest";
import type { Sample } from "../../../src/nodes/sessions/session.js";
import { createMonitor, pointsMaxOf } from "../../../src/resources/samples/monitor.js";
import type { NodePoint } from "../../../src/resources/samples/repository.js";
import { StoreUnavailableError } from "../../../src/storage/collection.js";
import { silentLog } from "../../../src/telemetry/log.js";
import { createTestClock } from "../../support/world/clock.js";

const aSample = (cpuPercent: number): Sample => ({
  cpuPercent,
  memoryUsedBytes: 1n,
  memoryTotalBytes: 2n,
  diskUsedBytes: 1n,
  diskTotalBytes: 2n,
  networkRxBytes: 0n,
  networkTxBytes: 0n,
});

/** A monitor over a store that the test switches off and on. */
function aMonitor() {
  const clock = createTestClock();
  const counts = { taken: 0, dropped: 0, warned: 0 };
  const batches: NodePoint[][] = [];
  const store = { away: false, blind: false };
  const monitor = createMonitor({
    append: async (points) => {
      if (store.away) throw new StoreUnavailableError("away");
      batches.push([...points]);
    },
    judge: async () => {
      if (store.blind) throw new StoreUnavailableError("alerts are away");
    },
    settleDeleted: async () => undefined,
    clock,
    collectionIntervalMs: 60_000,
    metrics: {
      taken: { inc: () => void counts.taken++ },
      dropped: { inc: () => void counts.dropped++ },
      flushed: { observe: () => undefined },
    },
    log: { ...silentLog, warn: () => void counts.warned++ },
  });
  const end = new AbortController();
  const running = monitor.task(end.signal);
  return {
    ...{ clock, counts, batches, store, take: monitor.take },
    stop: () => {
      end.abort();
      return running;
    },
  };
}

test("of a node come one a batch and in order, and no batch is above 500", async () => {
  const { clock, batches, store, take, stop } = aMonitor();
  store.away = true;
  for (let round = 1; round <= 3; round++) {
    for (let place = 0; place < 600; place++) take(`node_${place}`, aSample(round));
    await clock.advance(5_000);
  }
  store.away = false;
  await clock.advance(5_000);
  const written = batches.flat();
  expect(written).toHaveLength(1_800);
  for (const batch of batches) {
    expect(batch.length).toBeLessThanOrEqual(500);
    expect(new Set(batch.map(({ nodeId }) => nodeId)).size).toBe(batch.length);
  }
  const ofOne = written.filter(({ nodeId }) => nodeId === "node_599").map(({ point }) => point.cpu);
  expect(ofOne).toEqual([1, 2, 3]);
  await stop();
});

test("beyond 100,000 that wait push the oldest out, and are counted", async () => {
  const { clock, counts, batches, store, take, stop } = aMonitor();
  store.away = true;
  for (let place = 0; place < 100_003; place++) take(`node_${place}`, aSample(1));
  await clock.advance(5_000);
  expect(counts).toEqual({ taken: 100_003, dropped: 3, warned: 1 });
  store.away = false;
  await stop();
  expect(batches.flat()).toHaveLength(100_000);
  expect(batches[0]?.[0]?.nodeId).toBe("node_3");
});

test("that wait when the service stops are written then, and none is written twice", async () => {
  const { clock, batches, take, stop } = aMonitor();
  take("node_1", aSample(1));
  await clock.advance(5_000);
  take("node_1", aSample(2));
  await stop();
  expect(batches.flat().map(({ point }) => point.cpu)).toEqual([1, 2]);
});

test("fit into what is kept of a slot, as fast as they may come", () => {
  expect(pointsMaxOf(60_000)).toBeGreaterThanOrEqual(300 / 5);
  expect(pointsMaxOf(1_000)).toBeGreaterThanOrEqual(300 / 0.5);
});

test("are all written while alerts cannot be", async () => {
  const { clock, batches, counts, store, take, stop } = aMonitor();
  store.blind = true;
  for (let place = 0; place < 1_200; place++) take(`node_${place}`, aSample(1));
  await clock.advance(5_000);
  expect(batches.flat()).toHaveLength(1_200);
  expect(counts.warned).toBe(1);
  await stop();
});

// The store's clock decides what is old: a replica whose own clock is years ahead deletes nothing too early.
import { afterEach, beforeEach, expect, it } from "vitest";
import { createNodeLog, type LogEntry, nodeLogCollection } from "../../src/nodes/history/log.js";
import { createNodeRepository } from "../../src/nodes/repository.js";
import { createAlertRepository } from "../../src/resources/alerts/repository.js";
import { createRetention } from "../../src/resources/retention.js";
import { createResourceRepository } from "../../src/resources/samples/repository.js";
import type { Store } from "../../src/storage/collection.js";
import type { Task } from "../../src/task.js";
import { silentLog } from "../../src/telemetry/log.js";
import { type Engines, embeddedEngines } from "../support/engines/engines.js";
import { createTestClock, type TestClock } from "../support/world/clock.js";
import { until } from "../support/world/until.js";

const start = new Date("2026-01-01T00:00:00Z");
const dayMs = 86_400_000;

let engines: Engines;
let store: Store;
/** The machine's clock, which each test moves. */
let clock: TestClock;
let storeTime: Date;
beforeEach(async () => {
  clock = createTestClock(start);
  storeTime = start;
  engines = embeddedEngines(createTestClock(start));
  const { store: opened } = await engines.open();
  store = { ...opened, now: async () => storeTime };
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  engines.remove();
});

/** Lets the task work until it sleeps. */
const oneTurn = async (task: Task): Promise<void> => {
  const control = new AbortController();
  const asleep = clock.sleepers;
  const running = task(control.signal);
  await until(() => clock.sleepers > asleep, "the task sleeps");
  control.abort();
  await running;
};

it("the history of nodes", async () => {
  const repository = await createNodeRepository(store);
  const log = await createNodeLog({ store, repository, clock, logger: silentLog });
  const entries = await store.collection<LogEntry>(nodeLogCollection);
  for (const place of [1, 2, 3]) {
    const change = { change: place, type: "updated", status: "active", connectivity: "connected" } as const;
    const entry = { ...change, reason: "", actor: "ops", version: place, at: start, node_id: "node_1" };
    await entries.insertOne({ ...entry, _id: String(place).padStart(16, "0") });
  }
  const count = () => entries.count({}, { index: "_id_" });
  clock.stepWall(3650 * dayMs);
  await oneTurn(log.task);
  expect(await count()).toBe(3);
  storeTime = new Date(start.getTime() + 31 * dayMs);
  await clock.advance(3_700_000);
  await oneTurn(log.task);
  // The newest entry stays for ever.
  expect(await count()).toBe(1);
});

it("the history of nodes, at the embedded engine, although the one clock there is was two years ahead for ten minutes", async () => {
  const own = embeddedEngines(clock);
  const { store: steady } = await own.open();
  try {
    const repository = await createNodeRepository(steady);
    // Acts as a process that has just started: it looks for old entries at once.
    const look = async () => {
      const parts = { store: steady, repository, clock, logger: silentLog };
      await oneTurn((await createNodeLog(parts)).task);
    };
    const entries = await steady.collection<LogEntry>(nodeLogCollection);
    for (const place of [1, 2, 3]) {
      const change = { change: place, type: "updated", status: "active", connectivity: "connected" } as const;
      const entry = { ...change, reason: "", actor: "ops", version: place, at: start, node_id: "node_1" };
      await entries.insertOne({ ...entry, _id: String(place).padStart(16, "0") });
    }
    const count = () => entries.count({}, { index: "_id_" });
    clock.stepWall(730 * dayMs);
    for (let minute = 0; minute < 10; minute++) {
      await look();
      await clock.advance(60_000);
    }
    expect(await count()).toBe(3);
    clock.stepWall(-730 * dayMs);
    // Time that really passes counts, unlike a step of the wall clock.
    await clock.stall(31 * dayMs);
    await look();
    expect(await count()).toBe(1);
  } finally {
    await steady[Symbol.asyncDispose]();
    own.remove();
  }
});

it("samples", async () => {
  const resources = await createResourceRepository(store, 5);
  const alerts = await createAlertRepository(store);
  const nodes = await createNodeRepository(store);
  const at = start.getTime();
  await resources.append([{ nodeId: "node_1", point: { at, cpu: 1, mem: 1, mem_total: 1, disk: 1, disk_total: 1 } }]);
  const retention = createRetention({
    ...{ resources, alerts, nodes, clock, storeNow: store.now, retentionDays: 90, cleanupIntervalMs: 1000 },
    leadership: () => ({ token: 1, holds: () => true }),
    gauge: { set: () => undefined },
    log: { ...silentLog, warn: (message, fields) => expect.unreachable(`${message} ${fields?.error}`) },
  });
  const buckets = async () => (await resources.read("node_1", 60_000, at - 60_000, at + 60_000)).length;
  clock.stepWall(3650 * dayMs);
  await oneTurn(retention.task);
  expect(await buckets()).toBe(1);
  storeTime = new Date(start.getTime() + 91 * dayMs);
  await clock.advance(2_000);
  const control = new AbortController();
  const running = retention.task(control.signal);
  // Between two deletions it sleeps for a moment.
  await until(async () => {
    await clock.advance(50);
    return (await buckets()) === 0;
  }, "the sample is gone");
  control.abort();
  await running;
});

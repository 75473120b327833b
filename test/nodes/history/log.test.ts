// All changes get one order without gaps, no matter which replica moves them into the log and when it stops.
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../../src/clock.js";
import { createNodeLog, type LogEntry, nodeLogCollection } from "../../../src/nodes/history/log.js";
import type { Change } from "../../../src/nodes/node.js";
import { createNodeRepository } from "../../../src/nodes/repository.js";
import type { Collection } from "../../../src/storage/collection.js";
import { silentLog } from "../../../src/telemetry/log.js";
import { createTestClock } from "../../support/world/clock.js";
import { aNodeDocument } from "../../support/world/documents.js";
import { until } from "../../support/world/until.js";
import { openWorld, type World } from "../../support/world/world.js";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world[Symbol.asyncDispose]());

// Today, because retention would delete older entries from the log.
const now = new Date();
const aChange = (change: number): Change => ({
  change,
  type: "updated",
  status: "inactive",
  connectivity: "never_connected",
  reason: `change ${change}`,
  actor: "ops",
  version: change,
  at: now,
});
const aDocument = (id: string, changes: number) =>
  aNodeDocument({
    _id: id,
    name: id,
    change: changes,
    unlogged: Array.from({ length: changes }, (_, place) => aChange(place + 1)),
    unlogged_since: now,
  });

async function replica(store = world.store) {
  const repository = await createNodeRepository(store);
  return {
    repository,
    log: await createNodeLog({ store, repository, clock: createTestClock(), logger: silentLog }),
  };
}
const entriesOf = async (log: Collection<LogEntry>) => (await log.page({}, { index: "_id_", limit: 1000 })).items;
const query = { descending: false, limit: 100, skip: 0 } as const;

describe("the log", () => {
  test("moved by two replicas at once is dense, without doubles, and in each node's order", async () => {
    const [one, two] = [await replica(), await replica()];
    const ids = Array.from({ length: 12 }, (_, place) => `node_${String(place).padStart(4, "0")}`);
    for (const id of ids) await one.repository.insert(aDocument(id, 5));
    await Promise.all(ids.flatMap((id) => [one.log.eventsOf(id, query), two.log.eventsOf(id, query)]));
    const entries = await entriesOf(await world.store.collection<LogEntry>(nodeLogCollection));
    expect(entries.map(({ _id }) => Number(_id))).toEqual(Array.from({ length: 60 }, (_, place) => place + 1));
    for (const id of ids) {
      const own = entries.filter((entry) => entry.node_id === id);
      expect(own.map(({ change }) => change)).toEqual([1, 2, 3, 4, 5]);
    }
  });

  test("holds a change once that was moved before a crash and is still in its document", async () => {
    const { repository, log } = await replica();
    await repository.insert(aDocument("node_0001", 3));
    const collection = await world.store.collection<LogEntry>(nodeLogCollection);
    await collection.insertOne({ ...aChange(1), _id: "0000000000000001", node_id: "node_0001" });
    const { items } = await log.eventsOf("node_0001", query);
    expect(items.map(({ change }) => change)).toEqual([1, 2, 3]);
    expect((await repository.get("node_0001")).unlogged).toEqual([]);
    expect(await log.countOf("node_0001", undefined)).toBe(3);
  });

  test("keeps a change that comes while the ones before it are moved", async () => {
    const { repository, log } = await replica();
    await repository.insert(aDocument("node_0001", 1));
    const event = { type: "updated", reason: "meanwhile", actor: "ops" } as const;
    await Promise.all([
      log.eventsOf("node_0001", query),
      repository.change(
        "node_0001",
        () => now,
        () => ({ set: { labels: { a: "1" } }, event }),
      ),
    ]);
    const { items } = await log.eventsOf("node_0001", query);
    expect(items.map(({ reason }) => reason)).toEqual(["change 1", "meanwhile"]);
  });
});

const isRead = (operation: string) => ["findOne", "page", "count"].includes(operation);

/** The same store, but each call first waits for `before`. */
function behind(store: World["store"], before: (operation: string) => Promise<unknown> | undefined): World["store"] {
  const wrapped = <T extends object>(target: T): T =>
    new Proxy(target, {
      get: (_, name) => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== "function") return member;
        return async (...given: unknown[]) => {
          await before(String(name));
          const result: unknown = await member.apply(target, given);
          return name === "collection" ? wrapped(result as object) : result;
        };
      },
    });
  return wrapped(store);
}

describe("one busy node over a slow store", () => {
  const ended = new AbortController();
  afterEach(() => ended.abort());

  test("does not hold up the history of the others, nor pile up its own", async () => {
    // Each read takes 1 ms, each write 20.
    const store = behind(world.store, (operation) => delay(isRead(operation) ? 1 : 20));
    const repository = await createNodeRepository(store);
    const log = await createNodeLog({ store, repository, clock: systemClock, logger: silentLog });
    await repository.insert(aDocument("node_busy", 150));
    await repository.insert(aDocument("node_calm", 1));
    const running = log.task(ended.signal);
    const event = { type: "updated", reason: "again", actor: "ops" } as const;
    const patch = () => ({ set: { status_reason: "busy" }, event });
    let [changes, stop] = [0, false];
    const busy = (async () => {
      log.wake("node_busy");
      while (!stop) {
        await repository.change("node_busy", () => now, patch);
        log.wake("node_busy");
        changes++;
      }
    })();
    const collection = await world.store.collection<LogEntry>(nodeLogCollection);
    const isLogged = async (nodeId: string, change: number) =>
      (await collection.findOne({ node_id: nodeId, change }, { index: "idx_node_change" })) !== null;
    for (let calm = 1; calm <= 5; calm++) {
      const before = changes;
      await until(() => changes >= before + 20, "the busy node goes on");
      await repository.change("node_calm", () => now, patch);
      log.wake("node_calm");
      await until(() => isLogged("node_calm", calm + 1), "the other node's change is in the log", 2_500);
    }
    // The node's document drops the changes that the log holds, although more keep coming.
    const { unlogged } = await repository.get("node_busy");
    expect(unlogged.length).toBeLessThan(150);
    stop = true;
    await busy;
    await until(() => isLogged("node_busy", 150 + changes), "the busy node's last change is in the log", 3_000);
    await until(async () => (await repository.get("node_busy")).unlogged.length === 0, "nothing is left to log", 3_000);
    const entries = await entriesOf(collection);
    expect(entries.map(({ _id }) => Number(_id))).toEqual(entries.map((_, place) => place + 1));
    const own = entries.filter(({ node_id }) => node_id === "node_busy").map(({ change }) => change);
    expect(own).toEqual(Array.from({ length: 150 + changes }, (_, place) => place + 1));
    ended.abort();
    await running;
  });

  test("whose changes were logged by a replica that died is passed over by one read", async () => {
    let writes = 0;
    const counted = behind(world.store, (operation) => {
      if (operation === "insertMany") writes++;
      return undefined;
    });
    const { repository, log } = await replica(counted);
    await repository.insert(aDocument("node_0001", 300));
    const collection = await world.store.collection<LogEntry>(nodeLogCollection);
    const entries = Array.from({ length: 290 }, (_, place) => ({
      ...aChange(place + 1),
      node_id: "node_0001",
      _id: String(place + 1).padStart(16, "0"),
    }));
    await collection.insertMany(entries);
    const { items } = await log.eventsOf("node_0001", { ...query, descending: true });
    expect(items[0]?.change).toBe(300);
    expect(await collection.count({}, { index: "_id_" })).toBe(300);
    expect(writes).toBeLessThan(10);
  });
});

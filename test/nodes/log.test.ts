// One dense order over all changes, whoever moves them and whenever they stop.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createNodeLog, type LogEntry, nodeLogCollection } from "../../src/nodes/log.js";
import type { Change } from "../../src/nodes/node.js";
import { createNodeRepository } from "../../src/nodes/repository.js";
import type { Collection } from "../../src/storage/collection.js";
import { createTestClock } from "../support/clock.js";
import { aNodeDocument } from "../support/documents.js";
import { openWorld, type World } from "../support/world.js";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world[Symbol.asyncDispose]());

const now = new Date("2026-01-01T00:00:00Z");
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

async function replica() {
  const { store } = world;
  const repository = await createNodeRepository(store);
  return {
    repository,
    log: await createNodeLog({ store, repository, clock: createTestClock(), appended: () => undefined }),
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

// Every query of the stores finds its documents by an index. No query scans where an equality could seek, sorts by
// itself, or costs more as the store grows.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Collection, Store, StoredDocument } from "../../src/storage/collection.js";
import { openMongoStore } from "../../src/storage/mongo/store.js";
import { openSqliteStore } from "../../src/storage/sqlite/store.js";
import { things } from "../contract/store.js";
import { type CountingStore, openCountingStore } from "../support/engines/counting-store.js";
import { hasMongo, type MongoUnderTest, sharedMongo } from "../support/engines/mongo.js";
import { collectStatements, planFaults } from "../support/engines/mongo-plans.js";
import { planFault } from "../support/engines/plans.js";
import { everyStatement, putOthers } from "../support/engines/statements.js";

type Document = StoredDocument & Record<string, unknown>;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-plans-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

it("every method of every repository seeks", async () => {
  const statements = new Map<string, readonly string[]>();
  await using store: Store = await openSqliteStore({
    dir: directory,
    onStatement: (sql, plan) => statements.set(sql, plan),
  });
  await everyStatement(store);
  const faults = [...statements].map(([sql, plan]) => planFault(sql, plan)).filter((fault) => fault !== undefined);
  expect(statements.size).toBeGreaterThan(40);
  expect(faults).toEqual([]);
});

describe("rows that are visited", () => {
  let store: CountingStore;
  beforeEach(() => {
    store = openCountingStore(directory);
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const visitedBy = async (work: () => Promise<unknown>): Promise<number> => {
    const before = store.visited();
    await work();
    return store.visited() - before;
  };
  const filled = async (count: number): Promise<Collection<Document>> => {
    const all = await store.collection<Document>(things);
    for (let from = 0; from < count; from += 1000) {
      const numbers = Array.from({ length: Math.min(1000, count - from) }, (_, n) => from + n);
      await all.insertMany(numbers.map((n) => ({ _id: `n${n}`, kind: n % 2 ? "odd" : "even", rank: n, x: n })));
    }
    return all;
  };

  it("are counted though SQL itself passes over them", async () => {
    const all = await filled(2000);
    expect(await visitedBy(() => all.page({ x: 1999 }, { index: "_id_", limit: 5 }))).toBeGreaterThanOrEqual(2000);
    expect(await visitedBy(() => all.count({}, { index: "idx_rank" }))).toBeGreaterThanOrEqual(2000);
    const within = { kind: "even", rank: { $gte: 1990 } };
    const inSql = () => all.page(within, { index: "idx_kind_seen_rank", limit: 100 });
    expect(await visitedBy(inSql)).toBe(1000);
    expect((await inSql()).items).toHaveLength(5);
    const bounded = { rank: { $gte: 1900 }, kind: "even" };
    expect(await visitedBy(() => all.page(bounded, { index: "idx_rank", limit: 100 }))).toBeLessThan(120);
  });

  it("are those asked for by their ids, in every call and whatever else the store holds", async () => {
    const all = await filled(3000);
    const ids = Array.from({ length: 100 }, (_, n) => `n${n * 17}`);
    const byIds = { _id: { $in: [...ids, "nobody"] } };
    const inAnd = { $and: [byIds, { x: { $gte: 0 } }] };
    for (const filter of [byIds, inAnd, { ...byIds, x: { $gte: 0 } }]) {
      const calls = {
        page: () => all.page(filter, { index: "_id_", limit: 1000 }),
        backwards: () => all.page(filter, { index: "_id_", limit: 1000, descending: true }),
        "page behind": () => all.page(filter, { index: "_id_", limit: 10, after: ["n1003"] }),
        count: () => all.count(filter),
        "count by index": () => all.count(filter, { index: "_id_" }),
        findOne: () => all.findOne(filter, { index: "_id_" }),
        updateOne: () => all.updateOne(filter, { $set: { y: 1 } }, { index: "_id_" }),
        "updateOne by id": () => all.updateOne(filter, { $set: { y: 2 } }),
      };
      for (const [name, call] of Object.entries(calls)) expect(await visitedBy(call), name).toBeLessThan(210);
    }
    expect(await visitedBy(() => all.deleteMany(byIds, { index: "_id_", limit: 1000 }))).toBeLessThan(210);
  });

  it("are those of the choices, where $in stands on any field of an index", async () => {
    const all = await filled(4000);
    const filter = { kind: { $in: ["even", "none"] }, rank: { $in: [6, 8, 2000, 9999] } };
    for (const descending of [false, true]) {
      const page = () => all.page(filter, { index: "idx_kind_rank", limit: 50, descending });
      expect(await visitedBy(page)).toBeLessThan(20);
      const found = (await page()).items.map(({ rank }) => rank);
      expect(found).toEqual(descending ? [2000, 8, 6] : [6, 8, 2000]);
    }
  });

  it("are no more than asked for", async () => {
    const all = await filled(1000);
    const even = { kind: "even" };
    const index = "idx_kind_rank";
    expect(await visitedBy(() => all.count({ ...even, rank: { $gte: 0 } }, { index, max: 1 }))).toBe(1);
    expect(await visitedBy(() => all.count({ ...even, rank: { $gte: 0 } }, { index, max: 7 }))).toBe(7);
    expect(await visitedBy(() => all.count(even, { index, max: 3 }))).toBe(3);
    expect(await visitedBy(() => all.findOne(even, { index }))).toBe(1);
    expect(await visitedBy(() => all.page(even, { index, limit: 4 }))).toBe(5);
    // The statement visits the document twice: when it finds it, and when it writes it.
    expect(await visitedBy(() => all.updateOne(even, { $set: { y: 1 } }, { index }))).toBe(2);
    expect(await visitedBy(() => all.deleteMany(even, { index, limit: 3 }))).toBe(6);
  });
});

/** Statements that count, or answer in an order that no index of their filter has, read more as the store grows. */
const growing =
  /^(?:payouts\.(?:batches\.)?countOf |(nodes\.(countOf|countByStatus)|(pools|alerts|poot)\.count\w*|nodes\.list \[\{.*("order":"(name|poot_score|last_heartbeat)"|"labels")))/;

it("no statement of any repository visits more rows because the store holds more", { timeout: 120_000 }, async () => {
  const visits = async (others: number): Promise<[call: string, rows: number][]> => {
    const home = join(directory, String(others));
    await using store = openCountingStore(home);
    await putOthers(store, others);
    const calls: [string, number][] = [];
    let before = store.visited();
    const ended = () => {
      const last = calls.at(-1);
      if (last) last[1] = store.visited() - before;
      before = store.visited();
    };
    await everyStatement(store, (name) => {
      ended();
      calls.push([name, 0]);
    });
    ended();
    return calls;
  };
  // Both stores hold more than any page does, so that pages are full in both.
  const small = await visits(1500);
  const large = await visits(7500);
  expect(large.length).toBe(small.length);
  const grown = small.flatMap(([call, rows], place) => {
    const more = large[place]?.[1] ?? Number.NaN;
    return more <= rows + 5 || growing.test(call) ? [] : [`${rows} rows, then ${more}: ${call}`];
  });
  expect(grown).toEqual([]);
  expect(small.filter(([, rows]) => rows > 0).length).toBeGreaterThan(80);
});

const tests = "query plans at MongoDB";

describe.skipIf(!hasMongo(tests))("at MongoDB", () => {
  let mongo: MongoUnderTest;
  beforeAll(async () => {
    mongo = await sharedMongo();
  });
  afterAll(() => mongo[Symbol.asyncDispose]());

  it("every method of every repository seeks, and none sorts", { timeout: 120_000 }, async () => {
    const database = mongo.freshDatabase();
    const { commands, onCommand } = collectStatements();
    await using store = await openMongoStore({ url: mongo.url, database, operationMs: 30_000, onCommand });
    await everyStatement(store);
    const faults: string[] = [];
    for (const command of commands) faults.push(...(await planFaults(mongo, mongo.client(), database, command)));
    expect(faults).toEqual([]);
    expect(commands.length).toBeGreaterThan(80);
  });
});

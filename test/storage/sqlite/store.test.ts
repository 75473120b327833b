// The embedded store: the contract of every engine, and what only it promises.
import { AssertionError } from "node:assert";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type {
  Collection,
  CollectionDefinition,
  Filter,
  Store,
  StoredDocument,
} from "../../../src/storage/collection.js";
import { StoreUnavailableError } from "../../../src/storage/collection.js";
import { matches } from "../../../src/storage/filter.js";
import { createCommitQueue } from "../../../src/storage/sqlite/commit.js";
import { openDatabase } from "../../../src/storage/sqlite/file.js";
import { openSqliteStore, StoreLockedError } from "../../../src/storage/sqlite/store.js";
import { describeStore, things } from "../../contract/store.js";
import { planFault } from "../../support/engines/plans.js";
import { startChild } from "../../support/fleet/child.js";
import { createTestClock } from "../../support/world/clock.js";
import { turnsDuring } from "../../support/world/turns.js";

type Document = StoredDocument & Record<string, unknown>;

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "lucid-store-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const faults: string[] = [];
const watch = (sql: string, plan: readonly string[]) => {
  const fault = planFault(sql, plan);
  if (fault) faults.push(fault);
};

describeStore("embedded", async () => {
  let store = await openSqliteStore({ dir, onStatement: watch });
  return {
    store,
    reopen: async () => {
      await store[Symbol.asyncDispose]();
      store = await openSqliteStore({ dir });
      return store;
    },
    close: async () => {
      await store[Symbol.asyncDispose]();
      expect(faults).toEqual([]);
    },
  };
});

describe("the embedded store", () => {
  let store: Store;
  let statements: Map<string, readonly string[]>;
  const clock = createTestClock();
  beforeEach(async () => {
    statements = new Map();
    store = await openSqliteStore({ dir, clock, onStatement: (sql, plan) => statements.set(sql, plan) });
  });
  afterEach(() => store[Symbol.asyncDispose]());

  it("makes its directory, for its owner alone", async () => {
    const deeper = join(dir, "new", "data");
    await using _ = await openSqliteStore({ dir: deeper });
    expect(statSync(deeper).mode & 0o777).toBe(0o700);
    expect(readdirSync(deeper)).toContain("lucid.db");
  });

  it("tells the time of its clock", async () => {
    expect(await store.now()).toEqual(clock.now());
  });

  it("refuses a second owner at once, in this process", async () => {
    await expect(openSqliteStore({ dir })).rejects.toThrow(StoreLockedError);
    await store[Symbol.asyncDispose]();
    await using _ = await openSqliteStore({ dir });
  });

  it("refuses a second process with a sentence that names the directory, and is free once the owner is killed", async () => {
    await store[Symbol.asyncDispose]();
    const child = startChild(new URL("../crash-writer.ts", import.meta.url), { args: [dir, "1"] });
    await child.line((line) => line === "ready");
    await expect(openSqliteStore({ dir })).rejects.toThrow(`Another process uses the data directory ${dir}`);
    await child.kill();
    await using again = await openSqliteStore({ dir });
    await again.ping();
  });

  it("empties its log when disposed of", async () => {
    const all = await store.collection<Document>(things);
    await all.insertMany(Array.from({ length: 500 }, (_, n) => ({ _id: `n${n}` })));
    expect(existsSync(join(dir, "lucid.db-wal"))).toBe(true);
    await store[Symbol.asyncDispose]();
    expect(existsSync(join(dir, "lucid.db-wal"))).toBe(false);
  });

  it("builds an index anew when its definition changes", async () => {
    const all = await store.collection<Document>(things);
    await all.insertMany([
      { _id: "a", rank: 2, x: 1 },
      { _id: "b", rank: 1, x: 2 },
    ]);
    await store[Symbol.asyncDispose]();
    await using again = await openSqliteStore({ dir });
    const changed = { ...things, indexes: [{ name: "idx_rank", key: ["x"] }] };
    const { items } = await (await again.collection<Document>(changed)).page({}, { index: "idx_rank", limit: 5 });
    expect(items.map(({ _id }) => _id)).toEqual(["a", "b"]);
  });

  it.each([
    [{ ...things, name: "Bad name" }],
    [{ ...things, indexes: [{ name: "rank", key: ["rank"] }] }],
    [{ ...things, indexes: [{ name: "idx_x", key: [] }] }],
    [{ ...things, indexes: [{ name: "idx_x", key: ["x.0"] }] }],
    [{ ...things, indexes: [{ name: "idx_x", key: ["rank"], ttlSeconds: 1 }] }],
    [
      {
        ...things,
        indexes: [
          { name: "idx_x", key: ["x"] },
          { name: "idx_x", key: ["y"] },
        ],
      },
    ],
  ])("refuses the definition %#", async (definition) => {
    await expect(store.collection(definition)).rejects.toThrow(AssertionError);
  });

  describe("expiry", () => {
    const expiring: CollectionDefinition = {
      name: "expiring",
      durability: "durable",
      dates: ["until"],
      indexes: [{ name: "idx_until", key: ["until"], ttlSeconds: 60 }],
    };
    const at = (ms: number) => new Date(clock.now().getTime() + ms);
    /** Waits on real turns of the event loop, since the sweep needs them between moves of the clock. */
    const countBecomes = async (all: Collection<Document>, wanted: number) =>
      expect.poll(() => all.count({}, { index: "_id_" }), { timeout: 5000, interval: 1 }).toBe(wanted);

    it("deletes what is over, many in several turns, and nothing else", async () => {
      const all = await store.collection<Document>(expiring);
      const over = Array.from({ length: 650 }, (_, n) => ({ _id: `over${n}`, until: at(-40_000) }));
      await all.insertMany([...over, { _id: "later", until: at(0) }, { _id: "never" }, { _id: "null", until: null }]);
      await clock.advance(10_000);
      expect(await all.count({}, { index: "_id_" })).toBe(653);
      await clock.advance(20_000);
      await countBecomes(all, 3);
      await clock.advance(30_000);
      await countBecomes(all, 2);
      const sweep = [...statements].find(([sql]) => sql.startsWith("DELETE") && sql.includes("idx_until"));
      expect(sweep?.[1].filter((line) => line.startsWith("SCAN"))).toEqual([]);
    });

    it("believes no clock that jumps ahead before it has stood for a day", async () => {
      const lines: string[] = [];
      const home = join(dir, "jumping");
      const jumping = createTestClock();
      const log = { warn: (message: string) => void lines.push(message) };
      await using other = await openSqliteStore({ dir: home, clock: jumping, log });
      const all = await other.collection<Document>(expiring);
      const until = (ms: number) => new Date(jumping.now().getTime() + ms);
      await all.insertMany([
        { _id: "over", until: until(-90_000) },
        { _id: "tomorrow", until: until(30 * 3_600_000) },
        { _id: "next year", until: until(365 * 86_400_000) },
      ]);
      jumping.stepWall(10 * 365 * 86_400_000);
      await jumping.advance(30_000);
      await countBecomes(all, 2);
      for (let hour = 0; hour < 23; hour++) await jumping.advance(3_600_000);
      await countBecomes(all, 2);
      expect(lines).toEqual(["The clock jumped ahead; nothing expires by the jump for a day"]);
      for (let hour = 0; hour < 2; hour++) await jumping.advance(3_600_000);
      await countBecomes(all, 0);
      expect(lines).toHaveLength(1);
    });

    it("follows a clock that is put right by less than an hour, or back", async () => {
      const all = await store.collection<Document>(expiring);
      clock.stepWall(-7_200_000);
      await clock.advance(30_000);
      await all.insertOne({ _id: "a", until: at(-30_000) });
      clock.stepWall(1_800_000);
      await clock.advance(30_000);
      await countBecomes(all, 0);
    });

    it("does not stop disposal in the middle of a sweep", async () => {
      const all = await store.collection<Document>(expiring);
      await all.insertMany(Array.from({ length: 1000 }, (_, n) => ({ _id: `n${n}`, until: at(-90_000) })));
      const advancing = clock.advance(30_000);
      await store[Symbol.asyncDispose]();
      await advancing;
      await expect(store.ping()).rejects.toThrow(StoreUnavailableError);
    });

    it("does not hold the process", async () => {
      const child = startChild(new URL("open-and-end.ts", import.meta.url), { args: [join(dir, "other")] });
      expect(await child.ended).toBe(0);
    });
  });

  it("lets the event loop turn while it looks for the few among many", async () => {
    const all = await store.collection<Document>(things);
    for (let from = 0; from < 100_000; from += 1000) {
      await all.insertMany(
        Array.from({ length: 1000 }, (_, n) => ({ _id: `n${from + n}`, rank: from + n, x: from + n })),
      );
    }
    const chunks = Math.floor(100_000 / 256);
    const page = all.page({ x: 99_999 }, { index: "idx_rank", limit: 10 });
    expect(await turnsDuring(page)).toBeGreaterThanOrEqual(chunks);
    expect((await page).items).toHaveLength(1);
    expect(await turnsDuring(all.count({}, { index: "_id_" }))).toBeGreaterThanOrEqual(chunks);
    const update = all.updateOne({ x: 99_999 }, { $set: { y: 1 } }, { index: "idx_rank" });
    expect(await turnsDuring(update)).toBeGreaterThanOrEqual(chunks);
    expect((await update).matched).toBe(1);
  }, 60_000);

  it("seeks by index in every statement", async () => {
    const all = await store.collection<Document>(things);
    const documents = Array.from({ length: 40 }, (_, n) => ({
      _id: `n${n}`,
      kind: "k",
      rank: n,
      seen: clock.now(),
      live: true,
    }));
    await all.insertMany(documents);
    for (const descending of [false, true]) {
      for (const index of ["_id_", "idx_kind_rank", "idx_kind_seen_rank", "idx_rank", "idx_rank_live"]) {
        const filter = { kind: "k", live: true, rank: { $gte: 3, $lt: 30 } };
        const { next } = await all.page(filter, { index, descending, limit: 5 });
        await all.page(filter, { index, descending, limit: 5, after: next ?? [] });
        await all.count(filter, { index });
      }
    }
    expect(statements.size).toBeGreaterThan(20);
    expect([...statements].map(([sql, plan]) => planFault(sql, plan)).filter(Boolean)).toEqual([]);
    const walks = [...statements].filter(([sql]) => sql.includes('"things.idx_kind_seen_rank"'));
    for (const [, plan] of walks)
      expect(plan.join()).toMatch(/^SEARCH things USING INDEX things.idx_kind_seen_rank \(<expr>=\?/);
  });

  it("answers what the matcher alone would, whatever the filter and the index", async () => {
    const all = await store.collection<Document>(things);
    const scalar = fc.constantFrom<string | number | boolean | null>(
      null,
      true,
      false,
      0,
      1,
      1.5,
      -2,
      0.1,
      "",
      "a",
      "b",
      "é",
      "𝒳",
    );
    const date = fc.constantFrom(new Date(0), new Date(1), new Date(1e12), null);
    const optional = { noNullPrototype: true, requiredKeys: [] };
    const document = fc.record({ kind: scalar, rank: scalar, seen: date, live: fc.boolean(), x: scalar }, optional);
    const conditionOn = <Value>(value: fc.Arbitrary<Value>) => {
      const bound = value.filter((one) => one !== null);
      return fc.oneof(
        value,
        fc.record({ $gt: bound }),
        fc.record({ $gte: bound, $lt: bound }),
        fc.record({ $lte: bound }),
        fc.record({ $in: fc.array(value, { maxLength: 3 }) }),
        fc.record({ $ne: value }),
        fc.record({ $exists: fc.boolean() }),
      );
    };
    const filter = fc.record(
      { kind: conditionOn(scalar), rank: conditionOn(scalar), seen: conditionOn(date), x: conditionOn(scalar) },
      optional,
    );
    const index = fc.constantFrom("_id_", "idx_kind_rank", "idx_kind_seen_rank", "idx_rank");
    await fc.assert(
      fc.asyncProperty(
        fc.array(document, { maxLength: 30 }),
        filter,
        index,
        fc.integer({ min: 1, max: 7 }),
        async (given, by, name, limit) => {
          const documents = given.map((fields, n): Document => ({ _id: `n${n}`, ...fields }));
          await all.deleteMany({}, { index: "_id_", limit: 1000 });
          await all.insertMany(documents);
          const wanted = documents.filter((one) => matches(by as Filter, one)).map(({ _id }) => _id);
          const found: string[] = [];
          let page = await all.page(by as Filter, { index: name, limit });
          found.push(...page.items.map(({ _id }) => _id));
          while (page.next) {
            page = await all.page(by as Filter, { index: name, limit, after: page.next });
            found.push(...page.items.map(({ _id }) => _id));
          }
          expect([...found].sort()).toEqual(wanted.sort());
          expect(await all.count(by as Filter, { index: name })).toBe(wanted.length);
          const { items: backwards } = await all.page(by as Filter, { index: name, limit: 100, descending: true });
          expect(backwards.map(({ _id }) => _id)).toEqual([...found].reverse());
        },
      ),
      { numRuns: 150 },
    );
  }, 60_000);

  it("finds any number by equality in an index, to the last bit", async () => {
    const all = await store.collection<Document>(things);
    const double = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0);
    const number = fc.oneof(
      double.filter((value) => !Number.isInteger(value)),
      fc.maxSafeInteger(),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(number, { minLength: 50, maxLength: 50 }), async (ranks) => {
        await all.deleteMany({}, { index: "_id_", limit: 1000 });
        await all.insertMany(ranks.map((rank, n) => ({ _id: `n${n}`, rank })));
        for (const rank of ranks) expect(await all.findOne({ rank }, { index: "idx_rank" })).not.toBeNull();
      }),
      { numRuns: 20 },
    );
  });
});

describe("the judge of query plans", () => {
  it("knows scans and sorts, and lets walks in the order of an index pass", () => {
    expect(planFault("SELECT", ["SEARCH t USING INDEX i (<expr>=?)"])).toBeUndefined();
    expect(planFault("SELECT", ["SCAN t USING INDEX i"])).toBeUndefined();
    expect(planFault("SELECT WHERE a IS ?", ["SCAN t USING INDEX i"])).toContain("SCAN t");
    expect(planFault("SELECT", ["SCAN t"])).toContain("SCAN t");
    expect(planFault("SELECT", ["SEARCH t USING INDEX i", "USE TEMP B-TREE FOR ORDER BY"])).toContain("TEMP");
  });
});

describe("the commit queue", () => {
  it("undoes what threw alone, and commits its neighbours", async () => {
    const database = openDatabase(dir);
    database.exec("CREATE TABLE t (x)");
    const queue = createCommitQueue(database);
    const add = (x: number) => database.exec(`INSERT INTO t VALUES (${x})`);
    const outcomes = await Promise.allSettled([
      queue.run(() => add(1)),
      queue.run(() => {
        add(2);
        throw new Error("no");
      }),
      queue.run(() => add(3)),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(database.prepare("SELECT x FROM t").all()).toMatchObject([{ x: 1 }, { x: 3 }]);
    database.close();
  });

  it("fails all of a group whose commit fails, and goes on", async () => {
    const database = openDatabase(dir);
    database.exec("CREATE TABLE parent (id INTEGER PRIMARY KEY)");
    database.exec("CREATE TABLE child (id REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)");
    const queue = createCommitQueue(database);
    const outcomes = await Promise.allSettled([
      queue.run(() => database.exec("INSERT INTO parent VALUES (1)")),
      queue.run(() => database.exec("INSERT INTO child VALUES (7)")),
    ]);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: "rejected", reason: expect.any(StoreUnavailableError) });
    }
    await queue.run(() => database.exec("INSERT INTO parent VALUES (2)"));
    expect(database.prepare("SELECT id FROM parent").all()).toMatchObject([{ id: 2 }]);
    database.close();
  });

  it("refuses work beyond what may wait, and once closed", async () => {
    const database = openDatabase(dir);
    const queue = createCommitQueue(database);
    const waiting = Array.from({ length: 10_000 }, () => queue.run(() => undefined));
    await expect(queue.run(() => undefined)).rejects.toThrow(/wait/);
    queue.close();
    await Promise.all(waiting);
    await expect(queue.run(() => undefined)).rejects.toThrow(StoreUnavailableError);
    database.close();
  });
});

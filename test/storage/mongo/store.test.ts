// The store at a MongoDB server: the contract of every engine, and what only it promises.
import { AssertionError } from "node:assert";
import type { Document } from "mongodb";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type {
  Collection,
  CollectionDefinition,
  IndexDefinition,
  Store,
  StoredDocument,
} from "../../../src/storage/collection.js";
import { DuplicateKeyError, StoreRefusedError, StoreUnavailableError } from "../../../src/storage/collection.js";
import { type MongoStoreOptions, openMongoStore } from "../../../src/storage/mongo/store.js";
import { describeStore, things } from "../../contract/store.js";
import {
  hasMongo,
  hasMongoProgram,
  type MongoUnderTest,
  sharedMongo,
  startMongo,
} from "../../support/engines/mongo.js";
import { collectStatements, planFaults } from "../../support/engines/mongo-plans.js";
import { findTool } from "../../support/tools.js";
import { until } from "../../support/world/until.js";

type Thing = StoredDocument & Record<string, unknown>;

const tests = "test/storage/mongo/store.test.ts";

/** Keeps what was logged, line by line. */
function lineLog() {
  const lines: string[] = [];
  return { lines, info: (line: string) => void lines.push(line), warn: (line: string) => void lines.push(line) };
}

describe.skipIf(!hasMongo(tests))("MongoDB", () => {
  const seen = new Set<string>();
  let mongo: MongoUnderTest;
  beforeAll(async () => {
    mongo = await sharedMongo();
  });
  afterAll(() => mongo[Symbol.asyncDispose]());

  describeStore("mongodb", async () => {
    const database = mongo.freshDatabase();
    const { commands, onCommand } = collectStatements(seen);
    let store = await openMongoStore({ url: mongo.url, database, operationMs: 30_000, onCommand });
    return {
      store,
      reopen: async () => {
        await store[Symbol.asyncDispose]();
        store = await openMongoStore({ url: mongo.url, database, operationMs: 30_000, onCommand });
        return store;
      },
      close: async () => {
        await store[Symbol.asyncDispose]();
        const faults: string[] = [];
        for (const command of commands) faults.push(...(await planFaults(mongo, mongo.client(), database, command)));
        expect(faults).toEqual([]);
      },
    };
  });

  it("was asked in enough different ways to tell that each has its index", () => {
    expect(seen.size).toBeGreaterThan(60);
  });

  describe("a database", () => {
    let database: string;
    let opened: Store[];
    beforeEach(() => {
      database = mongo.freshDatabase();
      opened = [];
    });
    afterEach(async () => {
      for (const store of opened) await store[Symbol.asyncDispose]();
    });
    const open = async (options: Partial<MongoStoreOptions> = {}) => {
      // The server may be slow, since other tests use it as well.
      const store = await openMongoStore({ url: mongo.url, database, operationMs: 30_000, ...options });
      opened.push(store);
      return store;
    };
    const indexNames = async () =>
      (await mongo.client().db(database).collection("things").indexes()).map(nameOf).sort();
    const nameOf = ({ name = "" }: { name?: string }) => name;

    it("holds the indexes as they are defined, with _id to break ties", async () => {
      const expiring: CollectionDefinition = {
        ...things,
        indexes: [...things.indexes, { name: "idx_seen", key: ["seen"], ttlSeconds: 60 }],
      };
      await (await open()).collection(expiring);
      const indexes = await mongo.client().db(database).collection("things").indexes();
      const of = (wanted: string) => indexes.find(({ name }) => name === wanted);
      expect(of("idx_kind_rank")?.key).toEqual({ kind: 1, rank: 1, _id: 1 });
      expect(of("idx_code")).toMatchObject({
        key: { code: 1 },
        unique: true,
        partialFilterExpression: { code: { $exists: true } },
      });
      expect(of("idx_rank_live")?.partialFilterExpression).toEqual({ live: true });
      expect(of("idx_seen")).toMatchObject({ key: { seen: 1 }, expireAfterSeconds: 60 });
    });

    /** A definition with the unique index under another name and over another key. */
    const next: CollectionDefinition = {
      ...things,
      indexes: [
        ...things.indexes.filter(({ name }) => name !== "idx_code"),
        { name: "idx_code_v2", key: ["code", "kind"], unique: true, partial: { code: { $exists: true } } },
      ],
    };

    it("serves an old and a new version side by side: each keeps its unique index, whichever starts again", async () => {
      const old = await (await open()).collection<Thing>(things);
      await old.insertOne({ _id: "a", code: "x", kind: "k" });
      const young = await (await open()).collection<Thing>(next);
      const oldAgain = await (await open()).collection<Thing>(things);
      const youngAgain = await (await open()).collection<Thing>(next);
      for (const [place, all] of [old, young, oldAgain, youngAgain].entries()) {
        await expect(all.insertOne({ _id: `b${place}`, code: "x", kind: "other" })).rejects.toMatchObject({
          index: "idx_code",
        });
        await expect(all.insertOne({ _id: `c${place}`, code: "x", kind: "k" })).rejects.toThrow(DuplicateKeyError);
      }
      for (const all of [old, oldAgain]) {
        expect(await all.findOne({ code: "x" }, { index: "idx_code" })).toMatchObject({ _id: "a" });
      }
      for (const all of [young, youngAgain]) {
        expect(await all.findOne({ code: "x", kind: "k" }, { index: "idx_code_v2" })).toMatchObject({ _id: "a" });
      }
      expect(await indexNames()).toEqual(["_id_", "idx_code_v2", ...things.indexes.map(nameOf)].sort());
    });

    it.each<[string, IndexDefinition]>([
      ["another key", { name: "idx_code", key: ["kind"], unique: true, partial: { code: { $exists: true } } }],
      ["no uniqueness", { name: "idx_code", key: ["code"], partial: { code: { $exists: true } } }],
      ["another condition", { name: "idx_code", key: ["code"], unique: true, partial: { live: true } }],
    ])("refuses an index of the same name with %s, in a sentence, and leaves the one there is", async (_, index) => {
      const old = await (await open()).collection<Thing>(things);
      await old.insertOne({ _id: "a", code: "x" });
      const changed = { ...things, indexes: [index] };
      const refused = (await open()).collection(changed);
      await expect(refused).rejects.toThrow(StoreRefusedError);
      await expect(refused).rejects.toThrow(/^Index idx_code of things is defined otherwise .* needs a new name/);
      await expect(old.insertOne({ _id: "b", code: "x" })).rejects.toMatchObject({ index: "idx_code" });
      expect(await old.findOne({ code: "x" }, { index: "idx_code" })).toMatchObject({ _id: "a" });
    });

    it("refuses another name for a key that an index has, and leaves the one there is", async () => {
      await (await open()).collection(things);
      const renamed = { ...things, indexes: [{ name: "idx_order", key: ["rank"] }] };
      await expect((await open()).collection(renamed)).rejects.toThrow(
        /^Index idx_rank of things has the key of idx_order/,
      );
      expect(await indexNames()).toContain("idx_rank");
    });

    it("leaves indexes of others alone", async () => {
      const collection = mongo.client().db(database).collection("things");
      await collection.createIndex({ x: 1, y: -1 }, { name: "by_hand" });
      await (await open()).collection(things);
      expect(await indexNames()).toEqual(["_id_", "by_hand", ...things.indexes.map(nameOf)].sort());
    });

    it("does not open a collection whose unique index cannot be built", async () => {
      const { indexes, ...rest } = things;
      const all = await (await open()).collection<Thing>({ ...rest, indexes: [] });
      await all.insertMany([
        { _id: "a", code: "x" },
        { _id: "b", code: "x" },
      ]);
      await expect((await open()).collection({ ...rest, indexes })).rejects.toThrow(DuplicateKeyError);
    });

    it("refuses a definition outside the house rules", async () => {
      const store = await open();
      await expect(store.collection({ ...things, name: "Bad name" })).rejects.toThrow(AssertionError);
    });

    it("tells the server's time", async () => {
      const now = await (await open()).now();
      expect(Math.abs(now.getTime() - Date.now())).toBeLessThan(60_000);
    });

    it("asks for a majority and the journal where writes are to last, and for neither where not", async () => {
      const commands: Document[] = [];
      const store = await open({ operationMs: undefined, onCommand: (command) => void commands.push(command) });
      const durable = await store.collection<Thing>(things);
      const relaxed = await store.collection<Thing>({ ...things, name: "samples", durability: "relaxed" });
      for (const all of [durable, relaxed]) {
        await all.updateOne({ _id: "a" }, { $set: { x: 1 } }, { upsert: true });
        await all.findOne({ _id: "a" });
      }
      const of = (name: string) => commands.filter((command) => name in command);
      expect(of("update").map(({ writeConcern }) => writeConcern)).toEqual([
        { w: "majority", j: true, wtimeout: 5000 },
        { w: 1 },
      ]);
      expect(of("find").map(({ readConcern }) => readConcern)).toEqual([
        expect.objectContaining({ level: "majority" }),
        expect.objectContaining({ level: "local" }),
      ]);
    });

    it("bounds what the server itself may take", async () => {
      const commands: Document[] = [];
      const store = await open({ operationMs: 4321, onCommand: (command) => void commands.push(command) });
      const all = await store.collection<Thing>(things);
      commands.length = 0;
      const byId = { _id: "a" };
      await all.insertOne({ _id: "a" });
      await all.insertMany([{ _id: "b" }]);
      await all.findOne(byId);
      await all.page({}, { index: "_id_", limit: 1 });
      await all.count(byId);
      await all.updateOne(byId, { $set: { x: 1 } });
      await all.findOneAndUpdate(byId, { $set: { x: 1 } });
      await all.bulkUpdate([{ filter: byId, update: { $set: { x: 1 } } }]);
      await all.deleteMany(byId, { limit: 1 });
      const unbounded = commands.filter(({ maxTimeMS }) => maxTimeMS !== 4321);
      expect(unbounded.map((command) => Object.keys(command)[0])).toEqual([]);
      expect(commands.length).toBe(10);
    });

    it("begins a page with a seek to its cursor instead of walking there", async () => {
      const commands: Document[] = [];
      const store = await open({ onCommand: (command) => void commands.push(command) });
      const all = await store.collection<Thing>(things);
      await all.insertMany([1, 2, 3].map((rank) => ({ _id: `n${rank}`, kind: "a", rank })));
      for (const [descending, bound] of [
        [false, { $gte: 2 }],
        [true, { $not: { $gt: 2 } }],
      ] as const) {
        const options = { index: "idx_kind_rank", descending, after: ["a", 2, "n2"], limit: 1 };
        const { items } = await all.page({ kind: "a" }, options);
        expect(items.map(({ rank }) => rank)).toEqual([descending ? 1 : 3]);
        expect(commands.at(-1)?.filter.$and).toContainEqual({ rank: bound });
      }
    });

    it("sends nothing for an empty batch", async () => {
      const commands: Document[] = [];
      const store = await open({ onCommand: (command) => void commands.push(command) });
      const all = await store.collection<Thing>(things);
      commands.length = 0;
      expect(await all.insertMany([])).toEqual({ inserted: 0, duplicates: [] });
      expect(await all.bulkUpdate([])).toEqual({ matched: 0, upserted: 0, errors: [] });
      expect(commands).toEqual([]);
    });

    it("lets several stores share it: one winner among 50 compare-and-sets", async () => {
      const alls = await Promise.all([open(), open()].map(async (store) => (await store).collection<Thing>(things)));
      await alls[0]?.insertOne({ _id: "a", version: 1 });
      const tries = Array.from({ length: 50 }, (_, by) =>
        alls[by % 2]?.findOneAndUpdate({ _id: "a", version: 1 }, { $set: { version: 2, by } }),
      );
      const winners = (await Promise.all(tries)).filter((one) => one !== null);
      expect(winners).toHaveLength(1);
      expect(await alls[1]?.findOne({ _id: "a" })).toEqual(winners[0]);
    });

    it("lets several stores share it: 50 upserts of one _id make one document", async () => {
      const alls = await Promise.all([open(), open()].map(async (store) => (await store).collection<Thing>(things)));
      const upserts = Array.from({ length: 50 }, (_, by) =>
        alls[by % 2]?.updateOne({ _id: "a" }, { $inc: { x: 1 } }, { upsert: true }),
      );
      const results = await Promise.all(upserts);
      expect(results.filter((result) => result?.upserted)).toHaveLength(1);
      expect(await alls[0]?.findOne({ _id: "a" })).toEqual({ _id: "a", x: 50 });
      const inBulk = Array.from({ length: 20 }, (_, by) =>
        alls[by % 2]?.bulkUpdate(
          ["b", "c", "d"].map((_id) => ({ filter: { _id }, update: { $inc: { x: 1 } }, upsert: true })),
        ),
      );
      for (const result of await Promise.all(inBulk)) expect(result?.errors).toEqual([]);
      expect((await alls[0]?.findOne({ _id: "c" }))?.x).toBe(20);
    });
  });
});

describe("a URL that cannot be read", () => {
  it.each(["mongo://user:secret@host", "mongodb://user:secret@", "mongodb://user:sec/ret@host/db", "secret"])(
    "is refused without being quoted: %#",
    async (url) => {
      const attempt = openMongoStore({ url, database: "lucid" });
      await expect(attempt).rejects.toThrow(/^The URL of MongoDB cannot be read/);
      await expect(attempt).rejects.not.toThrow(/secret|ret@/);
    },
  );
});

describe.skipIf(!hasMongoProgram(tests))("a MongoDB server", () => {
  it("lets in with the right password, and the wrong one is never repeated", { timeout: 60_000 }, async () => {
    const [user, password] = ["lucid", "p@ss:w/rd?"];
    await using mongo = await startMongo({ auth: { user, password } });
    const database = mongo.freshDatabase();
    await using store = await openMongoStore({ url: mongo.url, database });
    const all = await store.collection<Thing>(things);
    await all.insertOne({ _id: "a" });
    expect(await all.count({}, { index: "_id_" })).toBe(1);

    const log = lineLog();
    const url = mongo.url.replace(encodeURIComponent(password), "wr0ng-secret");
    await using locked = await openMongoStore({ url, database, log });
    const error = await locked.ping().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(StoreUnavailableError);
    const refused = await (await locked.collection<Thing>(things)).findOne({ _id: "a" }).catch((thrown) => thrown);
    expect(refused).toBeInstanceOf(StoreUnavailableError);
    expect(log.lines[0]).toMatch(/^MongoDB at 127\.0\.0\.1:\d+ does not answer: .*; trying again$/);
    expect([String(error), String(refused), ...log.lines].join("\n")).not.toMatch(/secret|p@ss|p%40ss/);
  });

  it.skipIf(findTool("openssl") === undefined)("is reached over TLS as the URL says", { timeout: 60_000 }, async () => {
    await using mongo = await startMongo({ tls: true });
    expect(mongo.url).toContain("tlsCAFile=");
    await using store = await openMongoStore({ url: mongo.url, database: mongo.freshDatabase() });
    const all = await store.collection<Thing>(things);
    await all.insertOne({ _id: "a" });
    expect(await all.findOne({ _id: "a" })).toEqual({ _id: "a" });

    const untrusted = mongo.url.replace(/&tlsCAFile=[^&]*/, "");
    await using distrusting = await openMongoStore({ url: untrusted, database: "lucid", serverSelectionMs: 500 });
    await expect(distrusting.ping()).rejects.toThrow(StoreUnavailableError);
    const missing = mongo.url.replace(/tlsCAFile=[^&]*/, "tlsCAFile=/nowhere/ca.pem");
    await expect(openMongoStore({ url: missing, database: "lucid" })).rejects.toThrow(/nowhere/);
  });

  it("may be away at the start: then everything waits for it, indexes first", { timeout: 60_000 }, async () => {
    await using mongo = await startMongo();
    await mongo.stop();
    const log = lineLog();
    const options = { url: mongo.url, database: mongo.freshDatabase(), serverSelectionMs: 500, log };
    await using store = await openMongoStore(options);
    expect(log.lines).toEqual([
      expect.stringMatching(/^MongoDB at 127\.0\.0\.1:\d+ does not answer: .*; trying again$/),
    ]);
    const all = await store.collection<Thing>(things);
    const inserts = [1, 2].map((n) => all.insertOne({ _id: `n${n}`, code: "x" }).catch((thrown: unknown) => thrown));
    for (const error of await Promise.all(inserts)) expect(error).toBeInstanceOf(StoreUnavailableError);
    await expect(store.ping()).rejects.toThrow(/does not answer: .*(ECONNREFUSED|timed out)/);
    await expect(store.now()).rejects.toThrow(StoreUnavailableError);

    await mongo.restart();
    await until(() => log.lines.length > 1, "a line in the log", 5000);
    expect(log.lines[1]).toMatch(/^MongoDB at 127\.0\.0\.1:\d+ answers$/);
    await all.insertOne({ _id: "a", code: "x" });
    await expect(all.insertOne({ _id: "b", code: "x" })).rejects.toMatchObject({ index: "idx_code" });
    expect(log.lines).toHaveLength(2);
  });

  it("that was away does not let operations pass where an index cannot be built", { timeout: 60_000 }, async () => {
    await using mongo = await startMongo();
    const database = mongo.freshDatabase();
    const same = [{ code: "x" }, { code: "x" }];
    await mongo.client().db(database).collection("things").insertMany(same);
    await mongo.stop();
    await using store = await openMongoStore({ url: mongo.url, database, serverSelectionMs: 500 });
    const all: Collection<Thing> = await store.collection<Thing>(things);
    await mongo.restart();
    const answers = () =>
      store.ping().then(
        () => true,
        () => false,
      );
    await until(answers, "a ping", 5000);
    const error = await all.insertOne({ _id: "a" }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(StoreUnavailableError);
    expect((error as Error).cause).toBeInstanceOf(DuplicateKeyError);
  });

  it("that is away does not keep a store from ending", { timeout: 60_000 }, async () => {
    const url = "mongodb://user:secret@127.0.0.1:1/?authSource=admin";
    const log = lineLog();
    const store = await openMongoStore({ url, database: "lucid", serverSelectionMs: 300, log });
    const all = await store.collection<Thing>(things);
    const asked = all.findOne({ _id: "a" }).catch((thrown: unknown) => thrown);
    await store[Symbol.asyncDispose]();
    expect(await asked).toBeInstanceOf(StoreUnavailableError);
    await expect(store.ping()).rejects.toThrow("The store is closed");
    expect(log.lines.join()).not.toContain("secret");
  });
});

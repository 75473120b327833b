// What the store at a MongoDB server says when the server fails, is slow, steps down, hangs or dies.
import type { Document } from "mongodb";
import { MongoServerError } from "mongodb";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  type Collection,
  type Store,
  type StoredDocument,
  StoreUnavailableError,
} from "../../../src/storage/collection.js";
import { openMongoStore } from "../../../src/storage/mongo/store.js";
import { UpdateError } from "../../../src/storage/update.js";
import { things } from "../../contract/store.js";
import { hasMongoProgram, type MongoUnderTest, startMongo } from "../../support/engines/mongo.js";
import { until, within } from "../../support/world/until.js";

type Thing = StoredDocument & Record<string, unknown>;
type Call = (all: Collection<Thing>) => Promise<unknown>;

const byId = { _id: "a" };
const count = { $inc: { x: 1 } };
const writes: readonly [name: string, command: string, call: Call][] = [
  ["insertOne", "insert", (all) => all.insertOne({ _id: "new" })],
  ["insertMany", "insert", (all) => all.insertMany([{ _id: "new" }, { _id: "a" }])],
  ["updateOne", "update", (all) => all.updateOne(byId, count)],
  ["an upsert", "update", (all) => all.updateOne({ _id: "new" }, count, { upsert: true })],
  ["findOneAndUpdate", "findAndModify", (all) => all.findOneAndUpdate(byId, count)],
  ["bulkUpdate", "update", (all) => all.bulkUpdate([{ filter: byId, update: count }])],
];
const deletes: (typeof writes)[number] = ["deleteMany", "delete", (all) => all.deleteMany(byId, { limit: 1 })];
const reads: typeof writes = [
  ["findOne", "find", (all) => all.findOne(byId)],
  ["page", "find", (all) => all.page({}, { index: "_id_", limit: 5 })],
  ["count", "aggregate", (all) => all.count({}, { index: "_id_" })],
];
/** ShutdownInProgress, NotWritablePrimary, InterruptedAtShutdown, InterruptedDueToReplStateChange. */
const stepDowns = [91, 10107, 11600, 11602];

const caught = (promise: Promise<unknown>) =>
  promise.then(
    () => "an answer",
    (thrown: unknown) => thrown,
  );

const tests = "test/storage/mongo/faults.test.ts";

describe.skipIf(!hasMongoProgram(tests))("MongoDB with faults", () => {
  let mongo: MongoUnderTest;
  let store: Store;
  let all: Collection<Thing>;
  /** Names of the commands that the store has sent. */
  let sent: string[];

  const serve = (options: { standalone?: boolean }) => {
    beforeAll(async () => {
      mongo = await startMongo({ testCommands: true, ...options });
    });
    afterAll(() => mongo[Symbol.asyncDispose]());
    beforeEach(async () => {
      sent = [];
      const onCommand = (command: Document) => void sent.push(Object.keys(command)[0] ?? "");
      store = await openMongoStore({ url: mongo.url, database: mongo.freshDatabase(), operationMs: 3000, onCommand });
      all = await store.collection<Thing>(things);
      await all.insertOne({ _id: "a", x: 0 });
      sent.length = 0;
    });
    afterEach(async () => {
      await mongo.failCommand("off");
      await store[Symbol.asyncDispose]();
    });
  };
  const fail = (command: string, data: Document, times: number | "always" = 1) =>
    mongo.failCommand(times === "always" ? "alwaysOn" : { times }, { failCommands: [command], ...data });
  /** Expects a refusal within the limit of an operation, and a little more for a busy machine. */
  const refused = async (promise: Promise<unknown>, limitMs = 6000) =>
    expect(await within(caught(promise), "a refusal", limitMs)).toBeInstanceOf(StoreUnavailableError);
  const counted = async () => (await all.findOne(byId))?.x;

  describe("as a replica set", () => {
    serve({});

    it.each([...writes, ...reads])("serves %s whose connection breaks once", async (_, command, call) => {
      await fail(command, { closeConnection: true });
      await call(all);
      if (call.toString().includes("byId, count")) expect(await counted()).toBe(1);
    });

    it.each([...writes.slice(0, 1), ...writes.slice(2)])(
      "does %s once, though its answer was lost",
      async (_, command, call) => {
        // The write takes place, but its answer tells the driver to try again.
        await fail(command, {
          writeConcernError: { code: 91, errmsg: "going down" },
          errorLabels: ["RetryableWriteError"],
        });
        await call(all);
        expect(sent.filter((name) => name === command)).toHaveLength(2);
        const touched = (await all.findOne({ _id: "new" })) ?? (await all.findOne(byId));
        expect([undefined, 1]).toContain(touched?.x);
      },
    );

    it.each([...writes, ...reads])(
      "says of %s whose connection breaks again and again that the store is away",
      async (_, command, call) => {
        await fail(command, { closeConnection: true }, "always");
        await refused(call(all));
      },
    );

    it.each(stepDowns)("serves through one step down (%i)", async (errorCode) => {
      await fail("update", { errorCode });
      await all.updateOne(byId, count);
      await fail("find", { errorCode });
      expect(await counted()).toBe(1);
    });

    it.each(stepDowns)("says that the store is away when no primary comes (%i)", async (errorCode) => {
      await fail("update", { errorCode }, "always");
      await refused(all.updateOne(byId, count));
      await refused(all.bulkUpdate([{ filter: byId, update: count }]));
      await fail("find", { errorCode }, "always");
      await refused(all.findOne(byId));
    });

    it.each([...writes, deletes])(
      "says of %s that no majority confirms that it is unknown",
      async (_, command, call) => {
        await fail(command, { writeConcernError: { code: 64, errmsg: "waiting for replication timed out" } });
        await refused(call(all));
      },
    );

    it.each([6, 7, 24, 46, 50, 89, 112, 117, 150, 189, 239, 246, 262, 365, 371, 8000, 9001, 13435, 13436, 14031])(
      "takes the server's error %i for its absence",
      async (errorCode) => {
        await fail("delete", { errorCode, errorLabels: [] });
        const error = await caught(all.deleteMany(byId, { limit: 1 }));
        expect(error).toBeInstanceOf(StoreUnavailableError);
        expect((error as Error).cause).toMatchObject({ code: errorCode });
      },
    );

    it("passes other errors of the server on as they are", async () => {
      await fail("find", { errorCode: 13 });
      const unauthorized = await caught(all.findOne(byId));
      expect(unauthorized).toBeInstanceOf(MongoServerError);
      expect(unauthorized).toMatchObject({ code: 13 });
    });

    it("does not take an index that is gone for a fault of the document", async () => {
      await store[Symbol.asyncDispose]();
      const database = mongo.freshDatabase();
      store = await openMongoStore({ url: mongo.url, database });
      all = await store.collection<Thing>(things);
      await all.insertOne({ _id: "a", rank: 1 });
      await mongo.client().db(database).collection("things").dropIndex("idx_rank");
      const error = await caught(all.updateOne({ rank: 1 }, { $set: { x: 1 } }, { index: "idx_rank" }));
      expect(error).toBeInstanceOf(MongoServerError);
      expect(error).not.toBeInstanceOf(UpdateError);
    });

    it("does not wait for a slow server longer than an operation may take", async () => {
      await store[Symbol.asyncDispose]();
      store = await openMongoStore({ url: mongo.url, database: mongo.freshDatabase(), operationMs: 400 });
      all = await store.collection<Thing>(things);
      const slow = { blockConnection: true, blockTimeMS: 1500 };
      for (const [, command, call] of [...writes, ...reads]) {
        await fail(command, slow, "always");
        await refused(call(all), 1400);
      }
      await mongo.failCommand("off");
      expect(await all.count({}, { index: "_id_" })).toBeGreaterThanOrEqual(0);
    });

    it("sends nothing of a write once its caller was told that it is unknown", { timeout: 60_000 }, async () => {
      const commands: string[] = [];
      const onCommand = (command: Document) => void commands.push(Object.keys(command)[0] ?? "");
      await store[Symbol.asyncDispose]();
      // One attempt outlasts the operation. There are more writes than connections, so some wait for a connection.
      store = await openMongoStore({ url: mongo.url, database: mongo.freshDatabase(), operationMs: 1500, onCommand });
      all = await store.collection<Thing>(things);
      await all.insertOne({ _id: "a", x: 0 });
      await mongo.failCommand("alwaysOn", {
        ...{ failCommands: ["update", "findAndModify"], blockConnection: true, blockTimeMS: 2500 },
      });
      const calls = Array.from({ length: 60 }, (_, n) => {
        if (n % 3 === 0) return all.updateOne(byId, count);
        return n % 3 === 1 ? all.findOneAndUpdate(byId, count) : all.bulkUpdate([{ filter: byId, update: count }]);
      });
      await Promise.all(calls.map((call) => refused(call, 4000)));
      const isWrite = (name: string) => name === "update" || name === "findAndModify";
      const begun = commands.filter(isWrite).length;
      expect(begun).toBeLessThanOrEqual(60);
      await mongo.failCommand("off");
      // Once these inserts succeed, the server is done with what it had, and the driver has had time to send more.
      await until(() => all.insertOne({ _id: `n${commands.length}` }).then(() => true), "an insert", 10_000);
      for (let n = 0; n < 60; n++) await all.findOne(byId);
      expect(commands.filter(isWrite)).toHaveLength(begun);
    });

    it("serves many at once that have to wait for a connection", async () => {
      await fail("find", { blockConnection: true, blockTimeMS: 100 }, 200);
      const found = await Promise.all(Array.from({ length: 200 }, () => all.findOne(byId)));
      expect(found).toHaveLength(200);
    });

    it("waits for an index that takes longer to build than one answer may", async () => {
      await store[Symbol.asyncDispose]();
      const onCommand = (command: Document) => void sent.push(Object.keys(command)[0] ?? "");
      store = await openMongoStore({ url: mongo.url, database: mongo.freshDatabase(), operationMs: 300, onCommand });
      await fail("createIndexes", { blockConnection: true, blockTimeMS: 1500 });
      sent.length = 0;
      all = await store.collection<Thing>(things);
      // The store asks for the build once: to hang up and ask again might cancel it.
      expect(sent.filter((name) => name === "createIndexes")).toHaveLength(1);
      await all.insertOne({ _id: "a", code: "x" });
      await expect(all.insertOne({ _id: "b", code: "x" })).rejects.toMatchObject({ index: "idx_code" });
    });

    it("does not open a collection whose indexes it could not see to, and opens it when asked again", async () => {
      const more = { ...things, name: "more" };
      await fail("createIndexes", { errorCode: 11600 }, "always");
      await refused(store.collection(more));
      await mongo.failCommand("off");
      await (await store.collection<Thing>(more)).insertOne({ _id: "a" });
    });

    it("answers a ping that is called off with the reason", async () => {
      await fail("ping", { blockConnection: true, blockTimeMS: 1000 });
      const control = new AbortController();
      const pinged = caught(store.ping(control.signal));
      control.abort(new Error("never mind"));
      expect(await pinged).toMatchObject({ message: "never mind" });
    });

    it("ends within the limit of an operation though one is under way", async () => {
      await fail("find", { blockConnection: true, blockTimeMS: 6000 });
      const asked = caught(all.findOne(byId));
      await within(Promise.resolve(store[Symbol.asyncDispose]()), "the end of the store", 5000);
      expect(await asked).toBeInstanceOf(StoreUnavailableError);
    });
  });

  describe("alone", () => {
    serve({ standalone: true });

    it("has no write repeated: whether it took place is unknown", async () => {
      for (const [, command, call] of [...writes, deletes]) {
        await fail(command, { closeConnection: true });
        await refused(call(all));
      }
      expect([0, 1]).toContain(await counted());
    });

    it("has reads repeated", async () => {
      for (const [, command, call] of reads) {
        await fail(command, { closeConnection: true });
        await call(all);
      }
    });
  });

  describe("that dies or stands still", () => {
    const serverSelectionMs = 1000;
    const operationMs = 2000;
    beforeEach(async () => {
      mongo = await startMongo();
      const database = mongo.freshDatabase();
      store = await openMongoStore({ url: mongo.url, database, serverSelectionMs, operationMs });
      all = await store.collection<Thing>(things);
      await all.insertOne({ _id: "a", x: 0 });
    });
    afterEach(async () => {
      await store[Symbol.asyncDispose]();
      await mongo[Symbol.asyncDispose]();
    });
    const isServed = () =>
      all.updateOne(byId, count).then(
        () => true,
        () => false,
      );

    it("is away, and served again by the same store once it is back", { timeout: 60_000 }, async () => {
      const underWay = Array.from({ length: 30 }, (_, n) => caught(all.insertOne({ _id: `n${n}` })));
      await mongo.kill();
      for (const outcome of await Promise.all(underWay)) {
        if (outcome !== "an answer") expect(outcome).toBeInstanceOf(StoreUnavailableError);
      }
      const asked = [...[...writes, deletes, ...reads].map(([, , call]) => call(all)), store.ping(), store.now()];
      await Promise.all(asked.map((promise) => refused(promise, serverSelectionMs + 1500)));
      await expect(store.ping()).rejects.toThrow(/^MongoDB at 127\.0\.0\.1:\d+ does not answer: /);

      await mongo.restart();
      await until(isServed, "an update", 4000);
      expect(await counted()).toBe(1);
    });

    it("rejects in time while it stands still, and serves when it goes on", { timeout: 60_000 }, async () => {
      const { pid = 0 } = mongo;
      expect(pid).toBeGreaterThan(0);
      process.kill(pid, "SIGSTOP");
      try {
        const calls = [...writes.slice(2), ...reads].map(([, , call]) => refused(call(all), operationMs + 1500));
        await Promise.all(calls);
        await refused(all.findOne(byId), operationMs + 1500);
        await refused(store.ping(), operationMs + 1500);
      } finally {
        process.kill(pid, "SIGCONT");
      }
      await until(isServed, "an update", 4000);
    });
  });
});

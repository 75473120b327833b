// No call of the embedded store keeps the event loop for longer than a turn may last, whatever the call asks for.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Collection, StoredDocument } from "../../../src/storage/collection.js";
import { StoreUnavailableError } from "../../../src/storage/collection.js";
import { createCollection } from "../../../src/storage/sqlite/collection.js";
import { type CommitQueue, createCommitQueue } from "../../../src/storage/sqlite/commit.js";
import { createStatements, type Database, openDatabase, type SqlValue } from "../../../src/storage/sqlite/file.js";
import { createIndex, createTable } from "../../../src/storage/sqlite/query.js";
import { assertDocument } from "../../../src/storage/supported.js";
import { things } from "../../contract/store.js";
import { turnsDuring } from "../../support/world/turns.js";

type Document = StoredDocument & Record<string, unknown>;

/** A turn may last 8 ms. At a millisecond a statement it runs eight, and then the statement that ends the turn. */
const perTurnMax = 9;

let directory: string;
let database: Database;
let queue: CommitQueue;
/** How many statements the writes of each piece of work ran. */
let pieces: number[];
let before: (sql: string, values: readonly SqlValue[]) => void;
let all: Collection<Document>;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-turns-"));
  database = openDatabase(directory);
  database.exec(createTable(things));
  for (const index of things.indexes) database.exec(createIndex(things, index));
  const inner = createStatements(database);
  queue = createCommitQueue(database);
  pieces = [];
  before = () => undefined;
  const watched: CommitQueue = {
    ...queue,
    run: (work) =>
      queue.run((turn) => {
        pieces.push(0);
        return work(turn);
      }),
  };
  const statements: typeof inner = {
    all: inner.all,
    run: (sql, ...values) => {
      before(sql, values);
      pieces[pieces.length - 1] = (pieces.at(-1) ?? 0) + 1;
      return inner.run(sql, ...values);
    },
  };
  all = createCollection<Document>({
    ...{ definition: things, statements, queue: watched },
    closing: new AbortController().signal,
  });
});
afterEach(() => {
  queue.close();
  database.close();
  rmSync(directory, { recursive: true, force: true });
});

const aMillisecond = () => {
  const end = performance.now() + 1;
  while (performance.now() < end);
};
const documents = (count: number): Document[] =>
  Array.from({ length: count }, (_, n) => ({ _id: `n${String(n).padStart(5, "0")}`, kind: "k", rank: 1 }));

it.each([false, true])("an insert of a thousand takes as many turns as it needs (ordered: %s)", async (ordered) => {
  before = aMillisecond;
  expect(await all.insertMany(documents(200), { ordered })).toEqual({ inserted: 200, duplicates: [] });
  expect(Math.max(...pieces)).toBeLessThanOrEqual(perTurnMax);
  expect(await all.count({}, { index: "_id_" })).toBe(200);
});

it("an insert over several turns tells of each duplicate by its place", async () => {
  await all.insertMany([{ _id: "n00020" }, { _id: "n00150" }]);
  before = aMillisecond;
  expect(await all.insertMany(documents(200))).toEqual({ inserted: 198, duplicates: [20, 150] });
  await all.deleteMany({}, { index: "_id_", limit: 1000 });
  await all.insertOne({ _id: "n00150" });
  expect(await all.insertMany(documents(200), { ordered: true })).toEqual({ inserted: 150, duplicates: [150] });
  expect(await all.count({}, { index: "_id_" })).toBe(151);
});

it("an ordered insert that fails midway leaves a prefix", async () => {
  before = (_, values) => {
    aMillisecond();
    if (values[0] === "n00100") throw new StoreUnavailableError("The disk is full");
  };
  await expect(all.insertMany(documents(200), { ordered: true })).rejects.toThrow(StoreUnavailableError);
  const { items } = await all.page({}, { index: "_id_", limit: 1000 });
  expect(items.length).toBeGreaterThan(50);
  expect(items.map(({ _id }) => _id)).toEqual(
    documents(200)
      .slice(0, items.length)
      .map(({ _id }) => _id),
  );
});

it("a deletion of a thousand takes as many turns as it needs", async () => {
  await all.insertMany(documents(300));
  pieces.length = 0;
  before = aMillisecond;
  expect(await all.deleteMany({ kind: "k" }, { index: "idx_kind_rank", limit: 250 })).toBe(250);
  // The store looks at the time after each step of 16 documents.
  expect(Math.max(...pieces)).toBeLessThanOrEqual(16);
  expect(await all.count({}, { index: "_id_" })).toBe(50);
});

it("other writes come between the turns of a long one", async () => {
  before = aMillisecond;
  const order: string[] = [];
  const long = all.insertMany(documents(100)).then(() => order.push("long"));
  const short = all.insertOne({ _id: "short" }).then(() => order.push("short"));
  await Promise.all([long, short]);
  expect(order).toEqual(["short", "long"]);
});

it("a count of all lets the event loop turn and is exact, ties and all", async () => {
  const insert = database.prepare('INSERT INTO "things" (_id, doc) VALUES (?, ?)');
  database.exec("BEGIN");
  for (const document of documents(45_000)) insert.run(document._id, JSON.stringify(document));
  database.exec("COMMIT");
  const counted = all.count({ kind: "k" }, { index: "idx_kind_rank" });
  expect(await turnsDuring(counted)).toBeGreaterThanOrEqual(4);
  expect(await counted).toBe(45_000);
  expect(await all.count({}, { index: "idx_rank" })).toBe(45_000);
  for (const max of [1, 9_999, 10_000, 10_001, 20_000, 44_999, 45_001]) {
    expect(await all.count({ kind: "k" }, { index: "idx_kind_rank", max })).toBe(Math.min(max, 45_000));
  }
});

it("a thousand documents are checked in slices, and so are a thousand updates", async () => {
  const changes = Array.from({ length: 60 }, (_, place) => ({ at: new Date(place), to: `state ${place}` }));
  const large = Array.from({ length: 1000 }, (_, n) => ({ _id: `large${n}`, changes }));
  const operations = large.map(({ _id }) => ({
    filter: { _id },
    update: { $push: { changes: { $each: changes } } },
  }));
  const timed = <Result>(work: () => Result): [Result, number] => {
    const beganMs = performance.now();
    return [work(), performance.now() - beganMs];
  };
  const [, checkedMs] = timed(() => large.map((document) => assertDocument(things, document)));
  const [inserted, insertMs] = timed(() => all.insertMany(large));
  expect(await inserted).toEqual({ inserted: 1000, duplicates: [] });
  const [updated, updateMs] = timed(() => all.bulkUpdate(operations));
  expect(await updated).toEqual({ matched: 1000, upserted: 0, errors: [] });
  expect(Math.max(insertMs, updateMs)).toBeLessThan(checkedMs / 2);
});

it("one update among many that is none is refused before anything is written", async () => {
  const operations = documents(1000).map(({ _id }) => ({ filter: { _id }, update: { $set: { x: 1 } }, upsert: true }));
  const bad = { filter: { _id: "bad" }, update: { $set: { x: Number.NaN } }, upsert: true };
  await expect(all.bulkUpdate([...operations.slice(1), bad])).rejects.toThrow(/finite/);
  expect(await all.count({}, { index: "_id_" })).toBe(0);
  await expect(all.insertMany([...documents(999), { _id: "bad", x: Number.NaN }])).rejects.toThrow(/finite/);
  expect(await all.count({}, { index: "_id_" })).toBe(0);
});

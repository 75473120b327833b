// A MongoDB server is killed again and again under writes. All that it acknowledged is there when it is back, and no
// document is there in part. CRASH_KILLS: how often. SEED: replays the moments of the kills.
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { type Collection, DuplicateKeyError, StoreUnavailableError } from "../../../src/storage/collection.js";
import { openMongoStore } from "../../../src/storage/mongo/store.js";
import { hasMongoProgram, startMongo } from "../../support/engines/mongo.js";
import { randomFrom } from "../../support/world/random.js";
import { until } from "../../support/world/until.js";
import { counterIds, crashing, type Written } from "../crash-data.js";

/** The server takes seconds to start, so there is time for fewer kills than with a process of ours. */
const kills = Math.min(25, Number(process.env.CRASH_KILLS ?? 5));
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const batchSize = 20;

/** What the server acknowledged to the writers. */
interface Acknowledged {
  readonly inserts: string[];
  readonly batches: string[];
  /** All versions that each counter was told, to find the highest, and to see that none was won twice. */
  readonly versions: Map<string, number[]>;
}

const bodyOf = (_id: string) => _id.repeat(10);

/** Writes until the server is gone. Nobody knows whether the last write of each writer took place. */
async function untilGone(write: (n: number) => Promise<void>): Promise<void> {
  for (let n = 0; ; n++) {
    try {
      await write(n);
    } catch (error) {
      if (error instanceof StoreUnavailableError) return;
      throw error;
    }
  }
}

function startWriters(all: Collection<Written>, run: number, told: Acknowledged): Promise<unknown> {
  const insert = (writer: number) =>
    untilGone(async (n) => {
      const _id = `i-${run}-${writer}-${n}`;
      await all.insertOne({ _id, at: new Date(n), body: bodyOf(_id) });
      told.inserts.push(_id);
    });
  const insertBatches = (writer: number) =>
    untilGone(async (n) => {
      const batch = `b-${run}-${writer}-${n}`;
      const parts = Array.from({ length: batchSize }, (_, part) => ({ _id: `${batch}-${part}`, batch, body: batch }));
      await all.insertMany(parts);
      told.batches.push(batch);
    });
  const count = (counter: string) =>
    untilGone(async () => {
      const version = (await all.findOne({ _id: counter }))?.version ?? 0;
      const next = { $set: { version: version + 1, total: (version + 1) * 3, by: String(run) } };
      const { matched } = await all.updateOne({ _id: counter, version }, next);
      if (matched === 1) told.versions.get(counter)?.push(version + 1);
    });
  return Promise.all([...[0, 1, 2].map(insert), insertBatches(0), ...[...counterIds, ...counterIds].map(count)]);
}

async function checkInserts(all: Collection<Written>, run: number, ids: readonly string[]): Promise<void> {
  const found = await documentsOf(all, `i-${run}-`);
  for (const _id of ids) expect(found.has(_id), `acknowledged ${_id}`).toBe(true);
  for (const [_id, { body, at }] of found) expect([body, at instanceof Date]).toEqual([bodyOf(_id), true]);
}

/** An acknowledged batch is there whole. Any other may be there in part, and here not always from its start. */
async function checkBatches(all: Collection<Written>, run: number, batches: readonly string[]): Promise<void> {
  const found = await documentsOf(all, `b-${run}-`);
  for (const { _id, batch, body } of found.values()) expect(body, _id).toBe(batch);
  for (const batch of batches) {
    for (let part = 0; part < batchSize; part++)
      expect(found.has(`${batch}-${part}`), `acknowledged ${batch}`).toBe(true);
  }
}

async function checkCounters(all: Collection<Written>, before: Map<string, number>, told: Acknowledged): Promise<void> {
  for (const [counter, won] of told.versions) {
    expect(new Set(won).size, "no version is won twice").toBe(won.length);
    const last = before.get(counter) ?? 0;
    expect(Math.min(last + 1, ...won), "no version goes back").toBe(last + 1);
    const found = await all.findOne({ _id: counter });
    const version = found?.version ?? 0;
    expect(version).toBeGreaterThanOrEqual(Math.max(last, ...won));
    expect(found?.total).toBe(version * 3);
    before.set(counter, version);
  }
}

/** All documents whose _id begins with that prefix. */
async function documentsOf(all: Collection<Written>, prefix: string): Promise<Map<string, Written>> {
  const filter = { _id: { $gte: prefix, $lt: `${prefix}~` } };
  const found = new Map<string, Written>();
  let page = await all.page(filter, { index: "_id_", limit: 1000 });
  for (;;) {
    for (const one of page.items) found.set(one._id, one);
    if (!page.next) return found;
    page = await all.page(filter, { index: "_id_", limit: 1000, after: page.next });
  }
}

describe.skipIf(!hasMongoProgram("test/storage/mongo/crash.test.ts"))("a MongoDB server that is killed", () => {
  it(`keeps every acknowledged write over ${kills} kills`, { timeout: 60_000 + kills * 20_000 }, async () => {
    console.log(`mongo-crash.test.ts: SEED=${seed} CRASH_KILLS=${kills}`);
    const random = randomFrom(seed);
    await using mongo = await startMongo({ durable: true });
    const database = mongo.freshDatabase();
    await using store = await openMongoStore({ url: mongo.url, database, serverSelectionMs: 1000 });
    const all = await store.collection<Written>(crashing);
    for (const _id of counterIds) await all.insertOne({ _id, version: 0, total: 0 });
    const versions = new Map<string, number>(counterIds.map((id) => [id, 0]));
    let acknowledged = 0;
    for (let run = 0; run < kills; run++) {
      const told = {
        inserts: [],
        batches: [],
        versions: new Map(counterIds.map((id): [string, number[]] => [id, []])),
      };
      const writing = startWriters(all, run, told);
      // The test varies the moment of the kill; this does not wait for a condition.
      await delay(100 + Math.floor(random() * 900));
      await mongo.kill();
      await writing;
      await mongo.restart();
      await until(
        () =>
          store.ping().then(
            () => true,
            () => false,
          ),
        "a ping",
      );
      acknowledged += told.inserts.length + told.batches.length * batchSize;
      await checkInserts(all, run, told.inserts);
      await checkBatches(all, run, told.batches);
      await checkCounters(all, versions, told);
    }
    console.log(
      `mongo-crash.test.ts: ${acknowledged} acknowledged documents found, and ${[...versions.values()]} counts`,
    );
    expect(acknowledged).toBeGreaterThan(kills);
    await expect(all.insertOne({ _id: counterIds[0] })).rejects.toBeInstanceOf(DuplicateKeyError);
  });
});

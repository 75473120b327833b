// An index over millions of documents takes longer to build than any answer may take. INDEX_DOCUMENTS: how many.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CollectionDefinition, type StoredDocument, StoreUnavailableError } from "../../src/storage/collection.js";
import { openMongoStore } from "../../src/storage/mongo/store.js";
import { type GivenMongo, isMongoGiven, openGivenMongo } from "../support/engines/mongo-given.js";

const tests = "test/mongodb/index-builds.test.ts";
const documents = Number(process.env.INDEX_DOCUMENTS ?? 5_000_000);
const batch = 10_000;

interface Thing extends StoredDocument {
  readonly code: string;
  readonly rank: number;
}

const bare: CollectionDefinition = { name: "things", durability: "durable", dates: [], indexes: [] };
const indexed: CollectionDefinition = {
  ...bare,
  indexes: [
    { name: "idx_code", key: ["code"], unique: true },
    { name: "idx_rank", key: ["rank"] },
  ],
};

describe.skipIf(!isMongoGiven(tests))("MongoDB that builds an index", () => {
  let mongo: GivenMongo;
  beforeAll(async () => {
    mongo = await openGivenMongo();
    for (let from = 0; from < documents; from += batch) {
      const places = Array.from({ length: Math.min(batch, documents - from) }, (_, n) => from + n);
      const made = places.map((place) => ({
        _id: `thing_${place}` as never,
        code: `code-${place}`,
        rank: place % 1000,
      }));
      await mongo.database.collection("things").insertMany(made, { ordered: false });
    }
  }, 1_800_000);
  afterAll(() => mongo[Symbol.asyncDispose]());

  it("is waited for at the start, while another version serves", { timeout: 1_800_000 }, async () => {
    const server = { url: mongo.url, database: mongo.database.databaseName };
    await using old = await openMongoStore(server);
    const serving = await old.collection<Thing>(bare);
    // The build takes many times this limit.
    const options = { ...server, operationMs: 1_000 };
    await using young = await openMongoStore(options);
    await using other = await openMongoStore(options);
    const beganMs = performance.now();
    let isBuilt = false;
    const building = Promise.all([young.collection<Thing>(indexed), other.collection<Thing>(indexed)]).finally(() => {
      isBuilt = true;
    });
    let [served, refused] = [0, 0];
    const serve = async (place: number) => {
      expect(await serving.findOne({ _id: `thing_${place}` })).not.toBeNull();
      await serving.updateOne({ _id: `thing_${place}` }, { $set: { rank: place % 1000 } });
      served++;
    };
    while (!isBuilt) {
      await serve(served % documents).catch((error: unknown) => {
        // Now and then the disk may be too late, since the build keeps it busy.
        if (!(error instanceof StoreUnavailableError)) throw error;
        refused++;
      });
    }
    const built = await building;
    expect(served).toBeGreaterThan(refused);
    const seconds = Math.round((performance.now() - beganMs) / 1000);
    process.stdout.write(`${tests}: ${documents} documents, built in ${seconds} s, ${served} served meanwhile\n`);
    for (const all of built) {
      expect(await all.findOne({ code: "code-7" }, { index: "idx_code" })).toMatchObject({ _id: "thing_7" });
      await expect(all.insertOne({ _id: "twice", code: "code-7", rank: 1 })).rejects.toMatchObject({
        index: "idx_code",
      });
    }
  });
});

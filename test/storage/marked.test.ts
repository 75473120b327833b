// Compare-and-set over a store that falls silent: a write that took place is found by its mark, and no other write is
// mistaken for it.
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type Collection,
  type CollectionDefinition,
  type Store,
  StoreUnavailableError,
} from "../../src/storage/collection.js";
import { type Marked, updateMarked } from "../../src/storage/marked.js";
import { type Engines, embeddedEngines } from "../support/engines/engines.js";
import { createTestClock } from "../support/world/clock.js";

interface Counter extends Marked {
  readonly count: number;
}
const counters: CollectionDefinition = { name: "counters", durability: "durable", dates: [], indexes: [] };
const silent = () => new StoreUnavailableError("no answer");

let engines: Engines;
let store: Store;
let stored: Collection<Counter>;
beforeEach(async () => {
  engines = embeddedEngines(createTestClock());
  ({ store } = await engines.open());
  stored = await store.collection<Counter>(counters);
  await stored.insertOne({ _id: "one", count: 1 });
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  engines.remove();
});

const count = { filter: { _id: "one", count: 1 }, update: { $inc: { count: 1 } } };
/** The collection with these operations in place of its own. */
const updated = (instead: Partial<Collection<Counter>> = {}) =>
  updateMarked({ ...stored, ...instead }, count.filter, count.update);

test("a write that is answered is answered, and one that matches nothing is null", async () => {
  expect(await updated()).toMatchObject({ count: 2 });
  expect(await updated()).toBeNull();
});

test("a write whose answer was lost is found and not made twice", async () => {
  const findOneAndUpdate: Collection<Counter>["findOneAndUpdate"] = async (...given) => {
    await stored.findOneAndUpdate(...given);
    throw silent();
  };
  expect(await updated({ findOneAndUpdate })).toMatchObject({ count: 2 });
  expect(await stored.findOne({ _id: "one" })).toMatchObject({ count: 2 });
});

test.each([
  ["that never took place", async () => undefined],
  ["behind which somebody else has written", async () => void (await updated())],
  ["of a document that is gone", async () => void (await stored.deleteMany({ _id: "one" }, { limit: 1 }))],
])("a write %s is not known to have taken place", async (_, meanwhile) => {
  const findOneAndUpdate = async () => {
    await meanwhile();
    throw silent();
  };
  await expect(updated({ findOneAndUpdate })).rejects.toThrow(StoreUnavailableError);
});

test("a store that stays silent is the first error, and a mistake is no silence", async () => {
  const first = silent();
  const lost = { findOneAndUpdate: async () => Promise.reject(first) };
  await expect(updated({ ...lost, findOne: async () => Promise.reject(silent()) })).rejects.toBe(first);
  const mistake = new TypeError("a mistake");
  await expect(updated({ ...lost, findOne: async () => Promise.reject(mistake) })).rejects.toBe(mistake);
  await expect(updated({ findOneAndUpdate: async () => Promise.reject(mistake) })).rejects.toBe(mistake);
});

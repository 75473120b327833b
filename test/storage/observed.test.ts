// What observers of the store are told about each operation.
import { expect, test } from "vitest";
import { type CollectionDefinition, DuplicateKeyError } from "../../src/storage/collection.js";
import { observeStore } from "../../src/storage/observed.js";
import { embeddedEngines } from "../support/engines/engines.js";
import { createTestClock } from "../support/world/clock.js";

const things: CollectionDefinition = { name: "things", durability: "durable", dates: [], indexes: [] };

test("operation, collection and outcome; a refusal as duplicate is an answer", async () => {
  const engines = embeddedEngines(createTestClock());
  const { store } = await engines.open();
  const told: string[] = [];
  const observed = observeStore(
    store,
    (operation, collection, outcome, seconds) => {
      expect(seconds).toBeGreaterThanOrEqual(0);
      told.push(`${operation} ${collection} ${outcome}`);
    },
    (error) => error instanceof DuplicateKeyError,
  );
  const collection = await observed.collection(things);
  await collection.insertOne({ _id: "one" });
  await expect(collection.insertOne({ _id: "one" })).rejects.toThrow(DuplicateKeyError);
  expect(await collection.findOne({ _id: "one" })).toEqual({ _id: "one" });
  await observed.ping();
  await observed[Symbol.asyncDispose]();
  await expect(collection.findOne({ _id: "one" })).rejects.toThrow();
  engines.remove();
  expect(told).toEqual([
    "insertOne things success",
    "insertOne things success",
    "findOne things success",
    "ping - success",
    "findOne things error",
  ]);
});

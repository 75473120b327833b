// Inserts that a unique index may refuse.
import { expect, test } from "vitest";
import { DuplicateKeyError, StoreUnavailableError } from "../../src/storage/collection.js";
import { insertUnlessThere } from "../../src/storage/insert.js";

const answering = (error?: Error) => ({
  insertOne: async () => {
    if (error !== undefined) throw error;
  },
});

test("an insert says whether the document is new", async () => {
  expect(await insertUnlessThere(answering(), { _id: "1" })).toBe(true);
  expect(await insertUnlessThere(answering(new DuplicateKeyError("nodes", "_id_")), { _id: "1" })).toBe(false);
});

test("what is no duplicate is not taken for one", async () => {
  const away = new StoreUnavailableError("away");
  await expect(insertUnlessThere(answering(away), { _id: "1" })).rejects.toBe(away);
});

// What every engine of the document store promises: updates, upserts and compare-and-set.
import { AssertionError } from "node:assert";
import { describe, expect, it } from "vitest";
import type { Update } from "../../src/storage/collection.js";
import { UpdateError } from "../../src/storage/update.js";
import { day, ids, type StoreUnderTest } from "./store-under-test.js";

export function describeUpdates(at: StoreUnderTest): void {
  describe("updates", () => {
    const update = async (before: Record<string, unknown>, change: Update) => {
      await at.all.insertOne({ _id: "a", ...before });
      const { _id, ...after } = (await at.all.findOneAndUpdate({ _id: "a" }, change)) ?? { _id: "" };
      const { _id: __, ...stored } = (await at.get("a")) ?? { _id: "" };
      expect(after).toStrictEqual(stored);
      return stored;
    };
    const cases: [string, Record<string, unknown>, Update, Record<string, unknown>][] = [
      [
        "$set makes and replaces, also deep",
        { x: 1, y: { z: 1 } },
        { $set: { x: [2], "y.w": 2, "v.u": 3 } },
        { x: [2], y: { z: 1, w: 2 }, v: { u: 3 } },
      ],
      ["$set of undefined does nothing", { x: 1 }, { $set: { x: undefined, "y.z": undefined } }, { x: 1 }],
      ["$set of nothing does nothing", { x: 1 }, { $set: {} }, { x: 1 }],
      [
        "$set keeps dates",
        {},
        { $set: { seen: day(4), changes: [{ at: day(5), to: "x" }] } },
        { seen: day(4), changes: [{ at: day(5), to: "x" }] },
      ],
      ["$setOnInsert does nothing on an update", { x: 1 }, { $setOnInsert: { x: 2 } }, { x: 1 }],
      [
        "$unset removes, also deep, and passes over what is not there",
        { x: 1, y: { z: 1, w: 2 } },
        { $unset: { x: true, "y.z": true, "v.u": true, "y.w.t": true } },
        { y: { w: 2 } },
      ],
      ["$inc counts, from 0 where missing", { x: 1.5 }, { $inc: { x: 2, "y.z": -1 } }, { x: 3.5, y: { z: -1 } }],
      ["$min and $max", { x: 5, y: 5 }, { $min: { x: 3, z: 1 }, $max: { y: 3, w: 1 } }, { x: 3, y: 5, z: 1, w: 1 }],
      ["$max of dates", { seen: day(2) }, { $max: { seen: day(3) } }, { seen: day(3) }],
      ["$max over null", { x: null, seen: null }, { $max: { x: -1, seen: day(1) } }, { x: -1, seen: day(1) }],
      ["$min under null leaves null", { x: null }, { $min: { x: -1 } }, { x: null }],
      ["$push appends", { words: ["a"] }, { $push: { words: { $each: ["b", "c"] } } }, { words: ["a", "b", "c"] }],
      [
        "$push with $slice keeps the last",
        { words: ["a", "b"] },
        { $push: { words: { $each: ["c"], $slice: -2 } } },
        { words: ["b", "c"] },
      ],
      [
        "$push with a positive $slice keeps the first",
        { words: ["a", "b"] },
        { $push: { words: { $each: ["c"], $slice: 2 } } },
        { words: ["a", "b"] },
      ],
      [
        "$push with $slice 0 empties",
        { words: ["a"] },
        { $push: { words: { $each: ["c"], $slice: 0 } } },
        { words: [] },
      ],
      [
        "$push on a missing field",
        {},
        {
          $push: {
            changes: {
              $each: [
                { at: day(1), to: "a" },
                { at: day(2), to: "b" },
              ],
              $slice: -1,
            },
          },
        },
        { changes: [{ at: day(2), to: "b" }] },
      ],
      ["$push under a missing field", {}, { $push: { "y.z": { $each: [] } } }, { y: { z: [] } }],
    ];
    it.each(cases)("%s", async (_, before, change, after) => {
      expect(await update(before, change)).toStrictEqual(after);
    });

    const unbearable: [string, Record<string, unknown>, Update][] = [
      ["$inc on text", { x: "1" }, { $inc: { x: 1 } }],
      ["$inc on null", { x: null }, { $inc: { x: 1 } }],
      ["$push on text", { x: "a" }, { $push: { x: { $each: ["b"] } } }],
      ["$push on null", { x: null }, { $push: { x: { $each: ["b"] } } }],
      ["$set under a number", { x: 1 }, { $set: { "x.y": 1 } }],
      ["$set under null", { x: null }, { $set: { "x.y": 1 } }],
      ["$set under an array", { x: [1] }, { $set: { "x.y": 1 } }],
    ];
    it.each(unbearable)("%s is an error and changes nothing", async (_, before, change) => {
      await at.all.insertOne({ _id: "a", ...before });
      const both = { ...change, $max: { other: 1 } };
      await expect(at.all.updateOne({ _id: "a" }, both)).rejects.toThrow(UpdateError);
      await expect(at.all.findOneAndUpdate({ _id: "a" }, both)).rejects.toThrow(UpdateError);
      expect(await at.get("a")).toEqual({ _id: "a", ...before });
    });

    const refused: [string, unknown][] = [
      ["no operator", {}],
      ["a replacement", { x: 1 }],
      ["an unknown operator", { $rename: { x: "y" } }],
      ["one path in two operators", { $set: { x: 1 }, $inc: { x: 1 } }],
      ["a path and one inside it", { $set: { x: {} }, $inc: { "x.y": 1 } }],
      ["a path inside another of one operator", { $set: { "x.y": 1, x: {} } }],
      ["a positional path", { $set: { "words.$": 1 } }],
      ["a place in an array", { $set: { "words.0": 1 } }],
      ["another _id", { $set: { _id: "b" } }],
      ["$inc by text", { $inc: { x: "1" } }],
      ["$inc by NaN", { $inc: { x: Number.NaN } }],
      ["$inc of a Date field", { $inc: { seen: 1 } }],
      ["$max of text", { $max: { x: "1" } }],
      ["$max of a number on a Date field", { $max: { seen: 1 } }],
      ["$max of a Date on an undeclared field", { $max: { x: day(1) } }],
      ["$set of an undeclared Date", { $set: { x: { y: day(1) } } }],
      ["$set of NaN", { $set: { x: [Number.NaN] } }],
      ["$push of one value", { $push: { words: "a" } }],
      ["$push with $sort", { $push: { words: { $each: [], $sort: 1 } } }],
      ["$push with a broken $slice", { $push: { words: { $each: [], $slice: 1.5 } } }],
      ["$push of a number where a Date belongs", { $push: { changes: { $each: [{ at: 1 }] } } }],
      ["$unset with false", { $unset: { x: false } }],
    ];
    it.each(refused)("refuses %s", async (_, given) => {
      await at.all.insertOne({ _id: "a" });
      const change = given as Update;
      await expect(at.all.updateOne({ _id: "a" }, change)).rejects.toThrow(AssertionError);
      await expect(at.all.findOneAndUpdate({ _id: "a" }, change)).rejects.toThrow(AssertionError);
      await expect(at.all.bulkUpdate([{ filter: { _id: "a" }, update: change }])).rejects.toThrow(AssertionError);
      expect(await at.get("a")).toEqual({ _id: "a" });
    });

    it("says whether one matched, also when nothing changes", async () => {
      await at.all.insertOne({ _id: "a", x: 1 });
      expect(await at.all.updateOne({ _id: "a" }, { $set: { x: 1 } })).toEqual({ matched: 1, upserted: false });
      expect(await at.all.updateOne({ _id: "a", x: 2 }, { $set: { x: 3 } })).toEqual({ matched: 0, upserted: false });
      expect(await at.all.findOneAndUpdate({ _id: "a", x: 2 }, { $set: { x: 3 } })).toBeNull();
    });

    it("answers the document before or after", async () => {
      await at.all.insertOne({ _id: "a", x: 1 });
      const inc = { $inc: { x: 1 } };
      expect(await at.all.findOneAndUpdate({ _id: "a" }, inc, { returnDocument: "before" })).toEqual({
        _id: "a",
        x: 1,
      });
      expect(await at.all.findOneAndUpdate({ _id: "a" }, inc, { returnDocument: "after" })).toEqual({ _id: "a", x: 3 });
      expect(await at.all.findOneAndUpdate({ _id: "a" }, inc)).toEqual({ _id: "a", x: 4 });
    });

    it("finds one by an index, past those that do not match", async () => {
      await at.all.insertMany(Array.from({ length: 900 }, (_, n) => ({ _id: `n${n}`, kind: "k", rank: n, x: n })));
      const options = { index: "idx_kind_rank" };
      expect(await at.all.updateOne({ kind: "k", x: 899 }, { $set: { y: 1 } }, options)).toEqual({
        matched: 1,
        upserted: false,
      });
      expect((await at.get("n899"))?.y).toBe(1);
      expect(await at.all.updateOne({ kind: "k", x: -1 }, { $set: { y: 1 } }, options)).toEqual({
        matched: 0,
        upserted: false,
      });
    });

    it("gives each of many claimants by an index a document of its own", async () => {
      await at.all.insertMany(Array.from({ length: 30 }, (_, n) => ({ _id: `n${n}`, kind: "free", rank: n })));
      const claims = Array.from({ length: 40 }, (_, n) =>
        at.all.findOneAndUpdate({ kind: "free" }, { $set: { kind: "taken", by: n } }, { index: "idx_kind_rank" }),
      );
      const claimed = (await Promise.all(claims)).filter((one) => one !== null);
      expect(new Set(ids(claimed)).size).toBe(30);
      expect(claimed).toHaveLength(30);
    });
  });

  describe("upserts", () => {
    it("inserts the filter's equalities, $set and $setOnInsert, once", async () => {
      const filter = { _id: "a", kind: "k", "inner.label": { $eq: "l" }, rank: { $gt: 3 } };
      const change = { $set: { x: 1 }, $setOnInsert: { rank: 5 }, $inc: { version: 1 } };
      expect(await at.all.updateOne(filter, change, { upsert: true })).toEqual({ matched: 0, upserted: true });
      const expected = { _id: "a", kind: "k", inner: { label: "l" }, x: 1, rank: 5, version: 1 };
      expect(await at.get("a")).toEqual(expected);
      expect(await at.all.updateOne(filter, change, { upsert: true })).toEqual({ matched: 1, upserted: false });
      expect(await at.get("a")).toEqual({ ...expected, version: 2 });
    });

    it("answers what it inserted, and null for what was before", async () => {
      const change = { $set: { seen: day(1) } };
      expect(await at.all.findOneAndUpdate({ _id: "a" }, change, { upsert: true })).toEqual({ _id: "a", seen: day(1) });
      expect(
        await at.all.findOneAndUpdate({ _id: "b" }, change, { upsert: true, returnDocument: "before" }),
      ).toBeNull();
      expect(await at.get("b")).not.toBeNull();
    });

    it("is a duplicate when the _id is there but does not match", async () => {
      await at.all.insertOne({ _id: "a", version: 2 });
      const attempt = at.all.updateOne({ _id: "a", version: 1 }, { $set: { x: 1 } }, { upsert: true });
      await expect(attempt).rejects.toMatchObject({ name: "DuplicateKeyError", index: "_id_" });
    });

    it("inserts one document for many at once", async () => {
      const many = Array.from({ length: 50 }, () =>
        at.all.updateOne({ _id: "a" }, { $inc: { x: 1 } }, { upsert: true }),
      );
      const results = await Promise.all(many);
      expect(results.filter(({ upserted }) => upserted)).toHaveLength(1);
      expect(await at.get("a")).toEqual({ _id: "a", x: 50 });
    });

    it("needs equality on _id", async () => {
      const options = { upsert: true, index: "idx_kind_rank" };
      await expect(at.all.updateOne({ kind: "k" }, { $set: { x: 1 } }, options)).rejects.toThrow(/_id/);
      await expect(at.all.updateOne({ _id: { $in: ["a"] } }, { $set: { x: 1 } }, options)).rejects.toThrow(
        AssertionError,
      );
      await expect(at.all.updateOne({ _id: "a", $or: [{ x: 1 }] }, { $set: { x: 1 } }, options)).rejects.toThrow(
        /\$or/,
      );
    });
  });

  describe("compare-and-set", () => {
    it("has one winner among 50", async () => {
      await at.all.insertOne({ _id: "a", version: 1 });
      const tries = Array.from({ length: 50 }, (_, by) =>
        at.all.findOneAndUpdate({ _id: "a", version: 1 }, { $set: { version: 2, by } }),
      );
      const winners = (await Promise.all(tries)).filter((one) => one !== null);
      expect(winners).toHaveLength(1);
      expect(await at.get("a")).toEqual(winners[0]);
    });

    it("loses no count", async () => {
      await at.all.insertOne({ _id: "a", x: 0 });
      await Promise.all(Array.from({ length: 200 }, () => at.all.updateOne({ _id: "a" }, { $inc: { x: 1 } })));
      expect((await at.get("a"))?.x).toBe(200);
    });

    it("reads what was acknowledged", async () => {
      for (let version = 1; version <= 20; version++) {
        await at.all.updateOne({ _id: "a" }, { $set: { version } }, { upsert: true });
        expect((await at.get("a"))?.version).toBe(version);
      }
    });
  });

  describe("bulkUpdate", () => {
    it("does all, upserts, and names the duplicates", async () => {
      await at.all.insertMany([
        { _id: "a", code: "x" },
        { _id: "b", version: 1 },
      ]);
      const result = await at.all.bulkUpdate([
        { filter: { _id: "a" }, update: { $inc: { x: 1 } } },
        { filter: { _id: "b" }, update: { $set: { code: "x" } } },
        { filter: { _id: "b", version: 2 }, update: { $set: { y: 1 } } },
        { filter: { _id: "c" }, update: { $set: { y: 1 } }, upsert: true },
        { filter: { _id: "b", version: 9 }, update: { $set: { y: 1 } }, upsert: true },
        { filter: { _id: "b" }, update: { $set: { z: 1 } } },
      ]);
      expect(result).toEqual({ matched: 2, upserted: 1, errors: [1, 4] });
      expect(await at.get("b")).toEqual({ _id: "b", version: 1, z: 1 });
    });

    it("does the others when one cannot be, and then says so", async () => {
      await at.all.insertMany([{ _id: "a", x: "text" }, { _id: "b" }]);
      const operations = ["a", "b"].map((_id) => ({ filter: { _id }, update: { $inc: { x: 1 } } }));
      await expect(at.all.bulkUpdate(operations)).rejects.toThrow(UpdateError);
      expect(await at.get("b")).toEqual({ _id: "b", x: 1 });
    });

    it("takes none and 1000, and refuses more or one without _id", async () => {
      expect(await at.all.bulkUpdate([])).toEqual({ matched: 0, upserted: 0, errors: [] });
      const many = Array.from({ length: 1001 }, (_, n) => ({
        filter: { _id: `n${n}` },
        update: { $set: { x: 1 } },
        upsert: true,
      }));
      await expect(at.all.bulkUpdate(many)).rejects.toThrow(/1000/);
      expect(await at.all.bulkUpdate(many.slice(1))).toEqual({ matched: 0, upserted: 1000, errors: [] });
      const update = { $set: { x: 1 } };
      await expect(at.all.bulkUpdate([{ filter: { kind: "k" }, update }])).rejects.toThrow(/_id/);
      await expect(at.all.bulkUpdate([{ filter: { _id: { $in: ["a", "b"] } }, update }])).rejects.toThrow(/_id/);
    });
  });
}

// What every engine of the document store promises: filters, and which filters it refuses.
import { AssertionError } from "node:assert";
import { describe, expect, it } from "vitest";
import type { Filter } from "../../src/storage/collection.js";
import { day, ids, type StoreUnderTest, type Thing } from "./store-under-test.js";

export function describeFilters(at: StoreUnderTest): void {
  describe("filters", () => {
    const documents: Thing[] = [
      { _id: "null", x: null },
      { _id: "missing" },
      { _id: "one", x: 1, y: { z: 1 } },
      { _id: "two", x: 2, y: { z: null } },
      { _id: "text", x: "1" },
      { _id: "true", x: true },
      { _id: "list", x: [1, 5], y: [{ z: 1 }, { z: 3 }] },
      { _id: "none", x: [], y: [] },
      { _id: "date", seen: day(1) },
    ];
    const cases: [string, Filter, string[]][] = [
      ["null equals null and missing", { x: null }, ["date", "missing", "null"]],
      ["a number equals neither true nor text", { x: 1 }, ["list", "one"]],
      ["true equals true alone", { x: true }, ["true"]],
      ["$ne takes in the missing", { x: { $ne: 1 } }, ["date", "missing", "none", "null", "text", "true", "two"]],
      ["$ne null is what is there", { x: { $ne: null } }, ["list", "none", "one", "text", "true", "two"]],
      ["comparisons hold within a type", { x: { $gt: 0 } }, ["list", "one", "two"]],
      ["comparisons of text", { x: { $gte: "" } }, ["text"]],
      ["comparisons of dates", { seen: { $lte: day(1) } }, ["date"]],
      ["elements meet bounds one by one", { x: { $gt: 1, $lt: 5 } }, ["list", "two"]],
      ["$in with null", { x: { $in: [2, null] } }, ["date", "missing", "null", "two"]],
      ["$in of nothing", { x: { $in: [] } }, []],
      ["$exists counts null in", { x: { $exists: true } }, ["list", "none", "null", "one", "text", "true", "two"]],
      ["$exists false", { x: { $exists: false } }, ["date", "missing"]],
      ["paths go through objects and arrays of them", { "y.z": 1 }, ["list", "one"]],
      ["null under an object", { "y.z": null }, ["date", "missing", "null", "text", "true", "two"]],
      ["$or", { $or: [{ x: 2 }, { seen: day(1) }] }, ["date", "two"]],
      [
        "$and with its neighbours",
        { x: { $exists: true }, $and: [{ x: { $ne: null } }, { y: { $exists: false } }] },
        ["text", "true"],
      ],
      ["an empty filter", {}, ids(documents).sort()],
    ];
    it.each(cases)("%s", async (_, filter, expected) => {
      await at.all.insertMany(documents);
      const { items } = await at.all.page(filter, { index: "_id_", limit: 100 });
      expect(ids(items)).toEqual(expected);
      expect(await at.all.count(filter, { index: "_id_" })).toBe(expected.length);
    });

    it("sorts and compares text by code point", async () => {
      const texts = ["z", "\uffee", "𝒳", "a", "Z"];
      await at.all.insertMany(texts.map((code) => ({ _id: code, code })));
      const page = await at.all.page({ code: { $exists: true } }, { index: "idx_code", limit: 10 });
      expect(ids(page.items)).toEqual(["Z", "a", "z", "\uffee", "𝒳"]);
      expect(
        ids((await at.all.page({ code: { $exists: true, $gt: "\uffee" } }, { index: "idx_code", limit: 10 })).items),
      ).toEqual(["𝒳"]);
    });

    const refused: [string, unknown][] = [
      ["an unknown operator", { x: { $regex: "a" } }],
      ["an unknown operator on top", { $nor: [{ x: 1 }] }],
      ["$where", { $where: "true" }],
      ["a regular expression", { x: /a/ }],
      ["undefined", { x: undefined }],
      ["undefined in $in", { x: { $in: [undefined] } }],
      ["NaN", { x: Number.NaN }],
      ["a function", { x: () => true }],
      ["an object", { x: { y: 1 } }],
      ["an empty condition", { x: {} }],
      ["an array", { x: [1] }],
      ["a positional path", { "x.$": 1 }],
      ["a place in an array", { "x.0": 1 }],
      ["an empty step", { "x..y": 1 }],
      ["a comparison with null", { x: { $gt: null } }],
      ["an empty $or", { $or: [] }],
      ["$or on a field", { x: { $or: [1] } }],
      ["$exists of 1", { x: { $exists: 1 } }],
      ["a Date on an undeclared field", { x: day(1) }],
      ["a number on a Date field", { seen: { $gt: 1 } }],
      ["a number as _id", { _id: 1 }],
    ];
    it.each(refused)("refuses %s, in every query", async (_, given) => {
      const filter = given as Filter;
      const index = "_id_";
      await expect(at.all.findOne(filter, { index })).rejects.toThrow(AssertionError);
      await expect(at.all.page(filter, { index, limit: 1 })).rejects.toThrow(AssertionError);
      await expect(at.all.count(filter, { index })).rejects.toThrow(AssertionError);
      await expect(at.all.updateOne(filter, { $set: { y: 1 } }, { index })).rejects.toThrow(AssertionError);
      await expect(at.all.deleteMany(filter, { index, limit: 1 })).rejects.toThrow(AssertionError);
    });

    it("refuses a query that neither binds _id nor names an index", async () => {
      const filter = { kind: "x" };
      await expect(at.all.findOne(filter)).rejects.toThrow(/index/);
      await expect(at.all.count(filter)).rejects.toThrow(/index/);
      await expect(at.all.updateOne(filter, { $set: { x: 1 } })).rejects.toThrow(/index/);
      await expect(at.all.findOneAndUpdate(filter, { $set: { x: 1 } })).rejects.toThrow(/index/);
      await expect(at.all.deleteMany(filter, { limit: 1 })).rejects.toThrow(/index/);
      await expect(at.all.findOne({ $or: [{ _id: "a" }, { _id: "b" }] })).rejects.toThrow(/index/);
      await expect(at.all.findOne(filter, { index: "idx_nowhere" })).rejects.toThrow(/index/);
      await expect(at.all.page(filter, { index: "idx_nowhere", limit: 1 })).rejects.toThrow(/index/);
    });

    it("refuses a query by a partial index that does not repeat its condition", async () => {
      await at.all.insertMany([
        { _id: "a", rank: 1, live: true },
        { _id: "b", rank: 1 },
      ]);
      await expect(at.all.findOne({ rank: 1 }, { index: "idx_rank_live" })).rejects.toThrow(/partial/);
      await expect(at.all.page({ rank: 1, live: false }, { index: "idx_rank_live", limit: 1 })).rejects.toThrow(
        /partial/,
      );
      expect(await at.all.count({ rank: 1, live: true }, { index: "idx_rank_live" })).toBe(1);
    });

    it("finds by _id and $in of _ids, judging the rest of the filter", async () => {
      await at.all.insertMany([
        { _id: "a", x: 1 },
        { _id: "b", x: 2 },
        { _id: "c", x: 2 },
      ]);
      expect(await at.all.findOne({ _id: "a", x: 2 })).toBeNull();
      expect(await at.all.count({ _id: { $in: ["a", "b", "b", "nobody"] } })).toBe(2);
      expect(ids([(await at.all.findOne({ _id: { $in: ["a", "c"] }, x: 2 })) ?? { _id: "" }])).toEqual(["c"]);
    });
  });
}

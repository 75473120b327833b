// What every engine of the document store promises: documents, uniqueness and batches of them.
import { AssertionError } from "node:assert";
import { describe, expect, it } from "vitest";
import { DuplicateKeyError } from "../../src/storage/collection.js";
import { day, type StoreUnderTest, type Thing, things } from "./store-under-test.js";

export function describeDocuments(at: StoreUnderTest): void {
  describe("documents", () => {
    it("gives back what was put in, dates as dates, undefined fields left out", async () => {
      const document = {
        _id: "a",
        kind: null,
        rank: -1.5,
        seen: day(2),
        live: false,
        words: ["x", "y"],
        inner: { size: 2 ** 40, label: "ä 𝒳 \u0000" },
        changes: [{ at: day(3), to: "UP" }],
        labels: { "zone.example/name": "north" },
        empty: { list: [], object: {} },
      };
      await at.all.insertOne({ ...document, left: undefined });
      expect(await at.get("a")).toStrictEqual(document);
    });

    it("keeps them over a reopening", async () => {
      await at.all.insertOne({ _id: "a", seen: day(1) });
      const again = await (await at.opened.reopen()).collection<Thing>(things);
      expect(await again.findOne({ _id: "a" })).toStrictEqual({ _id: "a", seen: day(1) });
    });

    it("is not changed by what the caller later does to what it handed in", async () => {
      const words = ["x"];
      const inserted = at.all.insertOne({ _id: "a", words });
      words.push("y");
      await inserted;
      const pushed = at.all.updateOne({ _id: "a" }, { $push: { words: { $each: words } } });
      words.push("z");
      await pushed;
      expect((await at.get("a"))?.words).toEqual(["x", "x", "y"]);
    });

    it("answers null for an id that is not there", async () => {
      expect(await at.get("nobody")).toBeNull();
    });

    it("opens a collection twice as the same, and refuses another definition under its name", async () => {
      await at.all.insertOne({ _id: "a" });
      const again = await at.opened.store.collection<Thing>(structuredClone(things));
      expect(await again.findOne({ _id: "a" })).toEqual({ _id: "a" });
      await expect(at.opened.store.collection({ ...things, dates: [] })).rejects.toThrow(/another definition/);
    });

    const unfit: [string, Record<string, unknown>][] = [
      ["no _id", {}],
      ["an empty _id", { _id: "" }],
      ["a numeric _id", { _id: 1 }],
      ["a Date in an undeclared field", { _id: "a", when: day(1) }],
      ["a Date deep in an undeclared field", { _id: "a", list: [{ at: day(1) }] }],
      ["a number in a Date field", { _id: "a", seen: 5 }],
      ["text in a Date field of an array", { _id: "a", changes: [{ at: "2026" }] }],
      ["an invalid Date", { _id: "a", seen: new Date(Number.NaN) }],
      ["NaN", { _id: "a", x: Number.NaN }],
      ["infinity", { _id: "a", x: [Number.POSITIVE_INFINITY] }],
      ["a bigint", { _id: "a", x: 1n }],
      ["a function", { _id: "a", x: () => 1 }],
      ["bytes", { _id: "a", x: new Uint8Array(1) }],
      ["a class instance", { _id: "a", x: new Map() }],
      ["undefined in an array", { _id: "a", x: [undefined] }],
      ["an array of arrays", { _id: "a", x: [[1]] }],
      ["half a surrogate pair", { _id: "a", x: "\ud800" }],
      ["a field that begins with $", { _id: "a", x: { $y: 1 } }],
      ["a dotted field on top", { _id: "a", "x.y": 1 }],
      ["an array in an indexed field", { _id: "a", rank: [1] }],
      ["an object in an indexed field", { _id: "a", rank: { x: 1 } }],
      ["a whole number beyond 2^53 in an indexed field", { _id: "a", rank: 2 ** 54 }],
      ["null in a unique field", { _id: "a", code: null }],
    ];
    it.each(unfit)("refuses a document with %s", async (_, document) => {
      await expect(at.all.insertOne(document as unknown as Thing)).rejects.toThrow(AssertionError);
      await expect(at.all.insertMany([{ _id: "b" }, document as unknown as Thing])).rejects.toThrow(AssertionError);
      expect(await at.all.count({}, { index: "_id_" })).toBe(0);
    });
  });

  describe("uniqueness", () => {
    it("refuses a second document with the same _id", async () => {
      await at.all.insertOne({ _id: "a", rank: 1 });
      const error = await at.all.insertOne({ _id: "a", rank: 2 }).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(DuplicateKeyError);
      expect(error).toMatchObject({ index: "_id_" });
      expect((await at.get("a"))?.rank).toBe(1);
    });

    it("refuses a second document with the same unique key, and names the index", async () => {
      await at.all.insertOne({ _id: "a", code: "x" });
      await expect(at.all.insertOne({ _id: "b", code: "x" })).rejects.toMatchObject({ index: "idx_code" });
      await at.all.insertOne({ _id: "b", code: "y" });
      await expect(at.all.updateOne({ _id: "b" }, { $set: { code: "x" } })).rejects.toThrow(DuplicateKeyError);
      expect((await at.get("b"))?.code).toBe("y");
    });

    it("lets any number of documents be without the field of a partial unique index", async () => {
      await at.all.insertMany([{ _id: "a" }, { _id: "b" }, { _id: "c", code: "x" }]);
      await at.all.updateOne({ _id: "c" }, { $unset: { code: true } });
      await at.all.insertOne({ _id: "d", code: "x" });
      expect(await at.all.findOne({ code: "x" }, { index: "idx_code" })).toEqual({ _id: "d", code: "x" });
    });

    it("lets one of many inserts of the same key win", async () => {
      const tries = Array.from({ length: 20 }, (_, n) => at.all.insertOne({ _id: `t${n}`, code: "x" }));
      const outcomes = await Promise.allSettled(tries);
      expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
      expect(await at.all.count({}, { index: "_id_" })).toBe(1);
    });
  });

  describe("insertMany", () => {
    const batch = [{ _id: "a" }, { _id: "b" }, { _id: "a" }, { _id: "c" }, { _id: "taken" }, { _id: "d" }];

    it("unordered inserts all but the duplicates and names those", async () => {
      await at.all.insertOne({ _id: "taken" });
      expect(await at.all.insertMany(batch)).toEqual({ inserted: 4, duplicates: [2, 4] });
      expect(await at.all.count({}, { index: "_id_" })).toBe(5);
    });

    it("ordered stops at the first duplicate", async () => {
      await at.all.insertOne({ _id: "taken" });
      expect(await at.all.insertMany(batch, { ordered: true })).toEqual({ inserted: 2, duplicates: [2] });
      expect(await at.get("c")).toBeNull();
    });

    it("counts duplicates of a unique index too", async () => {
      const coded = [{ _id: "a", code: "x" }, { _id: "b", code: "x" }, { _id: "c" }];
      expect(await at.all.insertMany(coded)).toEqual({ inserted: 2, duplicates: [1] });
    });

    it("takes none and 1000, and refuses more", async () => {
      expect(await at.all.insertMany([])).toEqual({ inserted: 0, duplicates: [] });
      const many = Array.from({ length: 1001 }, (_, n) => ({ _id: `n${n}` }));
      await expect(at.all.insertMany(many)).rejects.toThrow(/1000/);
      expect(await at.all.insertMany(many.slice(1))).toEqual({ inserted: 1000, duplicates: [] });
    });
  });
}

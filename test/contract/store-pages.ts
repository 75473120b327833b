// What every engine of the document store promises: pages, counts and deletion.
import { describe, expect, it } from "vitest";
import type { Cursor, Filter } from "../../src/storage/collection.js";
import { day, ids, type StoreUnderTest, type Thing, things } from "./store-under-test.js";

export function describePages(at: StoreUnderTest): void {
  describe("pages", () => {
    const walk = async (filter: Filter, index: string, limit: number, descending = false) => {
      const found: string[] = [];
      let after: Cursor | undefined;
      do {
        const page = await at.all.page(filter, { index, limit, descending, ...(after ? { after } : {}) });
        expect(page.items.length).toBeLessThanOrEqual(limit);
        found.push(...ids(page.items));
        after = page.next && (JSON.parse(JSON.stringify(page.next)) as Cursor);
      } while (after);
      return found;
    };
    const tied = Array.from({ length: 24 }, (_, n) => ({
      _id: `n${String(n).padStart(2, "0")}`,
      kind: n % 2 === 0 ? "even" : "odd",
      seen: day(1 + Math.floor(n / 8)),
      rank: Math.floor(n / 3),
      x: n,
    }));
    const every = ids(tied);
    const even = every.filter((_, n) => n % 2 === 0);

    it.each([1, 2, 3, 5, 24, 100])("go through all, %i at a time, both ways, ties and all", async (limit) => {
      await at.all.insertMany([...tied].reverse());
      expect(await walk({}, "_id_", limit)).toEqual(every);
      expect(await walk({}, "_id_", limit, true)).toEqual([...every].reverse());
      expect(await walk({}, "idx_rank", limit)).toEqual(every);
      expect(await walk({}, "idx_rank", limit, true)).toEqual([...every].reverse());
      expect(await walk({ kind: "even" }, "idx_kind_rank", limit)).toEqual(even);
      expect(await walk({ kind: "even" }, "idx_kind_rank", limit, true)).toEqual([...even].reverse());
      expect(await walk({ kind: "even" }, "idx_kind_seen_rank", limit)).toEqual(even);
      expect(await walk({ kind: "even" }, "idx_kind_seen_rank", limit, true)).toEqual([...even].reverse());
      expect(await walk({ kind: "even", rank: 2 }, "idx_kind_rank", limit)).toEqual(["n06", "n08"]);
    });

    it.each([1, 3, 100])("keep to bounds on the order, %i at a time", async (limit) => {
      await at.all.insertMany(tied);
      const rank = { $gte: 2, $lt: 5 };
      expect(await walk({ rank }, "idx_rank", limit)).toEqual(every.slice(6, 15));
      expect(await walk({ rank }, "idx_rank", limit, true)).toEqual(every.slice(6, 15).reverse());
      const seen = { $gt: day(1), $lte: day(2) };
      expect(await walk({ kind: "odd", seen }, "idx_kind_seen_rank", limit)).toEqual(["n09", "n11", "n13", "n15"]);
      expect(await walk({ kind: "odd", seen, rank: { $ne: 4 } }, "idx_kind_seen_rank", limit, true)).toEqual([
        "n15",
        "n11",
        "n09",
      ]);
      expect(await walk({ _id: { $gt: "n03", $lte: "n06" } }, "_id_", limit)).toEqual(["n04", "n05", "n06"]);
    });

    it.each([1, 2, 100])("lose nothing where the fields are missing, %i at a time", async (limit) => {
      await at.all.insertMany([{ _id: "a" }, { _id: "b" }, { _id: "c", rank: 1 }, { _id: "d", rank: 2, kind: null }]);
      expect(await walk({}, "idx_rank", limit)).toEqual(["a", "b", "c", "d"]);
      expect(await walk({}, "idx_rank", limit, true)).toEqual(["d", "c", "b", "a"]);
      expect(await walk({ kind: null }, "idx_kind_rank", limit)).toEqual(["a", "b", "c", "d"]);
      expect(await walk({ kind: null }, "idx_kind_seen_rank", limit, true)).toEqual(["d", "c", "b", "a"]);
      expect(await at.all.count({ kind: null }, { index: "idx_kind_rank" })).toBe(4);
    });

    it("pass over `skip` matches first", async () => {
      await at.all.insertMany(tied);
      const page = await at.all.page({ kind: "even" }, { index: "idx_kind_rank", skip: 5, limit: 3 });
      expect(ids(page.items)).toEqual(even.slice(5, 8));
      const rest = await at.all.page({ kind: "even" }, { index: "idx_kind_rank", skip: 10, limit: 3 });
      expect([ids(rest.items), rest.next]).toEqual([even.slice(10), undefined]);
      expect((await at.all.page({}, { index: "_id_", skip: 10_000, limit: 3 })).items).toEqual([]);
    });

    it("have no next when nothing that matches follows", async () => {
      await at.all.insertMany(tied);
      expect((await at.all.page({ x: { $lt: 3 } }, { index: "_id_", limit: 3 })).next).toBeUndefined();
      expect((await at.all.page({ x: { $lt: 4 } }, { index: "_id_", limit: 3 })).next).toBeDefined();
    });

    it("neither repeat nor lose a document when others come and go in between", async () => {
      await at.all.insertMany(tied);
      const first = await at.all.page({}, { index: "idx_rank", limit: 10 });
      await at.all.insertMany([
        { _id: "n00a", rank: 0 },
        { _id: "n09a", rank: 3 },
        { _id: "n10a", rank: 3 },
      ]);
      await at.all.deleteMany({ _id: "n09" }, { limit: 1 });
      const second = await at.all.page({}, { index: "idx_rank", limit: 100, after: first.next ?? [] });
      expect(ids(first.items)).toEqual(every.slice(0, 10));
      expect(ids(second.items)).toEqual(["n09a", "n10", "n10a", ...every.slice(11)]);
    });

    it("find the few that match far apart", async () => {
      const many = Array.from({ length: 3000 }, (_, n) => ({
        _id: `m${String(n).padStart(4, "0")}`,
        rank: n % 7,
        x: n,
      }));
      for (let from = 0; from < 3000; from += 1000) await at.all.insertMany(many.slice(from, from + 1000));
      const page = await at.all.page({ $or: [{ x: 5 }, { x: 1400 }, { x: 2999 }] }, { index: "_id_", limit: 2 });
      expect(ids(page.items)).toEqual(["m0005", "m1400"]);
      const rest = await at.all.page(
        { $or: [{ x: 5 }, { x: 2999 }] },
        { index: "_id_", limit: 2, after: page.next ?? [] },
      );
      expect([ids(rest.items), rest.next]).toEqual([["m2999"], undefined]);
    });

    it("are not ordered by an index of expiry, which breaks no ties", async () => {
      const expiring = await at.opened.store.collection<Thing>({
        ...things,
        name: "expiring",
        indexes: [{ name: "idx_seen", key: ["seen"], ttlSeconds: 60 }],
      });
      await expect(expiring.page({}, { index: "idx_seen", limit: 5 })).rejects.toThrow(/idx_seen expires .* no page/);
      expect(await expiring.count({ seen: { $lt: day(1) } }, { index: "idx_seen" })).toBe(0);
    });

    it("refuse limits, skips and cursors out of bounds", async () => {
      const page = (options: object) => at.all.page({}, { index: "idx_rank", limit: 1, ...options });
      await expect(page({ limit: 0 })).rejects.toThrow(/limit/);
      await expect(page({ limit: 1001 })).rejects.toThrow(/limit/);
      await expect(page({ skip: -1 })).rejects.toThrow(/skip/);
      await expect(page({ skip: 10_001 })).rejects.toThrow(/skip/);
      await expect(page({ after: ["x"] })).rejects.toThrow(/cursor/);
    });
  });

  describe("count and deleteMany", () => {
    const many = Array.from({ length: 700 }, (_, n) => ({
      _id: `n${n}`,
      kind: ["a", "b", "c"][n % 3] ?? "",
      rank: n,
      live: n % 2 === 0,
    }));

    it("counts what matches, up to the maximum", async () => {
      await at.all.insertMany(many);
      expect(await at.all.count({}, { index: "_id_" })).toBe(700);
      expect(await at.all.count({}, { index: "_id_", max: 10 })).toBe(10);
      expect(await at.all.count({ kind: "a", live: true }, { index: "idx_kind_rank" })).toBe(117);
      expect(await at.all.count({ kind: { $in: ["a", "c"] } }, { index: "idx_kind_rank" })).toBe(467);
      expect(await at.all.count({ kind: { $in: ["a", "c"] }, rank: { $lt: 6 } }, { index: "idx_kind_rank" })).toBe(4);
      expect(await at.all.count({ kind: { $in: [] } }, { index: "idx_kind_rank" })).toBe(0);
      expect(await at.all.count({ rank: { $lt: 6 }, live: true }, { index: "idx_rank_live" })).toBe(3);
    });

    it("deletes matches only, up to the limit", async () => {
      await at.all.insertMany(many);
      const filter = { kind: "a", live: false };
      expect(await at.all.deleteMany(filter, { index: "idx_kind_rank", limit: 100 })).toBe(100);
      expect(await at.all.deleteMany(filter, { index: "idx_kind_rank", limit: 100 })).toBe(17);
      expect(await at.all.deleteMany(filter, { index: "idx_kind_rank", limit: 100 })).toBe(0);
      expect(await at.all.count({}, { index: "_id_" })).toBe(583);
      expect(await at.all.deleteMany({ _id: { $in: ["n0", "n1", "nobody"] } }, { limit: 1000 })).toBe(2);
    });

    it("refuses to delete without a bound", async () => {
      await expect(at.all.deleteMany({}, { index: "_id_", limit: 0 })).rejects.toThrow(/limit/);
      await expect(at.all.deleteMany({}, { index: "_id_", limit: 1001 })).rejects.toThrow(/limit/);
    });
  });
}

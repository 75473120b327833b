// The filter and update language against its laws, over documents and filters made at random.
import { AssertionError } from "node:assert";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Condition, Filter, Scalar, Update } from "../../src/storage/collection.js";
import { boundIds, compare, matches, requiredDemands } from "../../src/storage/filter.js";
import { assertSupported } from "../../src/storage/supported.js";
import { applyUpdate, documentFromFilter, UpdateError } from "../../src/storage/update.js";

const definition = { dates: ["a", "b", "c", "a.b", "a.c"], indexes: [] };
const undated = { dates: [], indexes: [] };

const scalar: fc.Arbitrary<Scalar> = fc.oneof(
  fc.constantFrom<Scalar>(null, true, false, 0, 1, -1, 1.5, "", "1", "a", "𝒳", "\uffee"),
  fc.date({ noInvalidDate: true }),
  fc.string({ maxLength: 3, unit: "grapheme" }),
  fc.integer({ min: -3, max: 3 }),
);
const bound = scalar.filter((value) => value !== null);
const leafOrList = fc.oneof(scalar, fc.array(scalar, { maxLength: 3 }));
const inner = fc.record({ b: leafOrList, c: scalar }, { noNullPrototype: true, requiredKeys: [] });
const document: fc.Arbitrary<Record<string, unknown>> = fc.record(
  { a: fc.oneof(leafOrList, inner, fc.array(inner, { maxLength: 3 })), b: leafOrList, c: scalar },
  { noNullPrototype: true, requiredKeys: [] },
);
const path = fc.constantFrom("a", "b", "c", "a.b", "a.c", "b.c");

/** What a path leads to, computed otherwise than by the code under test: it first lists every way through arrays. */
function ways(value: unknown, names: readonly string[]): unknown[] {
  if (names.length === 0) return Array.isArray(value) ? [value, ...value] : [value];
  if (Array.isArray(value)) {
    const objects = value.filter((one) => typeof one === "object" && one !== null && !(one instanceof Date));
    return objects.flatMap((one) => ways(one, names));
  }
  if (typeof value !== "object" || value === null || value instanceof Date) return [undefined];
  return ways((value as Record<string, unknown>)[names[0] ?? ""], names.slice(1));
}
const kindOf = (value: unknown) => (value instanceof Date ? "date" : typeof value);
const some = (one: object, at: string, fits: (value: unknown) => boolean) => ways(one, at.split(".")).some(fits);

describe("a filter", () => {
  it("equals what the path leads to, null also what is missing", () => {
    fc.assert(
      fc.property(document, path, scalar, (one, at, wanted) => {
        const same = (value: unknown) =>
          wanted === null
            ? value === null || value === undefined
            : kindOf(value) === kindOf(wanted) &&
              Number(value as number) === Number(wanted as number) &&
              String(value) === String(wanted);
        const sameText = (value: unknown) => (typeof wanted === "string" ? value === wanted : same(value));
        expect(matches({ [at]: wanted }, one)).toBe(some(one, at, sameText));
      }),
      { numRuns: 2000 },
    );
  });

  it("compares within one type only", () => {
    fc.assert(
      fc.property(document, path, bound, (one, at, wanted) => {
        const like = (value: unknown) => kindOf(value) === kindOf(wanted);
        const order = (value: unknown) =>
          typeof value === "string"
            ? Buffer.compare(Buffer.from(value), Buffer.from(String(wanted)))
            : Number(value) - Number(wanted);
        expect(matches({ [at]: { $gt: wanted } }, one)).toBe(some(one, at, (value) => like(value) && order(value) > 0));
        expect(matches({ [at]: { $lte: wanted } }, one)).toBe(
          some(one, at, (value) => like(value) && order(value) <= 0),
        );
      }),
      { numRuns: 2000 },
    );
  });

  it("keeps the laws between its operators", () => {
    fc.assert(
      fc.property(document, path, bound, fc.array(scalar, { maxLength: 4 }), (one, at, value, choices) => {
        const is = (condition: Condition) => matches({ [at]: condition }, one);
        expect(is({ $eq: value })).toBe(is(value));
        expect(is({ $ne: value })).toBe(!is(value));
        expect(is({ $in: choices })).toBe(choices.some((choice) => is(choice)));
        expect(is({ $gte: value })).toBe(is({ $gt: value }) || is(value));
        expect(is({ $lte: value })).toBe(is({ $lt: value }) || is(value));
        expect(is({ $gt: value, $lt: value, $exists: true })).toBe(is({ $gt: value }) && is({ $lt: value }));
        expect(is({ $exists: true })).toBe(!is({ $exists: false }));
        if (is({ $ne: null })) expect(is({ $exists: true }) || is({ $exists: false })).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  it("joins with $and, $or and by standing side by side", () => {
    const part: fc.Arbitrary<Filter> = fc.tuple(path, scalar).map(([at, value]) => ({ [at]: { $ne: value } }));
    fc.assert(
      fc.property(document, part, part, (one, left, right) => {
        const both = matches(left, one) && matches(right, one);
        expect(matches({ $and: [left, right] }, one)).toBe(both);
        expect(matches({ ...left, $and: [right] }, one)).toBe(both);
        expect(matches({ $or: [left, right] }, one)).toBe(matches(left, one) || matches(right, one));
        expect(matches({}, one)).toBe(true);
      }),
    );
  });

  it("orders text by code point: a total order", () => {
    const text = fc.string({ unit: "binary" });
    fc.assert(
      fc.property(text, text, (left, right) => {
        const expected = Math.sign(Buffer.compare(Buffer.from(left), Buffer.from(right)));
        expect(Math.sign(compare(left, right))).toBe(expected);
      }),
    );
  });

  it("does not take what objects inherit for fields", () => {
    expect(matches({ constructor: { $exists: true } }, {})).toBe(false);
    expect(matches({ "a.toString": null }, { a: {} })).toBe(true);
  });

  it("says what it binds, and nothing of what stands in $or", () => {
    expect(boundIds({ $and: [{ _id: "a" }], x: 1 })).toEqual(["a"]);
    expect(boundIds({ _id: { $in: ["a", "b", "a"] } })).toEqual(["a", "b"]);
    expect(boundIds({ $or: [{ _id: "a" }] })).toBeUndefined();
    expect(boundIds({ _id: { $gt: "a" } })).toBeUndefined();
    expect(requiredDemands({ x: { $gt: 1, $lt: 2 }, $and: [{ y: 1 }], $or: [{ z: 1 }] })).toHaveLength(3);
  });
});

describe("an update", () => {
  const flat = fc.constantFrom("a", "b", "c");
  const outcome = <Result>(act: () => Result) => {
    try {
      return act();
    } catch (error) {
      return error instanceof UpdateError ? "UpdateError" : error;
    }
  };

  it("leaves the document handed in as it is", () => {
    const update = fc.record(
      {
        $set: fc.dictionary(fc.constant("a.b"), scalar),
        $inc: fc.dictionary(fc.constant("c"), fc.integer()),
        $unset: fc.constant({ b: true as const }),
      },
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(document, update, (one, change) => {
        const before = structuredClone(one);
        outcome(() => applyUpdate(one, change));
        expect(one).toStrictEqual(before);
      }),
    );
  });

  it("makes what it sets match, and what it unsets missing", () => {
    fc.assert(
      fc.property(document, flat, scalar, (one, at, value) => {
        expect(matches({ [at]: value }, applyUpdate(one, { $set: { [at]: value } }))).toBe(true);
        expect(matches({ [at]: { $exists: false } }, applyUpdate(one, { $unset: { [at]: true } }))).toBe(true);
      }),
    );
  });

  it("counts only on numbers and missing fields", () => {
    fc.assert(
      fc.property(document, flat, fc.integer(), (one, at, by) => {
        const found = one[at];
        const expected = found === undefined ? by : typeof found === "number" ? found + by : "UpdateError";
        expect(outcome(() => applyUpdate(one, { $inc: { [at]: by } })[at])).toEqual(expected);
      }),
    );
  });

  it("pushes only on arrays and missing fields, and slices as Array.slice does", () => {
    const slice = fc.integer({ min: -5, max: 5 });
    fc.assert(
      fc.property(document, flat, fc.array(scalar, { maxLength: 4 }), slice, (one, at, $each, $slice) => {
        const found = one[at] ?? (at in one ? one[at] : []);
        const all = Array.isArray(found) ? [...found, ...$each] : undefined;
        const expected = all && ($slice < 0 ? all.slice(Math.max(0, all.length + $slice)) : all.slice(0, $slice));
        const result = outcome(() => applyUpdate(one, { $push: { [at]: { $each, $slice } } })[at]);
        expect(result).toEqual(expected ?? "UpdateError");
      }),
    );
  });

  it("takes the lesser and the greater of numbers and of dates", () => {
    const pair = fc.oneof(
      fc.tuple(fc.integer(), fc.integer()),
      fc.tuple(fc.date({ noInvalidDate: true }), fc.date({ noInvalidDate: true })),
    );
    fc.assert(
      fc.property(pair, ([stored, given]) => {
        const lesser = applyUpdate<Record<string, unknown>>({ a: stored }, { $min: { a: given } }).a;
        const greater = applyUpdate<Record<string, unknown>>({ a: stored }, { $max: { a: given } }).a;
        expect([lesser, greater].map(Number)).toEqual([
          Math.min(Number(stored), Number(given)),
          Math.max(Number(stored), Number(given)),
        ]);
      }),
    );
  });

  it("follows MongoDB's order of types where they differ", () => {
    const inOrder: unknown[] = [null, 5, "a", { x: 1 }, [1], false, new Date(0)];
    for (const [place, stored] of inOrder.entries()) {
      if (typeof stored === "number") continue;
      const [lesser, greater] = [
        applyUpdate({ a: stored }, { $min: { a: 5 } }),
        applyUpdate({ a: stored }, { $max: { a: 5 } }),
      ];
      expect([lesser.a, greater.a]).toEqual(place < 1 ? [stored, 5] : [5, stored]);
    }
  });

  it("starts an upsert from equalities, so that what it makes matches them", () => {
    const filter = { _id: "x", a: 1, "b.c": { $eq: null }, $and: [{ c: "d" }], rank: { $gt: 1 } };
    expect(documentFromFilter(filter)).toEqual({ _id: "x", a: 1, b: { c: null }, c: "d" });
    expect(() => documentFromFilter({ a: 1, "a.b": 2 })).toThrow(UpdateError);
  });
});

describe("the gate", () => {
  it("lets the whole language pass", () => {
    fc.assert(
      fc.property(path, bound, scalar, (at, value, choice) => {
        fc.pre(!(value instanceof Date) && !(choice instanceof Date));
        const condition = {
          $eq: choice,
          $ne: choice,
          $gt: value,
          $gte: value,
          $lt: value,
          $lte: value,
          $in: [choice],
          $exists: true,
        };
        assertSupported(undated, { [at]: condition, $or: [{ [at]: choice }], $and: [{ [at]: value }] });
      }),
    );
    const at = new Date(0);
    assertSupported(definition, { a: at, "a.b": { $gt: at } }, { $set: { b: at }, $max: { c: at } });
  });

  it("refuses any other operator", () => {
    const known = new Set(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$exists", "$and", "$or"]);
    const operator = fc.oneof(
      fc.constantFrom("$nin", "$not", "$regex", "$elemMatch", "$size", "$expr"),
      fc.string().map((name) => `$${name}`),
    );
    fc.assert(
      fc.property(operator, (name) => {
        fc.pre(!known.has(name));
        expect(() => assertSupported(undated, { x: { [name]: 1 } as Condition })).toThrow(AssertionError);
        expect(() => assertSupported(undated, { [name]: 1 })).toThrow(AssertionError);
        expect(() => assertSupported(undated, {}, { [name]: { x: 1 } } as Update)).toThrow(AssertionError);
      }),
    );
  });

  it("refuses a filter nested without end, and too many choices", () => {
    let nested: Filter = { x: 1 };
    for (let depth = 0; depth < 60; depth++) nested = { $and: [nested] };
    expect(() => assertSupported(undated, nested)).toThrow(AssertionError);
    const choices = Array.from({ length: 1001 }, (_, n) => n);
    expect(() => assertSupported(undated, { x: { $in: choices } })).toThrow(AssertionError);
  });
});

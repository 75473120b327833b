// `present` leaves out undefined values, and nothing else.
import { expect, expectTypeOf, test } from "vitest";
import { present } from "../src/present.js";

test("leaves out undefined fields, and keeps what is merely empty", () => {
  expect(present({ a: 0, b: "", c: false, d: null, e: undefined, f: [] })).toStrictEqual({
    ...{ a: 0, b: "", c: false, d: null, f: [] },
  });
});

test("says by its type which fields may be absent", () => {
  const fields: { sure: number; maybe: string | undefined; optional?: boolean } = { sure: 1, maybe: undefined };
  expectTypeOf(present(fields)).branded.toEqualTypeOf<{ sure: number; maybe?: string; optional?: boolean }>();
  expect(Object.keys(present(fields))).toEqual(["sure"]);
});

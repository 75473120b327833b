// Page tokens: a position under a MAC, good for one list with one set of filters.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createPaging, type PageRequest } from "../../src/conventions/paging.js";
import { Failure } from "../../src/failure.js";
import type { Cursor } from "../../src/storage/collection.js";

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const paging = createPaging(Buffer.alloc(32, 1));
const never = () => Promise.reject(new Error("counted without need"));
const byToken = (value: string, limit = 10): PageRequest => ({ limit, position: { case: "pageToken", value } });
const byPage = (value: number, limit = 10): PageRequest => ({ limit, position: { case: "page", value } });
const first: PageRequest = { limit: 0, position: { case: undefined } };

async function tokenFor(cursor: Cursor, binding: string): Promise<string> {
  const window = paging.window(first, binding);
  return (await paging.pagination(window, binding, cursor, async () => 100)).nextPageToken ?? "";
}
const cursors = fc.array(
  fc.oneof(fc.string(), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.boolean(), fc.constant(null)),
  {
    minLength: 1,
    maxLength: 4,
  },
);

describe(`a page token (seed ${seed})`, () => {
  test("leads back to where it came from", async () => {
    await fc.assert(
      fc.asyncProperty(cursors, fc.string(), async (cursor, binding) => {
        const token = await tokenFor(cursor, binding);
        const expected: unknown = JSON.parse(JSON.stringify(cursor));
        expect(paging.window(byToken(token), binding)).toEqual({
          limit: 10,
          skip: 0,
          after: expected,
          page: undefined,
        });
      }),
      { seed, numRuns: 200 },
    );
  });

  test("of another list, another key, or changed in any bit is refused", async () => {
    const token = await tokenFor(["2026", "node_1"], "nodes");
    const refused = (text: string, binding = "nodes", from = paging) => {
      expect(() => from.window(byToken(text), binding)).toThrow(Failure);
    };
    refused(token, "pools");
    refused(token, "nodes ");
    refused(token, "nodes", createPaging(Buffer.alloc(32, 2)));
    const bytes = Buffer.from(token, "base64url");
    for (let place = 0; place < bytes.length; place++) {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(place) ^ 1, place);
      refused(changed.toString("base64url"));
    }
    for (let length = 1; length < token.length - 1; length++) refused(token.slice(0, length));
  });

  test("whatever is sent in its place is refused and is no error of ours", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1, maxLength: 200 }), (text) => {
        expect(() => paging.window(byToken(text), "nodes")).toThrow(Failure);
      }),
      { seed },
    );
  });

  test("that is empty is the beginning", () => {
    expect(paging.window(byToken(""), "nodes")).toMatchObject({ skip: 0, page: 1 });
  });
});

describe("a page", () => {
  test("by number counts, by token does not", async () => {
    const numbered = paging.window(byPage(3, 20), "nodes");
    expect(numbered).toEqual({ limit: 20, skip: 40, page: 3 });
    expect(await paging.pagination(numbered, "nodes", undefined, async () => 41)).toEqual({
      limit: 20,
      page: 3,
      total: 41,
      pages: 3,
      nextPageToken: "",
    });
    const window = paging.window(byToken(await tokenFor(["x"], "nodes")), "nodes");
    expect(await paging.pagination(window, "nodes", undefined, never)).toEqual({ limit: 10, nextPageToken: "" });
  });

  test("has 20 items unless told otherwise, and ends within the first 10,000", () => {
    expect(paging.window(first, "nodes")).toEqual({ limit: 20, skip: 0, page: 1 });
    expect(paging.window(byPage(100, 100), "nodes").skip).toBe(9_900);
    expect(paging.window(byPage(500, 0), "nodes").skip).toBe(9_980);
    for (const request of [byPage(101, 100), byPage(501, 0), byPage(10_000, 2)]) {
      expect(() => paging.window(request, "nodes")).toThrow("page_token");
    }
  });
});

// Pages one after the other: how many are read, and where reading ends.
import { expect, test } from "vitest";
import type { Cursor } from "../../src/storage/collection.js";
import { pages } from "../../src/storage/pages.js";

/** A query that has this many pages of one item each, and what it was asked for. */
function query(count: number) {
  const asked: (Cursor | undefined)[] = [];
  const read = async (after?: Cursor) => {
    asked.push(after);
    const place = asked.length;
    return { items: [place], ...(place < count ? { next: [place] } : {}) };
  };
  return { read, asked };
}

const all = async <T>(source: AsyncIterable<T[]>): Promise<T[]> => {
  const items: T[] = [];
  for await (const page of source) items.push(...page);
  return items;
};

test("each page is read after the one before, to the last", async () => {
  const { read, asked } = query(3);
  expect(await all(pages(read))).toEqual([1, 2, 3]);
  expect(asked).toEqual([undefined, [1], [2]]);
});

test("no more pages are read than may be", async () => {
  const { read, asked } = query(3);
  expect(await all(pages(read, 2))).toEqual([1, 2]);
  expect(asked).toHaveLength(2);
});

test("a caller that breaks off has no further page read", async () => {
  const { read, asked } = query(3);
  for await (const _ of pages(read)) break;
  expect(asked).toHaveLength(1);
});

test("a page that cannot be read ends the iteration with that error", async () => {
  const failed = new Error("away");
  await expect(all(pages(() => Promise.reject(failed)))).rejects.toBe(failed);
});

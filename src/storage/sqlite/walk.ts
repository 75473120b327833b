// Reads documents a few at a time, so that no search blocks the event loop for long.
import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { CollectionDefinition, Filter, Hint, Scalar } from "../collection.js";
import { boundIds, valueAt } from "../filter.js";
import type { Codec } from "./codec.js";
import type { Statements } from "./file.js";
import {
  countOf,
  documentStatements,
  orderedWalks,
  type Position,
  positionColumns,
  positionOfRow,
  queriesBehind,
  rowAt,
  toSql,
  type Walk,
} from "./query.js";

/**
 * Documents to judge. Other writes may come between two reads; documents after the current position are read as they
 * are at that time.
 */
export interface Source {
  /** Up to `countMax` further documents, at most one chunk, in one turn of the event loop. */
  read(countMax: number): object[];
  /** True when nothing is left. */
  readonly done: boolean;
}

/** The most documents that one turn reads and judges: about 3 to 10 ms. */
export const chunkMax = 256;

/** Lets the event loop do other work. */
export const breathe = nextTurn;

const sliceMs = 4;

/**
 * The results of the work for each item, in order. The event loop turns whenever the work has lasted 4 ms. The first
 * failure rejects, and the remaining items are not worked on.
 */
export async function inSlices<Item, Result>(
  items: readonly Item[],
  work: (item: Item) => Result,
): Promise<{ readonly results: Result[] }> {
  const results: Result[] = [];
  let endMs = performance.now() + sliceMs;
  for (const item of items) {
    if (performance.now() >= endMs) {
      await breathe();
      endMs = performance.now() + sliceMs;
    }
    results.push(work(item));
  }
  return { results };
}

/**
 * Sizes of successive reads: first the number wanted, since matches are mostly near; then growing up to a whole chunk.
 */
export function* growing(first: number): Generator<number, never> {
  for (let size = Math.min(first, chunkMax); ; size = Math.min(size * 4, chunkMax)) yield size;
}

export interface Reader {
  readonly definition: CollectionDefinition;
  readonly statements: Statements;
  readonly codec: Codec;
}

/**
 * Every document that may match, in any order: by _id when the filter binds it and no index is named, else by the
 * index.
 */
export function candidates(reader: Reader, filter: Filter, { index }: Hint): Source {
  if (index !== undefined) {
    return chain(orderedWalks(reader.definition, filter, index).map((walk) => walkSource(reader, walk, false)));
  }
  const ids = boundIds(filter);
  assert(ids, `a query of ${reader.definition.name} binds _id or names an index`);
  return idSource(reader, ids);
}

function idSource({ definition, statements, codec }: Reader, ids: readonly string[]): Source {
  const { read } = documentStatements(definition);
  let next = 0;
  return {
    read: (countMax) => {
      const taken = ids.slice(next, next + Math.min(countMax, chunkMax));
      next += taken.length;
      return taken.flatMap((id) => statements.all(read, id)).map((row) => codec.decode<object>(String(row.doc)));
    },
    get done() {
      return next >= ids.length;
    },
  };
}

/** Everything in the walk's order, after the position if there is one. */
export function walkSource(
  { statements, codec }: Reader,
  walk: Walk,
  descending: boolean,
  position?: Position,
): Source {
  let queries = queriesBehind(walk, descending, position);
  return {
    read: (countMax) => {
      const wanted = Math.min(countMax, chunkMax);
      const found: object[] = [];
      for (let query = queries[0]; query && found.length < wanted; query = queries[0]) {
        const rows = statements.all(query.sql, ...query.values, wanted - found.length);
        for (const row of rows) found.push(codec.decode<object>(String(row.doc)));
        if (found.length < wanted) queries = queries.slice(1);
      }
      const last = found.at(-1);
      if (last && found.length === wanted) queries = queriesBehind(walk, descending, positionOf(walk, last));
      return found;
    },
    get done() {
      return queries.length === 0;
    },
  };
}

function positionOf(walk: Walk, document: object): Position {
  return walk.order.map((path) => toSql(valueAt(document, path) as Scalar | undefined));
}

/** The most index rows that one turn counts: about a millisecond. */
const countedPerTurnMax = 10_000;

/**
 * How many rows the walk has, up to `max`. The event loop turns every 10,000 rows; rows added or removed meanwhile may
 * count.
 */
export async function countRows({ statements }: Pick<Reader, "statements">, walk: Walk, max: number): Promise<number> {
  const columns = positionColumns(walk);
  let queries = queriesBehind(walk, false, undefined, columns);
  let count = 0;
  for (let query = queries[0]; query && count < max; query = queries[0]) {
    const wanted = Math.min(countedPerTurnMax, max - count);
    const counting = countOf(query);
    const found = Number(statements.all(counting.sql, ...counting.values, wanted)[0]?.count);
    count += found;
    if (found < wanted) queries = queries.slice(1);
    else if (count < max) {
      const last = rowAt(query);
      const [row] = statements.all(last.sql, ...last.values, 1, wanted - 1);
      if (row === undefined) return count;
      queries = queriesBehind(walk, false, positionOfRow(walk, row), columns);
      await breathe();
    }
  }
  return count;
}

/** Each walk costs at least one seek. The most walks that one turn makes. */
const walksPerTurnMax = 128;

/** One source after the other, in order. */
export function chain(sources: readonly Source[]): Source {
  let at = 0;
  const skipDone = () => {
    while (sources[at]?.done) at++;
  };
  skipDone();
  return {
    read: (countMax) => {
      const wanted = Math.min(countMax, chunkMax);
      const found: object[] = [];
      for (let walks = 0; walks < walksPerTurnMax && found.length < wanted; walks++) {
        const source = sources[at];
        if (source === undefined) break;
        found.push(...source.read(wanted - found.length));
        skipDone();
      }
      return found;
    },
    get done() {
      return at >= sources.length;
    },
  };
}

// Reads documents a few at a time, so that no search keeps the event loop from its other work.
import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { CollectionDefinition, Filter, Hint, Scalar } from "./collection.js";
import { boundIds, valueAt } from "./filter.js";
import type { Codec } from "./sqlite-codec.js";
import type { Statements } from "./sqlite-file.js";
import { documentStatements, type Position, queriesBehind, toSql, unorderedWalks, type Walk } from "./sqlite-query.js";

/** Documents to judge. Between two reads others may write: what stands behind the place reached is seen as it then is. */
export interface Source {
  /** Up to `countMax` further documents, which is at most one chunk, in one turn of the event loop. */
  read(countMax: number): object[];
  /** True when nothing is left. */
  readonly done: boolean;
}

/** As many documents as one turn may read and judge: some 3 to 10 ms. */
export const chunkMax = 256;

/** Lets the event loop do its other work. */
export const breathe = nextTurn;

/** Sizes of successive reads: small first, as the first match is mostly near, then up to a whole chunk. */
export function* growing(first: number): Generator<number, never> {
  for (let size = Math.min(first, chunkMax); ; size = Math.min(size * 4, chunkMax)) yield size;
}

export interface Reader {
  readonly definition: CollectionDefinition;
  readonly statements: Statements;
  readonly codec: Codec;
}

/** Every document that may match, in any order: by _id when the filter binds it and no index is named, else by the index. */
export function candidates(reader: Reader, filter: Filter, { index }: Hint): Source {
  if (index !== undefined) {
    const walks = unorderedWalks(reader.definition, filter, index);
    return chain(walks.map((walk) => walkSource(reader, walk, false)));
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

/** Everything in the walk's order, behind the position if there is one. */
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

/** Walks that find nothing are one seek each: as many as one turn may make. */
const emptyWalksMax = 128;

/** A read answers from one source only, the first that has something, so that it stays within one chunk of work. */
function chain(sources: readonly Source[]): Source {
  let at = 0;
  const skipDone = () => {
    while (sources[at]?.done) at++;
  };
  skipDone();
  return {
    read: (countMax) => {
      for (let walks = 0; walks < emptyWalksMax && at < sources.length; walks++) {
        const found = sources[at]?.read(countMax) ?? [];
        skipDone();
        if (found.length > 0) return found;
      }
      return [];
    },
    get done() {
      return at >= sources.length;
    },
  };
}

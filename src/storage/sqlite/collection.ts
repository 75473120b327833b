// A collection of the embedded store. Reads return committed data. Every write finds, judges and changes its document
// in one turn of the commit queue, which makes compare-and-set atomic.
import {
  type Collection,
  type CollectionDefinition,
  type Cursor,
  DuplicateKeyError,
  type Filter,
  type Hint,
  type Page,
  type PageOptions,
  type StoredDocument,
  StoreUnavailableError,
  type Update,
} from "../collection.js";
import { copyOf } from "../copy.js";
import { cursorOf, cursorPaths, indexOf } from "../cursor.js";
import { compileFilter, valueAt } from "../filter.js";
import {
  assertBetween,
  assertBulk,
  assertDocument,
  assertIndexed,
  assertOrders,
  assertSupported,
  assertUpsert,
} from "../supported.js";
import { applyUpdate, documentFromFilter } from "../update.js";
import { createCodec } from "./codec.js";
import type { CommitQueue, Turn } from "./commit.js";
import type { Statements } from "./file.js";
import { countedWalk, documentStatements, orderedWalks, placeIn, toSql } from "./query.js";
import {
  breathe,
  candidates,
  chain,
  countRows,
  growing,
  inSlices,
  type Reader,
  type Source,
  walkSource,
} from "./walk.js";

export interface CollectionParts {
  readonly definition: CollectionDefinition;
  readonly statements: Statements;
  readonly queue: CommitQueue;
  /** Aborted when the store closes. */
  readonly closing: AbortSignal;
}

interface Parts extends Reader, CollectionParts {
  readonly on: ReturnType<typeof documentStatements>;
}

interface UpdateOptions extends Hint {
  readonly upsert?: boolean;
}

/**
 * The document before and after an update. Both are absent when nothing matched; `before` alone is absent when it
 * inserted.
 */
interface Change {
  readonly before?: object;
  readonly after?: object;
}

const batchMax = 1000;
const skipMax = 10_000;
/** A delete costs more than a read: it changes every index. */
const deleteChunkMax = 100;
/** Documents read or deleted before the work checks again whether the turn is over. */
const stepMax = 16;

export function createCollection<T extends StoredDocument>(given: CollectionParts): Collection<T> {
  const codec = createCodec(given.definition.dates);
  const parts: Parts = { ...given, codec, on: documentStatements(given.definition) };
  const { definition, queue, statements, on } = parts;
  const encode = (document: T) => {
    assertDocument(definition, document);
    return { id: document._id, text: codec.encode(document) };
  };
  const insert = ({ id, text }: { id: string; text: string }) => statements.run(on.insert, id, text);

  return {
    insertOne: async (document) => {
      const encoded = encode(document);
      await queue.run(() => insert(encoded));
    },
    insertMany: async (documents, { ordered = false } = {}) => {
      assertBetween(documents.length, 0, batchMax, "a batch");
      const { results: encoded } = await inSlices(documents, encode);
      return insertAll(queue, encoded, insert, ordered);
    },
    findOne: async (filter, hint = {}) => {
      const source = guarded(parts, filter, hint);
      return (await firstMatch(parts, source, compileFilter(filter))) as T | null;
    },
    page: async (filter, options) => (await readPage(parts, filter, options)) as Page<T>,
    count: async (filter, { max = Infinity, ...hint } = {}) => {
      const source = guarded(parts, filter, hint);
      const walk = hint.index === undefined ? undefined : countedWalk(definition, filter, hint.index);
      return walk === undefined ? countMatches(parts, source, filter, max) : countRows(parts, walk, max);
    },
    updateOne: async (filter, update, options = {}) => {
      const { before, after } = await changeOne(parts, filter, update, options);
      return { matched: before ? 1 : 0, upserted: !before && after !== undefined };
    },
    findOneAndUpdate: async (filter, update, { returnDocument = "after", ...options } = {}) => {
      const change = await changeOne(parts, filter, update, options);
      return (change[returnDocument] ?? null) as T | null;
    },
    bulkUpdate: async (operations) => {
      assertBetween(operations.length, 0, batchMax, "a batch");
      await inSlices(operations, ({ filter, update, upsert }) => {
        assertBulk(definition, filter, update);
        if (upsert) assertUpsert(filter);
      });
      const { results } = await inSlices(operations, (one) => settled(changeOne(parts, one.filter, one.update, one)));
      return summarize(await Promise.all(results));
    },
    deleteMany: async (filter, { limit, ...hint }) => {
      assertBetween(limit, 1, batchMax, "limit");
      return deleteMatches(parts, guarded(parts, filter, hint), filter, limit);
    },
  };
}

/**
 * Inserts as many documents in a turn as its time allows, and starts the next turn only once those are on disk. So
 * after a failure the stored documents are a prefix of those that could be inserted.
 */
async function insertAll<Encoded>(
  queue: CommitQueue,
  all: readonly Encoded[],
  insert: (one: Encoded) => void,
  ordered: boolean,
): Promise<{ inserted: number; duplicates: number[] }> {
  const duplicates: number[] = [];
  for (let next = 0; next < all.length; ) {
    const from = next;
    const { refused, end } = await queue.run((turn) => insertSome(all, from, insert, ordered, turn));
    duplicates.push(...refused);
    if (ordered && refused.length > 0) return { inserted: end - 1, duplicates };
    next = end;
  }
  return { inserted: all.length - duplicates.length, duplicates };
}

/** Inserts at least one document. `end` is the position after the last document tried. */
function insertSome<Encoded>(
  all: readonly Encoded[],
  from: number,
  insert: (one: Encoded) => void,
  ordered: boolean,
  turn: Turn,
): { refused: number[]; end: number } {
  const refused: number[] = [];
  for (let place = from; place < all.length; place++) {
    try {
      insert(all[place] as Encoded);
    } catch (error) {
      if (!(error instanceof DuplicateKeyError)) throw error;
      refused.push(place);
    }
    if (turn.isOver() || (ordered && refused.length > 0)) return { refused, end: place + 1 };
  }
  return { refused, end: all.length };
}

/** The candidates of a query that passed the gate. */
function guarded(parts: Parts, filter: Filter, hint: Hint): Source {
  assertOpen(parts);
  assertSupported(parts.definition, filter);
  return candidates(parts, filter, hint);
}

function assertOpen({ closing }: Parts): void {
  if (closing.aborted) throw new StoreUnavailableError("The store is closed");
}

/** Passes chunk after chunk to `take`, which returns true when it has enough. */
async function eachChunk(
  parts: Parts,
  source: Source,
  firstSize: number,
  take: (documents: object[]) => boolean,
): Promise<void> {
  for (const size of growing(firstSize)) {
    assertOpen(parts);
    if (take(source.read(size)) || source.done) return;
    await breathe();
  }
}

async function firstMatch(parts: Parts, source: Source, matches: (document: object) => boolean) {
  let match: object | undefined;
  await eachChunk(parts, source, 1, (documents) => {
    match = documents.find(matches);
    return match !== undefined;
  });
  return match ?? null;
}

async function countMatches(parts: Parts, source: Source, filter: Filter, max: number): Promise<number> {
  const matches = compileFilter(filter);
  let count = 0;
  if (max < 1) return 0;
  await eachChunk(parts, source, max, (documents) => {
    count += documents.filter(matches).length;
    return count >= max;
  });
  return Math.min(count, max);
}

async function readPage(parts: Parts, filter: Filter, options: PageOptions): Promise<Page<object>> {
  const { index, descending = false, after, skip = 0, limit } = options;
  assertOpen(parts);
  assertSupported(parts.definition, filter);
  assertBetween(limit, 1, batchMax, "limit");
  assertBetween(skip, 0, skipMax, "skip");
  const source = pageSource(parts, filter, index, descending, after);
  const matches = compileFilter(filter);
  const found: object[] = [];
  let passed = 0;
  await eachChunk(parts, source, limit + 1 + skip, (documents) => {
    for (const document of documents) {
      if (found.length > limit || !matches(document)) continue;
      if (passed < skip) passed++;
      else found.push(document);
    }
    return found.length > limit;
  });
  const items = found.slice(0, limit);
  const last = items.at(-1);
  return found.length > limit && last ? { items, next: cursorOf(indexOf(parts.definition, index), last) } : { items };
}

/** Everything after the cursor, in the order of the index. */
function pageSource(
  parts: Parts,
  filter: Filter,
  index: string,
  descending: boolean,
  after: Cursor | undefined,
): Source {
  assertOrders(indexOf(parts.definition, index));
  const walks = orderedWalks(parts.definition, filter, index, descending);
  if (!after) return chain(walks.map((walk) => walkSource(parts, walk, descending)));
  const paths = cursorPaths(indexOf(parts.definition, index));
  assertBetween(after.length, paths.length, paths.length, `values of a cursor of ${index}`);
  const valueAtPath = (path: string) => toSql(after[paths.indexOf(path)]);
  return chain(
    walks.flatMap((walk) => {
      const place = placeIn(walk, valueAtPath, descending);
      return place === "over" ? [] : [walkSource(parts, walk, descending, place)];
    }),
  );
}

/**
 * Finds and changes one document. A search longer than a chunk continues in a later turn, so other writes may come
 * between. The document is matched in the same turn that changes it.
 */
async function changeOne(
  parts: Parts,
  givenFilter: Filter,
  givenUpdate: Update,
  { index, upsert = false }: UpdateOptions,
): Promise<Change> {
  assertSupported(parts.definition, givenFilter, givenUpdate);
  if (upsert) assertUpsert(givenFilter);
  // The caller may change its objects before the turn comes.
  const [filter, update] = copyOf([givenFilter, givenUpdate] as const);
  const source = guarded(parts, filter, index === undefined ? {} : { index });
  const matches = compileFilter(filter);
  for (const size of growing(1)) {
    const change = await parts.queue.run((turn) => {
      const before = readSome(source, size, turn, (found) => found.find(matches));
      if (before) return replace(parts, before, update);
      if (!source.done) return undefined;
      return upsert ? insertFrom(parts, filter, update) : {};
    });
    if (change) return change;
  }
  return {};
}

/**
 * What `take` finds among up to `size` documents, read a few at a time while the turn lasts. Returns as soon as it has
 * found something.
 */
function readSome<Result>(
  source: Source,
  size: number,
  turn: Turn,
  take: (found: object[]) => Result | undefined,
): Result | undefined {
  for (let left = size; left > 0 && !source.done; left -= stepMax) {
    const result = take(source.read(Math.min(left, stepMax)));
    if (result !== undefined || turn.isOver()) return result;
  }
  return undefined;
}

function replace({ statements, codec, on, definition }: Parts, before: object, update: Update): Change {
  const after = applyUpdate(before, update);
  assertIndexed(definition, after);
  const text = codec.encode(after);
  if (text !== codec.encode(before)) statements.run(on.replace, text, String(valueAt(before, "_id")));
  return { before, after: codec.decode<object>(text) };
}

function insertFrom({ statements, codec, on, definition }: Parts, filter: Filter, update: Update): Change {
  const after = applyUpdate(documentFromFilter(filter), update, true);
  assertDocument(definition, after);
  const text = codec.encode(after);
  statements.run(on.insert, String(valueAt(after, "_id")), text);
  return { after: codec.decode<object>(text) };
}

/** The outcome as a value, so that a failure is not an unhandled rejection while other work has yet to begin. */
const settled = <Result>(work: Promise<Result>): Promise<PromiseSettledResult<Result>> =>
  work.then(
    (value) => ({ status: "fulfilled", value }),
    (reason: unknown) => ({ status: "rejected", reason }),
  );

/** Duplicates are part of the answer. The first other failure is thrown, after all other updates were applied. */
function summarize(outcomes: readonly PromiseSettledResult<Change>[]) {
  const errors: number[] = [];
  let matched = 0;
  let upserted = 0;
  for (const [place, outcome] of outcomes.entries()) {
    if (outcome.status === "fulfilled") {
      if (outcome.value.before) matched++;
      else if (outcome.value.after) upserted++;
    } else if (outcome.reason instanceof DuplicateKeyError) errors.push(place);
  }
  for (const outcome of outcomes) {
    if (outcome.status === "rejected" && !(outcome.reason instanceof DuplicateKeyError)) throw outcome.reason;
  }
  return { matched, upserted, errors };
}

async function deleteMatches(parts: Parts, source: Source, filter: Filter, limit: number): Promise<number> {
  const matches = compileFilter(filter);
  let deleted = 0;
  for (const size of growing(limit)) {
    deleted += await parts.queue.run((turn) => {
      let removed = 0;
      readSome(source, Math.min(size, deleteChunkMax, limit - deleted), turn, (found) => {
        for (const document of found.filter(matches)) {
          parts.statements.run(parts.on.remove, String(valueAt(document, "_id")));
          removed++;
        }
        return undefined;
      });
      return removed;
    });
    if (deleted >= limit || source.done) return deleted;
  }
  return deleted;
}

// A collection at a MongoDB server. Every call first passes the gate of supported.ts, so that both engines refuse the
// same calls. Only the server sees the document that an update makes, so nothing here checks that its indexed fields
// are still scalars.
import assert from "node:assert/strict";
import {
  type AnyBulkWriteOperation,
  type FindOneAndUpdateOptions,
  MongoBulkWriteError,
  type Collection as MongoCollection,
  MongoServerError,
  type UpdateFilter,
} from "mongodb";
import type {
  Collection,
  CollectionDefinition,
  Filter,
  Hint,
  Page,
  PageOptions,
  StoredDocument,
  Update,
} from "../collection.js";
import { copyOf } from "../copy.js";
import { cursorOf } from "../cursor.js";
import { assertBetween, assertBulk, assertDocument, assertSupported, assertUpsert } from "../supported.js";
import { UpdateError } from "../update.js";
import {
  duplicateKeyCode,
  type ErrorContext,
  indexNameOf,
  isUnavailable,
  isUpdateFault,
  translateError,
  translateUpdateError,
  type WriteFault,
  writeErrorsOf,
} from "./errors.js";
import { behind, hintOf, orderedWalk, type Query, type Stored, toQuery } from "./query.js";

export interface CollectionParts {
  readonly definition: CollectionDefinition;
  /** With the read and write concern of the definition. */
  readonly collection: MongoCollection<Stored>;
  /** Host names, for errors. */
  readonly hosts: string;
  /** The server's own time limit for one operation. */
  readonly maxTimeMS: number;
  /**
   * Runs the work once the indexes exist, within the limit of one operation. Every command takes the signal, which
   * aborts when the limit is over.
   */
  run<Result>(work: (signal: AbortSignal) => Promise<Result>): Promise<Result>;
}

interface Parts extends CollectionParts {
  readonly context: ErrorContext;
}

/** An update as the driver takes it. It is a copy, since the caller may change its own before it is sent. */
interface Change {
  readonly query: Query;
  readonly update: UpdateFilter<Stored>;
  readonly options: { readonly hint?: string; readonly upsert: boolean };
}

/** The outcome of a batch. `error` is the driver's, if there are faults. */
interface Outcome {
  readonly inserted: number;
  readonly matched: number;
  readonly upserted: number;
  readonly faults: readonly WriteFault[];
  readonly error?: MongoBulkWriteError;
}

const batchMax = 1000;
const skipMax = 10_000;

export function createCollection<T extends StoredDocument>(given: CollectionParts): Collection<T> {
  const { definition, collection, maxTimeMS } = given;
  const context = { hosts: given.hosts, collection: definition.name, indexes: definition.indexes };
  const parts: Parts = { ...given, context };
  const ask = <Result>(work: (signal: AbortSignal) => Promise<Result>, translate = translateError): Promise<Result> =>
    given.run((signal) =>
      work(signal).catch((error: unknown) => {
        throw translate(error, context);
      }),
    );
  const guarded = (filter: Filter, hint: Hint) => {
    assertSupported(definition, filter);
    const options = { ...hintOf(definition, filter, hint), maxTimeMS };
    return { query: toQuery(copyOf(filter)), options };
  };

  return {
    insertOne: async (document) => {
      const copy = checkedCopy(definition, document);
      await ask((signal) => collection.insertOne(copy, until(signal, { maxTimeMS })));
    },
    insertMany: async (documents, { ordered = false } = {}) => {
      assertBetween(documents.length, 0, batchMax, "a batch");
      const copies = documents.map((document) => checkedCopy(definition, document));
      return ask((signal) => insertAll(parts, copies, ordered, signal));
    },
    findOne: async (filter, hint = {}) => {
      const { query, options } = guarded(filter, hint);
      return ask((signal) => collection.findOne<T>(query, { ...options, signal }));
    },
    page: async (filter, options) => readPage<T>(parts, ask, filter, options),
    count: async (filter, { max = Infinity, ...hint } = {}) => {
      const { query, options } = guarded(filter, hint);
      const limit = Number.isFinite(max) ? { limit: max } : {};
      return ask(async (signal) => (max < 1 ? 0 : collection.countDocuments(query, { ...options, ...limit, signal })));
    },
    updateOne: async (filter, update, options = {}) => {
      const change = checkedChange(definition, filter, update, options);
      const result = await ask(
        (signal) =>
          again(change, () =>
            collection.updateOne(change.query, change.update, until(signal, { ...change.options, maxTimeMS })),
          ),
        translateUpdateError,
      );
      return { matched: result.matchedCount === 0 ? 0 : 1, upserted: result.upsertedCount > 0 };
    },
    findOneAndUpdate: async (filter, update, { returnDocument = "after", ...options } = {}) => {
      const change = checkedChange(definition, filter, update, options);
      const found = await ask(
        (signal) =>
          again(change, () => {
            // The server accepts an index by name here too; the driver's types leave that out.
            const all = { ...change.options, maxTimeMS, returnDocument } as unknown as FindOneAndUpdateOptions;
            return collection.findOneAndUpdate(change.query, change.update, until(signal, all));
          }),
        translateUpdateError,
      );
      return found as T | null;
    },
    bulkUpdate: async (operations) => {
      assertBetween(operations.length, 0, batchMax, "a batch");
      for (const operation of operations) assertBulk(definition, operation.filter, operation.update);
      const changes = operations.map(({ filter, update, upsert = false }) =>
        checkedChange(definition, filter, update, { upsert }),
      );
      return ask((signal) => updateAll(parts, changes, signal));
    },
    deleteMany: async (filter, { limit, ...hint }) => {
      assertBetween(limit, 1, batchMax, "limit");
      const { query, options } = guarded(filter, hint);
      return ask((signal) => deleteSome(parts, query, options, limit, signal));
    },
  };
}

type Ask = <Result>(work: (signal: AbortSignal) => Promise<Result>) => Promise<Result>;

/** The driver takes a signal with every operation; its types say so of reads only. */
const until = <Options extends object>(signal: AbortSignal, options: Options): Options => ({ ...options, signal });

function checkedCopy(definition: CollectionDefinition, document: StoredDocument): Stored {
  assertDocument(definition, document);
  return copyOf(document);
}

function checkedChange(
  definition: CollectionDefinition,
  filter: Filter,
  update: Update,
  { upsert = false, ...hint }: Hint & { readonly upsert?: boolean },
): Change {
  assertSupported(definition, filter, update);
  if (upsert) assertUpsert(filter);
  const options = { ...hintOf(definition, filter, hint), upsert };
  const [query, copy] = copyOf([filter, update] as const);
  return { query: toQuery(query), update: copy as UpdateFilter<Stored>, options };
}

/**
 * When upserts of one _id race, the server may refuse the slower one as a duplicate of the document that the faster one
 * inserted. A retry finds that document and updates it. A document that exists and does not match is refused again.
 */
async function again<Result>({ options }: Change, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!options.upsert || !(error instanceof MongoServerError) || !isDuplicateId(error)) throw error;
    return work();
  }
}

function isDuplicateId(error: { readonly code?: unknown; readonly message: string; readonly keyPattern?: unknown }) {
  return error.code === duplicateKeyCode && indexNameOf(error, { hosts: "" }) === "_id_";
}

async function batch(
  { collection, maxTimeMS }: Parts,
  operations: AnyBulkWriteOperation<Stored>[],
  ordered: boolean,
  signal: AbortSignal,
): Promise<Outcome> {
  if (operations.length === 0) return { inserted: 0, matched: 0, upserted: 0, faults: [] };
  try {
    const result = await collection.bulkWrite(operations, until(signal, { ordered, maxTimeMS }));
    const { insertedCount, matchedCount, upsertedCount } = result;
    return { inserted: insertedCount, matched: matchedCount, upserted: upsertedCount, faults: [] };
  } catch (error) {
    if (!(error instanceof MongoBulkWriteError) || isUnavailable(error)) throw error;
    const faults = writeErrorsOf(error);
    if (faults.length === 0) throw error;
    const { insertedCount, matchedCount, upsertedCount } = error;
    return { inserted: insertedCount, matched: matchedCount, upserted: upsertedCount, faults, error };
  }
}

async function insertAll(parts: Parts, documents: readonly Stored[], ordered: boolean, signal: AbortSignal) {
  const operations = documents.map((document) => ({ insertOne: { document } }));
  const { inserted, faults, error } = await batch(parts, operations, ordered, signal);
  if (faults.some(({ code }) => code !== duplicateKeyCode)) throw error;
  return { inserted, duplicates: faults.map(({ index }) => index) };
}

/** Duplicates are part of the answer. The first other failure is thrown, after all other updates were applied. */
async function updateAll(parts: Parts, changes: readonly Change[], signal: AbortSignal) {
  const first = await updateBatch(parts, changes, signal);
  const isRace = (fault: WriteFault) => changes[fault.index]?.options.upsert === true && isDuplicateId(fault);
  const races = first.faults.filter(isRace).map(({ index }) => index);
  const second = await updateBatch(
    parts,
    races.flatMap((place) => changes[place] ?? []),
    signal,
  );
  const faults = [
    ...first.faults.filter((fault) => !isRace(fault)),
    ...second.faults.map((fault) => ({ ...fault, index: races[fault.index] ?? fault.index })),
  ].sort((one, other) => one.index - other.index);
  const failure = faults.find(({ code }) => code !== duplicateKeyCode);
  if (failure && isUpdateFault(failure)) throw new UpdateError(failure.message, { cause: first.error ?? second.error });
  if (failure) throw first.error ?? second.error;
  return {
    matched: first.matched + second.matched,
    upserted: first.upserted + second.upserted,
    errors: faults.map(({ index }) => index),
  };
}

const updateBatch = (parts: Parts, changes: readonly Change[], signal: AbortSignal) =>
  batch(
    parts,
    changes.map(({ query, update, options }) => ({ updateOne: { filter: query, update, ...options } })),
    false,
    signal,
  );

async function readPage<T extends StoredDocument>(
  { definition, collection, maxTimeMS }: Parts,
  ask: Ask,
  filter: Filter,
  { index, descending = false, after, skip = 0, limit }: PageOptions,
): Promise<Page<T>> {
  assertSupported(definition, filter);
  assertBetween(limit, 1, batchMax, "limit");
  assertBetween(skip, 0, skipMax, "skip");
  const walk = orderedWalk(definition, filter, index, descending);
  const position = after === undefined ? [] : behind(definition, walk, after, descending);
  const query = toQuery(copyOf(filter));
  const bounded = position?.length ? { $and: [query, ...position] } : query;
  // One document more than asked for tells whether a next page exists. That batch size brings all of them in one
  // answer.
  const options = { hint: index, sort: walk.sort, skip, limit: limit + 1, batchSize: limit + 1, maxTimeMS };
  const found = await ask(async (signal) =>
    position ? collection.find<T>(bounded, { ...options, signal }).toArray() : [],
  );
  const items = found.slice(0, limit);
  const last = items.at(-1);
  return found.length > limit && last ? { items, next: cursorOf(walk.index, last) } : { items };
}

/** The server deletes one document or all matches. So read the ids first, then delete those that still match. */
async function deleteSome(
  { collection, maxTimeMS }: Parts,
  query: Query,
  options: { readonly hint?: string; readonly maxTimeMS: number },
  limit: number,
  signal: AbortSignal,
): Promise<number> {
  const projection = { _id: 1 } as const;
  const found = await collection.find(query, { ...options, projection, limit, batchSize: limit, signal }).toArray();
  if (found.length === 0) return 0;
  const chosen: Query = { $and: [{ _id: { $in: found.map(({ _id }) => _id) } }, query] };
  const { deletedCount } = await collection.deleteMany(chosen, until(signal, { hint: "_id_", maxTimeMS }));
  assert(deletedCount <= limit);
  return deletedCount;
}

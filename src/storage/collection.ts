// The port to the document store: MongoDB's filter and update language, reduced to what both engines answer alike.
// Repositories are written once over it. There are no transactions: one document is the unit of atomicity, and two
// writers are kept apart by compare-and-set (a filter that names the expected version).
import { StartError } from "../start-error.js";

export type Scalar = string | number | boolean | null | Date;

export type Condition =
  | Scalar
  | {
      readonly $eq?: Scalar;
      readonly $ne?: Scalar;
      readonly $gt?: Scalar;
      readonly $gte?: Scalar;
      readonly $lt?: Scalar;
      readonly $lte?: Scalar;
      readonly $in?: readonly Scalar[];
      readonly $exists?: boolean;
    };

/** Keys are field paths ("session.epoch"), or $or and $and over filters. All parts must hold. */
export interface Filter {
  readonly [path: string]: Condition | readonly Filter[];
}

/** A field path may be in one operator only. */
export interface Update {
  readonly $set?: Readonly<Record<string, unknown>>;
  /** Applied only when an upsert inserts. */
  readonly $setOnInsert?: Readonly<Record<string, unknown>>;
  readonly $unset?: Readonly<Record<string, true>>;
  /** A missing field counts as 0. Any other type than a number is an error. */
  readonly $inc?: Readonly<Record<string, number>>;
  readonly $min?: Readonly<Record<string, number | Date>>;
  readonly $max?: Readonly<Record<string, number | Date>>;
  /**
   * Appends; $slice -n keeps the last n. Creates the array if the field is missing. Any other type than an array is an
   * error.
   */
  readonly $push?: Readonly<Record<string, { readonly $each: readonly unknown[]; readonly $slice?: number }>>;
}

/** The caller chooses `_id`. Values are JSON values and, in declared fields, Dates. Undefined fields are dropped. */
export interface StoredDocument {
  readonly _id: string;
}

export interface IndexDefinition {
  /** idx_{field}… */
  readonly name: string;
  /** Field paths in order, ascending; values are scalars. The engine appends _id to break ties in the order. */
  readonly key: readonly string[];
  /** Refuses a second document with the same key. If a field may be missing, the index needs `partial`. */
  readonly unique?: true;
  /**
   * Only matching documents are in the index: equality or {$exists: true}. A query must repeat the condition to use the
   * index.
   */
  readonly partial?: Readonly<Record<string, Scalar | { readonly $exists: true }>>;
  /**
   * A document is deleted this long after the one Date field of the key. The sweep lags, so readers filter out expired
   * documents themselves.
   */
  readonly ttlSeconds?: number;
}

export interface CollectionDefinition {
  readonly name: string;
  readonly indexes: readonly IndexDefinition[];
  /** Paths of Date fields, also inside arrays of objects ("changes.at"). A Date anywhere else is an error. */
  readonly dates: readonly string[];
  /**
   * `durable`: an acknowledged write survives a crash of the server (majority, journaled). `relaxed`: a write is
   * acknowledged once it is in memory, which is enough for metrics.
   */
  readonly durability: "durable" | "relaxed";
}

/**
 * A position in an index: the values of its key and the _id. Opaque to callers; JSON, with dates as epoch milliseconds.
 */
export type Cursor = readonly (string | number | boolean | null)[];

export interface PageOptions {
  /**
   * An index of the collection without `ttlSeconds`, or "_id_". The filter fixes its first fields by equality; the page
   * is ordered by the other fields and _id.
   */
  readonly index: string;
  readonly descending?: boolean;
  /** Exclusive start; undefined starts at the first document. */
  readonly after?: Cursor | undefined;
  /** Items to skip first, at most 10,000. */
  readonly skip?: number;
  /** 1 to 1000. */
  readonly limit: number;
}

export interface Page<T> {
  readonly items: T[];
  /** Absent on the last page. */
  readonly next?: Cursor;
}

/**
 * How a query finds its documents: by this index or, when absent, by `_id` equality or $in. A query with neither is
 * refused.
 */
export interface Hint {
  readonly index?: string;
}

export interface Collection<T extends StoredDocument> {
  /** @throws DuplicateKeyError */
  insertOne(document: T): Promise<void>;
  /**
   * At most 1000 documents. Unordered: inserts every document that can be inserted. Ordered: stops at the first
   * duplicate, so that the stored documents are always a prefix, even after a failure. `duplicates` are the positions
   * refused or, when ordered, the position where it stopped. The caller must not change the documents until the call
   * has ended.
   */
  insertMany(
    documents: readonly T[],
    options?: { readonly ordered?: boolean },
  ): Promise<{ inserted: number; duplicates: number[] }>;
  /** Null when none matches. */
  findOne(filter: Filter, hint?: Hint): Promise<T | null>;
  page(filter: Filter, options: PageOptions): Promise<Page<T>>;
  /** Counts up to `max` (absent: all) without blocking the event loop for long. */
  count(filter: Filter, options?: Hint & { readonly max?: number }): Promise<number>;
  /** Changes at most one document, atomically. `upsert` needs equality on _id. @throws DuplicateKeyError */
  updateOne(
    filter: Filter,
    update: Update,
    options?: Hint & { readonly upsert?: boolean },
  ): Promise<{ matched: 0 | 1; upserted: boolean }>;
  /**
   * As updateOne. Returns the document after or before the change, or null when none matched. @throws DuplicateKeyError
   */
  findOneAndUpdate(
    filter: Filter,
    update: Update,
    options?: Hint & { readonly upsert?: boolean; readonly returnDocument?: "after" | "before" },
  ): Promise<T | null>;
  /**
   * At most 1000 updates, unordered, each atomic by itself and bound to one _id by equality. `errors` are the positions
   * refused as duplicates. The caller must not change the operations until the call has ended.
   */
  bulkUpdate(
    operations: readonly { readonly filter: Filter; readonly update: Update; readonly upsert?: boolean }[],
  ): Promise<{ matched: number; upserted: number; errors: number[] }>;
  /** Deletes up to `limit` (1 to 1000) matching documents and returns how many. */
  deleteMany(filter: Filter, options: Hint & { readonly limit: number }): Promise<number>;
}

export interface Store {
  readonly engine: "embedded" | "mongodb";
  /** Opens a collection and creates its indexes. A second call returns the same collection. */
  collection<T extends StoredDocument>(definition: CollectionDefinition): Promise<Collection<T>>;
  /** The store's clock, for leases: all replicas read the same clock. */
  now(): Promise<Date>;
  /** Resolves when the store answers. */
  ping(signal?: AbortSignal): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A document with the same key already exists in a unique index (or "_id_"). */
export class DuplicateKeyError extends Error {
  override readonly name = "DuplicateKeyError";
  readonly index: string;

  constructor(collection: string, index: string, options?: ErrorOptions) {
    super(`A document with the same key is already in ${collection} (${index})`, options);
    this.index = index;
  }
}

/**
 * The store cannot be reached, is shutting down or did not answer in time. A write may or may not have been applied.
 */
export class StoreUnavailableError extends Error {
  override readonly name = "StoreUnavailableError";
}

/** The store is reachable, but this version may not serve from it. The message says why and what to do. */
export class StoreRefusedError extends StartError {
  override readonly name = "StoreRefusedError";
}

// The port to the document store: MongoDB's own filter and update language, cut down to what both engines answer alike.
// Stores are written once over it. Nothing here is a transaction: one document is the unit of atomicity, and
// compare-and-set (a filter that names the expected version) is how two writers meet.
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

/** A field path stands in one operator only. */
export interface Update {
  readonly $set?: Readonly<Record<string, unknown>>;
  /** Only where an upsert inserts. */
  readonly $setOnInsert?: Readonly<Record<string, unknown>>;
  readonly $unset?: Readonly<Record<string, true>>;
  /** On a missing field counts from 0; on anything but a number it is an error. */
  readonly $inc?: Readonly<Record<string, number>>;
  readonly $min?: Readonly<Record<string, number | Date>>;
  readonly $max?: Readonly<Record<string, number | Date>>;
  /** Appends; $slice -n keeps the last n. On a missing field makes the array; on anything but an array it is an error. */
  readonly $push?: Readonly<Record<string, { readonly $each: readonly unknown[]; readonly $slice?: number }>>;
}

/** `_id` is chosen by the caller. Values are JSON values and, in declared fields, Dates; undefined fields are dropped. */
export interface StoredDocument {
  readonly _id: string;
}

export interface IndexDefinition {
  /** idx_{field}… */
  readonly name: string;
  /** Field paths in order, ascending; values are scalars. The engine adds _id behind them as the tie-breaker of order. */
  readonly key: readonly string[];
  /** Refuses a second document with the same key. Over fields that may be missing it needs `partial`. */
  readonly unique?: true;
  /** Only documents that match stand in the index: equality or {$exists: true}; a query must repeat it to use the index. */
  readonly partial?: Readonly<Record<string, Scalar | { readonly $exists: true }>>;
  /** Documents go away this long after the one Date field of the key. The sweep lags: reads filter expired ones themselves. */
  readonly ttlSeconds?: number;
}

export interface CollectionDefinition {
  readonly name: string;
  readonly indexes: readonly IndexDefinition[];
  /** Paths of Date fields, also inside arrays of objects ("changes.at"). A Date anywhere else is an error. */
  readonly dates: readonly string[];
  /**
   * `durable`: an acknowledged write survives a crash of the server (majority, journaled). `relaxed`: acknowledged from
   * memory is enough, for metrics.
   */
  readonly durability: "durable" | "relaxed";
}

/** A position in an index: the values of its key and the _id. Opaque to callers, JSON with dates as epoch milliseconds. */
export type Cursor = readonly (string | number | boolean | null)[];

export interface PageOptions {
  /** An index of the collection without `ttlSeconds`, or "_id_". Equality conditions on its first fields, then order by the others and _id. */
  readonly index: string;
  readonly descending?: boolean;
  /** Exclusive start; from the first one when undefined. */
  readonly after?: Cursor | undefined;
  /** Items to pass over first, at most 10,000. */
  readonly skip?: number;
  /** 1 to 1000. */
  readonly limit: number;
}

export interface Page<T> {
  readonly items: T[];
  /** Absent when nothing follows. */
  readonly next?: Cursor;
}

/** How a query finds its documents: by `_id` equality or $in when absent, else by this index. A query with neither is refused. */
export interface Hint {
  readonly index?: string;
}

export interface Collection<T extends StoredDocument> {
  /** @throws DuplicateKeyError */
  insertOne(document: T): Promise<void>;
  /**
   * At most 1000. Unordered: all that can be inserted are. Ordered: stops at the first duplicate, so that what is in is a
   * prefix, after a failure too. `duplicates` are the positions refused or, when ordered, the one it stopped at. The
   * documents stay as they are until it is over.
   */
  insertMany(
    documents: readonly T[],
    options?: { readonly ordered?: boolean },
  ): Promise<{ inserted: number; duplicates: number[] }>;
  /** Null when none matches. */
  findOne(filter: Filter, hint?: Hint): Promise<T | null>;
  page(filter: Filter, options: PageOptions): Promise<Page<T>>;
  /** Counts up to `max` (absent: all) without blocking the process for long. */
  count(filter: Filter, options?: Hint & { readonly max?: number }): Promise<number>;
  /** One document at most, atomically. `upsert` needs equality on _id. @throws DuplicateKeyError */
  updateOne(
    filter: Filter,
    update: Update,
    options?: Hint & { readonly upsert?: boolean },
  ): Promise<{ matched: 0 | 1; upserted: boolean }>;
  /** As updateOne; answers the document after the change, or before it, or null when none matched. @throws DuplicateKeyError */
  findOneAndUpdate(
    filter: Filter,
    update: Update,
    options?: Hint & { readonly upsert?: boolean; readonly returnDocument?: "after" | "before" },
  ): Promise<T | null>;
  /**
   * At most 1000 updates, unordered, each atomic by itself, each by _id equality. `errors` are positions refused as
   * duplicates. The operations stay as they are until it is over.
   */
  bulkUpdate(
    operations: readonly { readonly filter: Filter; readonly update: Update; readonly upsert?: boolean }[],
  ): Promise<{ matched: number; upserted: number; errors: number[] }>;
  /** Deletes up to `limit` (1 to 1000) matching documents; answers how many. */
  deleteMany(filter: Filter, options: Hint & { readonly limit: number }): Promise<number>;
}

export interface Store {
  readonly engine: "embedded" | "mongodb";
  /** Opens a collection and sees to its indexes; asking again answers the same. */
  collection<T extends StoredDocument>(definition: CollectionDefinition): Promise<Collection<T>>;
  /** The store's clock, for leases: all replicas read the same one. */
  now(): Promise<Date>;
  /** Resolves when the store answers. */
  ping(signal?: AbortSignal): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A unique index (or "_id_") holds such a document already. */
export class DuplicateKeyError extends Error {
  override readonly name = "DuplicateKeyError";
  readonly index: string;

  constructor(collection: string, index: string, options?: ErrorOptions) {
    super(`A document with the same key stands in ${collection} (${index})`, options);
    this.index = index;
  }
}

/** The store cannot be reached, is shutting down or did not answer in time; whether a write took place is unknown. */
export class StoreUnavailableError extends Error {
  override readonly name = "StoreUnavailableError";
}

/** The store is there, and this version may not serve from it; the message says why and what to do. */
export class StoreRefusedError extends StartError {
  override readonly name = "StoreRefusedError";
}

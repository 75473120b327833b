// A document store in memory, for the simulated world: the filters and updates that both engines share, unique indexes
// and sorted ones. A call takes effect when it is made and answers in the same turn; the world around it adds time and
// faults.
import assert from "node:assert/strict";
import {
  type Collection,
  type CollectionDefinition,
  type Cursor,
  DuplicateKeyError,
  type Filter,
  type IndexDefinition,
  type PageOptions,
  type Store,
  type StoredDocument,
  StoreUnavailableError,
  type Update,
} from "../../../src/storage/collection.js";
import { copyOf } from "../../../src/storage/copy.js";
import { cursorOf, cursorPaths, idIndex, indexOf } from "../../../src/storage/cursor.js";
import {
  boundIds,
  compare,
  compileFilter,
  type Demand,
  requiredDemands,
  valueAt,
} from "../../../src/storage/filter.js";
import {
  assertBetween,
  assertBulk,
  assertDefinition,
  assertDocument,
  assertIndexed,
  assertOrders,
  assertRepeatsPartial,
  assertSupported,
  assertUpsert,
} from "../../../src/storage/supported.js";
import { applyUpdate, documentFromFilter, UpdateError } from "../../../src/storage/update.js";

/** Hears of every change at the moment at which it is applied. `before` null: the document is new. */
export type Changed = (collection: string, before: StoredDocument | null, after: StoredDocument | null) => void;

export interface MemoryStore extends Store {
  /** All documents of a collection, as stored. */
  all<T extends StoredDocument>(collection: string): ReadonlyMap<string, T>;
  /** What is stored now, to go back to it later as a restored backup would. */
  snapshot(): unknown;
  restore(snapshot: unknown): void;
}

interface Opened {
  /** As JSON. */
  readonly definition: string;
  readonly table: Table;
  readonly collection: Collection<StoredDocument>;
}

export function createMemoryStore(parts: {
  readonly now: () => Date;
  readonly changed?: Changed;
  /**
   * Whether calls are checked that the engines would not answer alike, and documents copied on their way in and out.
   * Without it the caller keeps to what its types say: it changes no document.
   */
  readonly gate?: boolean;
}): MemoryStore {
  const opened = new Map<string, Opened>();
  let open = true;
  const whileOpen = () => {
    if (!open) throw new StoreUnavailableError("The store is closed");
  };
  return {
    engine: "embedded",
    collection: async <T extends StoredDocument>(definition: CollectionDefinition) => {
      whileOpen();
      let found = opened.get(definition.name);
      if (found === undefined) {
        assertDefinition(definition);
        const gate = parts.gate ?? true;
        const table = new Table(definition, gate, (before, after) => parts.changed?.(definition.name, before, after));
        found = { definition: JSON.stringify(definition), table, collection: collectionOf(table, whileOpen, gate) };
        opened.set(definition.name, found);
      }
      const isSame = found.definition === JSON.stringify(definition);
      assert(isSame, `${definition.name} is open with another definition`);
      return found.collection as unknown as Collection<T>;
    },
    now: async () => {
      whileOpen();
      return parts.now();
    },
    ping: async (signal) => {
      signal?.throwIfAborted();
      whileOpen();
    },
    all: <T extends StoredDocument>(name: string) =>
      (opened.get(name)?.table.documents ?? new Map()) as ReadonlyMap<string, T>,
    snapshot: () => new Map([...opened].map(([name, { table }]) => [name, new Map(table.documents)])),
    restore: (snapshot) => {
      const kept = snapshot as ReadonlyMap<string, ReadonlyMap<string, StoredDocument>>;
      for (const [name, { table }] of opened) table.restore(kept.get(name) ?? new Map());
      open = true;
    },
    [Symbol.asyncDispose]: async () => {
      open = false;
    },
  };
}

type Key = readonly unknown[];

/** Missing fields come first and count as null, as in both engines. */
const rankOf = (value: unknown): number => (value === undefined || value === null ? 0 : 1);
const compareValues = (a: unknown, b: unknown): number => {
  const byRank = rankOf(a) - rankOf(b);
  if (byRank !== 0 || rankOf(a) === 0) return byRank;
  const order = compare(a, b);
  return Number.isNaN(order) ? compare(typeof a, typeof b) : order;
};
const compareKeys = (a: Key, b: Key, length: number): number => {
  for (let at = 0; at < length; at++) {
    const order = compareValues(a[at], b[at]);
    if (order !== 0) return order;
  }
  return 0;
};

interface Entry {
  readonly key: Key;
  readonly _id: string;
}

/** One index: its entries in order and, for a unique one, who has which key. */
class SortedIndex {
  readonly entries: Entry[] = [];
  readonly owners = new Map<string, string>();
  readonly definition: IndexDefinition;
  readonly paths: readonly string[];
  readonly covers: (document: object) => boolean;

  constructor(definition: IndexDefinition) {
    this.definition = definition;
    this.paths = cursorPaths(definition);
    this.covers = compileFilter((definition.partial ?? {}) as Filter);
  }

  keyOf = (document: object): Key => this.paths.map((path) => valueAt(document, path));
  nameOf = (document: object): string =>
    JSON.stringify(this.definition.key.map((path) => valueAt(document, path) ?? null));

  /** The first place whose key is not before the given one, by as many values as that has. */
  placeOf(key: Key): number {
    let [low, high] = [0, this.entries.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const entry = this.entries[middle] as Entry;
      if (compareKeys(entry.key, key, key.length) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  add(document: StoredDocument): void {
    if (!this.covers(document)) return;
    const key = this.keyOf(document);
    this.entries.splice(this.placeOf(key), 0, { key, _id: document._id });
    if (this.definition.unique) this.owners.set(this.nameOf(document), document._id);
  }

  remove(document: StoredDocument): void {
    if (!this.covers(document)) return;
    this.entries.splice(this.placeOf(this.keyOf(document)), 1);
    if (this.definition.unique) this.owners.delete(this.nameOf(document));
  }

  /** Who else has the key of this document, if the index is unique. */
  isTaken(document: StoredDocument): boolean {
    if (!this.definition.unique || !this.covers(document)) return false;
    const owner = this.owners.get(this.nameOf(document));
    return owner !== undefined && owner !== document._id;
  }
}

class Table {
  readonly definition: CollectionDefinition;
  readonly documents = new Map<string, StoredDocument>();
  readonly changed: (before: StoredDocument | null, after: StoredDocument | null) => void;
  readonly gate: boolean;
  indexes: readonly SortedIndex[];

  constructor(definition: CollectionDefinition, gate: boolean, changed: Table["changed"]) {
    this.definition = definition;
    this.gate = gate;
    this.changed = changed;
    this.indexes = this.#fresh();
  }

  #fresh = () => [idIndex, ...this.definition.indexes].map((index) => new SortedIndex(index));

  index(name: string): SortedIndex {
    const { name: known } = indexOf(this.definition, name);
    return this.indexes.find(({ definition }) => definition.name === known) as SortedIndex;
  }

  /** @throws DuplicateKeyError; then nothing has changed */
  put(before: StoredDocument | null, after: StoredDocument): void {
    if (before === null && this.documents.has(after._id)) {
      throw new DuplicateKeyError(this.definition.name, idIndex.name);
    }
    for (const index of this.indexes) {
      if (index.isTaken(after)) throw new DuplicateKeyError(this.definition.name, index.definition.name);
    }
    for (const index of this.indexes) {
      if (before !== null) index.remove(before);
      index.add(after);
    }
    this.documents.set(after._id, after);
    this.changed(before, after);
  }

  delete(document: StoredDocument): void {
    for (const index of this.indexes) index.remove(document);
    this.documents.delete(document._id);
    this.changed(document, null);
  }

  restore(documents: ReadonlyMap<string, StoredDocument>): void {
    this.documents.clear();
    this.indexes = this.#fresh();
    for (const document of documents.values()) {
      for (const index of this.indexes) index.add(document);
      this.documents.set(document._id, document);
    }
  }

  /** Documents that match, in the order of the index. */
  *walk(filter: Filter, name: string | undefined, descending = false, after?: Cursor): Generator<StoredDocument> {
    const meets = compileFilter(filter);
    const ids = name === undefined ? boundIds(filter) : undefined;
    if (name === undefined) {
      assert(ids !== undefined, "a query names an index or binds _id");
      for (const _id of ids) {
        const document = this.documents.get(_id);
        if (document !== undefined && meets(document)) yield document;
      }
      return;
    }
    const index = this.index(name);
    if (this.gate) assertRepeatsPartial(index.definition, filter);
    const demands = requiredDemands(filter);
    const prefix = fixedPrefix(index, demands);
    const bound = demands.filter(({ path }) => path === index.paths[prefix.length]);
    const from = descending ? this.#endOf(index, prefix) - 1 : index.placeOf(prefix);
    const start = after === undefined ? from : this.#startAfter(index, after, descending);
    // The entries may change while the caller works on one; callers take all in one turn.
    for (let at = start; ; at += descending ? -1 : 1) {
      const entry = index.entries[at];
      if (entry === undefined || compareKeys(entry.key, prefix, prefix.length) !== 0) return;
      const document = this.documents.get(entry._id) as StoredDocument;
      if (meets(document)) yield document;
      else if (!descending && isPast(entry.key[prefix.length], bound)) return;
    }
  }

  #endOf(index: SortedIndex, prefix: Key): number {
    let at = index.placeOf(prefix);
    // Few entries share a prefix in descending walks of these tests.
    while (at < index.entries.length && compareKeys((index.entries[at] as Entry).key, prefix, prefix.length) === 0)
      at++;
    return at;
  }

  #startAfter(index: SortedIndex, after: Cursor, descending: boolean): number {
    assert(after.length === index.paths.length, `a cursor of ${index.definition.name}`);
    const key = after.map((value, at) =>
      typeof value === "number" && this.definition.dates.includes(index.paths[at] ?? "") ? new Date(value) : value,
    );
    const place = index.placeOf(key);
    if (descending) return place - 1;
    const there = index.entries[place];
    return there !== undefined && compareKeys(there.key, key, key.length) === 0 ? place + 1 : place;
  }
}

/** The values of the first fields that the filter fixes by equality. */
function fixedPrefix(index: SortedIndex, demands: readonly Demand[]): Key {
  const prefix: unknown[] = [];
  for (const path of index.paths) {
    const equal = demands.find((demand) => demand.path === path && demand.operator === "$eq");
    if (equal === undefined) break;
    prefix.push(equal.wanted);
  }
  return prefix;
}

const isPast = (value: unknown, bound: readonly Demand[]): boolean =>
  bound.some(({ operator, wanted }) => {
    if (operator === "$lte") return compareValues(value, wanted) > 0;
    return operator === "$lt" && compareValues(value, wanted) >= 0;
  });

function collectionOf(table: Table, whileOpen: () => void, gate: boolean): Collection<StoredDocument> {
  const { definition } = table;
  const copy = <T>(value: T): T => (gate ? copyOf(value) : value);
  const supported = (...args: Parameters<typeof assertSupported>) => gate && assertSupported(...args);
  const first = (filter: Filter, index: string | undefined): StoredDocument | null => {
    for (const document of table.walk(filter, index)) return document;
    return null;
  };

  const insert = (document: StoredDocument): void => table.put(null, withoutUndefined(copy(document)));

  const update = (filter: Filter, change: Update, { upsert = false, index }: { upsert?: boolean; index?: string }) => {
    supported(definition, filter, change);
    if (upsert) assertUpsert(filter);
    const before = first(filter, index);
    if (before === null && !upsert) return { before, after: null, upserted: false };
    const base = before ?? (documentFromFilter(filter) as StoredDocument & object);
    const after = applyUpdate(base as StoredDocument, copy(change), before === null) as StoredDocument;
    if (gate) assertIndexed(definition, after);
    table.put(before, after);
    return { before, after, upserted: before === null };
  };

  return {
    insertOne: async (document) => {
      whileOpen();
      if (gate) assertDocument(definition, document);
      insert(document);
    },
    insertMany: async (documents, { ordered = false } = {}) => {
      whileOpen();
      assertBetween(documents.length, 0, 1000, "the number of documents");
      for (const document of documents) assertDocument(definition, document);
      const duplicates: number[] = [];
      for (const [at, document] of documents.entries()) {
        if (ordered && duplicates.length > 0) break;
        try {
          insert(document);
        } catch (error) {
          if (!(error instanceof DuplicateKeyError)) throw error;
          duplicates.push(at);
        }
      }
      const tried = ordered && duplicates[0] !== undefined ? duplicates[0] + 1 : documents.length;
      return { inserted: tried - duplicates.length, duplicates };
    },
    findOne: async (filter, { index } = {}) => {
      whileOpen();
      supported(definition, filter);
      return copy(first(filter, index));
    },
    page: async (filter, options) => {
      whileOpen();
      supported(definition, filter);
      return pageOf(table, filter, options, copy);
    },
    count: async (filter, { index, max = Number.POSITIVE_INFINITY } = {}) => {
      whileOpen();
      supported(definition, filter);
      let count = 0;
      for (const _ of table.walk(filter, index)) if (++count >= max) break;
      return count;
    },
    updateOne: async (filter, change, options = {}) => {
      whileOpen();
      const { before, upserted } = update(filter, change, options);
      return { matched: before === null ? 0 : 1, upserted };
    },
    findOneAndUpdate: async (filter, change, options = {}) => {
      whileOpen();
      const { before, after } = update(filter, change, options);
      return copy(options.returnDocument === "before" ? before : after);
    },
    bulkUpdate: async (operations) => {
      whileOpen();
      assertBetween(operations.length, 0, 1000, "the number of updates");
      for (const { filter, update: change } of operations) assertBulk(definition, filter, change);
      const sum = { matched: 0, upserted: 0, errors: [] as number[] };
      let refused: UpdateError | undefined;
      for (const [at, { filter, update: change, upsert }] of operations.entries()) {
        try {
          const { before, upserted } = update(filter, change, { upsert: upsert ?? false });
          if (before !== null) sum.matched++;
          if (upserted) sum.upserted++;
        } catch (error) {
          if (error instanceof UpdateError) refused ??= error;
          else if (error instanceof DuplicateKeyError) sum.errors.push(at);
          else throw error;
        }
      }
      if (refused !== undefined) throw refused;
      return sum;
    },
    deleteMany: async (filter, { index, limit }) => {
      whileOpen();
      supported(definition, filter);
      assertBetween(limit, 1, 1000, "the limit");
      const found: StoredDocument[] = [];
      for (const document of table.walk(filter, index)) if (found.push(document) >= limit) break;
      for (const document of found) table.delete(document);
      return found.length;
    },
  };
}

function pageOf(table: Table, filter: Filter, options: PageOptions, copy: <T>(value: T) => T) {
  const { index, limit, skip = 0, descending = false, after } = options;
  assertBetween(limit, 1, 1000, "the limit");
  assertBetween(skip, 0, 10_000, "the skip");
  const definition = indexOf(table.definition, index);
  assertOrders(definition);
  const items: StoredDocument[] = [];
  let skipped = 0;
  for (const document of table.walk(filter, index, descending, after)) {
    if (skipped++ < skip) continue;
    if (items.push(document) > limit) break;
  }
  const last = items[limit - 1];
  if (items.length <= limit || last === undefined) return { items: items.map(copy) };
  return { items: items.slice(0, limit).map(copy), next: cursorOf(definition, last) };
}

function withoutUndefined<T>(value: T): T {
  if (Array.isArray(value)) return value.map(withoutUndefined) as T;
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  const kept = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(kept.map(([name, field]) => [name, withoutUndefined(field)])) as T;
}

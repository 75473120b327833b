// The embedded store with a counter in each statement: how many rows of its table, or of an index, the statement looks
// at. Rows that its conditions then refuse are counted, too.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import type { Collection, CollectionDefinition, Store, StoredDocument } from "../../../src/storage/collection.js";
import { createCollection } from "../../../src/storage/sqlite/collection.js";
import { createCommitQueue } from "../../../src/storage/sqlite/commit.js";
import { createStatements, type Database, openDatabase, type Statements } from "../../../src/storage/sqlite/file.js";
import { createIndex, createTable } from "../../../src/storage/sqlite/query.js";

export interface CountingStore extends Store {
  /** Rows looked at since the store was opened. */
  visited(): number;
}

export function openCountingStore(dir: string): CountingStore {
  mkdirSync(dir, { recursive: true });
  const database = openDatabase(dir);
  let rows = 0;
  // SQLite believes that the result changes with each call. So it calls the function for each row, before any condition
  // that the index does not answer by itself.
  database.function("visited", { deterministic: false }, () => {
    rows++;
    return 1;
  });
  const statements = counting(database);
  const queue = createCommitQueue(database);
  const closing = new AbortController();
  const opened = new Map<string, Collection<StoredDocument>>();
  return {
    engine: "embedded",
    visited: () => rows,
    collection: async <T extends StoredDocument>(definition: CollectionDefinition) => {
      if (!opened.has(definition.name)) {
        database.exec(createTable(definition));
        for (const index of definition.indexes) database.exec(createIndex(definition, index));
        opened.set(definition.name, createCollection({ definition, statements, queue, closing: closing.signal }));
      }
      return opened.get(definition.name) as unknown as Collection<T>;
    },
    now: async () => new Date("2026-01-01T00:00:00Z"),
    ping: async () => undefined,
    [Symbol.asyncDispose]: async () => {
      queue.close();
      closing.abort();
      database.close();
    },
  };
}

function counting(database: Database): Statements {
  const inner = createStatements(database);
  const counted = new Map<string, string>();
  const countedOf = (sql: string): string => {
    const known = counted.get(sql);
    if (known !== undefined) return known;
    const made = withCounter(sql);
    assert.deepEqual(tablesOf(database, made), tablesOf(database, sql), `counting changes the plan of ${sql}`);
    counted.set(sql, made);
    return made;
  };
  return {
    all: (sql, ...values) => inner.all(countedOf(sql), ...values),
    run: (sql, ...values) => inner.run(countedOf(sql), ...values),
  };
}

/** Each statement reads one table in one place. */
function withCounter(sql: string): string {
  if (sql.startsWith("INSERT")) return sql;
  if (sql.includes(" WHERE ")) return sql.replace(/ WHERE (?!.* WHERE )/, " WHERE visited() AND ");
  return sql.replace(/ FROM "\w+"( INDEXED BY "[^"]+")?/, (from) => `${from} WHERE visited()`);
}

/** A count that SQLite keeps has no plan of its own. Whether an index covers the rest does not change the rows read. */
const tablesOf = (database: Database, sql: string): string[] =>
  database
    .prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .all()
    .map(({ detail }) => String(detail).replace("COVERING ", ""));

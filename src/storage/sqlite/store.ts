// The embedded document store: SQLite in a directory that one process owns. An acknowledged write is on disk.
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { type Clock, systemClock } from "../../clock.js";
import {
  type Collection,
  type CollectionDefinition,
  type Store,
  type StoredDocument,
  StoreUnavailableError,
} from "../collection.js";
import { assertDefinition } from "../supported.js";
import { createCollection } from "./collection.js";
import { type CommitQueue, createCommitQueue } from "./commit.js";
import { createStatements, type Database, type StatementListener, type Statements } from "./file.js";
import { type OpeningRules, openFiles } from "./opening.js";
import { createIndex, createTable, dropIndex, indexNameInSchema } from "./query.js";
import { createSteadyTime, sweepExpired } from "./sweep.js";

export { StoreLockedError } from "./file.js";

export interface SqliteStoreOptions extends OpeningRules {
  /** Created if missing, readable by its owner only. */
  readonly dir: string;
  /**
   * Dates expiry and is the store's clock, except for a jump ahead within the last day. The system's clock when absent.
   */
  readonly clock?: Clock;
  /** For tests: called once for each distinct statement on documents, with its query plan. */
  readonly onStatement?: StatementListener;
}

interface Opened {
  readonly definition: CollectionDefinition;
  readonly collection: Promise<Collection<StoredDocument>>;
}

/**
 * Opens lucid.db in the directory and owns the directory until disposed or dead.
 * Disposing commits the waiting writes and empties the log into the database. Later operations reject with
 * StoreUnavailableError.
 * @throws StoreLockedError at once when another process owns the directory, StartError when its files cannot be used
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const { dir, clock = systemClock, log, onStatement } = options;
  const { database, lock } = openFiles(dir, options);
  const statements = createStatements(database, onStatement);
  const writes = watchWrites(createCommitQueue(database), statements);
  const { queue } = writes;
  const opened = new Map<string, Opened>();
  const closing = new AbortController();
  const definitions = () => [...opened.values()].map(({ definition }) => definition);
  const shrink = () => database.exec("PRAGMA incremental_vacuum(256)");
  const nowMs = createSteadyTime({ clock, log });
  const sweeping = sweepExpired({ clock, nowMs, log, queue, statements, definitions, shrink }, closing.signal);

  const assertOpen = () => {
    if (closing.signal.aborted) throw new StoreUnavailableError("The store is closed");
  };
  const open = (definition: CollectionDefinition): Opened => {
    assertDefinition(definition);
    const parts = { definition, statements, queue, closing: closing.signal };
    const prepared = queue.run(() => migrate(database, definition));
    return { definition, collection: prepared.then(() => createCollection<StoredDocument>(parts)) };
  };
  return {
    engine: "embedded",
    collection: async <T extends StoredDocument>(definition: CollectionDefinition) => {
      assertOpen();
      const known = opened.get(definition.name) ?? open(definition);
      assert(isDeepStrictEqual(known.definition, definition), `${definition.name} is open with another definition`);
      opened.set(definition.name, known);
      known.collection.catch(() => opened.delete(definition.name));
      return (await known.collection) as unknown as Collection<T>;
    },
    now: async () => {
      assertOpen();
      // Expiry of history and samples uses this time, so it distrusts a jump just as the sweep does.
      return new Date(Math.round(nowMs()));
    },
    ping: async (signal) => {
      signal?.throwIfAborted();
      assertOpen();
      statements.all("SELECT 1");
      await writes.probe();
    },
    [Symbol.asyncDispose]: async () => {
      if (closing.signal.aborted) return;
      queue.close();
      closing.abort();
      await sweeping;
      close(database, lock);
    },
  };
}

/** Bytes of a probe: large enough to need free space, since a small write may still fit on a full disk. */
const probeBytes = 65_536;

/**
 * Wraps the queue with a probe that tells whether it accepts writes. While writes succeed the probe costs nothing;
 * after a failure it writes something itself, until a write succeeds. Otherwise a store with a full disk would look
 * healthy, because reads still work.
 */
function watchWrites(inner: CommitQueue, statements: Statements): { queue: CommitQueue; probe(): Promise<void> } {
  let failing = false;
  const run: CommitQueue["run"] = (work) => {
    const outcome = inner.run(work);
    outcome.catch((error: unknown) => {
      if (error instanceof StoreUnavailableError) failing = true;
    });
    return outcome;
  };
  return {
    queue: { run, close: inner.close },
    probe: async () => {
      if (!failing) return;
      await inner.run(() => {
        statements.run("CREATE TABLE IF NOT EXISTS _probe (place INTEGER PRIMARY KEY, filler BLOB NOT NULL)");
        statements.run(`REPLACE INTO _probe VALUES (1, randomblob(${probeBytes}))`);
      });
      failing = false;
    },
  };
}

/** Closes the lock last, so that no other process touches the files before. */
function close(database: Database, lock: Database): void {
  try {
    database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  } catch {
    // On a full disk the log keeps its content, and the next start reads it.
  } finally {
    database.close();
    lock.close();
  }
}

/** Creates the table and its indexes. An index with a changed definition is rebuilt. @throws DuplicateKeyError */
function migrate(database: Database, definition: CollectionDefinition): void {
  const statements: Statements = createStatements(database);
  statements.run(createTable(definition));
  for (const index of definition.indexes) {
    const wanted = createIndex(definition, index);
    const name = indexNameInSchema(definition, index);
    const [found] = statements.all("SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?", name);
    if (found?.sql === wanted) continue;
    statements.run(dropIndex(definition, index));
    statements.run(wanted);
  }
}

// The files of the embedded store: the lock, durability, and prepared statements.
import assert from "node:assert/strict";
import { join } from "node:path";
import * as sqlite from "node:sqlite";
import { StartError } from "../../start-error.js";
import { DuplicateKeyError, StoreUnavailableError } from "../collection.js";

// Newer Node releases name the class Database.
const DB = (sqlite as unknown as { Database?: typeof sqlite.DatabaseSync }).Database ?? sqlite.DatabaseSync;
export type Database = sqlite.DatabaseSync;
export type SqlValue = string | number | null;
/** Called once for each distinct statement, with the lines of its EXPLAIN QUERY PLAN. */
export type StatementListener = (sql: string, plan: readonly string[]) => void;

/** Another process has the directory open. */
export class StoreLockedError extends StartError {
  override readonly name = "StoreLockedError";

  constructor(directory: string, options?: ErrorOptions) {
    super(`Another process uses the data directory ${directory}; only one process may, so stop it first`, options);
  }
}

/**
 * Locks the directory for this process until the returned database is closed.
 * The lock is a transaction that never ends. The kernel drops it with the process, however the process dies. Unlike
 * EXCLUSIVE locking of the data itself, it lets a backup read the data.
 * @throws StoreLockedError
 */
export function openLock(directory: string): Database {
  const lock = new DB(join(directory, "lock.db"), { timeout: 0 });
  try {
    takeLock(lock, directory);
    return lock;
  } catch (error) {
    lock.close();
    throw error;
  }
}

/** @throws StoreLockedError */
export function takeLock(lock: Database, directory: string): void {
  try {
    lock.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    if (sqliteCode(error) === 5) throw new StoreLockedError(directory, { cause: error });
    throw error;
  }
}

/** Opens a database read-only. */
export const openReader = (file: string): Database => new DB(file, { readOnly: true, timeout: 5000 });

/** Opens the database. Every COMMIT that returned is on disk. */
export function openDatabase(directory: string, name = "lucid.db"): Database {
  const database = new DB(join(directory, name), { timeout: 5000 });
  try {
    assertVersion(database);
    // auto_vacuum only takes effect before the first page is written, and switching to WAL writes it.
    database.exec("PRAGMA auto_vacuum = INCREMENTAL");
    database.exec("PRAGMA journal_mode = WAL");
    database.exec("PRAGMA synchronous = FULL");
    database.exec("PRAGMA cache_size = -65536");
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Earlier SQLite releases may corrupt a WAL that is reset during a checkpoint. */
function assertVersion(database: Database): void {
  const version = String(database.prepare("SELECT sqlite_version() AS version").get()?.version);
  const [major = 0, minor = 0, patch = 0] = version.split(".").map(Number);
  const atLeast = major > 3 || (major === 3 && (minor > 51 || (minor === 51 && patch >= 3)));
  assert(atLeast, `SQLite ${version} is too old: 3.51.3 or later is needed`);
}

export interface Statements {
  /** @throws StoreUnavailableError */
  all(sql: string, ...values: SqlValue[]): Record<string, unknown>[];
  /** Returns the number of rows changed. @throws DuplicateKeyError, StoreUnavailableError */
  run(sql: string, ...values: SqlValue[]): number;
}

const preparedMax = 500;

/** Prepares each statement once and keeps the most recently used ones. */
export function createStatements(database: Database, listener?: StatementListener): Statements {
  const prepared = new Map<string, sqlite.StatementSync>();
  const listed = new Set<string>();
  const prepare = (sql: string) => {
    const statement = prepared.get(sql) ?? database.prepare(sql);
    prepared.delete(sql);
    prepared.set(sql, statement);
    const [oldest] = prepared.keys();
    if (prepared.size > preparedMax && oldest !== undefined) prepared.delete(oldest);
    if (listener && !listed.has(sql)) {
      listed.add(sql);
      listener(sql, planOf(database, sql));
    }
    return statement;
  };
  return {
    all: (sql, ...values) => translated(() => prepare(sql).all(...values)),
    run: (sql, ...values) => translated(() => Number(prepare(sql).run(...values).changes)),
  };
}

function planOf(database: Database, sql: string): string[] {
  return database
    .prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .all()
    .map((row) => String(row.detail));
}

/** Translates SQLite's errors into those of the port. An error in the statement itself is thrown unchanged. */
function translated<Result>(act: () => Result): Result {
  try {
    return act();
  } catch (error) {
    throw translateError(error);
  }
}

const codes = { uniqueIndex: 2067, primaryKey: 1555, badStatement: 1 };

export function translateError(error: unknown): unknown {
  const code = sqliteCode(error);
  if (code === undefined || code === codes.badStatement || !(error instanceof Error)) return error;
  if (code === codes.uniqueIndex || code === codes.primaryKey) return duplicateKey(error);
  return new StoreUnavailableError(`The embedded store failed: ${error.message}`, { cause: error });
}

/** Indexes are named "collection.index"; SQLite names the primary key "collection._id". */
function duplicateKey(error: Error): DuplicateKeyError {
  const [, collection = "", index = ""] = /(\w+)\.(\w+)/.exec(error.message) ?? [];
  return new DuplicateKeyError(collection, index === "_id" ? "_id_" : index, { cause: error });
}

export function sqliteCode(error: unknown): number | undefined {
  return error instanceof Error && "errcode" in error ? Number(error.errcode) : undefined;
}

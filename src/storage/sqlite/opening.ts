// Checks the files of the embedded store before using them: present, complete, and private to their owner. Each fault
// becomes one sentence for the operator, and the files are left unchanged.
import { chmodSync, closeSync, openSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { StartError } from "../../start-error.js";
import { makeFolder, syncFolder } from "../../state-file.js";
import { type Database, openDatabase, openLock, openReader, sqliteCode, takeLock } from "./file.js";
import type { StoreLog } from "./sweep.js";
import { inspectWal, keepWal } from "./wal.js";

export interface OpeningRules {
  /** Begins an empty store even if there was one before; false when absent. */
  readonly emptyAllowed?: boolean;
  /** A store up to this size, in bytes, is checked before it is used; 1 GiB (read within seconds) when absent. */
  readonly checkBytesMax?: number;
  readonly log?: StoreLog | undefined;
}

export interface OpenedFiles {
  readonly database: Database;
  /** Held until the process ends; closed last. */
  readonly lock: Database;
}

const checkBytesDefault = 1024 * 1024 * 1024;
const fileNames = ["lucid.db", "lucid.db-wal", "lucid.db-shm", "lock.db"];

/**
 * Makes the directory if needed, locks it for this process and opens lucid.db in it.
 * @throws StoreLockedError at once when another process owns it, StartError when its files cannot be used
 */
export function openFiles(directory: string, rules: OpeningRules): OpenedFiles {
  makeFolder(directory);
  const lock = inWords(directory, "lock.db", () => {
    makeFile(join(directory, "lock.db"));
    return openLock(directory);
  });
  try {
    return { database: openChecked(directory, lock, rules), lock };
  } catch (error) {
    lock.close();
    throw error;
  }
}

function openChecked(directory: string, lock: Database, rules: OpeningRules): Database {
  const file = join(directory, "lucid.db");
  const hadStore = remembersStore(lock);
  const bytes = sizeOf(file);
  if (!bytes && !rules.emptyAllowed) assertNeverFilled(directory, bytes, hadStore);
  return inWords(directory, "lucid.db", () => {
    if (!bytes) createEmpty(directory);
    makePrivate(directory, fileNames);
    tellOfDamagedWal(`${file}-wal`, rules.log);
    check(file, rules);
    const database = openDatabase(directory);
    try {
      if (!hadStore) rememberStore(lock, directory);
      return database;
    } catch (error) {
      database.close();
      throw error;
    }
  });
}

/**
 * This service never makes an empty lucid.db: the file gets its name only with content. So an empty file means loss.
 */
function assertNeverFilled(directory: string, bytes: number | undefined, hadStore: boolean): void {
  const file = join(directory, "lucid.db");
  const remedy =
    "restore DATA_DIR from its backup, or, to begin an empty store, start once with ALLOW_EMPTY_STORE=true";
  if (bytes === 0) throw new StartError(`${file} is empty, but was not created empty; ${remedy}`);
  if (hadStore) throw new StartError(`${file} is missing, but its folder held a store before; ${remedy}`);
  if ((sizeOf(`${file}-wal`) ?? 0) > 0) {
    throw new StartError(`${file} is missing beside ${file}-wal, which belongs to it; ${remedy}`);
  }
}

/** Written under another name first, so that a crash leaves no empty store. */
function createEmpty(directory: string): void {
  const draft = "lucid.db.new";
  for (const name of [draft, `${draft}-wal`, `${draft}-shm`, "lucid.db-wal", "lucid.db-shm"]) {
    rmSync(join(directory, name), { force: true });
  }
  makeFile(join(directory, draft));
  openDatabase(directory, draft).close();
  renameSync(join(directory, draft), join(directory, "lucid.db"));
  syncFolder(directory);
}

/**
 * Whether the lock file records that a store was here. The lock file is the only one that does not belong to the store.
 */
const remembersStore = (lock: Database): boolean =>
  Number(lock.prepare("PRAGMA user_version").get()?.user_version) === 1;

/** Releases the lock for a moment, before any caller is served. @throws StoreLockedError */
function rememberStore(lock: Database, directory: string): void {
  lock.exec("PRAGMA user_version = 1");
  lock.exec("COMMIT");
  takeLock(lock, directory);
}

/** Opens the files read-only, so that damaged ones and their log are left unchanged. */
function check(file: string, { checkBytesMax = checkBytesDefault, log }: OpeningRules): void {
  const bytes = (sizeOf(file) ?? 0) + (sizeOf(`${file}-wal`) ?? 0);
  if (bytes > checkBytesMax) {
    if (checkBytesMax > 0)
      log?.warn("The store is too large to be checked at each start", { bytes, limit: checkBytesMax });
    return;
  }
  const reader = openReader(file);
  try {
    const [found] = reader.prepare("PRAGMA quick_check(1)").all();
    if (String(Object.values(found ?? {})[0]) !== "ok") throw damaged(file);
  } finally {
    reader.close();
  }
}

const damaged = (file: string): StartError =>
  new StartError(
    `${file} is damaged; restore DATA_DIR from its backup (to salvage what can be read, copy the folder first and run ` +
      '"sqlite3 lucid.db .recover" on the copy)',
  );

function tellOfDamagedWal(wal: string, log: StoreLog | undefined): void {
  const report = inspectWal(wal);
  if (report === undefined || report.lost === 0) return;
  const fields = { frames_read: report.read, frames_lost: report.lost, kept_as: keepWal(wal) };
  log?.warn("The store's log is damaged: writes after the damage are lost unless a backup has them", fields);
}

const makeFile = (path: string): void => closeSync(openSync(path, "a", 0o600));

/** Mode 0600 whatever the folder's mode. SQLite gives its other files the mode of lucid.db. */
function makePrivate(directory: string, names: readonly string[]): void {
  for (const name of names) {
    const path = join(directory, name);
    const mode = statSync(path, { throwIfNoEntry: false })?.mode;
    if (mode !== undefined && (mode & 0o077) !== 0) chmodSync(path, 0o600);
  }
}

const sizeOf = (path: string): number | undefined => {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats !== undefined && !stats.isFile()) {
    throw new StartError(`${path} is not a file; move it away, or restore DATA_DIR from its backup`);
  }
  return stats?.size;
};

/** Turns the reasons of the system and of SQLite into sentences. Other errors are thrown unchanged. */
function inWords<Result>(directory: string, name: string, act: () => Result): Result {
  const file = join(directory, name);
  try {
    return act();
  } catch (error) {
    const system = error instanceof Error && "syscall" in error && "code" in error ? error.code : undefined;
    if (system !== undefined) {
      throw new StartError(
        `${file} cannot be used (${system}); give DATA_DIR and its files to the user of this process`,
      );
    }
    switch ((sqliteCode(error) ?? -1) & 0xff) {
      case codes.corrupt:
      case codes.notDatabase:
        throw name === "lock.db"
          ? new StartError(`${file} is damaged; remove it while no process uses ${directory}: it holds nothing`)
          : damaged(file);
      case codes.readOnly:
      case codes.cannotOpen:
      case codes.permission:
        throw new StartError(`${file} cannot be written; give DATA_DIR and its files to the user of this process`);
      case codes.full:
        throw new StartError(`${file} cannot be opened, for its disk is full; free some of it`);
      case codes.io:
        throw new StartError(
          `${file} cannot be read or written, for its disk is full or fails; free some of it, or restore DATA_DIR on another`,
        );
      case codes.busy:
        throw new StartError(`${file} is locked by another program; stop it, or wait until it has ended`);
      default:
        throw error;
    }
  }
}

/** https://www.sqlite.org/rescode.html */
const codes = { permission: 3, busy: 5, readOnly: 8, io: 10, corrupt: 11, full: 13, cannotOpen: 14, notDatabase: 26 };

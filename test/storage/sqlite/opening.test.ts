// The embedded store's files as an operator or a disk leaves them: the store serves all of them, or refuses and changes
// none.
import { hash } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StartError } from "../../../src/start-error.js";
import type { Store, StoredDocument } from "../../../src/storage/collection.js";
import { openSqliteStore, type SqliteStoreOptions } from "../../../src/storage/sqlite/store.js";
import { inspectWal } from "../../../src/storage/sqlite/wal.js";
import { things } from "../../contract/store.js";

type Document = StoredDocument & Record<string, unknown>;

let parent: string;
let dir: string;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), "lucid-opening-"));
  dir = join(parent, "data");
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const path = (name: string) => join(dir, name);
const count = 300;
const warned: string[] = [];
const open = (options: Partial<SqliteStoreOptions> = {}) =>
  openSqliteStore({ dir, log: { warn: (message) => void warned.push(message) }, ...options });

async function fill(store: Store, from = 0): Promise<void> {
  const all = await store.collection<Document>(things);
  for (let at = from; at < from + count; at += 30) {
    await all.insertMany(Array.from({ length: 30 }, (_, n) => ({ _id: `n${at + n}`, rank: n, body: "x".repeat(300) })));
  }
}
async function filled(): Promise<void> {
  await using store = await open();
  await fill(store);
}
async function countOf(options: Partial<SqliteStoreOptions> = {}): Promise<number> {
  await using store = await open(options);
  return await (await store.collection<Document>(things)).count({}, { index: "_id_" });
}

/** Leaves the directory as a kill does: with a log that holds the last writes. */
async function killed(): Promise<void> {
  await filled();
  const store = await open();
  await fill(store, count);
  const copy = join(parent, "copy");
  for (const name of readdirSync(dir)) {
    if (!existsSync(copy)) mkdtempSync(join(parent, "copy-"));
    copyFileSync(path(name), join(parent, `copy-${name}`));
  }
  await store[Symbol.asyncDispose]();
  for (const name of readdirSync(dir)) rmSync(path(name));
  for (const name of ["lucid.db", "lucid.db-wal", "lock.db"]) copyFileSync(join(parent, `copy-${name}`), path(name));
}

const contents = () =>
  ["lucid.db", "lucid.db-wal"]
    .filter((name) => (statSync(path(name), { throwIfNoEntry: false })?.size ?? 0) > 0)
    .map((name) => `${name} ${hash("sha256", readFileSync(path(name)))}`);

async function expectRefused(says: RegExp, options: Partial<SqliteStoreOptions> = {}): Promise<void> {
  const before = contents();
  const refusal = await open(options).then(
    async (store) => {
      await store[Symbol.asyncDispose]();
      return undefined;
    },
    (error: unknown) => error,
  );
  expect(refusal).toBeInstanceOf(StartError);
  expect(String(refusal)).toMatch(says);
  expect(String(refusal)).toContain(dir);
  expect(contents()).toEqual(before);
  // The refusal has released the lock.
  await open(options).then(
    (store) => store[Symbol.asyncDispose](),
    (error: unknown) => expect(String(error)).not.toContain("Another process"),
  );
}

/** Overwrites so many bytes of the file, from that place on. */
function overwrite(name: string, at: number, length: number): void {
  const bytes = readFileSync(path(name));
  bytes.fill(0xa5, at, at + length);
  writeFileSync(path(name), bytes);
}
const pageBytes = 4096;
const sizeOf = (name: string) => statSync(path(name)).size;

describe("lucid.db that is damaged is refused with what to restore, and stays as it is", () => {
  test.each<[string, () => void]>([
    ["in its header", () => overwrite("lucid.db", 0, 64)],
    ["in the page that lists the tables", () => overwrite("lucid.db", 100, pageBytes - 100)],
    [
      "in a page in the middle",
      () => overwrite("lucid.db", Math.trunc(sizeOf("lucid.db") / pageBytes / 2) * pageBytes, pageBytes),
    ],
    ["in its last page", () => overwrite("lucid.db", sizeOf("lucid.db") - pageBytes, pageBytes)],
    ["everywhere", () => overwrite("lucid.db", 0, sizeOf("lucid.db"))],
    ["by the loss of its second half", () => truncateSync(path("lucid.db"), Math.trunc(sizeOf("lucid.db") / 2))],
    ["by the loss of all but its first page", () => truncateSync(path("lucid.db"), pageBytes)],
    ["by the loss of all but a few bytes", () => truncateSync(path("lucid.db"), 10)],
    ["by another file in its place", () => writeFileSync(path("lucid.db"), "PORT=8083\n")],
  ])("%s", async (_name, harm) => {
    await filled();
    harm();
    await expectRefused(/lucid\.db is damaged; restore DATA_DIR from its backup/);
  });
});

describe("a store that is gone is not begun again without a word", () => {
  test.each<[string, () => void, RegExp]>([
    ["lucid.db that is empty", () => truncateSync(path("lucid.db")), /is empty.*ALLOW_EMPTY_STORE/],
    ["lucid.db that is missing", () => rmSync(path("lucid.db")), /is missing.*ALLOW_EMPTY_STORE/],
    [
      "lucid.db that is missing with the lock's file, beside its log",
      () => {
        rmSync(path("lucid.db"));
        rmSync(path("lock.db"));
        writeFileSync(path("lucid.db-wal"), "x".repeat(100));
      },
      /is missing beside .*-wal.*ALLOW_EMPTY_STORE/,
    ],
    [
      "lucid.db that is a folder",
      () => {
        rmSync(path("lucid.db"));
        mkdtempSync(path("x"));
        renameSync(path(readdirSync(dir).find((name) => name.startsWith("x")) ?? ""), path("lucid.db"));
      },
      /lucid\.db is not a file/,
    ],
  ])("%s", async (_name, harm, says) => {
    await filled();
    harm();
    const isFolder = statSync(path("lucid.db"), { throwIfNoEntry: false })?.isDirectory() === true;
    if (isFolder) return void (await expect(open()).rejects.toThrow(says));
    await expectRefused(says);
    expect(await countOf({ emptyAllowed: true })).toBe(0);
    // A store that was begun on purpose is like any other.
    expect(await countOf()).toBe(0);
  });

  test("an empty one with its log, as after a kill, keeps its log", async () => {
    await killed();
    truncateSync(path("lucid.db"));
    await expectRefused(/is empty/);
    expect(sizeOf("lucid.db-wal")).toBeGreaterThan(0);
  });

  test("a start that was cut off before there was a store is begun again", async () => {
    const store = await open();
    await store[Symbol.asyncDispose]();
    for (const name of readdirSync(dir)) rmSync(path(name));
    writeFileSync(path("lock.db"), "");
    writeFileSync(path("lucid.db.new"), "torn");
    expect(await countOf()).toBe(0);
    expect(readdirSync(dir).sort()).toEqual(["lock.db", "lucid.db"]);
  });

  test("a damaged lock is named with its remedy, and costs nothing", async () => {
    await filled();
    writeFileSync(path("lock.db"), "nonsense ".repeat(1000));
    await expectRefused(/lock\.db is damaged; remove it/);
    rmSync(path("lock.db"));
    expect(await countOf()).toBe(count);
  });
});

describe("a store larger than its limit", () => {
  test("is not checked, and that is said", async () => {
    await filled();
    warned.length = 0;
    expect(await countOf({ checkBytesMax: 10_000 })).toBe(count);
    expect(warned).toEqual(["The store is too large to be checked at each start"]);
    expect(await countOf({ checkBytesMax: 0 })).toBe(count);
    expect(warned).toHaveLength(1);
  });
});

describe("the log of a store that was killed", () => {
  test("is read whole, without a warning", async () => {
    await killed();
    warned.length = 0;
    const report = inspectWal(path("lucid.db-wal"));
    expect(report?.read).toBeGreaterThan(10);
    expect(report?.lost).toBe(0);
    expect(await countOf()).toBe(2 * count);
    expect(warned).toEqual([]);
  });

  test.each<[string, () => void]>([
    ["in the middle", () => overwrite("lucid.db-wal", 32 + 5 * (24 + pageBytes) + 200, 8)],
    ["by one bit of a page", () => overwrite("lucid.db-wal", 32 + 2 * (24 + pageBytes) + 24 + 50, 1)],
    ["in a frame's header", () => overwrite("lucid.db-wal", 32 + 3 * (24 + pageBytes) + 16, 4)],
    ["in its header", () => overwrite("lucid.db-wal", 0, 16)],
    ["in the checksum of its header", () => overwrite("lucid.db-wal", 24, 4)],
  ])("that is damaged %s is kept, what it cost is said, and the rest is served", async (_name, harm) => {
    await killed();
    harm();
    const damaged = readFileSync(path("lucid.db-wal"));
    warned.length = 0;
    const found = await countOf();
    expect(found).toBeGreaterThanOrEqual(count);
    expect(found).toBeLessThan(2 * count);
    expect(warned).toEqual([expect.stringContaining("The store's log is damaged")]);
    expect(readFileSync(path("lucid.db-wal.damaged")).equals(damaged)).toBe(true);
    expect(statSync(path("lucid.db-wal.damaged")).mode & 0o777).toBe(0o600);
  });

  test.each<[string, () => void]>([
    [
      "torn in its last frame, as by a power cut",
      () => truncateSync(path("lucid.db-wal"), sizeOf("lucid.db-wal") - 1000),
    ],
    ["followed by bytes that were never a frame", () => appendFileSync(path("lucid.db-wal"), Buffer.alloc(10_000, 7))],
    ["without its last frame", () => truncateSync(path("lucid.db-wal"), sizeOf("lucid.db-wal") - pageBytes - 24)],
  ])("%s is no damage to tell of", async (_name, harm) => {
    await killed();
    harm();
    warned.length = 0;
    expect(await countOf()).toBeGreaterThanOrEqual(2 * count - 30);
    expect(warned).toEqual([]);
  });
});

describe("the files", () => {
  const modes = () =>
    Object.fromEntries(readdirSync(dir).map((name) => [name, (statSync(path(name)).mode & 0o777).toString(8)]));

  test("are for their owner only, whatever the folder's mode and that of the process", async () => {
    const umask = process.umask(0);
    try {
      rmSync(dir, { recursive: true, force: true });
      await filled();
      chmodSync(dir, 0o777);
      await using store = await open();
      await fill(store, count);
      expect(modes()).toEqual({ "lucid.db": "600", "lucid.db-wal": "600", "lucid.db-shm": "600", "lock.db": "600" });
    } finally {
      process.umask(umask);
    }
  });

  test("of an earlier release are made so", async () => {
    await killed();
    for (const name of readdirSync(dir)) chmodSync(path(name), 0o644);
    await using store = await open();
    await fill(store, 2 * count);
    expect(new Set(Object.values(modes()))).toEqual(new Set(["600"]));
  });

  test("may be read by a backup while they are in use", async () => {
    await filled();
    await using _ = await open();
    const reader = new DatabaseSync(path("lucid.db"), { readOnly: true });
    expect(reader.prepare("PRAGMA quick_check").all()).toHaveLength(1);
    reader.close();
  });
});

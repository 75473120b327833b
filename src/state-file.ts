// Small files that the process depends on: keys, credentials, settings, certificates. They are checked when read,
// written completely or not at all, and their content never appears in a message.
import { randomBytes } from "node:crypto";
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { StartError } from "./start-error.js";

export interface ReadRules {
  /** Who may read it. `owner` also allows a mode that lets the file's group read it, where `groupReadable` says so. */
  readonly readers: "owner" | "all";
  readonly groupReadable?: boolean;
  readonly mayBeEmpty?: boolean;
  /** What to do about a damaged file. Follows a semicolon and begins with a verb. */
  readonly remedy: string;
}

const bytesMax = 1024 * 1024;

/**
 * The UTF-8 text of a file of at most 1 MiB, without its byte order mark; undefined when there is no such file. A pipe
 * or a device does not block it. @throws StartError that names the file and the remedy, never the content
 */
export function readStateFile(file: string, rules: ReadRules): string | undefined {
  const refuse = (problem: string, remedy = rules.remedy) => new StartError(`${file} ${problem}; ${remedy}`);
  let descriptor: number;
  try {
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" && isLink(file)) throw refuse("is a symbolic link to a file that is not there");
    if (code === "ENOENT") return undefined;
    if (code === "ENXIO") throw refuse("is a socket or a device, not a file");
    throw refuse(`cannot be read (${code})`, remedyOf(code) ?? rules.remedy);
  }
  try {
    if (rules.readers === "owner") refuseForeignLink(file);
    const stats = fstatSync(descriptor);
    if (!stats.isFile()) throw refuse(`is ${kindOf(stats)}, not a file`);
    const mode = (stats.mode & 0o777).toString(8);
    if (rules.readers === "owner" && (stats.mode & (rules.groupReadable ? 0o037 : 0o077)) !== 0) {
      throw refuse(
        `has mode ${mode}, so that others than its owner may use it`,
        `run "chmod 600 ${file}", and replace its keys if others may have read them` +
          (rules.groupReadable ? "" : " (SECRETS_GROUP_READABLE=true takes mode 640 and 440)"),
      );
    }
    const bytes = readBounded(descriptor, refuse);
    if (bytes.length > bytesMax) throw refuse(`is larger than ${bytesMax} bytes`);
    if (bytes.length === 0 && !rules.mayBeEmpty) throw refuse("is empty");
    return decode(bytes, refuse);
  } finally {
    closeSync(descriptor);
  }
}

type Refuse = (problem: string, remedy?: string) => StartError;

/** Reads the whole file, or one byte more than is allowed. */
function readBounded(descriptor: number, refuse: Refuse): Buffer {
  const bytes = Buffer.alloc(bytesMax + 1);
  let length = 0;
  try {
    for (let count = 1; count > 0 && length < bytes.length; length += count) {
      count = readSync(descriptor, bytes, length, bytes.length - length, null);
    }
  } catch (error) {
    throw refuse(`cannot be read (${codeOf(error)})`);
  }
  return bytes.subarray(0, length);
}

function decode(bytes: Buffer, refuse: Refuse): string {
  const [first, second] = bytes;
  const marked = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
  if (marked || bytes.includes(0)) {
    throw refuse(marked ? "is UTF-16 text" : "is not text, or is UTF-16", "save it as UTF-8");
  }
  try {
    // Removes the byte order mark.
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw refuse("is not UTF-8 text", "save it as UTF-8");
  }
}

/** The fields of a JSON object whose values are strings. @throws StartError that names the file, never its content */
export function parseStateFile(file: string, text: string, remedy: string): Readonly<Record<string, string>> {
  const refuse = (problem: string) => new StartError(`${file} ${problem}; ${remedy}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The message of JSON.parse quotes the text.
    throw refuse("is damaged: it is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw refuse("is damaged: it is not a JSON object");
  }
  if (!Object.values(value).every((item) => typeof item === "string")) {
    throw refuse("is damaged: a value in it is not a text");
  }
  return value as Record<string, string>;
}

/**
 * Replaces the file. A crash meanwhile leaves the old file; once this returns, the new one is on disk. @throws
 * StartError
 */
export function writeStateFile(file: string, text: string): void {
  onDisk(file, (target) => {
    const draft = writeDraft(target, text);
    try {
      renameSync(draft, target);
    } catch (error) {
      unlinkSync(draft);
      throw error;
    }
  });
}

/**
 * Makes the file unless it exists. If two processes try at once, the second keeps the first one's file. @throws
 * StartError
 */
export function createStateFile(file: string, text: string): void {
  onDisk(file, (target) => {
    const draft = writeDraft(target, text);
    try {
      linkSync(draft, target);
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    } finally {
      unlinkSync(draft);
    }
  });
}

function onDisk(file: string, write: (target: string) => void): void {
  makeFolder(dirname(file));
  try {
    // A link stays a link: its target is replaced.
    refuseForeignLink(file);
    const target = isLink(file) ? realpathSync(file) : file;
    write(target);
    syncFolder(dirname(target));
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw cannotWrite(file, error);
  }
}

/**
 * In a folder that others can write to, somebody may have replaced our file by a link, so that we overwrite another
 * file of ours. Links made by this user, by root or by the folder's owner are trusted. @throws StartError
 */
function refuseForeignLink(file: string): void {
  const link = lstatSync(file, { throwIfNoEntry: false });
  if (!link?.isSymbolicLink()) return;
  const trusted = [process.geteuid?.(), 0, statSync(dirname(file)).uid];
  if (trusted.includes(link.uid)) return;
  throw new StartError(
    `${file} is a symbolic link that another user has made (uid ${link.uid}); remove it, and keep the file in a folder ` +
      "that no other user can write to",
  );
}

function writeDraft(target: string, text: string): string {
  const draft = `${target}.${process.pid}-${randomBytes(4).toString("hex")}`;
  const descriptor = openSync(draft, "wx", 0o600);
  try {
    writeFileSync(descriptor, text);
    fsyncSync(descriptor);
  } catch (error) {
    unlinkSync(draft);
    throw error;
  } finally {
    closeSync(descriptor);
  }
  return draft;
}

/** A new name in a folder is on disk only after the folder is synced. */
export function syncFolder(folder: string): void {
  const descriptor = openSync(folder, constants.O_RDONLY);
  try {
    fsyncSync(descriptor);
  } catch (error) {
    // Some network file systems do not support this.
    if (!["EINVAL", "ENOTSUP", "EBADF"].includes(codeOf(error))) throw error;
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Makes the folder and its missing parents, for the owner only. (Node's own recursive mkdir never returns for a path in
 * /proc.)
 * @throws StartError
 */
export function makeFolder(folder: string): void {
  const missing: string[] = [];
  try {
    for (let at = resolve(folder); ; at = dirname(at)) {
      const found = statSync(at, { throwIfNoEntry: false });
      if (found?.isDirectory()) break;
      if (found !== undefined) throw new StartError(`${at} is ${kindOf(found)}, not a folder; name another folder`);
      if (isLink(at)) throw new StartError(`${at} is a symbolic link to a folder that is not there; make the folder`);
      missing.unshift(at);
    }
    for (const at of missing) makeOne(at);
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw cannotWrite(folder, error);
  }
}

function makeOne(folder: string): void {
  try {
    mkdirSync(folder, 0o700);
  } catch (error) {
    // Another process made it first.
    if (codeOf(error) !== "EEXIST") throw error;
  }
}

/** Checks that files can be made in the folder, by making one. @throws StartError */
export function probeFolder(folder: string): void {
  makeFolder(folder);
  const probe = join(folder, `.probe-${process.pid}-${randomBytes(4).toString("hex")}`);
  try {
    closeSync(openSync(probe, "wx", 0o600));
    unlinkSync(probe);
  } catch (error) {
    throw cannotWrite(folder, error);
  }
}

/** Checks that an existing file can be replaced in its folder. @throws StartError */
export function probeReplaceable(file: string): void {
  const folder = dirname(realpathSync(file));
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw cannotWrite(file, error);
  }
}

const cannotWrite = (path: string, error: unknown): StartError => {
  const code = codeOf(error);
  const remedy = remedyOf(code) ?? "name a folder of a file system that can be written";
  return new StartError(`${path} cannot be written (${code}); ${remedy}`);
};

function remedyOf(code: string): string | undefined {
  switch (code) {
    case "EACCES":
    case "EPERM":
      return `give it to the user of this process (uid ${process.geteuid?.() ?? "unknown"}) with chown, or name another path`;
    case "EROFS":
      return "its file system is read-only: mount it writable, or name a path elsewhere";
    case "ENOSPC":
    case "EDQUOT":
      return "its disk is full: free some of it";
    case "ENOTDIR":
      return "what should be a folder in that path is a file: name another path";
    case "ELOOP":
      return "its symbolic links lead in a circle: remove them";
    case "ENAMETOOLONG":
      return "name a shorter path";
    default:
      return undefined;
  }
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a pipe";
  if (stats.isSocket()) return "a socket";
  return stats.isFile() ? "a file" : "a device";
}

const isLink = (path: string): boolean => {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
};

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : "no code of an error";

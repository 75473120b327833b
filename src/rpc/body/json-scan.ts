// Scans a JSON body before it is parsed, in one pass over its bytes and without making objects. It counts elements
// against the contract, and refuses what a parser would silently drop: unknown field names and enum values, and a field
// given twice.
import { isUtf8 } from "node:buffer";
import type { DescEnum } from "@bufbuild/protobuf";
import { budgetOf, type FieldBound, type MessageBound } from "./bounds.js";
import { notAllowedByContract, tooLong, tooManyFields, tooManyOf, unreadable } from "./fault.js";

/** Nesting depth of values where the contract expects none. The parser then refuses their meaning. */
const strayDepthMax = 16;
/** The most characters of an unknown name that the error repeats. */
const namedCharsMax = 64;

interface Scan {
  readonly bytes: Buffer;
  /** Names and values. Commas, colons and brackets are not counted: each belongs to one of them. */
  readonly tokensMax: number;
  at: number;
  tokens: number;
}

const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const bracketOpen = 0x5b;
const backslash = 0x5c;
const bracketClose = 0x5d;
const braceOpen = 0x7b;
const braceClose = 0x7d;

/**
 * Scans the text of one message. Linear in its length; stops at the first fault.
 * @throws BodyFault for text that is not JSON, for unknown names, and for more elements than the contract allows
 */
export function scanJson(bound: MessageBound, body: Uint8Array): void {
  if (!isUtf8(body)) throw unreadable("The body is not valid UTF-8");
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const scan: Scan = { bytes, tokensMax: 2 * budgetOf(bound), at: startOf(bytes), tokens: 0 };
  scanMessage(scan, bound, "");
  space(scan);
  if (scan.at < bytes.length) throw noJson(scan, "something follows the message");
}

/** The position after a byte order mark, which RFC 8259 lets a reader ignore. */
function startOf(bytes: Buffer): number {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
}

function scanMessage(scan: Scan, bound: MessageBound, path: string): void {
  if (next(scan) !== braceOpen || isWellKnown(bound)) {
    scanKnownText(scan, bound, path);
    return;
  }
  const seen = new Set<FieldBound>();
  members(scan, (name) => {
    const field = bound.byName.get(name);
    if (field === undefined) throw unknownField(bound, name, path);
    const own = join(path, field.name);
    if (seen.has(field)) throw notAllowedByContract(own, "is given twice");
    seen.add(field);
    scanField(scan, field, own);
  });
}

function scanField(scan: Scan, field: FieldBound, path: string): void {
  const first = next(scan);
  if (field.map && first === braceOpen) {
    const value = field.message?.fields[1];
    let count = 0;
    members(scan, (key) => {
      if (++count > (field.countMax ?? 0)) throw tooManyOf(path, field.countMax ?? 0, true);
      if (value) scanElement(scan, value, `${path}["${key.slice(0, namedCharsMax)}"]`);
    });
  } else if (field.countMax !== undefined && first === bracketOpen) {
    let count = 0;
    elements(scan, () => {
      if (++count > (field.countMax ?? 0)) throw tooManyOf(path, field.countMax ?? 0, false);
      scanElement(scan, field, `${path}[${count - 1}]`);
    });
  } else if (field.countMax !== undefined) {
    scanStray(scan, 0);
  } else {
    scanElement(scan, field, path);
  }
}

/** The most JSON bytes for one byte of text: an escape such as \u00e9, or base64. */
const jsonBytesMax = 6;

function scanElement(scan: Scan, { message, enumeration, bytesMax }: FieldBound, path: string): void {
  if (message) {
    scanMessage(scan, message, path);
    return;
  }
  if (enumeration && next(scan) === quote) {
    const name = readString(scan);
    if (!enumeration.values.some((value) => value.name === name)) throw unknownName(enumeration, name, path);
    return;
  }
  const start = scan.at;
  scanStray(scan, 0);
  if (bytesMax !== undefined && scan.at - start > jsonBytesMax * bytesMax) throw tooLong(path, bytesMax);
}

/** Messages that JSON writes as text (timestamps, durations, masks), and any other value in place of a message. */
function scanKnownText(scan: Scan, bound: MessageBound, path: string): void {
  const start = scan.at;
  scanStray(scan, 0);
  if (bound.typeName !== "google.protobuf.FieldMask") return;
  const pathsMax = bound.fields[0]?.countMax ?? 0;
  let count = 1;
  for (let at = start; at < scan.at; at++) if (scan.bytes[at] === comma && ++count > pathsMax) break;
  if (count > pathsMax) throw tooManyOf(path, pathsMax, false);
}

const isWellKnown = ({ typeName }: MessageBound) => typeName.startsWith("google.protobuf.");

/** Any value, whatever it means. */
function scanStray(scan: Scan, depth: number): void {
  if (depth > strayDepthMax) throw notAllowedByContract("", `The message is nested more than ${strayDepthMax} deep`);
  switch (next(scan)) {
    case quote:
      skipString(scan);
      break;
    case braceOpen:
      members(scan, () => scanStray(scan, depth + 1));
      break;
    case bracketOpen:
      elements(scan, () => scanStray(scan, depth + 1));
      break;
    default:
      skipWord(scan);
  }
}

/** An object: calls `member` after each colon to scan the value. */
function members(scan: Scan, member: (name: string) => void): void {
  scan.at++;
  if (peek(scan) === braceClose) return void scan.at++;
  for (;;) {
    count(scan);
    if (peek(scan) !== quote) throw noJson(scan, "a name is expected");
    const name = readString(scan);
    if (peek(scan) !== colon) throw noJson(scan, "a colon is expected");
    scan.at++;
    member(name);
    const end = peek(scan);
    if (end !== comma && end !== braceClose) throw noJson(scan, "a comma or a brace is expected");
    scan.at++;
    if (end === braceClose) return;
  }
}

function elements(scan: Scan, element: () => void): void {
  scan.at++;
  if (peek(scan) === bracketClose) return void scan.at++;
  for (;;) {
    element();
    const end = peek(scan);
    if (end !== comma && end !== bracketClose) throw noJson(scan, "a comma or a bracket is expected");
    scan.at++;
    if (end === bracketClose) return;
  }
}

/** The first byte of the next value, which is counted. */
function next(scan: Scan): number {
  count(scan);
  return peek(scan);
}

function count(scan: Scan): void {
  if (++scan.tokens > scan.tokensMax) throw tooManyFields(scan.tokensMax);
}

function peek(scan: Scan): number {
  space(scan);
  const byte = scan.bytes[scan.at];
  if (byte === undefined) throw noJson(scan, "it ends too soon");
  return byte;
}

function space(scan: Scan): void {
  const { bytes } = scan;
  for (let byte = bytes[scan.at]; byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09; ) {
    byte = bytes[++scan.at];
  }
}

/** A number, true, false or null. The parser checks which. */
function skipWord(scan: Scan): void {
  const start = scan.at;
  for (let byte = scan.bytes[scan.at]; byte !== undefined && isWord(byte); ) byte = scan.bytes[++scan.at];
  if (scan.at === start) throw noJson(scan, "a value is expected");
}

const isWord = (byte: number) =>
  (byte >= 0x30 && byte <= 0x39) ||
  (byte >= 0x61 && byte <= 0x7a) ||
  (byte >= 0x41 && byte <= 0x5a) ||
  byte === 0x2d ||
  byte === 0x2b ||
  byte === 0x2e;

function readString(scan: Scan): string {
  const start = scan.at;
  skipString(scan);
  const text = scan.bytes.toString("utf8", start + 1, scan.at - 1);
  return text.includes("\\") ? unescaped(scan, start) : text;
}

function unescaped(scan: Scan, start: number): string {
  try {
    return JSON.parse(scan.bytes.toString("utf8", start, scan.at)) as string;
  } catch {
    throw noJson(scan, "a name is not well written");
  }
}

/**
 * Skips a string. Without an escape it uses a native search, so megabytes of base64 cost almost nothing. From the first
 * escape on it reads byte by byte, since a search per escape would read the rest each time.
 */
function skipString(scan: Scan): void {
  const { bytes } = scan;
  const start = scan.at + 1;
  const end = bytes.indexOf(quote, start);
  if (end < 0) throw noJson(scan, "a string does not end");
  const escaped = bytes.subarray(start, end).indexOf(backslash);
  scan.at = escaped < 0 ? end + 1 : skipEscaped(scan, start + escaped);
}

/** Continues from the first escape of a string; returns where the string ends. */
function skipEscaped(scan: Scan, from: number): number {
  const { bytes } = scan;
  let at = from;
  for (let byte = bytes[at]; byte !== quote; byte = bytes[at]) {
    if (byte === undefined) throw noJson(scan, "a string does not end");
    at += byte === backslash ? escapeLength(scan, at) : 1;
  }
  return at + 1;
}

/** Bytes of an escape. Half of a surrogate pair is not a character, and no store can keep it. */
function escapeLength(scan: Scan, at: number): number {
  const { bytes } = scan;
  if (bytes[at + 1] !== 0x75) return 2;
  const unit = unitAt(bytes, at);
  if (!(unit >= 0xd800 && unit <= 0xdfff)) return 6;
  const low = unit <= 0xdbff ? unitAt(bytes, at + 6) : Number.NaN;
  if (!(low >= 0xdc00 && low <= 0xdfff)) throw noJson(scan, "an escape is half of a character");
  return 12;
}

/** The UTF-16 unit of an escape such as \u00e9; NaN if it is malformed. */
function unitAt(bytes: Buffer, at: number): number {
  if (bytes[at] !== backslash || bytes[at + 1] !== 0x75) return Number.NaN;
  const digits = bytes.toString("latin1", at + 2, at + 6);
  return /^[0-9a-f]{4}$/i.test(digits) ? Number.parseInt(digits, 16) : Number.NaN;
}

const join = (path: string, name: string) => (path === "" ? name : `${path}.${name}`);

const noJson = ({ at }: Scan, description: string) => unreadable(`The body is not JSON: ${description} (byte ${at})`);

function unknownField(bound: MessageBound, name: string, path: string) {
  const known = bound.fields.map((field) => field.name).join(", ");
  const type = bound.typeName.slice(bound.typeName.lastIndexOf(".") + 1);
  const has = known === "" ? "has no fields" : `has ${known}`;
  return notAllowedByContract(join(path, name.slice(0, namedCharsMax)), `is not a field: ${type} ${has}`);
}

function unknownName(enumeration: DescEnum, name: string, path: string) {
  const known = enumeration.values.map((value) => value.name).join(", ");
  return notAllowedByContract(
    path,
    `"${name.slice(0, namedCharsMax)}" is no ${enumeration.name}: it is one of ${known}`,
  );
}

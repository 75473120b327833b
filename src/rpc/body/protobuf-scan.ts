// Scans a protobuf body before it is decoded, in one pass and without making objects. It counts elements against the
// contract and refuses bytes that would make a decoder fail. Unknown fields of newer peers pass, up to a bound.
import { isUtf8 } from "node:buffer";
import { ScalarType } from "@bufbuild/protobuf";
import { budgetOf, type FieldBound, type MessageBound } from "./bounds.js";
import { tooLong, tooManyFields, tooManyOf, unreadable } from "./fault.js";

/** The contract has no groups. Unknown ones are skipped down to this depth. */
const groupsMax = 16;

interface Scan {
  readonly bytes: Uint8Array;
  readonly fieldsMax: number;
  at: number;
  fields: number;
}

/**
 * Scans the bytes of one message. Linear in their length; stops at the first fault.
 * @throws BodyFault for bytes that are not such a message, and for more elements than the contract allows
 */
export function scanProtobuf(bound: MessageBound, bytes: Uint8Array): void {
  scanMessage({ bytes, fieldsMax: budgetOf(bound), at: 0, fields: 0 }, bound, bytes.length, "");
}

function scanMessage(scan: Scan, bound: MessageBound, end: number, path: string): void {
  const counts = bound.counts ? new Uint32Array(bound.fields.length) : undefined;
  while (scan.at < end) {
    const tag = readTag(scan, end);
    const field = bound.byNumber.get(tag >>> 3);
    const wireType = tag & 7;
    if (field === undefined) skip(scan, wireType, tag >>> 3, end, 0);
    else scanField(scan, field, wireType, end, path, counts);
  }
}

function scanField(
  scan: Scan,
  field: FieldBound,
  wireType: number,
  end: number,
  path: string,
  counts: Uint32Array | undefined,
): void {
  const packed = wireType === 2 && field.wireType !== 2 && field.countMax !== undefined;
  if (wireType !== field.wireType && !packed) throw unreadable(`wire type ${wireType} does not fit`, at(path, field));
  const to = wireType === 2 ? readLength(scan, end) : skipFixed(scan, wireType, end);
  if (field.countMax !== undefined && counts !== undefined) {
    const added = packed ? packedCount(scan, field.wireType, to) : 1;
    const count = (counts[field.index] ?? 0) + added;
    counts[field.index] = count;
    if (count > field.countMax) throw tooManyOf(at(path, field), field.countMax, field.map);
  }
  if (wireType !== 2) return;
  if (field.bytesMax !== undefined && to - scan.at > field.bytesMax) throw tooLong(at(path, field), field.bytesMax);
  if (field.message !== undefined) {
    scanMessage(scan, field.message, to, at(path, field));
  } else if (field.scalar === ScalarType.STRING && !isUtf8(scan.bytes.subarray(scan.at, to))) {
    throw unreadable("is not valid UTF-8", at(path, field));
  }
  scan.at = to;
}

const at = (path: string, field: FieldBound) => (path === "" ? field.name : `${path}.${field.name}`);

/** Reads and counts a field's number and wire type. */
function readTag(scan: Scan, end: number): number {
  if (++scan.fields > scan.fieldsMax) throw tooManyFields(scan.fieldsMax);
  const tag = readVarint32(scan, end);
  if (tag >>> 3 === 0) throw unreadable("The body is not a protobuf message: field number 0");
  return tag;
}

/** Reads a length and returns where the field ends. */
function readLength(scan: Scan, end: number): number {
  const length = readVarint32(scan, end);
  if (length > end - scan.at) throw truncated();
  return scan.at + length;
}

/** A varint of at most 32 bits, unsigned. */
function readVarint32(scan: Scan, end: number): number {
  const { bytes } = scan;
  let value = 0;
  for (let shift = 0; shift < 35; shift += 7) {
    if (scan.at >= end) throw truncated();
    const byte = bytes[scan.at++] as number;
    // A tag or length never has more than 32 bits.
    if (shift === 28 && byte > 0x0f) break;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value >>> 0;
  }
  throw unreadable("The body is not a protobuf message: a tag or length of more than 32 bits");
}

/** Skips a value that is not length-delimited; returns where it ends. */
function skipFixed(scan: Scan, wireType: number, end: number): number {
  if (wireType === 0) {
    for (let length = 1; ; length++) {
      if (scan.at >= end) throw truncated();
      if ((scan.bytes[scan.at++] as number) < 0x80) return scan.at;
      // https://protobuf.dev/programming-guides/encoding/#varints
      if (length === 10) throw unreadable("The body is not a protobuf message: a number of more than 10 bytes");
    }
  }
  if (wireType !== 1 && wireType !== 5) throw unreadable(`The body is not a protobuf message: wire type ${wireType}`);
  const size = wireType === 1 ? 8 : 4;
  if (size > end - scan.at) throw truncated();
  scan.at += size;
  return scan.at;
}

/** Skips a field that the contract does not know. */
function skip(scan: Scan, wireType: number, number: number, end: number, groups: number): void {
  if (wireType === 2) {
    scan.at = readLength(scan, end);
    return;
  }
  if (wireType !== 3) return void skipFixed(scan, wireType, end);
  if (groups >= groupsMax) throw unreadable("The body is not a protobuf message: groups within groups");
  for (;;) {
    const tag = readTag(scan, end);
    if ((tag & 7) === 4) {
      if (tag >>> 3 !== number) throw unreadable("The body is not a protobuf message: a group that ends another");
      return;
    }
    skip(scan, tag & 7, tag >>> 3, end, groups + 1);
  }
}

/** Counts the elements of a packed field without moving the position. */
function packedCount(scan: Scan, wireType: number, to: number): number {
  const length = to - scan.at;
  if (wireType === 1 || wireType === 5) {
    const size = wireType === 1 ? 8 : 4;
    if (length % size !== 0) throw truncated();
    return length / size;
  }
  let count = 0;
  for (let index = scan.at; index < to; index++) if ((scan.bytes[index] as number) < 0x80) count++;
  if (length > 0 && (scan.bytes[to - 1] as number) >= 0x80) throw truncated();
  return count;
}

const truncated = () => unreadable("The body is not a protobuf message: it ends in the middle of a field");

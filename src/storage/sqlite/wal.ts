// The write-ahead log of the embedded store as its end left it. SQLite reads it up to the first frame that is not whole and
// says nothing of what follows. After a power cut that is right, for what follows was never acknowledged; after damage it
// is a loss, which the operator has to hear of, and a copy is what is left to salvage it from.
import { chmodSync, closeSync, constants, copyFileSync, fstatSync, openSync, readSync } from "node:fs";

export interface WalReport {
  /** Frames that SQLite reads. */
  readonly read: number;
  /** Frames behind the first one that is not whole, and written after it. None in a sound log. */
  readonly lost: number;
}

const headerBytes = 32;
const frameHeaderBytes = 24;
/** Larger ones are not looked at: SQLite empties the log at some 4 MiB. */
const bytesMax = 256 * 1024 * 1024;

/** Undefined where there is no log with frames, or one too large to look at. */
export function inspectWal(file: string): WalReport | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    const { size } = fstatSync(descriptor);
    if (size <= headerBytes + frameHeaderBytes || size > bytesMax) return undefined;
    return walk(size, (bytes, position) => readSync(descriptor, bytes, 0, bytes.length, position) === bytes.length);
  } finally {
    closeSync(descriptor);
  }
}

type Read = (bytes: Buffer, position: number) => boolean;

/** https://www.sqlite.org/fileformat2.html#walformat: each checksum goes on from the one before it. */
function walk(size: number, read: Read): WalReport {
  const header = Buffer.alloc(headerBytes);
  if (!read(header, 0)) return { read: 0, lost: 0 };
  const isBigEndian = header.readUInt32BE(0) === 0x377f0683;
  const pageBytes = header.readUInt32BE(8) === 1 ? 65_536 : header.readUInt32BE(8);
  const sum: Sum = [0, 0];
  add(sum, header.subarray(0, 24), isBigEndian);
  const known = isBigEndian || header.readUInt32BE(0) === 0x377f0682;
  const isSane = known && pageBytes >= 512 && pageBytes <= 65_536 && (pageBytes & (pageBytes - 1)) === 0;
  // Without its header no frame counts; a log of zeros alone was never written.
  if (!isSane || !isSum(sum, header, 24)) return { read: 0, lost: header.some((byte) => byte !== 0) ? 1 : 0 };

  const frame = Buffer.alloc(frameHeaderBytes + pageBytes);
  let [whole, lost] = [0, 0];
  let isChained = true;
  for (let at = headerBytes; at + frame.length <= size && read(frame, at); at += frame.length) {
    // Frames of an earlier round of the log carry other salts.
    if (frame.compare(header, 16, 24, 8, 16) !== 0) {
      isChained = false;
      continue;
    }
    if (isChained) {
      add(sum, frame.subarray(0, 8), isBigEndian);
      add(sum, frame.subarray(frameHeaderBytes), isBigEndian);
      isChained = isSum(sum, frame, 16);
      if (isChained) whole++;
      // The first one that is not whole may be what a power cut has torn.
    } else lost++;
  }
  return { read: whole, lost };
}

type Sum = [number, number];

function add(sum: Sum, bytes: Buffer, isBigEndian: boolean): void {
  let [first, second] = sum;
  for (let at = 0; at < bytes.length; at += 8) {
    first = (first + (isBigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at)) + second) >>> 0;
    second = (second + (isBigEndian ? bytes.readUInt32BE(at + 4) : bytes.readUInt32LE(at + 4)) + first) >>> 0;
  }
  sum[0] = first;
  sum[1] = second;
}

const isSum = (sum: Sum, bytes: Buffer, at: number): boolean =>
  sum[0] === bytes.readUInt32BE(at) && sum[1] === bytes.readUInt32BE(at + 4);

/** Keeps the log as it is, for its owner only; the copy of an earlier damage gives way. Answers its name. */
export function keepWal(file: string): string {
  const copy = `${file}.damaged`;
  copyFileSync(file, copy);
  chmodSync(copy, 0o600);
  return copy;
}

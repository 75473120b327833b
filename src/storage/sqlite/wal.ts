// Inspects the write-ahead log of the embedded store after its last end. SQLite reads the log up to the first
// incomplete frame and does not mention what follows. After a power cut that is right, since those frames were never
// acknowledged. After damage it is data loss: the operator must hear of it and needs a copy of the log to salvage it.
import { chmodSync, closeSync, constants, copyFileSync, fstatSync, openSync, readSync } from "node:fs";

export interface WalReport {
  /** Frames that SQLite reads. */
  readonly read: number;
  /** Frames after the first incomplete one that were written after it. 0 in an intact log. */
  readonly lost: number;
}

const headerBytes = 32;
const frameHeaderBytes = 24;
/** Larger logs are not inspected: SQLite empties the log at about 4 MiB. */
const bytesMax = 256 * 1024 * 1024;

/** Undefined when there is no log with frames, or when it is too large to inspect. */
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

/** https://www.sqlite.org/fileformat2.html#walformat: each checksum continues from the one before. */
function walk(size: number, read: Read): WalReport {
  const header = Buffer.alloc(headerBytes);
  if (!read(header, 0)) return { read: 0, lost: 0 };
  const isBigEndian = header.readUInt32BE(0) === 0x377f0683;
  const pageBytes = header.readUInt32BE(8) === 1 ? 65_536 : header.readUInt32BE(8);
  const sum: Sum = [0, 0];
  add(sum, header.subarray(0, 24), isBigEndian);
  const known = isBigEndian || header.readUInt32BE(0) === 0x377f0682;
  const isSane = known && pageBytes >= 512 && pageBytes <= 65_536 && (pageBytes & (pageBytes - 1)) === 0;
  // Without the header no frame counts. A log of only zeros was never written.
  if (!isSane || !isSum(sum, header, 24)) return { read: 0, lost: header.some((byte) => byte !== 0) ? 1 : 0 };

  const frame = Buffer.alloc(frameHeaderBytes + pageBytes);
  let [whole, lost] = [0, 0];
  let isChained = true;
  for (let at = headerBytes; at + frame.length <= size && read(frame, at); at += frame.length) {
    // Frames of an earlier round of the log have other salts.
    if (frame.compare(header, 16, 24, 8, 16) !== 0) {
      isChained = false;
      continue;
    }
    if (isChained) {
      add(sum, frame.subarray(0, 8), isBigEndian);
      add(sum, frame.subarray(frameHeaderBytes), isBigEndian);
      isChained = isSum(sum, frame, 16);
      if (isChained) whole++;
      // A power cut may have torn the first incomplete frame.
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

/** Copies the log, readable by its owner only, over the copy of an earlier damage. Returns the copy's name. */
export function keepWal(file: string): string {
  const copy = `${file}.damaged`;
  copyFileSync(file, copy);
  chmodSync(copy, 0o600);
  return copy;
}

// Decompresses bodies within bounds, so that a small body cannot become a large one.
import { promisify } from "node:util";
import { brotliDecompress, gunzip } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import { unreadable } from "./fault.js";

export type Encoding = "gzip" | "br";

/**
 * Up to this size any ratio is allowed. Above it, a body may grow a hundredfold: ordinary text shrinks to a fiftieth at
 * best, and only malicious bodies reach the thousandfold that the formats allow.
 */
const freeBytes = 256 * 1024;
const ratioMax = 100;

const gunzipAsync = promisify(gunzip);
const brotliAsync = promisify(brotliDecompress);

/** Bodies decompressed at one time: as many as Node.js has threads for it. Others wait, however small. */
const atOnceMax = 4;
let running = 0;
const waiting: (() => void)[] = [];

/** The encodings that requests may use. Connect refuses any other in the words of the protocol. */
export const isEncoding = (name: string | undefined): name is Encoding => name === "gzip" || name === "br";

/**
 * The decompressed bytes. Runs off the event loop.
 * @throws ConnectError RESOURCE_EXHAUSTED above `readMaxBytes` or the ratio; BodyFault for bytes in another encoding
 */
export async function inflate(bytes: Uint8Array, encoding: Encoding, readMaxBytes: number): Promise<Uint8Array> {
  // As in Connect: an empty message needs no encoding.
  if (bytes.length === 0) return bytes;
  if (running >= atOnceMax) await new Promise<void>((resolve) => void waiting.push(resolve));
  running++;
  const grownMax = Math.min(readMaxBytes, Math.max(freeBytes, bytes.length * ratioMax));
  try {
    return await (encoding === "gzip" ? gunzipAsync : brotliAsync)(bytes, { maxOutputLength: grownMax });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_BUFFER_TOO_LARGE")
      throw unreadable(`The body is not ${encoding}`);
    const limit = grownMax < readMaxBytes ? `${ratioMax} times its size` : `readMaxBytes ${readMaxBytes}`;
    throw new ConnectError(`message is larger than ${limit} after decompression`, Code.ResourceExhausted);
  } finally {
    running--;
    waiting.shift()?.();
  }
}

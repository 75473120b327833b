// Reads a request's body for Connect's handlers: complete, decompressed and checked before it is decoded, so that a
// body never costs more than its size and the contract allow.
import type { Readable } from "node:stream";
import type { DescMessage } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { tooMany } from "../../failure.js";
import { boundsOf, type MessageBound } from "./bounds.js";
import { unreadable } from "./fault.js";
import { type Encoding, inflate } from "./inflate.js";
import { scanJson } from "./json-scan.js";
import { scanProtobuf } from "./protobuf-scan.js";
import {
  type BodyReader,
  createBodyReader,
  defaultReaderLimits,
  type RawMessage,
  type ReaderLimits,
} from "./reader.js";
import { largeBytes, noRoom } from "./room.js";

export interface BodyFormat {
  readonly json: boolean;
  /** Whether messages come in envelopes: gRPC, gRPC-Web and Connect's streams. */
  readonly enveloped: boolean;
  readonly encoding: Encoding | undefined;
  /**
   * The flag of an envelope without a message: the end of a stream (Connect) or trailers (gRPC-Web); 0 if there is
   * none.
   */
  readonly endFlag: number;
}

export interface BodyOptions {
  readonly format: BodyFormat;
  readonly input: DescMessage;
  /** Whether the call has exactly one message. */
  readonly single: boolean;
  readonly limits: Pick<ReaderLimits, "readMaxBytes"> & Partial<ReaderLimits>;
  /**
   * Called with each failure. Returns what Connect will put on the wire, either through the interceptors or directly.
   */
  readonly refused: (thrown: unknown) => unknown;
  readonly begun?: () => void;
  /** Receives a function that ends the wait for the body. */
  readonly waits?: (giveUp: () => void) => void;
  /** Reserves memory for a large message until the call ends; false when none is left. */
  readonly room: (bytes: number) => boolean;
  /** Bytes of the body according to its header. */
  readonly stated?: number | undefined;
  /** Checks what is known before the first byte is read; throws to refuse the body. */
  readonly before?: () => void;
}

// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: the only flag of an envelope with a message.
const compressedFlag = 1;

/** Prepares the table of a message type, so that its first request does not wait for it. */
export const prepareBody = (input: DescMessage): MessageBound => boundsOf(input);

/**
 * The chunks that Connect reads in place of the body: one per message, in its own envelope if the protocol has them,
 * never compressed. Nothing is read before the first `next`, which comes after the gate.
 */
export function bodyOf(source: Readable, options: BodyOptions): AsyncIterable<Uint8Array> {
  const { format, limits, begun } = options;
  const reader = createBodyReader({
    source,
    enveloped: format.enveloped,
    single: options.single,
    room: options.room,
    stated: options.stated,
    limits: { ...defaultReaderLimits, ...limits },
    ...(begun ? { begun } : {}),
  });
  options.waits?.(() => reader.giveUp(tooManyWait()));
  return iterable(reader, options);
}

const tooManyWait = () => tooMany("Too many calls from this address are waiting for their bodies", 1_000);

/** The same for a message in the query of a GET. */
export function bodyOfQuery(message: () => Uint8Array, options: BodyOptions): AsyncIterable<Uint8Array> {
  let left = 1;
  const next = async () => (left-- > 0 ? { flags: 0, data: message() } : undefined);
  return iterable({ next, leave: () => undefined, giveUp: () => undefined }, options);
}

function iterable(reader: BodyReader, options: BodyOptions): AsyncIterable<Uint8Array> {
  const bound = boundsOf(options.input);
  let before = options.before;
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    try {
      before?.();
      before = undefined;
      const message = await reader.next();
      if (message === undefined) return { done: true, value: undefined };
      return { done: false, value: await prepared(message, bound, options) };
    } catch (thrown) {
      reader.leave();
      throw options.refused(thrown);
    }
  };
  const end = async (): Promise<IteratorResult<Uint8Array>> => {
    reader.leave();
    return { done: true, value: undefined };
  };
  return { [Symbol.asyncIterator]: () => ({ next, return: end }) };
}

async function prepared(message: RawMessage, bound: MessageBound, options: BodyOptions): Promise<Uint8Array> {
  const { enveloped, json, encoding } = options.format;
  const { readMaxBytes } = options.limits;
  const compressed = enveloped ? (message.flags & compressedFlag) !== 0 : encoding !== undefined;
  if (compressed && encoding === undefined)
    throw unreadable("The message is compressed, but grpc-encoding does not say how");
  const data = compressed && encoding ? await inflate(message.data, encoding, readMaxBytes) : message.data;
  const flags = message.flags & ~compressedFlag;
  // An uncompressed message reserved its memory when it began to arrive.
  if (compressed && data.length > largeBytes && !options.room(data.length)) throw noRoom();
  if (data.length > largeBytes) await oneAtATime();
  // Other flags do not matter: Connect decodes the message.
  if ((flags & options.format.endFlag) === 0) (json ? scanJson : scanProtobuf)(bound, data);
  // The scan and Connect's decoding each have a turn of the event loop.
  if (data.length > largeBytes) await oneAtATime();
  if (!enveloped) return data;
  return compressed || !message.envelope ? envelope(flags, data) : message.envelope;
}

/** Decoding takes up to 7 ms per MiB and cannot be interrupted. */
let lastLarge: Promise<void> = Promise.resolve();

/** Waits for a turn of the event loop in which no other large message is decoded. */
function oneAtATime(): Promise<void> {
  lastLarge = lastLarge.then(() => new Promise((resolve) => setImmediate(resolve)));
  return lastLarge;
}

function envelope(flags: number, data: Uint8Array): Uint8Array {
  const whole = Buffer.allocUnsafe(5 + data.length);
  whole[0] = flags;
  whole.writeUInt32BE(data.length, 1);
  whole.set(data, 5);
  return whole;
}

/** Refuses a body by its stated length, before reading any of it. */
export function assertLength(contentLength: string | undefined, readMaxBytes: number): void {
  const stated = Number(contentLength ?? 0);
  if (stated <= readMaxBytes) return;
  throw new ConnectError(
    `message size ${stated} is larger than configured readMaxBytes ${readMaxBytes}`,
    Code.ResourceExhausted,
  );
}

// Reads a request's body as whole messages, at a cost that is linear in its bytes however it is cut into pieces, and with
// an end however slowly they come.
import type { Readable } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import { unreadable } from "./fault.js";
import { largeBytes, noRoom } from "./room.js";

/** A message as it came: the whole body (flags 0), or one envelope of a stream. */
export interface RawMessage {
  readonly flags: number;
  readonly data: Uint8Array;
  /** Header and data as they came, where there is a header. */
  readonly envelope?: Uint8Array;
}

export interface ReaderLimits {
  /** Largest message. */
  readonly readMaxBytes: number;
  /**
   * A message is waited for this long, and a millisecond more for each byte of it that has come, which lets a line of
   * 1 KiB a second pass. It counts from the first look at a body, and from the first byte of each later message: a stream
   * may be silent between its messages.
   */
  readonly patienceMs: number;
  /** However much has come. */
  readonly patienceMaxMs: number;
}

export const defaultReaderLimits: Omit<ReaderLimits, "readMaxBytes"> = {
  patienceMs: 10_000,
  patienceMaxMs: 120_000,
};

/**
 * So many pieces of a message may be of any size; beyond them they must have a mean size, a larger one where much is sent. A
 * packet holds 1,400 bytes.
 */
const freePieces = 1_024;
const pieceBytesMean = 16;
const longBytes = 256 * 1024;
const longPieceBytesMean = 256;
/** Pieces are joined in blocks of this size as they come: each of them costs memory of its own. */
const blockBytes = 64 * 1024;
/** Messages that wait here for their reader before the body is no longer read. */
const waitingMax = 16;
/** Messages given to the reader without a turn of the event loop in between: others want to be heard, too. */
const givenAtOnceMax = 4;

const headerBytes = 5;

export interface BodyReader {
  /** The next message; undefined at the end. @throws ConnectError, BodyFault: the body is not read any further */
  next(): Promise<RawMessage | undefined>;
  /** The rest is of no interest: it is let in and dropped. */
  leave(): void;
  /** Ends the wait for a body that has not come: `next` throws this. */
  giveUp(failure: unknown): void;
}

export interface ReaderOptions {
  readonly source: Readable;
  /** Whether messages come in envelopes (a byte of flags, four of length); else the body is one message. */
  readonly enveloped: boolean;
  /** Whether one message is all that the call brings: then its end must come in time as well. */
  readonly single: boolean;
  readonly limits: ReaderLimits;
  /** Takes room for a large message; false when there is none. */
  readonly room: (bytes: number) => boolean;
  /** Bytes of a body of one message, where they are stated. */
  readonly stated?: number | undefined;
  /** Called once what the call waits for is there, or will never be: its first message, or the end of a single one. */
  readonly begun?: () => void;
}

/** Starts to read at the first `next`. */
export function createBodyReader(options: ReaderOptions): BodyReader {
  return new Reader(options);
}

class Reader implements BodyReader {
  readonly #source: Readable;
  readonly #enveloped: boolean;
  readonly #single: boolean;
  readonly #limits: ReaderLimits;
  readonly #room: (bytes: number) => boolean;
  readonly #stated: number;
  #begun: (() => void) | undefined;
  /** The message that is coming: joined blocks, then pieces that are not joined yet. */
  #blocks: Uint8Array[] = [];
  #pieces: Uint8Array[] = [];
  #pieceBytes = 0;
  #hasRoom = false;
  #bytes = 0;
  #pieceCount = 0;
  /** Bytes that make the message whole; undefined before its header. */
  #wanted: number | undefined;
  #ready: RawMessage[] = [];
  #waiter: PromiseWithResolvers<RawMessage | undefined> | undefined;
  #givenAtOnce = 0;
  #started = false;
  #ended = false;
  #failure: unknown;
  #timer: NodeJS.Timeout | undefined;
  #sinceMs = 0;

  constructor({ source, enveloped, single, limits, room, stated, begun }: ReaderOptions) {
    this.#source = source;
    this.#enveloped = enveloped;
    this.#single = single;
    this.#limits = limits;
    this.#room = room;
    this.#stated = stated ?? limits.readMaxBytes;
    this.#begun = begun;
  }

  async next(): Promise<RawMessage | undefined> {
    if (!this.#started) this.#start();
    const message = this.#ready.shift();
    if (message) {
      if (this.#ready.length === 0 && !this.#ended) this.#source.resume();
      if (++this.#givenAtOnce > givenAtOnceMax) await this.#turn();
      return message;
    }
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#ended) return undefined;
    this.#givenAtOnce = 0;
    this.#waiter = Promise.withResolvers();
    return this.#waiter.promise;
  }

  leave(): void {
    if (!this.#started) return;
    this.#stop();
    this.#source.resume();
  }

  giveUp(failure: unknown): void {
    if (!this.#ended) this.#fail(failure);
  }

  #start(): void {
    this.#started = true;
    const source = this.#source;
    source.on("data", this.#onData).on("end", this.#onEnd).on("close", this.#onClose).on("error", this.#onClose);
    // A body that ended before anybody looked has no more to say.
    if (source.readableEnded) this.#onEnd();
    else if (source.destroyed) this.#onClose();
    else this.#watch();
  }

  /** The clock of one message; a body of one message has one. */
  #watch(): void {
    this.#sinceMs = performance.now();
    this.#timer = setTimeout(this.#look, this.#limits.patienceMs);
  }

  readonly #look = (): void => {
    const { patienceMs, patienceMaxMs } = this.#limits;
    const allowedMs = Math.min(patienceMaxMs, patienceMs + this.#bytes);
    const leftMs = this.#sinceMs + allowedMs - performance.now();
    if (leftMs > 0) {
      this.#timer = setTimeout(this.#look, leftMs);
      return;
    }
    const timer = this.#timer;
    const seen = this.#bytes;
    // What lies in the socket is read before this runs: a process that stalled itself must not blame the client.
    setImmediate(() => {
      if (this.#timer !== timer) return;
      if (this.#bytes === seen)
        this.#fail(new ConnectError("The request's body did not come in time", Code.DeadlineExceeded));
      else this.#look();
    });
  };

  readonly #onData = (piece: Uint8Array): void => {
    this.#pieces.push(piece);
    this.#pieceBytes += piece.length;
    this.#bytes += piece.length;
    this.#pieceCount++;
    if (this.#pieceBytes >= blockBytes) this.#joinBlock();
    if (!this.#enveloped && this.#bytes > this.#limits.readMaxBytes) {
      return void this.#fail(tooLarge(this.#limits.readMaxBytes));
    }
    if (!this.#enveloped && this.#bytes > largeBytes && !this.#takeRoom(this.#stated)) return;
    if (this.#pieceCount > piecesMax(this.#bytes)) {
      return void this.#fail(new ConnectError("The request's body comes in too small pieces", Code.ResourceExhausted));
    }
    if (this.#enveloped) this.#open();
  };

  /** Takes whole envelopes out of what has come. */
  #open(): void {
    while (this.#failure === undefined && this.#bytes >= (this.#wanted ?? headerBytes)) {
      if (this.#wanted === undefined) {
        const header = this.#joined();
        const length = header.readUInt32BE(1);
        if (length > this.#limits.readMaxBytes) return void this.#fail(tooLarge(this.#limits.readMaxBytes, length));
        this.#wanted = headerBytes + length;
        if (length > largeBytes && !this.#takeRoom(length)) return;
      } else {
        const all = this.#joined();
        const envelope = all.subarray(0, this.#wanted);
        const message = { flags: envelope[0] as number, data: envelope.subarray(headerBytes), envelope };
        const rest = all.subarray(this.#wanted);
        this.#forget(rest);
        this.#give(message);
      }
    }
    if (this.#bytes > 0 && this.#timer === undefined && this.#failure === undefined) this.#watch();
  }

  /** The bytes so far as one piece. Called twice a message: when its header and when all of it is there. */
  #joined(): Buffer {
    const all = [...this.#blocks, ...this.#pieces];
    const [only] = all;
    const joined = all.length === 1 && only ? only : Buffer.concat(all, this.#bytes);
    this.#blocks = [joined];
    this.#pieces = [];
    this.#pieceBytes = 0;
    return Buffer.from(joined.buffer, joined.byteOffset, joined.byteLength);
  }

  #joinBlock(): void {
    this.#blocks.push(this.#pieces.length === 1 ? (this.#pieces[0] as Uint8Array) : Buffer.concat(this.#pieces));
    this.#pieces = [];
    this.#pieceBytes = 0;
  }

  /** Once a message: its length is known before most of it has come. */
  #takeRoom(bytes: number): boolean {
    if (this.#hasRoom) return true;
    this.#hasRoom = this.#room(bytes);
    if (!this.#hasRoom) this.#fail(noRoom());
    return this.#hasRoom;
  }

  /** The next message begins with what is left. */
  #forget(rest: Uint8Array): void {
    this.#blocks = rest.length === 0 ? [] : [rest];
    this.#bytes = rest.length;
    this.#pieceCount = this.#blocks.length;
    this.#hasRoom = false;
    this.#wanted = undefined;
    if (this.#single) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #give(message: RawMessage): void {
    if (!this.#single) this.#hasBegun();
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter) waiter.resolve(message);
    else if (this.#ready.push(message) >= waitingMax) this.#source.pause();
  }

  readonly #onEnd = (): void => {
    if (this.#ended || this.#failure !== undefined) return;
    if (this.#enveloped && this.#bytes > 0)
      return void this.#fail(unreadable("The body ends in the middle of a message"));
    this.#ended = true;
    if (!this.#enveloped) this.#give({ flags: 0, data: this.#bytes === 0 ? new Uint8Array() : this.#joined() });
    this.#stop();
    this.#waiter?.resolve(undefined);
    this.#waiter = undefined;
  };

  readonly #onClose = (): void => {
    if (!this.#ended) this.#fail(new ConnectError("The client ended the call", Code.Canceled));
  };

  #fail(failure: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    this.#blocks = [];
    this.#pieces = [];
    this.leave();
    this.#waiter?.reject(failure);
    this.#waiter = undefined;
  }

  #hasBegun(): void {
    this.#begun?.();
    this.#begun = undefined;
  }

  #stop(): void {
    this.#hasBegun();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const source = this.#source;
    source.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onClose).off("error", this.#onClose);
  }

  async #turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#givenAtOnce = 0;
  }
}

const piecesMax = (bytes: number): number =>
  freePieces + Math.min(bytes, longBytes) / pieceBytesMean + Math.max(0, bytes - longBytes) / longPieceBytesMean;

function tooLarge(readMaxBytes: number, bytes?: number): ConnectError {
  const size = bytes === undefined ? "" : ` ${bytes}`;
  return new ConnectError(
    `message size${size} is larger than configured readMaxBytes ${readMaxBytes}`,
    Code.ResourceExhausted,
  );
}

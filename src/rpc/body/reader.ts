// Reads a request's body as whole messages. The cost is linear in its bytes, however it is split, and the wait is
// bounded, however slowly it arrives.
import type { Readable } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import { unreadable } from "./fault.js";
import { largeBytes, noRoom } from "./room.js";

/** A message as received: the whole body (flags 0), or one envelope of a stream. */
export interface RawMessage {
  readonly flags: number;
  readonly data: Uint8Array;
  /** Header and data as received, if there is a header. */
  readonly envelope?: Uint8Array;
}

export interface ReaderLimits {
  /** Bytes of the largest message. */
  readonly readMaxBytes: number;
  /**
   * How long to wait for a message, plus a millisecond for each byte received, which allows a line of 1 KiB a second.
   * It counts from the first `next` of a body, and from the first byte of each later message: a stream may be silent
   * between messages.
   */
  readonly patienceMs: number;
  /** The longest wait, however much has arrived. */
  readonly patienceMaxMs: number;
}

export const defaultReaderLimits: Omit<ReaderLimits, "readMaxBytes"> = {
  patienceMs: 10_000,
  patienceMaxMs: 120_000,
};

/**
 * This many pieces of a message may have any size. After them the pieces must have a minimum mean size, which is larger
 * for large messages. A packet holds 1,400 bytes.
 */
const freePieces = 1_024;
const pieceBytesMean = 16;
const longBytes = 256 * 1024;
const longPieceBytesMean = 256;
/** Pieces are joined into blocks of this size as they arrive, since each piece costs memory of its own. */
const blockBytes = 64 * 1024;
/** When this many messages wait for their reader, reading of the body pauses. */
const waitingMax = 16;
/** Messages given to the reader in one turn of the event loop, so that other calls get their turn. */
const givenAtOnceMax = 4;

const headerBytes = 5;

export interface BodyReader {
  /** The next message; undefined at the end. @throws ConnectError, BodyFault: reading then stops */
  next(): Promise<RawMessage | undefined>;
  /** Ignores the rest: it is received and dropped. */
  leave(): void;
  /** Ends the wait for a body: `next` throws the failure. */
  giveUp(failure: unknown): void;
}

export interface ReaderOptions {
  readonly source: Readable;
  /** Whether messages come in envelopes (a byte of flags, four of length); otherwise the body is one message. */
  readonly enveloped: boolean;
  /** Whether the call has one message only, so that its end must arrive in time too. */
  readonly single: boolean;
  readonly limits: ReaderLimits;
  /** Reserves memory for a large message; false when none is left. */
  readonly room: (bytes: number) => boolean;
  /** Bytes of a body with one message, if stated. */
  readonly stated?: number | undefined;
  /** Called once, when the call's first message (or the end of a single one) has arrived or never will. */
  readonly begun?: () => void;
}

/** Starts reading at the first `next`. */
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
  /** The message being received: joined blocks, then pieces not yet joined. */
  #blocks: Uint8Array[] = [];
  #pieces: Uint8Array[] = [];
  #pieceBytes = 0;
  #hasRoom = false;
  #bytes = 0;
  #pieceCount = 0;
  /** Bytes of the whole message; undefined before its header. */
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
    // If the body ended before the first `next`, its end event is already gone.
    if (source.readableEnded) this.#onEnd();
    else if (source.destroyed) this.#onClose();
    else this.#watch();
  }

  /** The time limit of one message; a single-message body has one. */
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
    // Bytes already in the socket are read before this runs, so that a process that stalled does not blame the client.
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

  /** Takes complete envelopes out of the received bytes. */
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

  /** The bytes so far as one piece. Called twice per message: for its header and for all of it. */
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

  /** Runs once per message: its length is known before most of it has arrived. */
  #takeRoom(bytes: number): boolean {
    if (this.#hasRoom) return true;
    this.#hasRoom = this.#room(bytes);
    if (!this.#hasRoom) this.#fail(noRoom());
    return this.#hasRoom;
  }

  /** The next message begins with the remaining bytes. */
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

// Reads a request's body as whole messages, at a cost that is linear in its bytes however it is cut into pieces, and with
// an end however slowly they come.
import type { Readable } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import { unreadable } from "./fault.js";

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

/** So many pieces of a message may be of any size; beyond them they must have a mean size. A packet holds 1,400 bytes. */
const freePieces = 1_024;
const pieceBytesMean = 16;
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
  #begun: (() => void) | undefined;
  /** Pieces of the message that is coming, and what is known of it. */
  #pieces: Uint8Array[] = [];
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

  constructor({ source, enveloped, single, limits, begun }: ReaderOptions) {
    this.#source = source;
    this.#enveloped = enveloped;
    this.#single = single;
    this.#limits = limits;
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
    this.#bytes += piece.length;
    this.#pieceCount++;
    if (!this.#enveloped && this.#bytes > this.#limits.readMaxBytes) {
      return void this.#fail(tooLarge(this.#limits.readMaxBytes));
    }
    if (this.#pieceCount > freePieces + this.#bytes / pieceBytesMean) {
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
    const [only] = this.#pieces;
    const joined = this.#pieces.length === 1 && only ? only : Buffer.concat(this.#pieces, this.#bytes);
    this.#pieces = [joined];
    return Buffer.from(joined.buffer, joined.byteOffset, joined.byteLength);
  }

  /** The next message begins with what is left. */
  #forget(rest: Uint8Array): void {
    this.#pieces = rest.length === 0 ? [] : [rest];
    this.#bytes = rest.length;
    this.#pieceCount = this.#pieces.length;
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
    const source = this.#source;
    source.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onClose).off("error", this.#onClose);
  }

  async #turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#givenAtOnce = 0;
  }
}

function tooLarge(readMaxBytes: number, bytes?: number): ConnectError {
  const size = bytes === undefined ? "" : ` ${bytes}`;
  return new ConnectError(
    `message size${size} is larger than configured readMaxBytes ${readMaxBytes}`,
    Code.ResourceExhausted,
  );
}

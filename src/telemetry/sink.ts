// Standard output and standard error as sinks that never hold the process up. A disk that is full, a pipe that nobody
// reads and a reader that has gone cost lines, which are counted. They never cost a heartbeat or the service.
import { constants, fstatSync, openSync, write, writeSync } from "node:fs";

export interface Sink {
  /** Takes whole lines. Never waits and never throws: beyond the bound the oldest lines are dropped. */
  write(text: string): void;
  /** Lines dropped since the sink was made. */
  readonly dropped: number;
  /** Once after each loss, when lines get through again, the listener is told how many were lost, and says so itself. */
  onLoss(listener: (lines: number) => void): void;
  /**
   * Writes what waits before it returns, and stands still for so long at the most: nothing else may happen while a
   * process ends. True when the system has every line that the sink was given.
   */
  flush(limitMs: number): boolean;
}

export interface SinkOptions {
  /** Writes some of the bytes and calls back, at once or later, with how many it wrote; EAGAIN means that none fit. */
  readonly put: (bytes: Buffer, done: (error: NodeJS.ErrnoException | null, written: number) => void) => void;
  /** Writes some of the bytes and answers how many. @throws as write(2) does */
  readonly putNow: (bytes: Buffer) => number;
  /** How much may wait. */
  readonly bytesMax: number;
}

const chunkBytesMax = 65_536;
/** A full pipe is tried again soon, then less and less often. */
const fullRetryMs = { first: 5, last: 200 };
/** A disk that is full, or a pipe without a reader, may be mended by somebody. */
const failedRetryMs = 1_000;
const flushPauseMs = 5;

export function createSink({ put, putNow, bytesMax }: SinkOptions): Sink {
  /** What waits; the first one may be the rest of a line. */
  const lines: Buffer[] = [];
  let waitingBytes = 0;
  /** Lines at the head that the system has begun to take: dropping one would leave a torn line. */
  let begun = 0;
  /** Whether the first line is the rest of one. */
  let torn = false;
  let flight: symbol | undefined;
  let retry: NodeJS.Timeout | undefined;
  let retryMs = fullRetryMs.first;
  let dropped = 0;
  let untold = 0;
  let tellLoss = (count: number): void => take(`${count} lines could not be written here and are lost\n`);

  const drop = (from: number, count: number): void => {
    for (const line of lines.splice(from, count)) waitingBytes -= line.length;
    dropped += count;
    untold += count;
  };
  /** The first lines, as many as are written at once: one at the least. */
  const nextChunk = (): Buffer => {
    let bytes = 0;
    let count = 0;
    for (const line of lines) {
      if (count > 0 && bytes + line.length > chunkBytesMax) break;
      bytes += line.length;
      count++;
    }
    begun = count;
    return count === 1 ? (lines[0] as Buffer) : Buffer.concat(lines.slice(0, count));
  };
  const wrote = (bytes: number): void => {
    waitingBytes -= bytes;
    let [whole, left] = [0, bytes];
    for (const line of lines) {
      if (left < line.length) break;
      left -= line.length;
      whole++;
    }
    lines.splice(0, whole);
    if (left > 0) lines[0] = (lines[0] as Buffer).subarray(left);
    if (bytes > 0) torn = left > 0;
    begun = torn ? 1 : 0;
  };
  const refused = (error: NodeJS.ErrnoException): void => {
    begun = torn ? 1 : 0;
    if (error.code !== "EPIPE") return;
    // Nobody will read these. A named pipe may find another reader, who begins with a whole line.
    drop(0, lines.length);
    torn = false;
    begun = 0;
  };
  const tryLater = (delayMs: number): void => {
    retry = setTimeout(() => {
      retry = undefined;
      pump();
    }, delayMs);
    // A process whose work is done does not stay for its lines: its end flushes them.
    retry.unref();
  };
  const pump = (): void => {
    if (flight !== undefined || retry !== undefined || lines.length === 0) return;
    const mine = Symbol();
    flight = mine;
    put(nextChunk(), (error, written) => {
      // A flush has taken over what was in flight.
      if (flight !== mine) return;
      flight = undefined;
      if (error === null) {
        retryMs = fullRetryMs.first;
        wrote(written);
        tellWhenThrough();
        return pump();
      }
      refused(error);
      if (error.code !== "EAGAIN") return tryLater(failedRetryMs);
      tryLater(retryMs);
      retryMs = Math.min(retryMs * 2, fullRetryMs.last);
    });
  };
  /** Lines get through when the sink keeps up again, which the first line after a jam does not show. */
  const tellWhenThrough = (): void => {
    if (untold === 0 || waitingBytes > bytesMax / 2) return;
    const count = untold;
    untold = 0;
    tellLoss(count);
  };
  const take = (text: string): void => {
    const line = Buffer.from(text);
    lines.push(line);
    waitingBytes += line.length;
    while (waitingBytes > bytesMax && lines.length > begun) drop(begun, 1);
    pump();
  };
  return {
    get dropped() {
      return dropped;
    },
    onLoss: (listener) => {
      tellLoss = listener;
    },
    write: take,
    flush: (limitMs) => {
      const endMs = performance.now() + limitMs;
      // The process does not end before the system has answered for these.
      if (flight !== undefined) wrote(lines.slice(0, begun).reduce((sum, line) => sum + line.length, 0));
      flight = undefined;
      while (lines.length > 0) {
        try {
          wrote(putNow(nextChunk()));
        } catch (error) {
          refused(error as NodeJS.ErrnoException);
          if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || performance.now() >= endMs) break;
          Atomics.wait(standstill, 0, 0, flushPauseMs);
        }
      }
      return lines.length === 0 && dropped === 0;
    },
  };
}

const standstill = new Int32Array(new SharedArrayBuffer(4));

/** More than a minute of lines of a busy service, and little beside what the service holds. */
const standardBytesMax = 1024 * 1024;
/** Of each of the two, at the end of the process. */
const endFlushMs = 1_000;
const standard = new Map<1 | 2, Sink>();

/** The sink of the process's standard output (1) or standard error (2). The end of the process flushes it. */
export function standardSink(descriptor: 1 | 2): Sink {
  const known = standard.get(descriptor);
  if (known !== undefined) return known;
  const sink = createSink({ ...waysTo(descriptor), bytesMax: standardBytesMax });
  standard.set(descriptor, sink);
  process.once("exit", () => void sink.flush(endFlushMs));
  return sink;
}

/** A file takes bytes in a thread, for its disk may be slow; anything else takes what fits, at once. */
function waysTo(descriptor: 1 | 2): Pick<SinkOptions, "put" | "putNow"> {
  if (fstatSync(descriptor).isFile()) {
    return {
      put: (bytes, done) => write(descriptor, bytes, done),
      putNow: (bytes) => writeSync(descriptor, bytes),
    };
  }
  const open = unblocked(descriptor);
  const putNow = (bytes: Buffer) => writeSync(open, bytes);
  return {
    putNow,
    put: (bytes, done) => {
      let written: number;
      try {
        written = putNow(bytes);
      } catch (error) {
        return done(error as NodeJS.ErrnoException, 0);
      }
      done(null, written);
    },
  };
}

/** The same pipe or terminal, where a write that does not fit answers EAGAIN instead of waiting for a reader. */
function unblocked(descriptor: 1 | 2): number {
  const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
  try {
    // Opened a second time, so that other processes that write here do not meet EAGAIN.
    return openSync(`/proc/self/fd/${descriptor}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    // A socket cannot be opened by name, nor can a pipe of another user. Node's own stream unblocks both when it is made.
    void (descriptor === 1 ? process.stdout : process.stderr);
    return descriptor;
  }
}

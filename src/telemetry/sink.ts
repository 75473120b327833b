// Standard output and standard error as sinks that never block the process. A full disk, a pipe
// that nobody reads, or a reader that has exited costs log lines, which are counted, but never a heartbeat or the service.
import { constants, fstatSync, openSync, write, writeSync } from "node:fs";

export interface Sink {
  /** Takes whole lines. Never waits and never throws: above the bound the oldest lines are dropped. */
  write(text: string): void;
  /** Lines dropped since the sink was created. */
  readonly dropped: number;
  /**
   * Called once after each loss, when lines get through again, with the number of lost lines. The listener then reports
   * the loss.
   */
  onLoss(listener: (lines: number) => void): void;
  /**
   * Writes waiting lines before it returns, and blocks for at most this long: nothing else may run while a process
   * ends. True when the system has every line that the sink was given.
   */
  flush(limitMs: number): boolean;
}

export interface SinkOptions {
  /** Writes some of the bytes and calls back, at once or later, with how many; EAGAIN means that none fit. */
  readonly put: (bytes: Buffer, done: (error: NodeJS.ErrnoException | null, written: number) => void) => void;
  /** Writes some of the bytes and returns how many. @throws as write(2) does */
  readonly putNow: (bytes: Buffer) => number;
  /** The most bytes that may wait. */
  readonly bytesMax: number;
}

const chunkBytesMax = 65_536;
/** A full pipe is retried soon, then less and less often. */
const fullRetryMs = { first: 5, last: 200 };
/** Somebody may repair a full disk or a pipe without a reader. */
const failedRetryMs = 1_000;
const flushPauseMs = 5;

export function createSink({ put, putNow, bytesMax }: SinkOptions): Sink {
  /** Waiting lines. The first may be the rest of a partly written line. */
  const lines: Buffer[] = [];
  let waitingBytes = 0;
  /** Lines at the head that the system has begun to take. Dropping one would leave a torn line. */
  let begun = 0;
  /** Whether the first line is the rest of a partly written line. */
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
  /** The first lines, as many as one write takes: at least one. */
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
    // These lines have no reader any more. A named pipe may get another reader, which begins with a whole line.
    drop(0, lines.length);
    torn = false;
    begun = 0;
  };
  const tryLater = (delayMs: number): void => {
    retry = setTimeout(() => {
      retry = undefined;
      pump();
    }, delayMs);
    // A process that has finished its work does not wait for its lines: its exit flushes them.
    retry.unref();
  };
  const pump = (): void => {
    if (flight !== undefined || retry !== undefined || lines.length === 0) return;
    const mine = Symbol();
    flight = mine;
    put(nextChunk(), (error, written) => {
      // A flush has taken over the write in flight.
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
  /** Lines get through when the sink has caught up; the first line after a jam does not prove that. */
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
      // The process does not end before the system has answered for these lines.
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

/** More than a minute of a busy service's lines, and little compared with the service's own memory. */
const standardBytesMax = 1024 * 1024;
/** For each of the two, at the end of the process. */
const endFlushMs = 1_000;
const standard = new Map<1 | 2, Sink>();

/** The sink of the process's standard output (1) or standard error (2). The exit of the process flushes it. */
export function standardSink(descriptor: 1 | 2): Sink {
  const known = standard.get(descriptor);
  if (known !== undefined) return known;
  const sink = createSink({ ...waysTo(descriptor), bytesMax: standardBytesMax });
  standard.set(descriptor, sink);
  process.once("exit", () => void sink.flush(endFlushMs));
  return sink;
}

/** A file is written in a thread, since its disk may be slow. Anything else takes what fits, at once. */
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

/**
 * The same pipe or terminal, opened so that a write that does not fit returns EAGAIN instead of waiting for a reader.
 */
function unblocked(descriptor: 1 | 2): number {
  const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
  try {
    // Opened a second time, so that other processes that write to it do not get EAGAIN.
    return openSync(`/proc/self/fd/${descriptor}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    // A socket, or a pipe of another user, cannot be opened by name. Node's own stream makes both non-blocking when it
    // is created.
    void (descriptor === 1 ? process.stdout : process.stderr);
    return descriptor;
  }
}

// A pipe of which the test holds both ends: it can fill it before anybody writes, read it later, or close it.
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";

export interface Fifo extends Disposable {
  /** The end to write to, for a child's standard output; it waits when the pipe is full, as a shell's pipe does. */
  readonly writeEnd: number;
  /** Puts bytes in until no more fit; they are left out of what `read` answers. */
  fill(): void;
  /** What is in it now. */
  read(): string;
  /** Closes the reading end, so that nobody reads any more. */
  closeReader(): void;
}

export function openFifo(directory: string): Fifo {
  const path = join(directory, `fifo-${Math.trunc(performance.now() * 1000)}`);
  execFileSync("mkfifo", [path]);
  // The reading end is opened first, without waiting for a writer. Then opening the writing end need not wait either.
  const readEnd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writeEnd = openSync(path, constants.O_WRONLY);
  const filling = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  let filled = 0;
  let isOpen = true;
  const buffer = Buffer.alloc(1024 * 1024);
  const closeReader = () => {
    if (isOpen) closeSync(readEnd);
    isOpen = false;
  };
  const orFull = <Result>(act: () => Result, otherwise: Result): Result => {
    try {
      return act();
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EAGAIN") return otherwise;
      throw error;
    }
  };
  return {
    writeEnd,
    fill: () => {
      // By pages, then by bytes: a page that does not fit as a whole is not taken.
      for (const size of [4096, 1]) {
        for (let taken = 1; taken > 0; ) {
          taken = orFull(() => writeSync(filling, Buffer.alloc(size, "#")), 0);
          filled += taken;
        }
      }
    },
    read: () => {
      let text = "";
      for (;;) {
        const count = orFull(() => readSync(readEnd, buffer), 0);
        if (count === 0) break;
        text += buffer.toString("utf8", 0, count);
      }
      const own = Math.min(filled, text.length);
      filled -= own;
      return text.slice(own);
    },
    closeReader,
    [Symbol.dispose]: () => {
      closeReader();
      closeSync(writeEnd);
      closeSync(filling);
    },
  };
}

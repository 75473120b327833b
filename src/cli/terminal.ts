// What a command says and asks: its result on standard output, everything else on standard error.
import { createInterface } from "node:readline/promises";
import { isatty } from "node:tty";
import { standardSink } from "../telemetry/sink.js";
import { visible } from "../telemetry/visible.js";
import { answer, complain } from "./output.js";

export interface Terminal {
  /** Writes the command's result and returns the exit code. */
  answer(text: string): number;
  /** Writes a line for people. */
  tell(line: string): void;
  /** Writes how far long work has come: over the former such line on a terminal, elsewhere only what is new. */
  progress(line: string): void;
  /** Asks a person yes or no. Undefined when nobody can be asked. */
  confirm(question: string): Promise<boolean> | undefined;
}

/** The process's own input and outputs. */
export function systemTerminal(): Terminal {
  let shown: string | undefined;
  /** The next line begins below the progress line. */
  const leaveProgress = (): void => {
    if (shown !== undefined && isatty(2)) standardSink(2).write("\n");
    shown = undefined;
  };
  return {
    answer: (text) => {
      leaveProgress();
      return answer(text);
    },
    tell: (line) => {
      leaveProgress();
      complain(line);
    },
    progress: (line) => {
      if (line === shown) return;
      shown = line;
      standardSink(2).write(isatty(2) ? `\r\x1b[2K${visible(line)}` : `${visible(line)}\n`);
    },
    confirm: (question) => {
      leaveProgress();
      return isatty(0) && isatty(2) ? ask(question) : undefined;
    },
  };
}

/** Anything but "y" or "yes" means no, the end of the input included. */
async function ask(question: string): Promise<boolean> {
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  const closed = new Promise<string>((resolve) => reader.once("close", () => resolve("")));
  try {
    const given = await Promise.race([reader.question(`${visible(question)} [y/N] `), closed]);
    return /^y(es)?$/i.test(given.trim());
  } finally {
    reader.close();
  }
}

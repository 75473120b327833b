// The output of commands for people and scripts: lines that never block a command, and an end that is not delayed.
import { redact } from "../telemetry/redact.js";
import { standardSink } from "../telemetry/sink.js";
import { visible } from "../telemetry/visible.js";

/** How long a reader may delay a command that has only its answer left to write. */
const answerLimitMs = 5_000;

/** Of up to 128 Ki characters, each of at most 4 bytes; the sink keeps at most 1 MiB. */
const pieces = /[\s\S]{1,131072}/gu;

/** Writes one line on standard output. It may contain foreign text, so control characters are shown, not sent. */
export const say = (line: string): void => standardSink(1).write(`${visible(line)}\n`);

/** Like `say`, on standard error. */
export const complain = (line: string): void => standardSink(2).write(`${visible(line)}\n`);

/**
 * Writes the command's result, a line or more. The exit code is 1 when it cannot be written, since the command has then
 * failed.
 */
export function answer(text: string): number {
  const shown = `${text.split("\n").map(visible).join("\n")}\n`;
  // In large pieces, so that a reader of only the first lines, such as head, has received them all, and no piece is more
  // than the sink keeps.
  let written = true;
  for (const piece of shown.match(pieces) ?? []) {
    if (!written) break;
    standardSink(1).write(piece);
    written = standardSink(1).flush(answerLimitMs);
  }
  if (written) return 0;
  complain("The answer could not be written to standard output: look at its disk or its reader");
  return 1;
}

/**
 * Ends the process after an unforeseen error: prints its text without secrets, with exit code 1. Nothing else runs in
 * between, since the process's state may be wrong.
 */
export function endOnFaults(): void {
  process.on("uncaughtException", (error: unknown) => {
    for (const line of String(redact(error)).split("\n")) complain(line);
    process.exit(1);
  });
  process.removeAllListeners("warning");
  process.on("warning", (warning) => complain(`${warning.name}: ${warning.message}`));
}

// What commands say to people and scripts: lines that never hold a command up, and an end that is not kept waiting.
import { redact } from "../telemetry/redact.js";
import { standardSink } from "../telemetry/sink.js";
import { visible } from "../telemetry/visible.js";

/** How long a reader may keep a command that has nothing left to do but to hand over its answer. */
const answerLimitMs = 5_000;

/** One line on standard output. It may hold text of others: control characters are shown, not sent. */
export const say = (line: string): void => standardSink(1).write(`${visible(line)}\n`);

/** Like `say`, on standard error. */
export const complain = (line: string): void => standardSink(2).write(`${visible(line)}\n`);

/**
 * Says what the command was run for, a line or more; the exit code is 1 when it cannot be written, for then the command has
 * failed.
 */
export function answer(text: string): number {
  // At once, so that a reader of the first lines alone, such as head, has taken them all.
  standardSink(1).write(`${text.split("\n").map(visible).join("\n")}\n`);
  if (standardSink(1).flush(answerLimitMs)) return 0;
  complain("The answer could not be written to standard output: look at its disk or its reader");
  return 1;
}

/**
 * Ends the process when something fails that nobody has foreseen: the text of the error without secrets, exit code 1.
 * Nothing else runs in between, for what the process believes may be wrong.
 */
export function endOnFaults(): void {
  process.on("uncaughtException", (error: unknown) => {
    for (const line of String(redact(error)).split("\n")) complain(line);
    process.exit(1);
  });
  process.removeAllListeners("warning");
  process.on("warning", (warning) => complain(`${warning.name}: ${warning.message}`));
}

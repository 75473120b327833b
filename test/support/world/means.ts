// What a command of the command line uses of its process, as a test gives it.
import type { Means } from "../../../src/cli/payouts/asking.js";
import { systemClock } from "../../../src/clock.js";
import type { KeptTerminal } from "./terminal.js";

let keys = 0;

/** Its waits are short: a command that looks again every few seconds looks again at once. */
export const meansWith = (terminal: KeptTerminal, signal = new AbortController().signal): Means => ({
  terminal,
  clock: { ...systemClock, sleep: (_, aborted) => systemClock.sleep(20, aborted) },
  newKey: () => `test-key-${++keys}`,
  untilSignalled: () => signal,
});

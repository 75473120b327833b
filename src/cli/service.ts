// A service that a command runs: from its start until a signal or a fault, and how the command ends then.
import type { RunningServer } from "../server.js";
import { StartError } from "../start-error.js";
import { DuplicateKeyError, StoreUnavailableError } from "../storage/collection.js";

/** Aborts at the first SIGINT or SIGTERM; a second one, whichever of them, ends the process at once. */
export function untilSignalled(): AbortSignal {
  const control = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (control.signal.aborted) process.exit(130);
      control.abort();
    });
  }
  return control.signal;
}

/**
 * Waits until the signal aborts or the server cannot go on, then stops the server; `leave` comes before that and may not
 * throw. The exit code is 1 where the server could not go on. The signal is to be there before the server is started, so
 * that a command that is stopped meanwhile ends in order.
 */
export async function runUntil(
  signal: AbortSignal,
  server: Pick<RunningServer, "failed" | "log" | "stop">,
  leave: () => Promise<void> = () => Promise.resolve(),
): Promise<number> {
  const failed = server.failed.then(undefined, (error: unknown) => ({ error }));
  const failure = await Promise.race([aborted(signal), failed]);
  if (failure) server.log.error("The service cannot go on", failure);
  await leave();
  await server.stop();
  // A mistake in what the tasks do last is no orderly end either.
  const late = failure ?? (await failed);
  if (late && !failure) server.log.error("The service ended by a failure", late);
  return late ? 1 : 0;
}

const aborted = (signal: AbortSignal): Promise<undefined> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });

/**
 * What an operator can mend, or wait for: its message is a sentence for people, and the command ends with exit code 1. Any
 * other error is a mistake of ours.
 */
export const isExpected = (error: unknown): error is Error =>
  [StartError, StoreUnavailableError, DuplicateKeyError].some((kind) => error instanceof kind);

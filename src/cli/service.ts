// Runs a service until a signal or a fault, and ends the command accordingly.
import type { RunningServer } from "../server.js";
import { StartError } from "../start-error.js";
import { DuplicateKeyError, StoreUnavailableError } from "../storage/collection.js";

/** Aborts at the first SIGINT or SIGTERM. A second one, of either kind, ends the process at once. */
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
 * Waits until the signal aborts or the server cannot go on, then stops the server. `leave` runs before that and must
 * not throw. The exit code is 1 if the server could not go on. Create the signal before the server starts, so that a
 * command stopped meanwhile ends in order.
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
  // A mistake in the tasks' final work is not an orderly end either.
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
 * An error that an operator can fix or wait out: its message is a sentence for people, and the command ends with exit
 * code 1. Any other error is a mistake of ours.
 */
export const isExpected = (error: unknown): error is Error =>
  [StartError, StoreUnavailableError, DuplicateKeyError].some((kind) => error instanceof kind);

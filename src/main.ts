// The process: settings, server, signals, exit code.

import { CoordinationRefusedError, StoreLockedError, StoreRefusedError } from "./engines.js";
import { ReplicaRefusedError, startServer } from "./server.js";
import { parseSettings, readEnvironment, SettingsError } from "./settings.js";

/** Serves until SIGTERM or SIGINT; answers the exit code. */
export async function main(): Promise<number> {
  const ended = signalled();
  try {
    const server = await startServer(parseSettings(readEnvironment()));
    const failure = await Promise.race([ended, server.failed.then(undefined, (error: unknown) => ({ error }))]);
    if (failure !== undefined) server.log.error("The service cannot go on", failure);
    await server.stop();
    return failure === undefined ? 0 : 1;
  } catch (error) {
    if (!isExpected(error)) throw error;
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
}

/** What an operator can mend; its message says it all. */
function isExpected(error: unknown): error is Error {
  const kinds = [SettingsError, StoreLockedError, StoreRefusedError, CoordinationRefusedError, ReplicaRefusedError];
  if (kinds.some((kind) => error instanceof kind)) return true;
  return error instanceof Error && "syscall" in error && error.syscall === "listen";
}

/** The first signal ends the service in order, a second one at once. */
function signalled(): Promise<undefined> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.once(signal, () => {
        process.once(signal, () => process.exit(130));
        resolve(undefined);
      });
    }
  });
}

// The process: settings, server, the end that was asked for or came, exit code.
import { startServer } from "./server.js";
import { parseSettings, readEnvironment } from "./settings.js";

/** Serves until the signal aborts; answers the exit code. @throws StartError for what an operator can mend */
export async function main(signal: AbortSignal): Promise<number> {
  const ended = new Promise<undefined>((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  const server = await startServer(parseSettings(readEnvironment()));
  const failed = server.failed.then(undefined, (error: unknown) => ({ error }));
  const failure = await Promise.race([ended, failed]);
  if (failure) server.log.error("The service cannot go on", failure);
  await server.stop();
  // A mistake in what the tasks do last is no orderly end either.
  const late = failure ?? (await failed);
  if (late && !failure) server.log.error("The service ended by a failure", late);
  return late ? 1 : 0;
}

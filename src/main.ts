// The process: settings, server, the end that was asked for or came, exit code.
import { startServer } from "./server.js";
import { parseSettings, readEnvironment } from "./settings/settings.js";

/** Serves until the signal aborts; answers the exit code. @throws StartError for what an operator can mend */
export async function main(signal: AbortSignal): Promise<number> {
  const ended = new Promise<undefined>((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  const server = await startServer(parseSettings(readEnvironment()));
  const failure = await Promise.race([ended, server.failed.then(undefined, (error: unknown) => ({ error }))]);
  if (failure !== undefined) server.log.error("The service cannot go on", failure);
  await server.stop();
  return failure === undefined ? 0 : 1;
}

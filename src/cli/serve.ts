// lucid-node serve: the service.
import { startServer } from "../server.js";
import { parseSettings, readEnvironment } from "../settings/environment.js";
import { runUntil, untilSignalled } from "./service.js";

/** Returns the exit code. @throws StartError */
export async function serve(): Promise<number> {
  const signal = untilSignalled();
  return await runUntil(signal, await startServer(parseSettings(readEnvironment())));
}

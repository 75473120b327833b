// lucid-node migrate: prepares the store for this version, before any replica of it serves.
import { migrateStore } from "../engines.js";
import { parseSettings, readEnvironment } from "../settings/environment.js";
import { checkStoreDir } from "../start-check.js";
import { createLogger } from "../telemetry/log.js";
import { say } from "./output.js";

/** Returns the exit code. @throws StartError, StoreUnavailableError, DuplicateKeyError */
export async function migrate(): Promise<number> {
  const settings = parseSettings(readEnvironment());
  const log = createLogger({ ...settings.log, service: settings.serviceName, version: settings.version });
  checkStoreDir(settings);
  const names = await migrateStore(settings, log);
  say(`ready: ${names.join(", ")}`);
  return 0;
}

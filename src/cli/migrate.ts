// lucid-node migrate: the store made ready for this version, before any replica of it serves.
import { migrateStore } from "../engines.js";
import { parseSettings, readEnvironment } from "../settings/settings.js";
import { checkStoreDir } from "../start-check.js";
import { createLogger } from "../telemetry/log.js";
import type { Command } from "./command.js";
import { say } from "./output.js";

export const migrate: Command = {
  summary: "make collections and indexes as this version wants them, then end; serve does it, too",
  usage: "lucid-node migrate",
  run: async () => {
    const settings = parseSettings(readEnvironment());
    const log = createLogger({ ...settings.log, service: settings.serviceName, version: settings.version });
    checkStoreDir(settings);
    const names = await migrateStore(settings, log);
    say(`ready: ${names.join(", ")}`);
    return 0;
  },
};

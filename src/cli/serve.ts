// lucid-node serve: the service.
import { startServer } from "../server.js";
import { parseSettings, readEnvironment } from "../settings/settings.js";
import type { Command } from "./command.js";
import { runUntil, untilSignalled } from "./service.js";

export const serve: Command = {
  summary: "run the service; settings come from the environment, .env and CONFIG_FILE",
  usage: "lucid-node serve",
  run: async () => {
    const signal = untilSignalled();
    return await runUntil(signal, await startServer(parseSettings(readEnvironment())));
  },
};

// The service in a process of its own. On request it tells how long its turns were and how much memory it holds.
import "../../src/base64.js";
import { createInterface } from "node:readline";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { startServer } from "../../src/server.js";
import { parseSettings } from "../../src/settings/environment.js";
import { silentLog } from "../../src/telemetry/log.js";
import { watchTurns } from "../support/world/turns.js";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
const server = await startServer(parseSettings(process.env), { log: silentLog });
let turns = watchTurns();
process.stdout.write(`port ${server.port}\n`);
createInterface({ input: process.stdin })
  .on("line", (line) => {
    if (line === "reset") turns = watchTurns();
    if (line === "collect") {
      collect();
      setImmediate(collect);
    }
    const { rss, heapUsed, external } = process.memoryUsage();
    process.stdout.write(
      `figures ${JSON.stringify({ asked: line, worstMs: turns.worstMs(), rss, heapUsed, external })}\n`,
    );
  })
  .on("close", () => process.exit(0));

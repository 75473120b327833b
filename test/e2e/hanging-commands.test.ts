// A service and an agent on a machine whose helper commands hang: df and lsblk on a dead mount, and others like them.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createLucidClient } from "../../src/client/client.js";
import { type HangingCommands, hangingCommands } from "../support/fleet/hanging-commands.js";
import { nodeOf } from "../support/fleet/look.js";
import { until, within } from "../support/world/until.js";
import { commandLine, requireBuilt } from "./built.js";
import { runProgram, startProgram } from "./process.js";

beforeAll(requireBuilt);

let directory: string;
let commands: HangingCommands;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-hanging-"));
  commands = hangingCommands(directory, ["df", "lsblk", "lscpu", "dmidecode", "lspci", "nvidia-smi", "smartctl"]);
});
afterEach(() => {
  for (const pid of commands.running()) process.kill(pid, "SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

describe("on a machine whose commands hang", () => {
  const settings = () => ({
    PATH: commands.path,
    DATA_DIR: join(directory, "data"),
    PORT: "0",
    METRICS_PORT: "0",
    DRAIN_WINDOW: "0",
    NODE_HEARTBEAT_INTERVAL: "1",
    RESOURCE_COLLECTION_INTERVAL: "1",
  });

  test.each(["SIGTERM", "SIGKILL"] as const)(
    "service and agent are up, beat and tell what they can; after %s nothing is left of them",
    async (signal) => {
      const env = settings();
      await using program = startProgram(process.execPath, [commandLine, "run"], { cwd: directory, env });
      const up =
        /^(node_\w+) \(.+\) is CONNECTED and ACTIVE[\s\S]*Serving on (\S+), metrics[\s\S]*^Ctrl-C stops it\.$/m;
      const [, nodeId = "", url = ""] = await program.printed(up, 30_000);
      const signed = ["token", "--role", "admin"];
      const token = await runProgram(process.execPath, [commandLine, ...signed], { cwd: directory, env });
      using admin = createLucidClient({ baseUrl: url, accessToken: token.stdout.trim() });
      const sampled = async () => (await admin.nodes.getNodeResources({ nodeId })).summary;
      await until(async () => ((await sampled())?.count ?? 0) >= 1, "a sample is told", 30_000);
      expect((await sampled())?.memoryUsedBytes?.last).toBeGreaterThan(0);
      expect((await nodeOf(admin, nodeId)).nodeId).toBe(nodeId);
      await until(() => commands.begun().length > 0, "commands hang");
      const begun = performance.now();
      program.kill(signal);
      await within(program.exited, `it ends after ${signal}`, 10_000);
      expect(performance.now() - begun).toBeLessThan(10_000);
      await until(() => commands.running().length === 0, "its commands are gone");
    },
    60_000,
  );
});

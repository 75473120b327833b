// The agent as operators start it: how it reaches the service, and what it reports about that.
import { mkdtempSync, rmSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createLucidClient, type LucidClient } from "../../src/client/client.js";
import { untilConnectivity } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { until, within } from "../support/world/until.js";
import { commandLine, requireBuilt } from "./built.js";
import { type Program, runProgram, startProgram } from "./process.js";

beforeAll(requireBuilt);

let directory: string;
let programs: Program[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-agent-"));
  programs = [];
});
afterEach(async () => {
  for (const program of programs) await program[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const settings = (host: string) => ({
  HOST: host,
  DATA_DIR: join(directory, "data"),
  PORT: "0",
  METRICS_PORT: "0",
  DRAIN_WINDOW: "0",
  NODE_HEARTBEAT_INTERVAL: "1",
  STREAM_LIFETIME: "1",
});
const run = (given: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  runProgram(process.execPath, [commandLine, ...given], { cwd: directory, env });
function start(given: readonly string[], env: Readonly<Record<string, string>> = {}): Program {
  const program = startProgram(process.execPath, [commandLine, ...given], { cwd: directory, env });
  programs.push(program);
  return program;
}

async function serve(host: string) {
  const env = settings(host);
  const service = start(["serve"], env);
  const [line = ""] = await service.printed(/^.*"Serving".*$/m);
  const port = Number(/"port":(\d+)/.exec(line)?.[1]);
  const authority = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  const token = (await run(["token", "--role", "admin"], env)).stdout.trim();
  const admin = createLucidClient({ baseUrl: `http://${authority}`, accessToken: token });
  return { authority, admin, env };
}

async function startAgent(admin: LucidClient, server: string, env: Readonly<Record<string, string>>) {
  const { nodeId } = await aNode(admin.nodes);
  const enrollment = (await run(["token", "--enrollment", "--node-id", nodeId], env)).stdout.trim();
  const file = join(directory, `${nodeId}.json`);
  return {
    nodeId,
    agent: start(["agent", "--server", server, "--credentials", file], { LUCID_ENROLLMENT_TOKEN: enrollment }),
  };
}

const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1"));
if (!hasIpv6) console.warn("NOT TESTED, FOR THIS MACHINE HAS NO ::1: agents over IPv6");

describe("an agent", () => {
  test("without TLS says once that it trusts the network, however often it connects", async () => {
    const { admin, authority, env } = await serve("127.0.0.1");
    const { nodeId, agent } = await startAgent(admin, `http://${authority}`, { ...env });
    await untilConnectivity(admin, nodeId, "CONNECTED");
    await until(() => (agent.stdout.match(/^connected: /gm)?.length ?? 0) >= 2, "it has connected twice");
    agent.kill("SIGTERM");
    const { code, stdout } = await within(agent.ended, "the agent ends");
    expect(code).toBe(0);
    expect(stdout.match(/trusts the network/g)).toHaveLength(1);
    admin[Symbol.dispose]();
  });

  test.runIf(hasIpv6)("a client and health reach a service on ::1 by its address in brackets", async () => {
    const { admin, authority, env } = await serve("::1");
    for (const server of [`http://${authority}`, authority]) {
      const { nodeId } = await startAgent(admin, server, env);
      await untilConnectivity(admin, nodeId, "CONNECTED");
      expect(await run(["health", "--server", server])).toMatchObject({ code: 0, stdout: "SERVING\n" });
    }
    const { nodes } = await admin.nodes.listNodes({});
    expect(nodes).toHaveLength(2);
    admin[Symbol.dispose]();
  });

  test.each(["http://::1:8083", "http://[fe80::1%25eth0]:8083", "fe80::1%eth0", "[::1", "http://[::1]:99999"])(
    "a client or health of %s is refused in a sentence",
    async (server) => {
      for (const command of ["agent", "health"]) {
        const { code, stdout, stderr } = await run([command, "--server", server]);
        expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
        expect(stderr).toContain("--server takes an address such as http://localhost:8083 or http://[::1]:8083");
        expect(stderr).not.toMatch(/\n\s+at /);
      }
    },
  );
});

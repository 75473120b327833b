// The README keeps its promises: every command and program in it is run, in order, against a service of its own. Blocks
// marked `console` are run elsewhere: test/e2e/cli.test.ts runs `make run` and the agent; `make test` runs this file.
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { signToken } from "../../src/access/jwt.js";
import { type RunningServer, startServer } from "../../src/server.js";
import { parseSettings } from "../../src/settings/environment.js";
import { silentLog } from "../../src/telemetry/log.js";
import { toolFor } from "../support/tools.js";

const run = promisify(execFile);
const root = new URL("../..", import.meta.url).pathname;
const readme = readFileSync(join(root, "README.md"), "utf8");
const blocks = [...readme.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, language = "", code = ""]) => ({
  language,
  code,
}));
const secret = "readme-test-secret-0123456789abcdef";

const grpcurl = toolFor("README", "grpcurl");
const python = toolFor("README", "python");
/** Whether the block needs a program that this machine lacks. `toolFor` has named the program, and throws in CI. */
const cannotRun = (code: string) =>
  (/grpcurl/.test(code) && grpcurl === undefined) || (/python3/.test(code) && python === undefined);

describe("README", () => {
  let directory: string;
  let server: RunningServer;
  let environment: NodeJS.ProcessEnv;
  /** Puts this test's ports in place of the README's, which are the defaults. */
  const here = (code: string) =>
    code
      .replaceAll("127.0.0.1:8083", `127.0.0.1:${server.port}`)
      .replaceAll("127.0.0.1:9090", `127.0.0.1:${server.metricsPort}`);

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "lucid-readme-"));
    const settings = {
      PORT: "0",
      METRICS_PORT: "0",
      DATA_DIR: directory,
      JWT_SECRET_KEY: secret,
      SANDBOX_BLOCK_TIME: "20",
    };
    server = await startServer(parseSettings(settings), { log: silentLog });
    const issuedAt = new Date();
    const TOKEN = await signToken(
      { common: [{ kid: "1", secret }], privileged: undefined },
      {
        subject: "readme",
        role: "admin",
        nodeId: undefined,
        tokenType: "service_access",
        jti: "readme",
        issuedAt,
        expiresAt: new Date(issuedAt.getTime() + 600_000),
      },
    );
    const places = [grpcurl, python].flatMap((program) => (program === undefined ? [] : [dirname(program)]));
    const PATH = [...places, join(root, "node_modules/.bin"), process.env.PATH].join(":");
    environment = { ...process.env, ...settings, PORT: String(server.port), PATH, TOKEN };
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it("has commands for every kind of reader", () => {
    const languages = blocks.map(({ language }) => language);
    expect(new Set(languages)).toEqual(new Set(["console", "sh", "ts", "js", "python"]));
  });

  it.each(blocks.filter(({ language }) => language === "sh").map(({ code }) => [code.split("\n")[0], code]))(
    "runs: %s",
    async (_first, code) => {
      if (cannotRun(code)) return;
      const { stdout } = await run("bash", ["-euo", "pipefail", "-c", here(code)], { cwd: root, env: environment });
      expect(stdout).not.toMatch(/"code"\s*:\s*"(internal|unauthenticated|invalid_argument)"/);
      if (!code.includes("build/python")) expect(stdout).not.toBe("");
      if (code.includes("payouts batch")) {
        expect(stdout).toMatch(/^state +COMPLETED\npayouts +3 of 3 done: COMPLETED 3$/m);
        expect(stdout).toMatch(/ sandbox:[0-9a-f]{64}$/m);
      }
    },
  );

  it("the TypeScript example creates a node and reads a refusal's reason", async () => {
    const code = blocks.find(({ language }) => language === "ts")?.code ?? "";
    const file = join(directory, "example.ts");
    writeFileSync(file, here(code).replace('"@lucid/node-client"', `"${join(root, "dist/src/client/index.js")}"`));
    const { stdout } = await run("node", [file], { cwd: root, env: environment });
    expect(stdout).toMatch(/^node_\w{26} 1\nLUCID_ERR_5001\n$/);
  });

  it("the grpc-js example lists nodes", async () => {
    const code = blocks.find(({ language }) => language === "js")?.code ?? "";
    const { stdout } = await run("node", ["--input-type=module", "-e", here(code)], { cwd: root, env: environment });
    expect(stdout).toContain("typed");
  });

  it("the Python example lists nodes", async () => {
    if (python === undefined) return;
    const code = blocks.find(({ language }) => language === "python")?.code ?? "";
    const { stdout } = await run(python, ["-c", here(code)], { cwd: root, env: environment });
    expect(stdout).toContain("typed NODE_STATUS_INACTIVE");
  });
});

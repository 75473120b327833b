// An upgrade as it happens. The previous version, built from its commit, and this version serve from one store at the
// same time, are restarted in any order, and hand a store to each other.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { createLucidClient, type LucidClient } from "../../src/client/client.js";
import { startMongo } from "../support/engines/mongo.js";
import { startRedis } from "../support/engines/redis.js";
import { canStartReplicas } from "../support/fleet/replicas.js";
import { signAccess } from "../support/world/tokens.js";
import { commonSecret } from "../support/world/world.js";
import { commandLine, requireBuilt } from "./built.js";
import { type Program, startProgram } from "./process.js";

/** The commit of the previous version. */
const before = "c0da7b431122b061315ce8c6792a4cb24b3d6a54";
const root = new URL("../..", import.meta.url).pathname;

const git = (...given: string[]) =>
  execFileSync("git", ["-C", root, ...given], { maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "ignore"] });
const hasBefore = ((): boolean => {
  try {
    git("cat-file", "-e", `${before}^{commit}`);
    return true;
  } catch {
    process.stderr.write(`SKIPPED: commit ${before} is not in this clone: an upgrade from it\n`);
    if (process.env.CI === "true")
      throw new Error("The commit of the version before is missing: clone with its history");
    return false;
  }
})();

const directory = mkdtempSync(join(tmpdir(), "lucid-upgrade-"));
const oldCommandLine = join(directory, "dist/src/cli/lucid-node.js");
const common = {
  ...{ HOST: "127.0.0.1", PORT: "0", METRICS_PORT: "0", DRAIN_WINDOW: "0", RATE_LIMIT_ENABLED: "false" },
  ...{ JWT_SECRET_KEY: commonSecret, ENCRYPTION_KEY: Buffer.alloc(32, "upgrade").toString("base64") },
};
const programs: Program[] = [];
const clients: LucidClient[] = [];

beforeAll(() => {
  requireBuilt();
  if (!hasBefore) return;
  execFileSync("tar", ["-x", "-C", directory], { input: git("archive", before) });
  symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
  execFileSync(join(root, "node_modules/.bin/tsc"), ["-p", "tsconfig.json"], { cwd: directory });
  const lua = readdirSync(join(directory, "src/coordination")).filter((name) => name.endsWith(".lua"));
  for (const name of lua)
    cpSync(join(directory, "src/coordination", name), join(directory, "dist/src/coordination", name));
}, 180_000);
afterAll(async () => {
  for (const client of clients) client[Symbol.dispose]();
  for (const program of programs) await program[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

interface Version {
  readonly program: Program;
  readonly client: LucidClient;
}

async function serve(command: string, env: Readonly<Record<string, string>>): Promise<Version> {
  const program = startProgram(process.execPath, [command, "serve"], { cwd: directory, env: { ...common, ...env } });
  programs.push(program);
  const [line] = await program.printed(/^.*"message":"Serving".*$/m, 60_000);
  const { port } = JSON.parse(line) as { port: number };
  const accessToken = await signAccess("admin");
  const client = createLucidClient({ baseUrl: `http://127.0.0.1:${port}`, accessToken, timeoutMs: 30_000 });
  clients.push(client);
  return { program, client };
}

async function end({ program }: Version): Promise<void> {
  program.kill("SIGTERM");
  expect((await program.ended).code).toBe(0);
}

const create = ({ client }: Version, name: string) => client.nodes.createNode({ name, nodeType: NodeType.WORKER });

/** Asks both for a node of the same name at the same time; only one may create it. */
async function oneWins(left: Version, right: Version, name: string): Promise<void> {
  const results = await Promise.allSettled([create(left, name), create(right, name)]);
  const refused = results.flatMap((result) =>
    result.status === "rejected" ? [ConnectError.from(result.reason).code] : [],
  );
  expect(refused).toEqual([Code.AlreadyExists]);
}

describe.skipIf(!hasBefore)("an upgrade", () => {
  test.runIf(canStartReplicas("an upgrade over MongoDB"))(
    "over MongoDB: two versions serve side by side, whichever starts last, and a name stays unique",
    async () => {
      await using mongo = await startMongo();
      await using redis = await startRedis();
      const name = mongo.freshDatabase();
      const env = { MONGODB_URL: mongo.url, MONGODB_DATABASE: name, REDIS_URL: redis.url };
      const old = await serve(oldCommandLine, env);
      const { pool } = await old.client.pools.createPool({ name: "pool", maxNodes: 10 });
      for (let index = 0; index < 5; index++) await create(old, `before-${index}`);

      const fresh = await serve(commandLine, env);
      for (let round = 0; round < 5; round++) await oneWins(old, fresh, `both-${round}`);
      const listed = async ({ client }: Version) => {
        const { nodes } = await client.nodes.listNodes({ position: { case: undefined }, limit: 100 });
        return nodes.map((node) => node.name).sort();
      };
      expect(await listed(fresh)).toEqual(await listed(old));
      expect(await listed(fresh)).toHaveLength(10);

      // The old version comes back: the indexes that it builds must not take away what the new version needs.
      await end(old);
      const again = await serve(oldCommandLine, env);
      for (let round = 5; round < 10; round++) await oneWins(again, fresh, `both-${round}`);
      const [first] = (await fresh.client.nodes.listNodes({ limit: 1 })).nodes;
      await fresh.client.pools.addNodeToPool({ poolId: pool?.poolId ?? "", nodeId: first?.nodeId ?? "" });
      expect((await again.client.pools.listPoolNodes({ poolId: pool?.poolId ?? "" })).nodes).toHaveLength(1);
      await end(again);
      expect(await listed(fresh)).toHaveLength(15);
      await end(fresh);
    },
    180_000,
  );

  test("of an embedded store: what one version left the other serves, there and back", async () => {
    const dataDir = join(directory, "data");
    mkdirSync(dataDir);
    const names: string[] = [];
    for (const [round, command] of [oldCommandLine, commandLine, oldCommandLine, commandLine].entries()) {
      const version = await serve(command, { DATA_DIR: dataDir });
      for (const name of names) {
        await expect(create(version, name)).rejects.toMatchObject({ code: Code.AlreadyExists });
      }
      names.push(`round-${round}`);
      await create(version, `round-${round}`);
      expect((await version.client.nodes.listNodes({})).nodes).toHaveLength(names.length);
      await end(version);
    }
  }, 120_000);
});

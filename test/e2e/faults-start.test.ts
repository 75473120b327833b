// Starts where the service must not serve: it tells the operator why, in a sentence, before anything listens. (That the
// embedded store has one owner is tested in cli.test.ts.)
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { hasMongoProgram, type MongoUnderTest, startMongo } from "../support/engines/mongo.js";
import { sparePort } from "../support/engines/redis.js";
import { measured } from "../support/fleet/faults.js";
import { within } from "../support/world/until.js";
import { commonSecret } from "../support/world/world.js";
import { commandLine, requireBuilt } from "./built.js";
import { type Ending, type Program, runProgram, startProgram } from "./process.js";

type Environment = Readonly<Record<string, string>>;

beforeAll(requireBuilt);

let directory: string;
let programs: Program[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-start-"));
  programs = [];
});
afterEach(async () => {
  for (const program of programs) await program[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const tellMs = 60_000;

const serve = (env: Environment): Promise<Ending> =>
  runProgram(process.execPath, [commandLine, "serve"], { cwd: directory, env, limitMs: tellMs });

/** A service that runs until the test ends it. */
async function standing(env: Environment): Promise<Program> {
  const program = startProgram(process.execPath, [commandLine, "serve"], { cwd: directory, env });
  programs.push(program);
  await program.printed(/"Serving"/, tellMs);
  return program;
}

describe("production", () => {
  test("is refused with all that is missing at once, and does not listen", async () => {
    const { code, stdout, stderr } = await serve({ ENVIRONMENT: "Production", PORT: "0", METRICS_PORT: "0" });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    const required = ["MONGODB_URL", "REDIS_URL", "JWT_SECRET_KEY", "JWT_PRIVILEGED_SECRET_KEY", "ENCRYPTION_KEY"];
    expect(stderr.trim().split("\n")).toEqual([
      "The settings cannot be used:",
      ...required.map((name) => `  - ${name}: required when ENVIRONMENT=production`),
    ]);
  });

  test("is refused with keys that everybody knows, and the message does not repeat them", async () => {
    const secrets = {
      JWT_SECRET_KEY: "changeme-changeme-changeme-changeme",
      JWT_PRIVILEGED_SECRET_KEY: "short",
      ENCRYPTION_KEY: Buffer.alloc(32).toString("base64"),
    };
    const urls = { MONGODB_URL: "mongodb://127.0.0.1:1", REDIS_URL: "http://127.0.0.1:1" };
    const { code, stderr } = await serve({
      ENVIRONMENT: "production",
      PORT: "0",
      METRICS_PORT: "0",
      ...secrets,
      ...urls,
    });
    expect(code).toBe(1);
    for (const name of [...Object.keys(secrets), "REDIS_URL"]) expect(stderr).toContain(`- ${name}: `);
    expect(stderr).not.toContain("MONGODB_URL");
    for (const secret of Object.values(secrets)) expect(stderr).not.toContain(secret);
  });
});

describe.skipIf(!hasMongoProgram("replicas that may not stand side by side"))("a second replica on one MongoDB", () => {
  let mongo: MongoUnderTest;
  beforeEach(async () => {
    mongo = await startMongo();
  });
  afterEach(() => mongo?.[Symbol.asyncDispose]());

  test("is refused without REDIS_URL in a sentence while the first one lives, and starts after its death", {
    timeout: 180_000,
  }, async () => {
    const settings = {
      PORT: "0",
      METRICS_PORT: "0",
      MONGODB_URL: mongo.url,
      MONGODB_DATABASE: mongo.freshDatabase(),
      JWT_SECRET_KEY: commonSecret,
      ENCRYPTION_KEY: Buffer.alloc(32, "start").toString("base64"),
    };
    const first = await standing({ ...settings, HOSTNAME: "first" });
    const sentence =
      /^Replica first-[0-9a-f]{8} serves from this database, and .* has in-process coordination: set REDIS_URL for all replicas\n$/;
    const beganMs = performance.now();
    const second = await serve({ ...settings, HOSTNAME: "second" });
    const refusedMs = performance.now() - beganMs;
    expect(second).toMatchObject({ code: 1, stderr: expect.stringMatching(sentence) });
    expect(second.stdout).not.toContain("Serving");
    // The first replica has no Redis, so it would not hear a replica that has.
    const redisUrl = `redis://127.0.0.1:${await sparePort()}`;
    const third = await serve({ ...settings, HOSTNAME: "third", REDIS_URL: redisUrl });
    expect(third).toMatchObject({ code: 1, stderr: expect.stringMatching(sentence) });

    first.kill("SIGKILL");
    await within(first.ended, "the first one is gone");
    const killedMs = performance.now();
    await standing({ ...settings, HOSTNAME: "fourth" });
    measured("a second replica without Redis", {
      refused_ms: refusedMs,
      serves_after_death_ms: performance.now() - killedMs,
    });
  });
});

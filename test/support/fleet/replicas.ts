// Real processes of `lucid-node serve` over one MongoDB and one Redis, behind a balancer. A test can end, kill, freeze
// and restart them, and look at their database and metrics.
// REPLICAS_OUTPUT: a directory in which their output is kept.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Db } from "mongodb";
import { newJti, signToken } from "../../../src/access/jwt.js";
import { loadSecrets } from "../../../src/access/secrets.js";
import { createLucidClient, type LucidClient } from "../../../src/client/client.js";
import { parseSettings } from "../../../src/settings/environment.js";
import { commandLine } from "../../e2e/built.js";
import { type Program, startProgram } from "../../e2e/process.js";
import { hasMongoProgram, type MongoUnderTest, startMongo } from "../engines/mongo.js";
import { canStartRedis, type RedisUnderTest, startRedis } from "../engines/redis.js";
import { until, within } from "../world/until.js";
import { commonSecret } from "../world/world.js";
import { type Balancer, openBalancer } from "./balancer.js";

const outputDirectory = process.env.REPLICAS_OUTPUT;

type Environment = Readonly<Record<string, string>>;

/** One place in the fleet; each start is a new process with a new replica id. */
export interface ReplicaUnderTest {
  readonly name: string;
  readonly runs: boolean;
  /** The pid, the ports and the replica id throw while the replica does not run. */
  readonly pid: number;
  readonly port: number;
  readonly metricsPort: number;
  /** Its name in the roster and the lease. */
  readonly replicaId: string;
  /** All that its processes have printed. */
  readonly output: string;
  /** Resolves when it serves. */
  start(): Promise<void>;
  /** Kills it by SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** Ends it by SIGTERM, and counts it as not running from then on; answers its exit code. */
  end(limitMs?: number): Promise<number | NodeJS.Signals | null>;
  /** Halts it with all its connections open, as a hypervisor does that halts a machine. */
  freeze(): Promise<void>;
  thaw(): void;
  /** The value of one of its metrics, summed over all labels; 0 when there is none. */
  metric(name: string): Promise<number>;
}

export interface Replicas extends AsyncDisposable {
  readonly all: readonly ReplicaUnderTest[];
  readonly balancer: Balancer;
  /** Undefined on the embedded engines. */
  readonly mongo: MongoUnderTest;
  readonly database: Db;
  readonly redisUrl: string;
  readonly adminToken: string;
  /** Clients of an admin, through the balancer or straight to a replica. Closed with the fleet. */
  client(baseUrl?: string, retries?: number): LucidClient;
  /** Simulated nodes in a process of their own, through the balancer. Killed with the fleet. */
  simulate(nodes: number, prefix: string, streamsPerConnection: number): Program;
  replicaIds(): string[];
}

export interface FleetOptions {
  readonly count: number;
  /** By the names of the environment. */
  readonly settings?: Environment;
  /** An acknowledged write survives the database's death. */
  readonly durable?: boolean;
}

const shared: Environment = {
  HOST: "127.0.0.1",
  PORT: "0",
  METRICS_PORT: "0",
  JWT_SECRET_KEY: commonSecret,
  ENCRYPTION_KEY: Buffer.alloc(32, "fleet").toString("base64"),
  RATE_LIMIT_ENABLED: "false",
};

/** Whether such a fleet can be had; says SKIPPED otherwise. @throws Error in CI when it cannot */
export const canStartReplicas = (tests: string): boolean => hasMongoProgram(tests) && canStartRedis(tests);

/** Starts all replicas, and the two servers under them. */
export async function openReplicas({ count, settings = {}, durable = false }: FleetOptions): Promise<Replicas> {
  await using undo = new AsyncDisposableStack();
  const mongo = undo.use(await startMongo({ durable }));
  const redis = undo.use(await startRedis());
  const name = mongo.freshDatabase();
  const environment = { ...shared, ...engines(mongo, redis, name), ...settings };
  const all = Array.from({ length: count }, (_, place) => undo.use(createReplica(`replica${place}`, environment)));
  const balancer = undo.use(await openBalancer(() => all.filter(({ runs }) => runs).map(({ port }) => port)));
  const around = undo.use(await openSurroundings(environment, balancer.baseUrl));
  await Promise.all(all.map((replica) => replica.start()));
  const standing = undo.move();
  return {
    ...around,
    all,
    balancer,
    mongo,
    database: mongo.client().db(name),
    redisUrl: redis.url,
    replicaIds: () => all.filter(({ runs }) => runs).map(({ replicaId }) => replicaId),
    [Symbol.asyncDispose]: () => standing.disposeAsync(),
  };
}

/** A single replica, on the embedded engines in that directory. */
export async function openSingle(dataDir: string, settings: Environment = {}, nodeArguments: readonly string[] = []) {
  await using undo = new AsyncDisposableStack();
  const environment = { ...shared, DATA_DIR: dataDir, ...settings };
  const replica = undo.use(createReplica("single", environment, nodeArguments));
  const balancer = undo.use(await openBalancer(() => (replica.runs ? [replica.port] : [])));
  const around = undo.use(await openSurroundings(environment, balancer.baseUrl));
  await replica.start();
  const standing = undo.move();
  return { ...around, replica, balancer, [Symbol.asyncDispose]: () => standing.disposeAsync() };
}

const engines = (mongo: MongoUnderTest, redis: RedisUnderTest, database: string): Environment => ({
  MONGODB_URL: mongo.url,
  MONGODB_DATABASE: database,
  REDIS_URL: redis.url,
});

/** Who talks to the service from outside. */
async function openSurroundings(environment: Environment, address: string) {
  const closing = new AsyncDisposableStack();
  const { rings } = loadSecrets(parseSettings(environment));
  const issuedAt = new Date();
  const adminToken = await signToken(rings, {
    subject: "admin-1",
    role: "admin",
    nodeId: undefined,
    tokenType: "service_access",
    jti: newJti(),
    issuedAt,
    expiresAt: new Date(issuedAt.getTime() + 86_400_000),
  });
  return {
    adminToken,
    client: (baseUrl = address, retries = 3) =>
      closing.use(createLucidClient({ baseUrl, accessToken: adminToken, retries })),
    simulate: (nodes: number, prefix: string, streamsPerConnection: number) => {
      const given = ["--nodes", nodes, "--server", address, "--prefix", prefix].map(String);
      const more = ["--streams-per-connection", String(streamsPerConnection)];
      const program = [commandLine, "simulate", ...given, ...more];
      return closing.use(startProgram(process.execPath, program, { env: { LUCID_TOKEN: adminToken } }));
    },
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

function createReplica(
  name: string,
  environment: Environment,
  nodeArguments: readonly string[] = [],
): ReplicaUnderTest & AsyncDisposable {
  let running: { readonly program: Program; readonly pid: number; facts: Facts | undefined } | undefined;
  let leaving = false;
  let output = "";
  const current = () => {
    if (running === undefined) throw new Error(`${name} does not run`);
    return running;
  };
  const facts = (): Facts => {
    const known = current().facts;
    if (known === undefined) throw new Error(`${name} does not serve yet`);
    return known;
  };
  // A worker of the test run that ends in the middle must not leave it behind.
  const killAtExit = () => running?.program.kill("SIGKILL");
  const gone = async (program: Program, limitMs: number) => {
    const ending = await within(program.ended, `${name} ends`, limitMs);
    output += ending.stdout + ending.stderr;
    running = undefined;
    process.off("exit", killAtExit);
    if (outputDirectory !== undefined) writeFileSync(join(outputDirectory, `${name}.log`), output);
    return ending.code;
  };
  return {
    name,
    get runs() {
      return running?.facts !== undefined && !leaving;
    },
    get pid() {
      return current().pid;
    },
    get port() {
      return facts().port;
    },
    get metricsPort() {
      return facts().metricsPort;
    },
    get replicaId() {
      return facts().replicaId;
    },
    get output() {
      return output + (running?.program.stdout ?? "") + (running?.program.stderr ?? "");
    },
    start: async () => {
      const program = startProgram(process.execPath, [...nodeArguments, commandLine, "serve"], {
        env: { ...environment, HOSTNAME: name },
      });
      if (program.pid === undefined) throw new Error(`${name} could not be started`);
      leaving = false;
      const started = { program, pid: program.pid, facts: undefined as Facts | undefined };
      running = started;
      process.once("exit", killAtExit);
      const [line] = await program.printed(/^.*"Serving".*$/m, 60_000);
      started.facts = factsOf(line);
    },
    kill: async () => {
      const { program } = current();
      program.kill("SIGKILL");
      await gone(program, 10_000);
    },
    end: async (limitMs = 30_000) => {
      const { program } = current();
      leaving = true;
      program.kill("SIGTERM");
      return gone(program, limitMs);
    },
    freeze: async () => {
      const { program, pid } = current();
      program.kill("SIGSTOP");
      await until(() => / T /.test(readFileSync(`/proc/${pid}/stat`, "utf8")), `${name} stands still`);
    },
    thaw: () => current().program.kill("SIGCONT"),
    metric: async (series) => metricOf(facts().metricsPort, series),
    [Symbol.asyncDispose]: async () => {
      if (running !== undefined) {
        running.program.kill("SIGKILL");
        await gone(running.program, 10_000);
      }
    },
  };
}

interface Facts {
  readonly port: number;
  readonly metricsPort: number;
  readonly replicaId: string;
}

function factsOf(line: string): Facts {
  const number = (name: string) => Number(new RegExp(`"${name}":(\\d+)`).exec(line)?.[1]);
  const replicaId = /"replica_id":"([^"]+)"/.exec(line)?.[1] ?? "";
  return { port: number("port"), metricsPort: number("metrics_port"), replicaId };
}

/** @throws Error when the process does not answer within 10 s */
async function metricOf(port: number, series: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { signal: AbortSignal.timeout(10_000) });
  const values = (await response.text())
    .split("\n")
    .filter((line) => line.startsWith(`${series} `) || line.startsWith(`${series}{`))
    .map((line) => Number(line.slice(line.lastIndexOf(" "))));
  return values.reduce((sum, value) => sum + value, 0);
}

/**
 * Waits until the condition holds. It looks a few times a second, and spends at most a tenth of the time on looking,
 * since each look costs the database something. Answers how long it took.
 * @throws Error naming the condition that did not hold within the limit, and what was found instead
 */
export async function eventually(
  condition: () => Promise<true | string>,
  what: string,
  limitMs: number,
): Promise<number> {
  const beganMs = performance.now();
  for (;;) {
    const looksMs = performance.now();
    const found = await condition();
    const nowMs = performance.now();
    if (found === true) return nowMs - beganMs;
    if (nowMs - beganMs > limitMs) throw new Error(`not within ${limitMs} ms: ${what}; found: ${found}`);
    await delay(Math.max(100, 9 * (nowMs - looksMs)));
  }
}

/** A number of the environment, or the default. */
export const sizeOf = (name: string, byDefault: number): number => Number(process.env[name] ?? byDefault);

// The MongoDB that tests run on: MONGODB_TEST_URL when given; else a mongod (MONGOD_BINARY or on PATH), which the tests
// start; else SecantusDB, another maker's server that speaks MongoDB's wire protocol
// (docs/decisions/0004-surrogate-mongodb.md).
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Document, MongoClient } from "mongodb";
import { findTool, toolFor } from "../tools.js";
import { until } from "../world/until.js";

export interface MongoOptions {
  /** A user of the database admin who may do everything; the URL logs in as that user. */
  readonly auth?: { readonly user: string; readonly password: string };
  /** With a certificate of its own making, which the URL names. */
  readonly tls?: boolean;
  /** Allows `failCommand`. */
  readonly testCommands?: boolean;
  /** An acknowledged write is on disk, whatever the write concern. */
  readonly durable?: boolean;
  /** Not a replica set. The driver does not repeat writes there. */
  readonly standalone?: boolean;
}

export interface MongoUnderTest extends AsyncDisposable {
  readonly url: string;
  /** What ran, such as "SecantusDB 0.7.0b3". */
  readonly name: string;
  /** Whether it is another maker's server: its plans and a few of its answers differ from MongoDB's. */
  readonly isSurrogate: boolean;
  /** Undefined when the tests did not start the server, and while it is down. */
  readonly pid: number | undefined;
  /** A database that no other test has. If the server runs on after the tests, the database is dropped at the end. */
  freshDatabase(): string;
  /** A client beside the one under test. */
  client(): MongoClient;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data. */
  restart(): Promise<void>;
  /** Ends it as an administrator would. */
  stop(): Promise<void>;
  /** Makes commands of the store under test, and of no other client, fail; "off" ends it. Needs `testCommands`. */
  failCommand(mode: "alwaysOn" | "off" | { readonly times: number }, data?: Document): Promise<void>;
}

type Kind = "mongod" | "secantus";

interface Program {
  readonly kind: Kind;
  readonly file: string;
}

/** Starts SecantusDB so that it seeks where MongoDB seeks. */
const seekingSurrogate = new URL("surrogate.py", import.meta.url).pathname;
const startLimitMs = 30_000;
const replicaSet = "lucid";
/** As the engine names itself; fail points are bound to it. */
const appName = "lucid-node";

/** The variable that names the servers of a run, separated by spaces. */
export const givenUrls = "LUCID_TEST_MONGODB_URLS";

/** A server that runs already: the only one, or this worker's. */
function givenUrl(): string | undefined {
  const ofRun = process.env[givenUrls]?.split(" ") ?? [];
  return process.env.MONGODB_TEST_URL ?? ofRun[(Number(process.env.VITEST_POOL_ID ?? 1) - 1) % ofRun.length];
}

function findProgram(tests: string): Program | undefined {
  const mongod = process.env.MONGOD_BINARY ?? findTool("mongod");
  if (mongod !== undefined) return { kind: "mongod", file: mongod };
  const installed = toolFor(tests, "secantusd-py") !== undefined;
  const python = findTool("python");
  return !installed || python === undefined ? undefined : { kind: "secantus", file: python };
}

let shared: Promise<MongoUnderTest> | undefined;

/** Whether a server can be had; when not, it says which tests are left out. @throws Error in CI when there is none */
export function hasMongo(tests: string): boolean {
  return givenUrl() !== undefined || findProgram(tests) !== undefined;
}

/** Whether a server can be started, to be killed and given options. @throws Error in CI when not */
export function hasMongoProgram(tests: string): boolean {
  if (process.env.MONGODB_TEST_URL === undefined) return findProgram(tests) !== undefined;
  process.stderr.write(`SKIPPED: MONGODB_TEST_URL is not ours to kill or to set up: ${tests}\n`);
  return false;
}

/**
 * The server that the whole run shares, or else a server for all tests of a file, started when first asked for. Ask
 * `hasMongo` first, and dispose of the server after the tests: that ends a server that was started here, and drops the
 * test's databases on any other.
 */
export function sharedMongo(): Promise<MongoUnderTest> {
  const url = givenUrl();
  shared ??= url === undefined ? startMongo() : useMongo(url);
  return shared;
}

/**
 * Starts another server on a spare port of 127.0.0.1. Ask `hasMongoProgram` first.
 * @throws Error when it does not come up
 */
export async function startMongo(options: MongoOptions = {}): Promise<MongoUnderTest> {
  const program = findProgram("tests that start a MongoDB");
  if (program === undefined) throw new Error("no MongoDB to start");
  const home = mkdtempSync(join(tmpdir(), "lucid-mongo-"));
  try {
    for (let attempt = 1; ; attempt++) {
      const server = createProcess(program, home, await sparePort(), options);
      try {
        await server.prepare();
        return await underTest(home, server, options);
      } catch (error) {
        await server.end("SIGKILL");
        // Now and then another process takes the port before the server does; three failures have another cause.
        if (attempt === 3) throw error;
      }
    }
  } catch (error) {
    rmSync(home, { recursive: true, force: true });
    throw error;
  }
}

async function underTest(home: string, server: Process, options: MongoOptions): Promise<MongoUnderTest> {
  const clients = createClients(server.url);
  return {
    url: server.url,
    ...(await kindOf(clients.get())),
    get pid() {
      return server.pid;
    },
    freshDatabase,
    client: clients.get,
    kill: () => server.end("SIGKILL"),
    restart: () => server.start(),
    stop: () => server.end("SIGTERM"),
    failCommand: async (mode, data = {}) => {
      if (!options.testCommands) throw new Error("a fail point needs testCommands");
      const command = mode === "off" ? { mode } : { mode, data: { ...data, appName } };
      await clients
        .get()
        .db("admin")
        .command({ configureFailPoint: "failCommand", ...command });
    },
    [Symbol.asyncDispose]: async () => {
      await clients.close();
      await server.end("SIGKILL");
      rmSync(home, { recursive: true, force: true });
    },
  };
}

async function useMongo(url: string): Promise<MongoUnderTest> {
  const clients = createClients(url);
  const databases: string[] = [];
  const kind = await kindOf(clients.get());
  const notOurs = () => Promise.reject(new Error("the server is not ours"));
  return {
    url,
    ...kind,
    name: url === process.env.MONGODB_TEST_URL ? `${kind.name} at MONGODB_TEST_URL` : kind.name,
    pid: undefined,
    freshDatabase: () => {
      const name = freshDatabase();
      databases.push(name);
      return name;
    },
    client: clients.get,
    kill: notOurs,
    restart: notOurs,
    stop: notOurs,
    failCommand: notOurs,
    [Symbol.asyncDispose]: async () => {
      for (const name of databases) await clients.get().db(name).dropDatabase();
      await clients.close();
    },
  };
}

const freshDatabase = () => `lucid_${randomBytes(8).toString("hex")}`;

function createClients(url: string) {
  let client: MongoClient | undefined;
  return {
    get: () => {
      client ??= new MongoClient(url, { appName: "lucid-test", serverSelectionTimeoutMS: 10_000 });
      return client;
    },
    close: async () => client?.close(),
  };
}

interface Process {
  readonly url: string;
  readonly pid: number | undefined;
  /** The first start, with what a user, a replica set or a certificate needs. */
  prepare(): Promise<void>;
  /** Resolves when it answers. */
  start(): Promise<void>;
  /** Resolves when the process is gone. */
  end(signal: NodeJS.Signals): Promise<void>;
}

function createProcess(program: Program, home: string, port: number, options: MongoOptions): Process {
  const tls = options.tls ? makeCertificate(home) : undefined;
  const plain = `127.0.0.1:${port}`;
  const tlsQuery = tls ? `&tls=true&tlsCAFile=${encodeURIComponent(tls.certificateFile)}` : "";
  const open = `mongodb://${plain}/?directConnection=true${tlsQuery}`;
  const login = options.auth
    ? `${encodeURIComponent(options.auth.user)}:${encodeURIComponent(options.auth.password)}@`
    : "";
  const url = `mongodb://${login}${plain}/?${options.auth ? "authSource=admin" : "retryWrites=true"}${tlsQuery}`;
  let child: ReturnType<typeof spawn> | undefined;
  let ended: Promise<void> = Promise.resolve();

  // A test may forget to dispose of the server.
  const killAtExit = () => {
    child?.kill("SIGKILL");
    rmSync(home, { recursive: true, force: true, maxRetries: 3 });
  };
  const run = async (auth: boolean) => {
    const log = openSync(join(home, "server.log"), "a");
    const commandLine = argumentsOf(program.kind, home, port, { ...options, auth }, tls);
    const started = spawn(program.file, commandLine, { cwd: home, stdio: ["ignore", log, log] });
    closeSync(log);
    child = started;
    process.once("exit", killAtExit);
    ended = new Promise((resolve) => {
      started.once("error", () => resolve());
      started.once("exit", () => resolve());
    });
    ended.then(() => {
      process.off("exit", killAtExit);
      if (child === started) child = undefined;
    });
    await until(
      async () => {
        if (child !== started) throw new Error(`${program.file} ended: ${lastLines(home)}`);
        return answers(open);
      },
      `an answer of ${program.file} on port ${port}: ${lastLines(home)}`,
      startLimitMs,
    );
  };
  const end = async (signal: NodeJS.Signals) => {
    child?.kill(signal);
    await ended;
  };
  return {
    url,
    get pid() {
      return child?.pid;
    },
    prepare: async () => {
      await run(false);
      if (program.kind === "mongod" && isReplicaSet(options)) await initiate(open, plain);
      if (options.auth === undefined) return;
      await createUser(open, options.auth);
      await end("SIGTERM");
      await run(true);
    },
    start: () => run(options.auth !== undefined),
    end,
  };
}

/** A mongod with passwords is no replica set here: both together need a key file as well. */
const isReplicaSet = ({ standalone, auth }: MongoOptions) => !standalone && auth === undefined;

interface Certificate {
  /** The certificate, which is its own authority, and behind it the key, as mongod wants them. */
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly bothFile: string;
}

function argumentsOf(
  kind: Kind,
  home: string,
  port: number,
  { testCommands, durable, standalone, auth }: Omit<MongoOptions, "auth"> & { readonly auth: boolean },
  tls: Certificate | undefined,
): string[] {
  if (kind === "mongod") {
    return [
      ...["--dbpath", home, "--port", String(port), "--bind_ip", "127.0.0.1"],
      ...(auth ? ["--auth"] : standalone ? [] : ["--replSet", replicaSet]),
      ...(testCommands ? ["--setParameter", "enableTestCommands=1"] : []),
      ...(tls ? ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", tls.bothFile] : []),
    ];
  }
  return [
    seekingSurrogate,
    ...["--host", "127.0.0.1", "--port", String(port), "--storage-path", join(home, "data"), "--log-level", "WARNING"],
    ...(auth ? ["--auth"] : []),
    ...(standalone ? ["--standalone"] : []),
    ...(testCommands ? ["--enable-test-commands"] : []),
    ...(durable ? ["--sync-on-commit"] : []),
    ...(tls ? ["--tls-cert-file", tls.certificateFile, "--tls-key-file", tls.keyFile] : []),
  ];
}

/** @throws Error without openssl */
function makeCertificate(home: string): Certificate {
  const openssl = findTool("openssl");
  if (openssl === undefined) throw new Error("openssl is missing");
  const certificateFile = join(home, "certificate.pem");
  const keyFile = join(home, "key.pem");
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const files = ["-keyout", keyFile, "-out", certificateFile];
  const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
  execFileSync(openssl, [...request, ...files, ...subject], { stdio: "ignore" });
  const bothFile = join(home, "both.pem");
  writeFileSync(bothFile, readFileSync(certificateFile, "utf8") + readFileSync(keyFile, "utf8"), { mode: 0o600 });
  return { certificateFile, keyFile, bothFile };
}

async function answers(url: string): Promise<boolean> {
  return withClient(url, async (client) => {
    await client.db("admin").command({ hello: 1 });
  }).then(
    () => true,
    () => false,
  );
}

async function withClient<Result>(url: string, act: (client: MongoClient) => Promise<Result>): Promise<Result> {
  const client = new MongoClient(url, { serverSelectionTimeoutMS: 500, appName: "lucid-test" });
  try {
    return await act(client);
  } finally {
    await client.close();
  }
}

async function initiate(url: string, host: string): Promise<void> {
  await withClient(url, async (client) => {
    const config = { _id: replicaSet, members: [{ _id: 0, host }] };
    await client.db("admin").command({ replSetInitiate: config });
    const isPrimary = async () => (await client.db("admin").command({ hello: 1 })).isWritablePrimary === true;
    await until(isPrimary, "a primary", startLimitMs);
  });
}

async function createUser(url: string, { user, password }: { user: string; password: string }): Promise<void> {
  await withClient(url, (client) =>
    client.db("admin").command({ createUser: user, pwd: password, roles: [{ role: "root", db: "admin" }] }),
  );
}

function sparePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function lastLines(home: string): string {
  return readFileSync(join(home, "server.log"), "utf8").split("\n").slice(-5).join("\n");
}

/** A surrogate says that it is one, beside the MongoDB version that it imitates. */
async function kindOf(client: MongoClient): Promise<Pick<MongoUnderTest, "name" | "isSurrogate">> {
  const { version, secantusVersion } = await client.db("admin").command({ buildInfo: 1 });
  const isSurrogate = secantusVersion !== undefined;
  return { name: isSurrogate ? `SecantusDB ${secantusVersion}` : `mongod ${version}`, isSurrogate };
}

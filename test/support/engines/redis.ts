// A Redis server that a test can kill, freeze, and talk to behind the service's back.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { findTool, toolFor } from "../tools.js";
import { until, within } from "../world/until.js";

export interface RedisUnderTestOptions {
  readonly password?: string;
  /** Serves TLS only. Its certificate is for 127.0.0.1, by an authority that the URL names. */
  readonly tls?: boolean;
  /** A spare one when absent. */
  readonly port?: number;
  /** Further arguments of redis-server. */
  readonly args?: readonly string[];
}

export interface RedisUnderTest extends AsyncDisposable {
  /** With the password and the authority's file, if the server has them. */
  readonly url: string;
  readonly port: number;
  /** The pid of the running process; it changes with a restart. */
  readonly pid: number;
  /** Kills the server by SIGKILL; resolves when it has ended. */
  kill(): Promise<void>;
  /** Starts it again on the same port, empty, once the process before has ended. */
  restart(): Promise<void>;
  /** Halts the process, which keeps its connections, as a machine does that hangs. */
  pause(): Promise<void>;
  resume(): void;
  /** Sends a command through a connection of its own, such as `command("config", "set", "maxmemory", "1")`. */
  command(...given: readonly string[]): Promise<unknown>;
  /** Ends it for good. */
  stop(): Promise<void>;
}

/** Whether tests can have a server; says SKIPPED otherwise. @throws Error in CI when they cannot */
export const hasRedis = (tests: string): boolean =>
  process.env.LUCID_TEST_REDIS_URL !== undefined || toolFor(tests, "redis-server") !== undefined;

/** For tests that need a server of their own, whatever LUCID_TEST_REDIS_URL says. */
export const canStartRedis = (tests: string): boolean => toolFor(tests, "redis-server") !== undefined;

/** A prefix of keys and channels that no other test has. */
export const ownPrefix = (): string => `test:${randomUUID()}:`;

export async function startRedis(options: RedisUnderTestOptions = {}): Promise<RedisUnderTest> {
  const program = findTool("redis-server");
  if (program === undefined) throw new Error("redis-server is missing");
  const directory = mkdtempSync(join(tmpdir(), "lucid-redis-"));
  const port = options.port ?? (await sparePort());
  const certificate = options.tls ? issueCertificate(directory) : undefined;
  const given = serverArguments(port, directory, options, certificate);
  const client = {
    host: "127.0.0.1",
    port,
    ...(options.password === undefined ? {} : { password: options.password }),
    ...(certificate ? { tls: { ca: readFileSync(certificate.caFile) } } : {}),
    lazyConnect: true,
    commandTimeout: 5_000,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  };
  const credentials = options.password === undefined ? "" : `:${encodeURIComponent(options.password)}@`;
  const query = certificate ? `?tlsCAFile=${encodeURIComponent(certificate.caFile)}` : "";
  const url = `${certificate ? "rediss" : "redis"}://${credentials}127.0.0.1:${port}${query}`;

  let running: ChildProcess | undefined;
  const command = async (...[name = "", ...rest]: readonly string[]): Promise<unknown> => {
    const redis = new Redis(client);
    redis.on("error", () => undefined);
    try {
      await redis.connect();
      return await redis.call(name, ...rest);
    } finally {
      redis.disconnect();
    }
  };
  const kill = async (): Promise<void> => {
    const child = running;
    running = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await within(once(child, "exit"), "redis-server ends");
  };
  const run = async (): Promise<void> => {
    const child = spawn(program, given, { cwd: directory, stdio: ["ignore", "pipe", "pipe"] });
    running = child;
    let printed = "";
    for (const output of [child.stdout, child.stderr]) output.on("data", (text) => (printed += text));
    watch(child);
    const answers = async (): Promise<boolean> => {
      if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode}:\n${printed}`);
      return (await command("ping").catch(() => undefined)) === "PONG";
    };
    try {
      await until(answers, `redis-server answers on port ${port}`);
    } catch (error) {
      await kill();
      throw error;
    }
  };
  const signal = (name: NodeJS.Signals): void => {
    if (!running?.kill(name)) throw new Error("redis-server does not run");
  };
  const stop = async (): Promise<void> => {
    await kill();
    rmSync(directory, { recursive: true, force: true });
  };

  try {
    await run();
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
  return {
    url,
    port,
    get pid() {
      if (running?.pid === undefined) throw new Error("redis-server does not run");
      return running.pid;
    },
    kill,
    restart: async () => {
      await kill();
      await run();
    },
    pause: async () => {
      signal("SIGSTOP");
      await until(() => isStopped(running?.pid), "redis-server stands still");
    },
    resume: () => signal("SIGCONT"),
    command,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Ends the server when this process ends, even by SIGKILL: the watcher's standard input closes then. */
function watch(child: ChildProcess): void {
  const watcher = spawn("/bin/sh", ["-c", 'read -r _; kill -9 "$1"', "sh", String(child.pid)], {
    stdio: ["pipe", "ignore", "ignore"],
  });
  watcher.stdin.on("error", () => undefined);
  // The watcher goes at once: soon the server's pid may belong to another process.
  child.once("exit", () => watcher.kill("SIGKILL"));
}

/**
 * The server that all test files share, if there is one, else one of the file's own. Tests keep apart by prefix, and
 * leave the server as it is.
 */
export async function sharedRedis(): Promise<AsyncDisposable & { readonly url: string }> {
  const url = process.env.LUCID_TEST_REDIS_URL;
  if (url === undefined) return await startRedis();
  return { url, [Symbol.asyncDispose]: async () => undefined };
}

/** A port of 127.0.0.1 on which nobody listens. */
export async function sparePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

interface Certificate {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

function serverArguments(
  port: number,
  directory: string,
  { password, args = [] }: RedisUnderTestOptions,
  certificate: Certificate | undefined,
): string[] {
  const base = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory];
  const secret = password === undefined ? [] : ["--requirepass", password];
  const files = certificate && [
    ...["--tls-cert-file", certificate.certFile, "--tls-key-file", certificate.keyFile],
    ...["--tls-ca-cert-file", certificate.caFile, "--tls-auth-clients", "no"],
  ];
  const ports = files ? ["--port", "0", "--tls-port", String(port), ...files] : ["--port", String(port)];
  return [...ports, ...base, ...secret, ...args];
}

/** An authority, and a certificate of it for 127.0.0.1. */
function issueCertificate(directory: string): Certificate {
  const openssl = findTool("openssl");
  if (openssl === undefined) throw new Error("openssl is missing");
  const run = (...given: string[]) => execFileSync(openssl, given, { cwd: directory, stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  run("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=authority");
  run("req", ...key, "-keyout", "redis.key", "-out", "redis.csr", "-subj", "/CN=redis");
  writeFileSync(join(directory, "san.cnf"), "subjectAltName=IP:127.0.0.1\n");
  const signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san.cnf"];
  run("x509", "-req", "-in", "redis.csr", ...signer, "-days", "2", "-out", "redis.crt");
  const at = (name: string) => join(directory, name);
  return { caFile: at("ca.crt"), certFile: at("redis.crt"), keyFile: at("redis.key") };
}

/** Reads the process table. Where there is none, it trusts that the signal worked. */
function isStopped(pid: number | undefined): boolean {
  const file = `/proc/${pid}/stat`;
  return !existsSync(file) || / T /.test(readFileSync(file, "utf8"));
}

// Requests that no client should send, for FUZZ_SECONDS, on every RPC and protocol: the service answers each with a
// documented code, goes on, never keeps its event loop for long, and gives its memory back.
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, request as httpRequest } from "node:http";
import { type ClientHttp2Session, connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromJsonString } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BatchValidatePoOTRequestSchema } from "../../gen/lucid/node/v1/poot_service_pb.js";
import { services } from "../../src/routes.js";
import { procedureOf } from "../../src/rpc/policies.js";
import { type Attempt, attemptFor, largestJson } from "../support/clients/fuzz.js";
import { type Child, startChild } from "../support/fleet/child.js";
import { randomFrom } from "../support/world/random.js";
import { signAccess } from "../support/world/tokens.js";
import { cpuMs } from "../support/world/turns.js";
import { commonSecret } from "../support/world/world.js";

const seconds = Number(process.env.FUZZ_SECONDS ?? 120);
const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000);
const atOnce = 12;
/** The longest turn of the event loop, in CPU time. It holds on a busy machine, too. */
const turnMs = 100;
/**
 * The library decodes JSON in one piece. So on a slow machine the longest turn decodes the largest request, and does
 * some other work. It may cost this many times the decoding alone, which is measured in the same run.
 */
const decodingsMax = 1.2;
const decodingMs = (): number => {
  const json = largestJson();
  const costs = Array.from({ length: 3 }, () => {
    const beganMs = cpuMs();
    fromJsonString(BatchValidatePoOTRequestSchema, json);
    return cpuMs() - beganMs;
  });
  // The first decoding runs cold, as in a service that has not decoded such a request yet.
  return Math.max(...costs);
};

/** Codes that a caller may get. UNKNOWN, INTERNAL and DATA_LOSS would be our own mistakes. */
const documented = new Set<number>(
  [
    0,
    Code.Canceled,
    Code.InvalidArgument,
    Code.DeadlineExceeded,
    Code.NotFound,
    Code.AlreadyExists,
    Code.PermissionDenied,
  ]
    .concat([Code.ResourceExhausted, Code.FailedPrecondition, Code.Aborted, Code.OutOfRange, Code.Unimplemented])
    .concat([Code.Unavailable, Code.Unauthenticated]),
);
const documentedHttp = new Set([200, 400, 401, 403, 404, 405, 409, 413, 414, 415, 429, 431, 499, 501, 503, 504, 505]);

const methods = services.flatMap((service) => service.methods);
let child: Child;
let port: number;
let tokens: readonly (string | undefined)[];
const directory = mkdtempSync(join(tmpdir(), "lucid-fuzz-"));

beforeAll(async () => {
  const env = {
    ...{ HOST: "127.0.0.1", PORT: "0", METRICS_HOST: "127.0.0.1", METRICS_PORT: "0", DATA_DIR: directory },
    ...{ JWT_SECRET_KEY: commonSecret, RATE_LIMIT_ENABLED: "false" },
  };
  child = startChild(new URL("fuzzed-server.ts", import.meta.url), { env });
  port = Number((await child.line((line) => line.startsWith("port "), 60_000)).slice(5));
  const admin = await signAccess("admin");
  tokens = [admin, admin, admin, await signAccess("worker", "node_text1234"), undefined, "nonsense"];
}, 90_000);
afterAll(async () => {
  await child?.kill();
  rmSync(directory, { recursive: true, force: true });
});

interface Figures {
  readonly worstMs: number;
  readonly rss: number;
  readonly heapUsed: number;
  readonly external: number;
}
let asked = 0;
async function figures(what: string): Promise<Figures> {
  const tag = `${what} ${++asked}`;
  if (what === "collect" || what === "reset") child.write(what);
  child.write(tag);
  const line = await child.line((found) => found.startsWith("figures ") && found.includes(`"${tag}"`), 30_000);
  return JSON.parse(line.slice("figures ".length)) as Figures;
}

interface Answer {
  readonly http: number | undefined;
  readonly grpc: number | undefined;
}

const limitMs = 20_000;

function envelope({ message, encoding, saysEncoding }: Attempt): Buffer {
  const head = Buffer.alloc(5);
  head[0] = encoding && saysEncoding ? 1 : 0;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** gRPC, gRPC-Web and Connect's streams, over HTTP/2. */
function overHttp2(session: ClientHttp2Session, attempt: Attempt, token: string | undefined): Promise<Answer> {
  const { method, protocol, json, encoding, pieceBytes } = attempt;
  const type = `application/${protocol === "get" ? "connect" : protocol}+${json ? "json" : "proto"}`;
  const header = protocol === "connect" || protocol === "get" ? "connect-content-encoding" : "grpc-encoding";
  const stream = session.request({
    ":method": "POST",
    ":path": procedureOf(method),
    "content-type": type,
    te: "trailers",
    // The deadline ends streams that nothing else ends.
    ...(protocol === "connect" || protocol === "get" ? { "connect-timeout-ms": "1500" } : { "grpc-timeout": "1500m" }),
    ...(encoding ? { [header]: encoding } : {}),
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  });
  return new Promise((resolve, reject) => {
    let http: number | undefined;
    let grpc: number | undefined;
    let tail = Buffer.alloc(0);
    const timer = setTimeout(() => reject(new Error("no answer")), limitMs);
    const noteStatus = (headers: Readonly<Record<string, unknown>>) => {
      const status = Number(headers["grpc-status"] ?? Number.NaN);
      if (Number.isInteger(status)) grpc = status;
    };
    stream
      .on("response", (headers) => {
        http = headers[":status"];
        noteStatus(headers);
      })
      .on("trailers", noteStatus)
      .on("data", (chunk: Buffer) => {
        tail = Buffer.concat([tail, chunk]).subarray(-4_096);
      })
      .on("error", () => undefined)
      .on("close", () => {
        clearTimeout(timer);
        const web = /grpc-status: *(\d+)/.exec(tail.toString("latin1"))?.[1];
        resolve({ http, grpc: grpc ?? (web === undefined ? undefined : Number(web)) });
      });
    const body = envelope(attempt);
    // A few thousand pieces are enough; more only take time.
    const size = Math.max(pieceBytes, Math.ceil(body.length / 3_000));
    for (let at = 0; at < body.length; at += size) stream.write(body.subarray(at, at + size));
    stream.end();
  });
}

const agent = new Agent({ keepAlive: true, maxSockets: atOnce });

/** Connect's unary calls, in a body or a query, over HTTP/1.1. */
function overHttp1(attempt: Attempt, token: string | undefined): Promise<Answer> {
  const { method, protocol, json, encoding, saysEncoding, message, pieceBytes } = attempt;
  const isGet = protocol === "get";
  const query = new URLSearchParams({ connect: "v1", encoding: json ? "json" : "proto", base64: "1" });
  if (isGet) query.set("message", message.subarray(0, 9_000).toString("base64url"));
  if (isGet && encoding) query.set("compression", encoding);
  const headers: Record<string, string> = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(isGet ? {} : { "content-type": `application/${json ? "json" : "proto"}`, "transfer-encoding": "chunked" }),
    ...(!isGet && encoding && saysEncoding ? { "content-encoding": encoding } : {}),
  };
  const path = `${procedureOf(method)}${isGet ? `?${query}` : ""}`;
  return new Promise((resolve, reject) => {
    const call = httpRequest({
      port,
      host: "127.0.0.1",
      path,
      method: isGet ? "GET" : "POST",
      headers,
      agent,
      timeout: limitMs,
    });
    call
      .on("response", (response) => {
        response.on("error", () => undefined).resume();
        response.on("close", () => resolve({ http: response.statusCode, grpc: undefined }));
      })
      .on("timeout", () => call.destroy(new Error("no answer")))
      // A refusal may close the connection while the body is still on its way.
      .on("error", (error: NodeJS.ErrnoException) =>
        error.message === "no answer" ? reject(error) : resolve({ http: undefined, grpc: undefined }),
      );
    if (isGet) return void call.end();
    const size = Math.max(pieceBytes, Math.ceil(message.length / 3_000));
    for (let at = 0; at < message.length; at += size) call.write(message.subarray(at, at + size));
    call.end();
  });
}

test(
  `survives ${seconds} s of it, seed ${seed} (FUZZ_SEED, FUZZ_SECONDS)`,
  async () => {
    // Node's client counts what it has still to send against its session's memory.
    const dial = () => connect(`http://127.0.0.1:${port}`, { maxSessionMemory: 256 }).on("error", () => undefined);
    const sessions = Array.from({ length: 4 }, () => dial());
    const session = (index: number): ClientHttp2Session => {
      const found = sessions[index % sessions.length] as ClientHttp2Session;
      if (!found.closed && !found.destroyed) return found;
      const fresh = dial();
      sessions[index % sessions.length] = fresh;
      return fresh;
    };
    const faults: string[] = [];
    let calls = 0;
    const reached = new Map<string, number>();
    const fuzz = async (worker: number, endMs: number) => {
      const chance = randomFrom(seed + worker);
      while (performance.now() < endMs && faults.length < 5) {
        const method = methods[Math.floor(chance() * methods.length)];
        if (!method) throw new Error("no methods");
        const attempt = attemptFor(method, chance);
        const token = tokens[Math.floor(chance() * tokens.length)];
        const unary = method.methodKind === "unary" && (attempt.protocol === "connect" || attempt.protocol === "get");
        const answer = await (unary ? overHttp1(attempt, token) : overHttp2(session(worker), attempt, token)).catch(
          (error: Error) => error.message,
        );
        calls++;
        const name = `${method.name} by ${attempt.protocol}${attempt.json ? " in JSON" : ""}: ${attempt.what}`;
        if (typeof answer === "string") faults.push(`${name}: ${answer}`);
        else if (answer.http !== undefined && !documentedHttp.has(answer.http))
          faults.push(`${name}: HTTP ${answer.http}`);
        else if (answer.grpc !== undefined && !documented.has(answer.grpc))
          faults.push(`${name}: grpc-status ${answer.grpc}`);
        const key = String(answer instanceof Object ? (answer.grpc ?? answer.http) : answer);
        reached.set(key, (reached.get(key) ?? 0) + 1);
      }
    };
    const referenceMs = decodingMs();
    // Everything is used once before memory is compared, since some things are made at first use.
    await Promise.all(Array.from({ length: atOnce }, (_, worker) => fuzz(worker, performance.now() + 5_000)));
    await figures("collect");
    const before = await figures("before");
    await figures("reset");
    const endMs = performance.now() + seconds * 1_000;
    await Promise.all(Array.from({ length: atOnce }, (_, worker) => fuzz(1_000 + worker, endMs)));
    const { worstMs } = await figures("after");
    for (const open of sessions) open.destroy();
    agent.destroy();
    await figures("collect");
    const after = await figures("end");
    const grownMiB = (after.heapUsed + after.external - before.heapUsed - before.external) / 1_048_576;
    console.log(`fuzz: ${calls} calls, answers ${JSON.stringify(Object.fromEntries(reached))}`);
    console.log(
      `fuzz: worst turn ${worstMs.toFixed(1)} ms of CPU, decoding the largest request alone ${referenceMs.toFixed(1)} ms, heap grown by ${grownMiB.toFixed(1)} MiB, RSS ${(after.rss / 1_048_576).toFixed(0)} MiB`,
    );
    expect(faults).toEqual([]);
    expect(worstMs).toBeLessThan(Math.max(turnMs, decodingsMax * referenceMs));
    expect(grownMiB).toBeLessThan(64);
    // Most requests are refused. Some must get through, or nothing behind the scans is tried.
    expect(calls).toBeGreaterThan(seconds * 10);
  },
  (seconds + 120) * 1_000,
);

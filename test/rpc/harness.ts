// A whole port with a stub NodeService behind it, and the clients that tests reach it with.
import { connect as connectSocket, type Socket } from "node:net";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type Client,
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  type Interceptor,
  type ServiceImpl,
  type Transport,
} from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import {
  GetNodeRequestSchema,
  GetNodeResponseSchema,
  HeartbeatRequestSchema,
  HeartbeatResponseSchema,
  NodeService,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Caller } from "../../src/access/caller.js";
import type { Policy, Role } from "../../src/access/permission.js";
import { systemClock } from "../../src/clock.js";
import type { Hit } from "../../src/coordination/coordination.js";
import { unauthenticated } from "../../src/failure.js";
import { createCors } from "../../src/port/cors.js";
import { createHealthRoutes, type HealthReports } from "../../src/port/http-routes.js";
import { createListener, type Listener, type ListenerLimits } from "../../src/port/listener.js";
import { createProxies } from "../../src/port/proxies.js";
import type { TlsFiles } from "../../src/port/tls.js";
import { createGate, type RateLimits } from "../../src/rpc/gate.js";
import { createHealthState, type HealthState } from "../../src/rpc/health.js";
import { createObserver } from "../../src/rpc/observe.js";
import { type Policies, procedureOf } from "../../src/rpc/policies.js";
import { type AdapterOptions, createAdapter } from "../../src/rpc/router.js";
import { createValidation, type ValidationOptions } from "../../src/rpc/validate.js";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.js";
import { createLog } from "./lines.js";

export const nodeId = "node_01hzxk7v9c3r5t8w2y4a6b8d0e";
export const getNodePath = procedureOf(NodeService.method.getNode);
export const heartbeatPath = procedureOf(NodeService.method.heartbeat);

export interface TestServerOptions {
  readonly node?: Partial<ServiceImpl<typeof NodeService>>;
  readonly policies?: Readonly<Record<string, Policy>>;
  readonly limits?: RateLimits;
  readonly hit?: (key: string, limit: number, windowMs: number) => Promise<Hit>;
  /** The clock for the limits of strangers; the machine's when absent. */
  readonly nowMs?: () => number;
  readonly listener?: Partial<ListenerLimits>;
  readonly tls?: TlsFiles;
  readonly origins?: readonly string[];
  readonly readMaxBytes?: AdapterOptions["readMaxBytes"];
  readonly validation?: ValidationOptions;
  readonly interceptors?: readonly Interceptor[];
  readonly reports?: Partial<HealthReports>;
  readonly bodyLimits?: AdapterOptions["bodyLimits"];
  readonly largeBodiesMaxBytes?: number;
  /** Addresses and ranges of trusted proxies. */
  readonly proxies?: readonly string[];
}

export interface TestServer extends AsyncDisposable {
  readonly port: number;
  readonly listener: Listener;
  readonly metrics: Metrics;
  readonly health: HealthState;
  readonly lines: readonly Readonly<Record<string, unknown>>[];
  /** Connections that the listener refused or closed, by reason. */
  readonly closed: ReadonlyMap<string, number>;
  readonly shutdown: AbortController;
  /** Value of a series, 0 when there is none. */
  count(name: string, labels: Readonly<Record<string, string | number>>): Promise<number>;
  /** Waits until a call of GetNode has ended with this code. */
  counted(code: keyof typeof Code | "OK", limitMs?: number): Promise<void>;
}

export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  const { log, lines } = createLog();
  const metrics = createMetrics({ service: "test", version: "1.2.3", environment: "test" });
  const shutdown = new AbortController();
  const health = createHealthState([NodeService.typeName]);
  const policies = allowAll(options.policies);
  const proxies = createProxies(options.proxies ?? []);
  const gate = createGate({
    policies,
    verify,
    hit: options.hit ?? (async () => allowed),
    limits: options.limits,
    nowMs: options.nowMs ?? systemClock.monotonicMs,
    random: () => 0,
  });
  const handler = createAdapter({
    routes: (router: ConnectRouter) => void router.service(NodeService, { ...stub, ...options.node }),
    gate,
    validation: createValidation(options.validation),
    interceptors: options.interceptors ?? [],
    observer: createObserver({ metrics, log, clock: systemClock }),
    health,
    http: createHealthRoutes({ ...healthy, ...options.reports }, systemClock),
    cors: createCors(options.origins ?? []),
    reflection: true,
    ...(options.readMaxBytes ? { readMaxBytes: options.readMaxBytes } : {}),
    shutdownSignal: shutdown.signal,
    clock: systemClock,
    proxies,
    largeBodiesMaxBytes: options.largeBodiesMaxBytes,
    ...(options.bodyLimits ? { bodyLimits: options.bodyLimits } : {}),
  });
  const limits = options.listener ?? {};
  const closed = new Map<string, number>();
  const listener = createListener({
    ...{ host: "127.0.0.1", port: 0, handler, limits, log, tls: options.tls },
    isProxy: proxies.trusts,
    closed: (why) => void closed.set(why, (closed.get(why) ?? 0) + 1),
  });
  await listener.listen();
  return {
    port: listener.port,
    listener,
    metrics,
    health,
    lines,
    closed,
    shutdown,
    count: (name, labels) => countOf(metrics, name, labels),
    counted: (code, limitMs) => {
      const labels = { grpc_method: "GetNode", grpc_code: code };
      const handled = async () => (await countOf(metrics, "grpc_server_handled_total", labels)) > 0;
      return until(handled, `a call that ended with ${code}`, limitMs);
    },
    [Symbol.asyncDispose]: async () => {
      metrics.close();
      await listener.close();
    },
  };
}

async function countOf(metrics: Metrics, name: string, labels: Readonly<Record<string, string | number>>) {
  const { values } = (await metrics.registry.getSingleMetric(name)?.get()) ?? { values: [] };
  const wanted = Object.entries(labels);
  const matching = values.filter((value) =>
    wanted.every(([key, expected]) => (value.labels as Record<string, unknown>)[key] === expected),
  );
  return matching.reduce((sum, { value }) => sum + value, 0);
}

const allowed: Hit = { allowed: true, count: 1, resetMs: 60_000 };

const stub: Partial<ServiceImpl<typeof NodeService>> = {
  getNode: ({ nodeId }) => ({ node: { nodeId, name: "stub" } }),
  heartbeat: async function* (requests) {
    for await (const { message } of requests) {
      if (message.case === "beat") yield { message: { case: "ack", value: { sequence: message.value.sequence } } };
    }
  },
};

const healthy: HealthReports = {
  report: () => ({ status: "healthy", service: "test", version: "1.2.3", timestamp: "t", checks: {} }),
  ready: () => ({ status: "ready", timestamp: "t", checks: {} }),
  live: () => ({ status: "alive", timestamp: "t", version: "1.2.3" }),
};

/** Allows every RPC of NodeService for any token, except for methods whose policy is stated under their local name. */
function allowAll(stated: Readonly<Record<string, Policy>> = {}): Policies {
  const usual: Policy = { permission: "token", nodeToken: "handler" };
  return new Map(
    NodeService.methods.map((method): [string, Policy] => [procedureOf(method), stated[method.localName] ?? usual]),
  );
}

/** Tokens of tests read `role`, `role@node_id` or `role:subject`. */
export async function verify(token: string): Promise<Caller> {
  const [, role = "", node, subject] = /^([a-z]+)(?:@(\w+))?(?::(\w+))?$/.exec(token) ?? [];
  const roles = ["worker", "validator", "operator", "payer", "admin", "enroll"];
  if (!roles.includes(role)) throw unauthenticated("The token is not valid");
  return {
    subject: subject ?? node ?? role,
    role: role === "enroll" ? "worker" : (role as Role),
    nodeId: node,
    tokenType: role === "enroll" ? "node_enrollment" : node === undefined ? "service_access" : "node_access",
    jti: "jti",
    issuedAt: new Date("2026-01-01T00:00:00Z"),
    expiresAt: new Date("2030-01-01T00:00:00Z"),
    enrollmentEpoch: undefined,
  };
}

export type ProtocolName = "connect" | "grpc" | "grpc-web";
export const protocols: readonly ProtocolName[] = ["connect", "grpc", "grpc-web"];

/** Sends `authorization: Bearer <token>`, unless the token is undefined. */
export function clientOf(
  port: number,
  protocol: ProtocolName = "grpc",
  token: string | undefined = "admin",
  header: Readonly<Record<string, string>> = {},
): Client<typeof NodeService> {
  return createClient(NodeService, transportOf(port, protocol, token, header));
}

export function transportOf(
  port: number,
  protocol: ProtocolName,
  token: string | undefined,
  header: Readonly<Record<string, string>> = {},
): Transport {
  const headers: Interceptor = (next) => (request) => {
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    for (const [name, value] of Object.entries(header)) request.header.set(name, value);
    return next(request);
  };
  const options = { baseUrl: `http://127.0.0.1:${port}`, interceptors: [headers] };
  if (protocol === "grpc") return createGrpcTransport(options);
  if (protocol === "grpc-web") return createGrpcWebTransport({ ...options, httpVersion: "2" });
  return createConnectTransport({ ...options, httpVersion: "2" });
}

/** The ConnectError of a call that must fail. */
export async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  const result = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (result instanceof ConnectError) return result;
  throw new Error(`expected a ConnectError, got ${String(result)}`);
}

/** A NodeService client of the gRPC implementation that most nodes use. */
export function grpcJsClient(port: number, token = "admin", credentials = grpc.credentials.createInsecure()) {
  const client = new grpc.Client(`localhost:${port}`, credentials, {
    "grpc.ssl_target_name_override": "localhost",
    "grpc.use_local_subchannel_pool": 1,
  });
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return {
    getNode: (id: string) =>
      new Promise<grpc.ServiceError | undefined>((resolve) => {
        client.makeUnaryRequest(
          getNodePath,
          (request: { nodeId: string }) =>
            Buffer.from(toBinary(GetNodeRequestSchema, { $typeName: GetNodeRequestSchema.typeName, ...request })),
          (bytes) => fromBinary(GetNodeResponseSchema, bytes),
          { nodeId: id },
          metadata,
          (error) => resolve(error ?? undefined),
        );
      }),
    heartbeat: () =>
      client.makeBidiStreamRequest(
        heartbeatPath,
        (request: ReturnType<typeof beat>) => Buffer.from(toBinary(HeartbeatRequestSchema, request)),
        (bytes) => fromBinary(HeartbeatResponseSchema, bytes),
        metadata,
      ),
    close: () => client.close(),
  };
}

export function beat(sequence: number) {
  return fromBinary(HeartbeatRequestSchema, Uint8Array.of(0x12, 2, 8, sequence));
}

/** Polls until the condition holds; fails after the limit. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 10_000) {
  const end = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A socket that gathers what it reads. */
export function rawSocket(port: number): { socket: Socket; text: () => string; closed: () => boolean } {
  let text = "";
  const socket = connectSocket(port, "127.0.0.1");
  socket.on("data", (chunk) => (text += chunk.toString("latin1"))).on("error", () => undefined);
  return { socket, text: () => text, closed: () => socket.destroyed };
}

/** Sends bytes and answers all that comes back until the connection ends. */
export async function exchange(port: number, bytes: string | Uint8Array): Promise<string> {
  const { socket, text, closed } = rawSocket(port);
  socket.write(bytes);
  await until(closed, "the server closes the connection");
  return text();
}

export { Code };

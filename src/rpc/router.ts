// Composes the layers between the port and the handlers, in the one order that is right: request id ->
// observer -> CORS -> gate (before the body) -> outcome -> errors -> credentials -> shape -> own node -> handler.
import { randomUUID } from "node:crypto";
import type { ServerResponse } from "node:http";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { Code, type ConnectRouter, type HandlerContext, type Interceptor } from "@connectrpc/connect";
import type { Clock } from "../clock.js";
import { addressKey } from "../port/address.js";
import type { Cors } from "../port/cors.js";
import { answerHttpError, pathOf, type WireHandler, type WireRequest, type WireResponse } from "../port/exchange.js";
import type { HttpRoutes } from "../port/http-routes.js";
import { mediaTypeOf } from "../port/media-type.js";
import { peerOf } from "../port/peer.js";
import type { Proxies } from "../port/proxies.js";
import type { ReaderLimits } from "./body/reader.js";
import { type Call, createCall, noteError } from "./call.js";
import { askedOf, type CallHooks, createRpcs } from "./connect/adapter.js";
import { statusOf, toBodyError, toConnectError } from "./connect/errors.js";
import {
  credentialInterceptor,
  errorInterceptor,
  outcomeInterceptor,
  ownNodeInterceptor,
  shapeInterceptor,
} from "./connect/interceptors.js";
import { callOf, contextOf } from "./context.js";
import type { Gate } from "./gate.js";
import { type HealthState, mountHealth } from "./health.js";
import type { Observer } from "./observe.js";
import { procedureOf } from "./policies.js";
import { mountReflection } from "./reflection.js";
import type { Validation } from "./validate.js";
import { createWaitingCalls } from "./waiting.js";

type RpcOptions = NonNullable<Parameters<ConnectRouter["service"]>[2]>;

export interface AdapterOptions {
  /** The services behind the gate. */
  readonly routes: (router: ConnectRouter) => void;
  readonly gate: Gate;
  readonly validation: Validation;
  /** Run inside all others, outermost first. */
  readonly interceptors?: readonly Interceptor[];
  readonly observer: Observer;
  readonly health: HealthState;
  /** HTTP routes beside the RPCs. */
  readonly http: HttpRoutes;
  readonly cors: Cors;
  readonly reflection: boolean;
  /** Bytes of the largest request message, by service name or procedure; `defaultReadMaxBytes` for all others. */
  readonly readMaxBytes?: Readonly<Record<string, number>>;
  /** When it aborts, every call ends with its reason: a ConnectError, best `Code.Unavailable`. */
  readonly shutdownSignal: AbortSignal;
  readonly clock: Clock;
  /** The proxies whose word for a client's address is trusted. */
  readonly proxies: Proxies;
  /** How long to wait for the body of a request. */
  readonly bodyLimits?: Partial<ReaderLimits>;
  /** Bytes of all large messages in work at one time; 256 MiB when absent. */
  readonly largeBodiesMaxBytes?: number | undefined;
}

const defaultReadMaxBytes = 256 * 1024;
const openReadMaxBytes = 16 * 1024;

/** Everything that the main port answers. */
export function createAdapter(options: AdapterOptions): WireHandler {
  const rpcs = createRpcs({
    routes: (router) => mountAll(router, options),
    ...commonOptions(options),
    readMaxBytesOf: (method) => readMaxBytesOf(method, options),
    interceptors: [
      ...outerInterceptors(options),
      credentialInterceptor(options.gate),
      shapeInterceptor(options.validation),
      ownNodeInterceptor(options.gate),
      ...(options.interceptors ?? []),
    ],
    requestGate: guarded(options, options.gate.admit),
  });
  const waiting = createWaitingCalls();
  return (request, response, connection) => {
    const requestId = requestIdOf(request);
    response.setHeader("x-request-id", requestId);
    const path = pathOf(request);
    const method = rpcs.methods.get(path);
    const endpoint = method ? path : (options.http.match(path) ?? "unmatched");
    const call = options.observer.begin(request, response, {
      requestId,
      endpoint,
      method,
      headers: headersOf(request),
    });
    if (options.cors(request, response)) return;
    if (!method) {
      if (endpoint === "unmatched") connection?.turnedAway();
      return answerUnmatched(request, response, options, requestId);
    }
    const asked = askedOf(request, method);
    call.peer = peerOf(request, response, connection, options.proxies);
    if (typeof asked === "number") return void answerMisfit(request, response, asked, options, call);
    const body = waiting.enter(connection ?? call.peer, addressKey(call.peer.address));
    response.once("close", body.done);
    const hooks = hooksOf(call, response, method, options);
    rpcs.serve(request, response, path, asked, { ...hooks, begun: body.done, waits: body.waits });
  };
}

/** The same for the port of probes and metrics: only health, by gRPC and HTTP. */
export function createProbeAdapter(
  options: Pick<AdapterOptions, "health" | "http" | "shutdownSignal" | "clock">,
): WireHandler {
  const rpcs = createRpcs({
    routes: (router) => mountHealth(router, options.health),
    ...commonOptions(options),
    readMaxBytesOf: () => openReadMaxBytes,
    interceptors: [errorInterceptor(options.clock)],
  });
  return (request, response) => {
    const path = pathOf(request);
    const method = rpcs.methods.get(path);
    const requestId = requestIdOf(request);
    const asked = method && askedOf(request, method);
    if (!method || !asked) return answerUnmatched(request, response, options, requestId);
    if (typeof asked === "number") return answerStatus(request, response, asked, options.clock, requestId);
    const call = createCall({ requestId, endpoint: path, method, headers: headersOf(request) });
    rpcs.serve(request, response, path, asked, hooksOf(call, response, method, options));
  };
}

function hooksOf(
  call: Call,
  response: WireResponse,
  method: DescMethod,
  { clock }: Pick<AdapterOptions, "clock">,
): CallHooks {
  return {
    values: contextOf(call),
    refused: (thrown) => {
      const error = toBodyError(thrown, { requestId: call.requestId, path: procedureOf(method), now: clock.now() });
      noteError(call, statusOf(error));
      return error;
    },
    begun: () => undefined,
    waits: () => undefined,
    // Nothing can be written, because the client has gone or for another reason. The call is over either way.
    broken: () => void (response.writableEnded || response.destroy()),
  };
}

function commonOptions(options: Pick<AdapterOptions, "shutdownSignal" | "bodyLimits" | "largeBodiesMaxBytes">) {
  return {
    readMaxBytes: defaultReadMaxBytes,
    bodyLimits: options.bodyLimits,
    largeBodiesMaxBytes: options.largeBodiesMaxBytes,
    // Proto field names and all implicit fields, as a reader of the .proto expects. The scan of the body refuses
    // unknown fields and lists the known ones; `ignoreUnknownFields: false` covers what a scan might miss.
    jsonOptions: { alwaysEmitImplicit: true, useProtoFieldName: true, ignoreUnknownFields: false },
    shutdownSignal: options.shutdownSignal,
  };
}

/** The largest request of a method: its own limit or its service's. A request without a token must be small. */
function readMaxBytesOf(method: DescMethod, { readMaxBytes = {}, gate }: AdapterOptions): number {
  if (gate.isOpen(method)) return openReadMaxBytes;
  return readMaxBytes[procedureOf(method)] ?? readMaxBytes[method.parent.typeName] ?? defaultReadMaxBytes;
}

function outerInterceptors(options: AdapterOptions): Interceptor[] {
  return [outcomeInterceptor, errorInterceptor(options.clock)];
}

function mountAll(router: ConnectRouter, options: AdapterOptions): void {
  options.routes(withOptions(router, (_service, method) => ({ readMaxBytes: readMaxBytesOf(method, options) })));
  // A service's own options replace the router's: health and reflection need neither a token nor validation.
  const open = {
    interceptors: outerInterceptors(options),
    requestGate: guarded(options, options.gate.admitOutsider),
    readMaxBytes: openReadMaxBytes,
  };
  const openRouter = withOptions(router, () => open);
  mountHealth(openRouter, options.health);
  if (!options.reflection) return;
  const services = [...new Set(router.handlers.map(({ service }) => service))];
  mountReflection(openRouter, services, (context) => options.gate.admitOutsider(callOf(context)));
}

/** A router that registers each RPC separately, with its own options. */
function withOptions(
  router: ConnectRouter,
  optionsOf: (service: DescService, method: DescMethod) => RpcOptions,
): ConnectRouter {
  const self: ConnectRouter = {
    handlers: router.handlers,
    service: (service, implementation, options) => {
      // This also registers methods that are not implemented; the adapter uses the last registration of a path.
      router.service(service, implementation, options);
      const handlers: Readonly<Record<string, unknown>> = implementation;
      for (const method of service.methods) {
        const handler = handlers[method.localName];
        if (typeof handler !== "function") continue;
        // The implementation's type proves that the handler fits the method; the type of a list of methods cannot.
        const bound: unknown = handler.bind(implementation);
        self.rpc(method, bound as never, options);
      }
      return self;
    },
    rpc: (method, implementation, options) => {
      router.rpc(method, implementation, { ...optionsOf(method.parent, method), ...options });
      return self;
    },
  };
  return self;
}

/** Runs the gate. Its refusals are shaped and counted like other errors, although no interceptor sees them. */
function guarded({ clock }: AdapterOptions, admit: (call: Call) => Promise<void>) {
  return async (context: HandlerContext) => {
    const call = callOf(context);
    call.signal = context.signal;
    try {
      await admit(call);
    } catch (thrown) {
      const { requestId } = call;
      const error = toConnectError(thrown, { requestId, path: procedureOf(context.method), now: clock.now() });
      noteError(call, statusOf(error));
      throw error;
    }
  };
}

/** The headers that may occur once, as received. */
const headersOf = ({ headers }: WireRequest): Call["headers"] => ({
  get: (name) => {
    const value = headers[name];
    return typeof value === "string" ? value : null;
  },
});

/** The caller's request id if it is safe to log and echo, else a new one. */
function requestIdOf(request: WireRequest): string {
  const given = request.headers["x-request-id"];
  return typeof given === "string" && /^[!-~]{1,128}$/.test(given) ? given : randomUUID();
}

function answerUnmatched(
  request: WireRequest,
  response: WireResponse,
  { http, clock }: Pick<AdapterOptions, "http" | "clock">,
  requestId: string,
): void {
  if (http.match(pathOf(request))) http.serve(request, response, requestId);
  else if (isGrpc(request)) answerByHeaders(request, response, Code.Unimplemented, "Unknown procedure");
  else answerStatus(request, response, 404, clock, requestId);
}

/**
 * Answers a request for an RPC with a method or content type that the RPC does not have. It counts as a stranger's,
 * whatever its token.
 */
async function answerMisfit(
  request: WireRequest,
  response: WireResponse,
  status: keyof typeof reasons,
  { gate, clock }: AdapterOptions,
  { requestId, peer }: Call,
): Promise<void> {
  const limited = await gate.limitStranger(peer).then(
    () => false,
    () => true,
  );
  if (response.destroyed) return;
  if (limited && isGrpc(request)) answerByHeaders(request, response, Code.ResourceExhausted, reasons[429]);
  else answerStatus(request, response, limited ? 429 : status, clock, requestId);
}

const reasons = {
  404: "Not found",
  405: "Method not allowed",
  415: "Unsupported content type: application/json or application/proto, application/grpc, application/grpc-web, for streams application/connect+json or application/connect+proto",
  429: "Too many requests",
  505: "Streams in both directions need HTTP/2",
} as const;

function answerStatus(
  request: WireRequest,
  response: WireResponse,
  status: keyof typeof reasons,
  clock: Clock,
  requestId: string,
): void {
  if (status === 405) response.setHeader("Allow", "POST");
  if (status === 429) response.setHeader("Retry-After", "60");
  // Without this, HTTP/1.1 clients that wait for a stream's answer would wait forever.
  if (status === 505) response.setHeader("Connection", "close");
  answerHttpError(request, response, status, reasons[status], { requestId, now: clock.now() });
}

const isGrpc = (request: WireRequest) =>
  mediaTypeOf(request.headers["content-type"])?.type.startsWith("application/grpc");

/** Answers gRPC by headers alone: its clients do not read an HTTP status. */
function answerByHeaders(request: WireRequest, response: WireResponse, code: Code, message: string): void {
  const type = mediaTypeOf(request.headers["content-type"])?.type ?? "application/grpc";
  const headers = { "content-type": type, "grpc-status": String(code), "grpc-message": message };
  (response as ServerResponse).writeHead(200, headers).end();
}

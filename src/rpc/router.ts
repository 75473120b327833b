// Composes what stands between the port and the handlers, in the one order that is right:
// request id -> CORS -> observer -> gate (before the body) -> outcome -> errors -> validation -> own node -> handler.
import { randomUUID } from "node:crypto";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  Code,
  type ConnectRouter,
  type ContextValues,
  createContextValues,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { Clock } from "../clock.js";
import { peerKey, requestIdKey } from "./caller.js";
import type { Cors } from "./cors.js";
import { errorInterceptor, toConnectError } from "./errors.js";
import type { Gate } from "./gate.js";
import { type HealthState, mountHealth } from "./health.js";
import type { HttpRoutes } from "./http-routes.js";
import { type Call, callKey, noteError, type Observer, outcomeInterceptor } from "./observe.js";
import { peerOf } from "./peer.js";
import { procedureOf } from "./policies.js";
import { mountReflection } from "./reflection.js";
import {
  answerHttpError,
  contentTypeOf,
  pathOf,
  type WireHandler,
  type WireRequest,
  type WireResponse,
} from "./wire.js";

type RpcOptions = NonNullable<Parameters<ConnectRouter["service"]>[2]>;

export interface AdapterOptions {
  /** The services behind the gate. */
  readonly routes: (router: ConnectRouter) => void;
  readonly gate: Gate;
  /** Inside the error interceptor, outermost first: validation, then `selfInterceptor`. */
  readonly interceptors: readonly Interceptor[];
  readonly observer: Observer;
  readonly health: HealthState;
  /** Answered beside the RPCs. */
  readonly http: HttpRoutes;
  readonly cors: Cors;
  readonly reflection: boolean;
  /** Largest request message in bytes by service name or procedure; elsewhere `defaultReadMaxBytes`. */
  readonly readMaxBytes?: Readonly<Record<string, number>>;
  /** Ends every call when it aborts, with its reason: a ConnectError, best `Code.Unavailable`. */
  readonly shutdownSignal: AbortSignal;
  readonly clock: Clock;
}

const defaultReadMaxBytes = 256 * 1024;
const probeReadMaxBytes = 16 * 1024;

/** Everything that one port answers. */
export function createAdapter(options: AdapterOptions): WireHandler {
  const calls = new WeakMap<WireRequest, ContextValues>();
  const rpcs = createRpcs({
    routes: (router) => mountAll(router, options),
    ...commonOptions(options),
    interceptors: [...outerInterceptors(options), ...options.interceptors],
    requestGate: guarded(options),
    contextValues: (request) => calls.get(request) ?? createContextValues(),
  });
  return (request, response) => {
    const requestId = requestIdOf(request);
    response.setHeader("x-request-id", requestId);
    const path = pathOf(request);
    const method = rpcs.methods.get(path);
    const endpoint = method ? path : (options.http.match(path) ?? "unmatched");
    const call = options.observer.begin(request, response, { requestId, endpoint, method });
    if (options.cors(request, response)) return;
    if (!method) return answerUnmatched(request, response, options, requestId);
    calls.set(request, contextOf(request, response, call));
    rpcs.serve(request, response);
  };
}

/** The same for a port of probes and metrics: health by gRPC and HTTP, and nothing else. */
export function createProbeAdapter(
  options: Pick<AdapterOptions, "health" | "http" | "shutdownSignal" | "clock">,
): WireHandler {
  const rpcs = createRpcs({
    routes: (router) => mountHealth(router, options.health),
    ...commonOptions(options),
    interceptors: [errorInterceptor(options.clock)],
    readMaxBytes: probeReadMaxBytes,
  });
  return (request, response) => {
    if (rpcs.methods.has(pathOf(request))) rpcs.serve(request, response);
    else answerUnmatched(request, response, options, requestIdOf(request));
  };
}

function createRpcs(options: Parameters<typeof connectNodeAdapter>[0]) {
  const methods = new Map<string, DescMethod>();
  const serve = connectNodeAdapter({
    ...options,
    routes: (router) => {
      options.routes(router);
      for (const { requestPath, method } of router.handlers) methods.set(requestPath, method);
    },
  });
  return { methods, serve };
}

function commonOptions(options: Pick<AdapterOptions, "shutdownSignal">) {
  return {
    readMaxBytes: defaultReadMaxBytes,
    // Proto field names and every implicit field: what a reader of the .proto expects to find.
    jsonOptions: { alwaysEmitImplicit: true, useProtoFieldName: true },
    shutdownSignal: options.shutdownSignal,
  };
}

function outerInterceptors(options: AdapterOptions): Interceptor[] {
  return [outcomeInterceptor, errorInterceptor(options.clock)];
}

function mountAll(router: ConnectRouter, options: AdapterOptions): void {
  options.routes(limitedRouter(router, options.readMaxBytes ?? {}));
  // A service's own options replace the router's: these two stand outside the gate and need no validation.
  const open = {
    interceptors: outerInterceptors(options),
    requestGate: () => undefined,
    readMaxBytes: probeReadMaxBytes,
  };
  const openRouter = withOptions(router, () => open);
  mountHealth(openRouter, options.health);
  if (options.reflection) mountReflection(openRouter, [...new Set(router.handlers.map(({ service }) => service))]);
}

/** Gives each service its own limit, and each method that has one that. */
function limitedRouter(router: ConnectRouter, limits: Readonly<Record<string, number>>): ConnectRouter {
  return withOptions(router, (service, method) => {
    const own = method && limits[procedureOf(method)];
    return { readMaxBytes: own ?? limits[service.typeName] ?? defaultReadMaxBytes };
  });
}

/** A router that registers each RPC by itself, with the options stated for it. */
function withOptions(
  router: ConnectRouter,
  optionsOf: (service: DescService, method: DescMethod) => RpcOptions,
): ConnectRouter {
  const self: ConnectRouter = {
    handlers: router.handlers,
    service: (service, implementation, options) => {
      // Registers the methods that are not implemented too; the adapter takes the last registration of a path.
      router.service(service, implementation, options);
      const handlers: Readonly<Record<string, unknown>> = implementation;
      for (const method of service.methods) {
        const handler = handlers[method.localName];
        if (typeof handler !== "function") continue;
        // The implementation's type says that the handler fits the method; a list of methods cannot.
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

/** The gate, its refusals shaped and counted like any other error: no interceptor sees them. */
function guarded({ gate, clock }: AdapterOptions) {
  return async (context: HandlerContext) => {
    try {
      await gate(context);
    } catch (thrown) {
      const requestId = context.values.get(requestIdKey);
      const error = toConnectError(thrown, { requestId, path: procedureOf(context.method), now: clock.now() });
      noteError(context.values.get(callKey), error);
      throw error;
    }
  };
}

function contextOf(request: WireRequest, response: WireResponse, call: Call): ContextValues {
  call.values = createContextValues()
    .set(callKey, call)
    .set(requestIdKey, call.requestId)
    .set(peerKey, peerOf(request, response));
  return call.values;
}

/** The caller's request id, when it can be logged and echoed as it is; else a new one. */
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
  const path = pathOf(request);
  const contentType = contentTypeOf(request);
  if (http.match(path)) http.serve(request, response, requestId);
  else if (contentType.startsWith("application/grpc")) answerUnimplemented(response, contentType);
  else answerHttpError(request, response, 404, "Not found", { requestId, now: clock.now() });
}

/** gRPC by its headers alone; its clients do not read an HTTP status. */
function answerUnimplemented(response: WireResponse, contentType: string): void {
  response.setHeader("content-type", contentType);
  response.setHeader("grpc-status", String(Code.Unimplemented));
  response.setHeader("grpc-message", "Unknown procedure");
  response.end();
}

// Connects Connect's handlers to our port: reads from the headers what a request asks for, and its body with our own
// reader. Connect's own adapter for Node.js is not used, since it parses the request's authority and reads bodies at
// quadratic cost.
import type { DescMethod } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, type ContextValues, createConnectRouter } from "@connectrpc/connect";
import { compressionBrotli, compressionGzip, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { timerMaxMs } from "../../clock.js";
import type { WireRequest, WireResponse } from "../../port/exchange.js";
import { type MediaType, mediaTypeOf } from "../../port/media-type.js";
import { assertLength, type BodyFormat, bodyOf, bodyOfQuery, prepareBody } from "../body/body.js";
import { unreadable } from "../body/fault.js";
import { isEncoding } from "../body/inflate.js";
import type { ReaderLimits } from "../body/reader.js";
import { createRoom } from "../body/room.js";

export interface RpcOptions extends NonNullable<Parameters<typeof createConnectRouter>[0]> {
  readonly routes: (router: ConnectRouter) => void;
  /** Largest request message of an RPC, in bytes. */
  readonly readMaxBytesOf: (method: DescMethod) => number;
  readonly bodyLimits?: Partial<ReaderLimits> | undefined;
  /** Bytes of all large messages in work at one time; 256 MiB when absent. */
  readonly largeBodiesMaxBytes?: number | undefined;
}

/**
 * JSON is decoded without interruption, at ten times the cost of the binary form. A message of this size blocks the
 * event loop for about 30 ms.
 */
const jsonMaxBytes = 5 * 1024 * 1024;

/** Bytes of all large messages in work at one time. */
const largeBodiesMaxBytes = 256 * 1024 * 1024;

/** What a request asks for. A number is the HTTP status that refuses it. */
export type Asked = AskedRpc | 405 | 415 | 505;

export interface AskedRpc {
  readonly format: BodyFormat;
  /** The content type in Connect's spelling. */
  readonly contentType: string;
  /** The header with the body's encoding. It is removed once we have decoded the body. */
  readonly encodingHeader: string;
  /** For a Connect GET: an encoding that is not known. */
  readonly unknownEncoding?: string;
  /** For a Connect GET: the message, read after the gate. */
  readonly query?: () => Uint8Array;
}

export interface CallHooks {
  readonly values: ContextValues;
  /** Called with the failure of a refused body; returns what goes on the wire. */
  readonly refused: (thrown: unknown) => unknown;
  /** Called once the first message has arrived or never will. */
  readonly begun: () => void;
  /** Receives a function that ends the wait for the body. */
  readonly waits: (giveUp: () => void) => void;
  /** Called when the answer cannot be written because the client has gone. */
  readonly broken: (error: unknown) => void;
}

export interface Rpcs {
  /** By path. */
  readonly methods: ReadonlyMap<string, DescMethod>;
  serve(request: WireRequest, response: WireResponse, path: string, asked: AskedRpc, hooks: CallHooks): void;
}

export function createRpcs(options: RpcOptions): Rpcs {
  const router = createConnectRouter({ acceptCompression: [compressionGzip, compressionBrotli], ...options });
  options.routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const methods = new Map([...handlers].map(([path, { method }]) => [path, method]));
  for (const { input } of methods.values()) prepareBody(input);
  const room = createRoom(options.largeBodiesMaxBytes ?? largeBodiesMaxBytes);
  const roomUntil = (end: AbortSignal) => (bytes: number) => {
    // A call that ended during decompression needs no memory, and would never return it.
    if (end.aborted) return true;
    const fits = room.take(bytes);
    if (fits) end.addEventListener("abort", () => room.give(bytes), { once: true });
    return fits;
  };
  return {
    methods,
    serve: (request, response, path, asked, hooks) => {
      const handler = handlers.get(path);
      if (!handler) throw new Error(`${path} is not an RPC`);
      const stated = options.readMaxBytesOf(handler.method);
      const readMaxBytes = asked.format.json ? Math.min(stated, jsonMaxBytes) : stated;
      const signal = endOf(request, response);
      const universal = {
        httpVersion: request.httpVersion,
        method: "POST",
        // Contains nothing from the client: an RPC has no use for the authority.
        url: `http://localhost${path}`,
        header: headersOf(request, asked),
        body: bodyFor(request, handler.method, asked, readMaxBytes, hooks, options.bodyLimits, roomUntil(signal)),
        signal,
        contextValues: hooks.values,
      };
      handler(universal)
        .then((answer) => universalResponseToNodeResponse(answer, response))
        .catch(hooks.broken);
    },
  };
}

function bodyFor(
  request: WireRequest,
  { input, methodKind }: DescMethod,
  { format, query }: AskedRpc,
  readMaxBytes: number,
  { refused, begun, waits }: CallHooks,
  limits: Partial<ReaderLimits> | undefined,
  room: (bytes: number) => boolean,
): AsyncIterable<Uint8Array> {
  const single = methodKind === "unary" || methodKind === "server_streaming";
  const options = { format, input, single, limits: { ...limits, readMaxBytes }, refused, begun, waits, room };
  if (query) return bodyOfQuery(query, options);
  if (format.enveloped) return bodyOf(request, options);
  const stated = request.headers["content-length"];
  return bodyOf(request, {
    ...options,
    stated: stated === undefined ? undefined : Number(stated),
    before: () => assertLength(stated, readMaxBytes),
  });
}

/** Aborts when the call's stream or connection is gone. */
function endOf(request: WireRequest, response: WireResponse): AbortSignal {
  const control = new AbortController();
  // HTTP/1.1 ends the request once its body is read; the response ends with the connection.
  const source = "stream" in request ? request : response;
  source.once("close", () => control.abort(callOver));
  return control.signal;
}

/** Shared by all calls: an error per call would cost each one a stack trace. */
const callOver = new ConnectError("The client ended the call", Code.Canceled);

/**
 * The request's headers with corrections for Connect: the content type in its spelling, no length and no encoding (the
 * body is already decoded), and no deadline beyond what a timer can hold.
 */
function headersOf(request: WireRequest, { contentType, encodingHeader, format, unknownEncoding }: AskedRpc): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value === undefined || name.startsWith(":")) continue;
    if (typeof value === "string") headers.append(name, value);
    else for (const one of value) headers.append(name, one);
  }
  headers.set("content-type", contentType);
  headers.delete("content-length");
  if (format.encoding !== undefined) headers.delete(encodingHeader);
  if (unknownEncoding !== undefined) headers.set(encodingHeader, unknownEncoding.replace(/[^!-~]/g, "?"));
  for (const name of ["grpc-timeout", "connect-timeout-ms"]) {
    const given = headers.get(name);
    if (given !== null && isEndless(given)) headers.delete(name);
  }
  return headers;
}

const unitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000 };

/** Whether the deadline is so far away that it has no effect. Connect refuses a malformed one. */
function isEndless(timeout: string): boolean {
  const [, digits = "", unit] = /^(\d{1,10})([HMSmun]?)$/.exec(timeout) ?? [];
  return Number(digits) * (unit === undefined || unit === "" || unit === "m" ? 1 : (unitsMs[unit] ?? 0)) > timerMaxMs;
}

/** Checks method and content type before anything else. */
export function askedOf(request: WireRequest, method: DescMethod): Asked {
  const safe = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
  if (request.method === "GET" && method.methodKind === "unary" && safe) return askedByQuery(request.url ?? "");
  if (request.method !== "POST") return 405;
  const type = mediaTypeOf(request.headers["content-type"]);
  const asked = type && askedByType(request, method, type);
  if (!asked) return 415;
  if (method.methodKind === "bidi_streaming" && request.httpVersionMajor < 2) return 505;
  return asked;
}

function askedByType(request: WireRequest, method: DescMethod, { type, charset }: MediaType): AskedRpc | undefined {
  const [, family = "", format = ""] =
    /^application\/(?:(grpc-web|grpc|connect)(?:\+|$))?(proto|json|)$/.exec(type) ?? [];
  const json = format === "json";
  if (format === "" && family !== "grpc" && family !== "grpc-web") return undefined;
  if (json && charset !== undefined && charset !== "utf-8") return undefined;
  const unary = method.methodKind === "unary";
  if ((family === "" && !unary) || (family === "connect" && unary)) return undefined;
  const encodingHeader =
    family === "" ? "content-encoding" : family === "connect" ? "connect-content-encoding" : "grpc-encoding";
  const given = request.headers[encodingHeader];
  const encoding = typeof given === "string" && isEncoding(given) ? given : undefined;
  const endFlag = family === "connect" ? 2 : family === "grpc-web" ? 0x80 : 0;
  return { format: { json, enveloped: family !== "", encoding, endFlag }, contentType: type, encodingHeader };
}

/** Connect's GET, served like the equivalent POST. https://connectrpc.com/docs/protocol/#unary-get-request */
function askedByQuery(url: string): AskedRpc | 415 {
  const start = url.indexOf("?");
  const query = new URLSearchParams(start < 0 ? "" : url.slice(start + 1));
  const encoding = query.get("encoding");
  if (encoding !== "json" && encoding !== "proto") return 415;
  const compression = query.get("compression") ?? undefined;
  return {
    format: {
      json: encoding === "json",
      enveloped: false,
      encoding: isEncoding(compression) ? compression : undefined,
      endFlag: 0,
    },
    contentType: `application/${encoding}`,
    encodingHeader: "content-encoding",
    // Connect refuses an unknown one in the words of the protocol.
    ...(compression !== undefined && !isEncoding(compression) ? { unknownEncoding: compression } : {}),
    query: () => {
      const message = query.get("message") ?? "";
      return query.get("base64") === "1" ? decoded(message) : Buffer.from(message, "utf8");
    },
  };
}

function decoded(base64: string): Uint8Array {
  try {
    return base64Decode(base64);
  } catch {
    throw unreadable("The message is not base64");
  }
}

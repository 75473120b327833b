// The two kinds of Node.js requests and responses on one port, and the functions common to all answers.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

export type WireRequest = IncomingMessage | Http2ServerRequest;
export type WireResponse = ServerResponse | Http2ServerResponse;
export type WireHandler = (request: WireRequest, response: WireResponse, connection?: Connection) => void;

/** What a handler reports about a call to its connection. */
export interface Connection {
  /** The call was refused entry. */
  turnedAway(): void;
  /** The caller is identified: the connection counts as in use until the call ends. */
  letIn(): void;
}

/**
 * The path without the query, which may contain secrets. A proxy may send the absolute form, which a server must accept
 * (RFC 9112, 3.2.2).
 */
export function pathOf(request: WireRequest): string {
  const url = request.url ?? "";
  const query = url.indexOf("?");
  const target = query < 0 ? url : url.slice(0, query);
  return /^https?:\/\/[^/]*(\/.*)?$/i.test(target) ? target.replace(/^https?:\/\/[^/]*/i, "") || "/" : target;
}

/** Sends an answer with its body; for HEAD only the headers. */
export function answer(
  request: WireRequest,
  response: WireResponse,
  status: number,
  headers: OutgoingHttpHeaders,
  body: string,
): void {
  const plain = response as ServerResponse;
  plain.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) });
  if (request.method === "HEAD" || body === "") plain.end();
  else plain.end(body);
}

export function answerJson(request: WireRequest, response: WireResponse, status: number, body: unknown): void {
  answer(request, response, status, { "content-type": "application/json" }, JSON.stringify(body));
}

/** Sends an error for a path that is not an RPC. */
export function answerHttpError(
  request: WireRequest,
  response: WireResponse,
  status: number,
  message: string,
  context: { readonly requestId: string; readonly now: Date },
): void {
  const timestamp = context.now.toISOString();
  const error = { code: `HTTP_${status}`, message, request_id: context.requestId, timestamp, path: pathOf(request) };
  answerJson(request, response, status, { error });
}

/**
 * Encodes grpc-message as the gRPC specification says: only `%` and characters outside printable ASCII are escaped.
 * Connect escapes more (`:`, `,`, `/` ...), which grpc-js shows to people undecoded.
 */
function grpcMessage(escaped: string): string {
  return escaped.replace(/%([0-9A-F]{2})/gi, (whole, hex: string) => {
    const byte = Number.parseInt(hex, 16);
    return byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCharCode(byte) : whole;
  });
}

/**
 * Rewrites grpc-message wherever Connect writes it, and reports the grpc-status that is sent: the only sign of an error
 * that no interceptor saw.
 */
export function watchGrpcStatus(response: WireResponse, onStatus: (status: number) => void): void {
  const target = response as ServerResponse;
  const { addTrailers, writeHead, write } = target;
  const correct = (headers: unknown) => {
    if (typeof headers !== "object" || headers === null) return;
    const fields = headers as OutgoingHttpHeaders;
    const status = Number(fields["grpc-status"] ?? Number.NaN);
    if (Number.isInteger(status)) onStatus(status);
    const message = fields["grpc-message"];
    if (typeof message === "string") fields["grpc-message"] = grpcMessage(message);
  };
  target.addTrailers = (headers) => {
    correct(headers);
    addTrailers.call(target, headers);
  };
  target.writeHead = (...args: unknown[]) => {
    correct(args.at(-1));
    const web = String((args.at(-1) as OutgoingHttpHeaders | undefined)?.["content-type"]).startsWith(
      "application/grpc-web",
    );
    // gRPC-Web sends its trailers as a last chunk of the body, marked by the highest bit.
    if (web) target.write = tapTrailerChunk(target, write, onStatus);
    return Reflect.apply(writeHead, target, args);
  };
}

function tapTrailerChunk(
  target: ServerResponse,
  write: ServerResponse["write"],
  onStatus: (status: number) => void,
): ServerResponse["write"] {
  return (...args: unknown[]) => {
    const chunk = args[0];
    if (chunk instanceof Uint8Array && ((chunk[0] ?? 0) & 0x80) !== 0) {
      const status = /^grpc-status: *(\d+)/m.exec(Buffer.from(chunk.subarray(5)).toString("latin1"))?.[1];
      if (status !== undefined) onStatus(Number(status));
    }
    return Reflect.apply(write, target, args);
  };
}

// Connect's own clients, by protocol and HTTP version.
import { fromJson, type JsonValue, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { BadRequestSchema, ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import {
  HeartbeatRequestSchema,
  HeartbeatResponseSchema,
  NodeService,
} from "../../../gen/lucid/node/v1/node_service_pb.js";
import { codeNames, createInbox, type ForeignClient, type Json, type Kind, type Refusal, refusalOf } from "./client.js";

const json = { useProtoFieldName: true, alwaysEmitImplicit: true } as const;

export const connectKinds: readonly Kind[] = [
  kind("Connect, JSON, HTTP/1.1", 1, (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
  ),
  kind("Connect, binary, HTTP/1.1", 1, (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: true }),
  ),
  kind("Connect, JSON, HTTP/2", 2, (baseUrl, sessionManager) =>
    createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: false, sessionManager }),
  ),
  kind("Connect, binary, HTTP/2", 2, (baseUrl, sessionManager) =>
    createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: true, sessionManager }),
  ),
  kind("gRPC-Web, HTTP/1.1", 1, (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })),
  kind("gRPC-Web, HTTP/2", 2, (baseUrl, sessionManager) =>
    createGrpcWebTransport({ baseUrl, httpVersion: "2", sessionManager }),
  ),
  kind("gRPC by Connect", 2, (baseUrl, sessionManager) => createGrpcTransport({ baseUrl, sessionManager })),
];

function kind(
  name: string,
  http: 1 | 2,
  transportTo: (baseUrl: string, sessionManager: Http2SessionManager) => Transport,
): Kind {
  return {
    name,
    streams: http === 2,
    open: async (port) => {
      const baseUrl = `http://127.0.0.1:${port}`;
      const sessionManager = new Http2SessionManager(baseUrl);
      return clientOf(transportTo(baseUrl, sessionManager), () => sessionManager.abort());
    },
  };
}

function clientOf(transport: Transport, close: () => void): ForeignClient {
  const nodes = createClient(NodeService, transport);
  return {
    call: async (name, request, headers) => {
      const method = NodeService.methods.find((known) => known.name === name);
      if (method === undefined) throw new Error(`NodeService has no ${name}`);
      const input = fromJson(method.input, request as JsonValue);
      try {
        const unary = method as typeof method & { methodKind: "unary" };
        const { message } = await transport.unary(unary, undefined, 10_000, headers, input);
        return { response: toJson(method.output, message, json) as Json };
      } catch (error) {
        return { refusal: refused(ConnectError.from(error)) };
      }
    },
    heartbeat: (headers) => {
      const outgoing = createInbox<MessageInitShape<typeof HeartbeatRequestSchema>>();
      const incoming = createInbox<Json>();
      const over = Symbol("over");
      async function* sent() {
        for (;;) {
          const message = await outgoing.take().catch(() => over);
          if (typeof message === "symbol") return;
          yield message;
        }
      }
      const done = (async () => {
        for await (const response of nodes.heartbeat(sent(), { headers, timeoutMs: 20_000 })) {
          incoming.put(toJson(HeartbeatResponseSchema, response, json) as Json);
        }
      })();
      done.then(() => incoming.finish(), incoming.finish);
      return {
        send: (message) => outgoing.put(fromJson(HeartbeatRequestSchema, message as JsonValue)),
        next: incoming.take,
        end: async () => {
          outgoing.finish();
          await done;
        },
      };
    },
    [Symbol.asyncDispose]: async () => close(),
  };
}

function refused(error: ConnectError): Refusal {
  const details = [ErrorInfoSchema, BadRequestSchema].flatMap((schema) =>
    error
      .findDetails<typeof schema>(schema)
      .map((detail) => ({ "@type": schema.typeName, ...(toJson(schema, detail) as object) })),
  );
  return refusalOf(codeNames[error.code] ?? Code[error.code], error.rawMessage, details);
}

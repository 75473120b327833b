// A server that poses as the service: it speaks the contract, and does the harm that a test tells it to do.
import { createServer as createHttp2Server, type Http2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { AdminService } from "../../../gen/lucid/node/v1/admin_service_pb.js";
import {
  type HeartbeatRequest,
  type HeartbeatResponseSchema,
  NodeService,
} from "../../../gen/lucid/node/v1/node_service_pb.js";
import { agentReadMaxBytes } from "../../../src/agent/bounds.js";

export type Answer = MessageInitShape<typeof HeartbeatResponseSchema>;

export interface MaliciousService extends AsyncDisposable {
  readonly baseUrl: string;
  /** When each stream was opened, by performance.now(). */
  readonly streamsAtMs: number[];
  /** When each beat came. */
  readonly beatsAtMs: number[];
  /** Signatures that agents gave to it. */
  readonly signatures: Uint8Array[];
  /** Clients that call this server, as an agent has them. */
  readonly clients: ReturnType<typeof clientsOf>;
}

const clientsOf = (baseUrl: string, sessionManager: Http2SessionManager) => {
  const transport = createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: agentReadMaxBytes });
  return { nodes: createClient(NodeService, transport), admin: createClient(AdminService, transport) };
};

export interface Malice {
  /** What it says when it is asked for a challenge. */
  readonly challenge?: (request: { nodeId: string; publicKey: Uint8Array }) => Uint8Array;
  /** What it says to each message of a stream; after "end" the stream is over. */
  readonly answers?: (message: HeartbeatRequest["message"]) => readonly (Answer | "end")[];
}

export async function openMaliciousService({ challenge, answers }: Malice): Promise<MaliciousService> {
  const [streamsAtMs, beatsAtMs]: [number[], number[]] = [[], []];
  const signatures: Uint8Array[] = [];
  const service: Partial<ServiceImpl<typeof NodeService>> = {
    beginEnrollment: (request) => ({ challenge: new Uint8Array(challenge?.(request) ?? new Uint8Array()) }),
    completeEnrollment: ({ signature }) => {
      signatures.push(signature);
      throw new ConnectError("thank you", Code.Unavailable);
    },
    heartbeat: async function* (requests) {
      streamsAtMs.push(performance.now());
      for await (const { message } of requests) {
        if (message.case === "beat") beatsAtMs.push(performance.now());
        for (const answer of answers?.(message) ?? []) {
          if (answer === "end") return;
          yield answer;
        }
      }
    },
  };
  const sessions = new Set<Http2Session>();
  const server = createHttp2Server(
    {},
    connectNodeAdapter({ routes: (router) => void router.service(NodeService, service) }),
  );
  server.on("session", (session) => sessions.add(session));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  return {
    baseUrl,
    streamsAtMs,
    beatsAtMs,
    signatures,
    clients: clientsOf(baseUrl, sessionManager),
    [Symbol.asyncDispose]: async () => {
      sessionManager.abort();
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { malformed, nodeNotFound, notAllowed, unavailable, versionMismatch, wrongStatus } from "../../src/failure.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import {
  clientOf,
  exchange,
  failureOf,
  getNodePath,
  grpcJsClient,
  heartbeatPath,
  nodeId,
  type ProtocolName,
  protocols,
  startTestServer,
  type TestServer,
  transportOf,
  until,
} from "./harness.js";

const requests = "lucid_node_management_http_requests_total";
const handled = "grpc_server_handled_total";

async function counted(server: TestServer, name: string, labels: Record<string, string>) {
  await until(async () => (await server.count(name, labels)) === 1, `${name} ${JSON.stringify(labels)}`, 3_000);
}

async function bothCounted(server: TestServer, method: "GetNode" | "Heartbeat", code: string, status: string) {
  await counted(server, handled, { grpc_service: "lucid.node.v1.NodeService", grpc_method: method, grpc_code: code });
  const endpoint = method === "GetNode" ? getNodePath : heartbeatPath;
  await counted(server, requests, { method: "POST", endpoint, status_code: status });
}

describe.each(protocols)("over %s, counted once with its code", (protocol) => {
  test("a success", async () => {
    await using server = await startTestServer();
    await clientOf(server.port, protocol).getNode({ nodeId });
    await bothCounted(server, "GetNode", "OK", "200");
    expect(
      await server.count("lucid_node_management_http_request_duration_seconds", { endpoint: getNodePath, le: "+Inf" }),
    ).toBe(1);
  });

  test("a failure of a handler", async () => {
    await using server = await startTestServer({ node: { getNode: () => Promise.reject(nodeNotFound("node_x")) } });
    await failureOf(clientOf(server.port, protocol).getNode({ nodeId }));
    await bothCounted(server, "GetNode", "NotFound", "404");
  });

  test("a refusal of the gate", async () => {
    await using server = await startTestServer();
    await failureOf(clientOf(server.port, protocol, "bad!").getNode({ nodeId }));
    await bothCounted(server, "GetNode", "Unauthenticated", "401");
  });

  test("a body that is too large, which no interceptor sees", async () => {
    await using server = await startTestServer({ readMaxBytes: { [getNodePath]: 10 } });
    await failureOf(clientOf(server.port, protocol).getNode({ nodeId }));
    await bothCounted(server, "GetNode", "ResourceExhausted", "429");
  });

  test("a stream, when it ends, and its length is not timed", async () => {
    await using server = await startTestServer();
    await stream(server, protocol, async () => undefined);
    await bothCounted(server, "Heartbeat", "OK", "200");
    expect(await server.count("lucid_node_management_http_request_duration_seconds", { endpoint: heartbeatPath })).toBe(
      0,
    );
  });

  test("a stream whose client vanishes is canceled", async () => {
    await using server = await startTestServer();
    const abort = new AbortController();
    const vanished = failureOf(
      stream(
        server,
        protocol,
        async () => {
          abort.abort();
          await new Promise(() => undefined);
        },
        abort.signal,
      ),
    );
    await vanished;
    await bothCounted(server, "Heartbeat", "Canceled", "499");
  });
});

/** Opens a stream, sends one beat, waits for its Ack, and then does what the test says. */
async function stream(server: TestServer, protocol: ProtocolName, then: () => Promise<void>, signal?: AbortSignal) {
  const acknowledged = Promise.withResolvers<void>();
  async function* beats() {
    yield { message: { case: "beat" as const, value: { sequence: 1n } } };
    await acknowledged.promise;
    await then();
  }
  const options = signal ? { signal } : {};
  for await (const _ of clientOf(server.port, protocol).heartbeat(beats(), options)) acknowledged.resolve();
}

describe("what is no RPC", () => {
  test("malformed JSON is counted", async () => {
    await using server = await startTestServer();
    const head = `POST ${getNodePath} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer admin\r\n`;
    await exchange(server.port, `${head}Content-Type: application/json\r\nContent-Length: 1\r\n\r\n{`);
    await bothCounted(server, "GetNode", "InvalidArgument", "400");
  });

  test("fixed routes by their path, all others by one name", async () => {
    await using server = await startTestServer();
    for (const path of ["/live?x=1", "/wp-login.php", "/a/b/c"]) {
      await exchange(server.port, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    }
    await counted(server, requests, { method: "GET", endpoint: "/live", status_code: "200" });
    await until(
      async () => (await server.count(requests, { endpoint: "unmatched", status_code: "404" })) === 2,
      "both",
    );
  });

  test("an invented verb is no label", async () => {
    await using server = await startTestServer();
    await exchange(server.port, "PROPFIND /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await counted(server, requests, { method: "other", endpoint: "/live", status_code: "405" });
  });

  test("an RPC without an authority, as any other", async () => {
    await using server = await startTestServer();
    await exchange(server.port, `POST ${getNodePath} HTTP/1.0\r\nContent-Type: application/json\r\n\r\n`);
    await bothCounted(server, "GetNode", "Unauthenticated", "401");
  });

  test("probes by gRPC", async () => {
    await using server = await startTestServer();
    await createClient(Health, transportOf(server.port, "grpc", undefined)).check({});
    await counted(server, handled, { grpc_service: "grpc.health.v1.Health", grpc_method: "Check", grpc_code: "OK" });
  });
});

describe("the access log", () => {
  const calls = (server: TestServer) => server.lines.filter(({ message }) => String(message).startsWith("call"));

  test("says who called what, at debug", async () => {
    await using server = await startTestServer();
    await clientOf(server.port, "grpc", "operator:ann", { "x-request-id": "r-9" }).getNode({ nodeId });
    await until(() => calls(server).length === 1, "one line");
    expect(calls(server)[0]).toMatchObject({
      level: "DEBUG",
      module: "rpc",
      request_id: "r-9",
      path: getNodePath,
      code: "OK",
      peer: "127.0.0.1",
      subject: "ann",
    });
  });

  test.each([
    ["a fact of the world", () => nodeNotFound("node_x"), "INFO", "LUCID_ERR_5001", undefined],
    ["a wrong moment", () => wrongStatus("not now"), "INFO", "LUCID_ERR_5003", undefined],
    ["another's change", () => versionMismatch(1n, 2n), "INFO", "LUCID_ERR_5012", undefined],
    ["a mistake of the caller", () => malformed({ field: "a", description: "b" }), "INFO", "LUCID_ERR_4001", undefined],
    ["a lack of rights", () => notAllowed("not yours"), "INFO", "LUCID_ERR_4031", undefined],
    ["the weather", () => unavailable("later", 1), "WARNING", "LUCID_ERR_5031", undefined],
    ["the store's weather", () => new StoreUnavailableError("locked"), "WARNING", "LUCID_ERR_5031", "locked"],
    ["our own mistake", () => new TypeError("internals"), "ERROR", "LUCID_ERR_5999", undefined],
  ])("%s at its level, with its code, and its cause if it has one", async (_name, error, level, code, cause) => {
    await using server = await startTestServer({ node: { getNode: () => Promise.reject(error()) } });
    await failureOf(clientOf(server.port).getNode({ nodeId }));
    await until(() => calls(server).length === 1, "one line");
    expect(calls(server)[0]).toMatchObject({ level, error_code: code, path: getNodePath });
    expect(calls(server)[0]?.cause).toBe(cause);
    expect(String(calls(server)[0]?.exception).includes("TypeError: internals")).toBe(level === "ERROR");
  });

  test("holds no token", async () => {
    await using server = await startTestServer();
    const client = grpcJsClient(server.port, "admin:secretive");
    await client.getNode(nodeId);
    client.close();
    await until(() => calls(server).length === 1, "one line");
    expect(JSON.stringify(server.lines)).not.toContain("Bearer");
  });
});

test("Connect over HTTP/1.1 is counted like the rest", async () => {
  await using server = await startTestServer();
  const transport = createConnectTransport({ baseUrl: `http://127.0.0.1:${server.port}`, httpVersion: "1.1" });
  await failureOf(createClient(Health, transport).check({ service: "unknown" }));
  await counted(server, handled, { grpc_method: "Check", grpc_code: "NotFound" });
});

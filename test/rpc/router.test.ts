import { connect as connectHttp2 } from "node:http2";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { callOf } from "../../src/rpc/context.js";
import {
  Code,
  clientOf,
  exchange,
  failureOf,
  getNodePath,
  heartbeatPath,
  nodeId,
  protocols,
  startTestServer,
  type TestServer,
  until,
} from "./harness.js";

const get = (server: TestServer, path: string, init: RequestInit = {}) =>
  fetch(`http://127.0.0.1:${server.port}${path}`, init);

describe("paths that are no RPC", () => {
  test("answer JSON with the path and without its query", async () => {
    await using server = await startTestServer();
    const response = await get(server, "/nothing?token=x", { headers: { "x-request-id": "r-5" } });
    expect([response.status, response.headers.get("content-type")]).toEqual([404, "application/json"]);
    expect(response.headers.get("x-request-id")).toBe("r-5");
    expect(await response.json()).toEqual({
      error: {
        code: "HTTP_404",
        message: "Not found",
        request_id: "r-5",
        timestamp: expect.any(String),
        path: "/nothing",
      },
    });
  });

  test.each(["application/grpc", "application/grpc+proto", "application/grpc-web+proto"])(
    "answer %s as gRPC does",
    async (type) => {
      await using server = await startTestServer();
      const session = connectHttp2(`http://127.0.0.1:${server.port}`);
      const stream = session.request({
        ":method": "POST",
        ":path": "/lucid.node.v1.Nothing/Get",
        "content-type": type,
      });
      const headers = await new Promise<Record<string, unknown>>((resolve) => stream.on("response", resolve));
      session.destroy();
      expect(headers).toMatchObject({
        ":status": 200,
        "content-type": type,
        "grpc-status": "12",
        "grpc-message": "Unknown procedure",
      });
    },
  );
});

describe("sizes", () => {
  test.each(protocols)("a message beyond the limit is refused by %s", async (protocol) => {
    await using server = await startTestServer();
    const error = await failureOf(clientOf(server.port, protocol).getNode({ nodeId: "x".repeat(300_000) }));
    expect(error.code).toBe(Code.ResourceExhausted);
  });

  test("a limit can be stated for a service and for one of its RPCs", async () => {
    await using server = await startTestServer({
      readMaxBytes: { "lucid.node.v1.NodeService": 1_000, [getNodePath]: 1_000_000 },
      node: { startNode: () => ({}) },
    });
    const long = "x".repeat(300_000);
    expect((await failureOf(clientOf(server.port).getNode({ nodeId: long }))).code).toBe(Code.InvalidArgument);
    expect((await failureOf(clientOf(server.port).startNode({ nodeId: long }))).code).toBe(Code.ResourceExhausted);
  });

  test("T32 a compressed bomb is refused without being inflated", async () => {
    await using server = await startTestServer();
    const bomb = gzipSync(Buffer.alloc(50_000_000));
    const before = process.memoryUsage().rss;
    const response = await get(server, getNodePath, {
      method: "POST",
      headers: { "content-type": "application/proto", "content-encoding": "gzip", authorization: "Bearer admin" },
      body: bomb,
    });
    expect(response.status).toBe(429);
    expect(((await response.json()) as { code: string }).code).toBe("resource_exhausted");
    expect(process.memoryUsage().rss - before).toBeLessThan(30_000_000);

    const frame = Buffer.alloc(5);
    frame.writeUInt8(1);
    frame.writeUInt32BE(bomb.length, 1);
    const session = connectHttp2(`http://127.0.0.1:${server.port}`);
    const stream = session.request({
      ":method": "POST",
      ":path": heartbeatPath,
      "content-type": "application/grpc",
      "grpc-encoding": "gzip",
      authorization: "Bearer admin",
    });
    const trailers = new Promise<Record<string, unknown>>((resolve) => stream.on("trailers", resolve));
    stream.on("error", () => undefined).resume();
    stream.end(Buffer.concat([frame, bomb]));
    expect((await trailers)["grpc-status"]).toBe("8");
    session.destroy();
  });
});

test("JSON has proto names, implicit fields and enum names", async () => {
  await using server = await startTestServer();
  const response = await get(server, getNodePath, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer admin" },
    body: JSON.stringify({ node_id: nodeId }),
  });
  const { node } = (await response.json()) as { node: Record<string, unknown> };
  expect(node).toMatchObject({
    node_id: nodeId,
    banned: false,
    status: "NODE_STATUS_UNSPECIFIED",
    labels: {},
    version: "0",
  });
});

describe("the peer", () => {
  test("is known by its address, and sent away when its stream has ended", async () => {
    let address = "";
    await using server = await startTestServer({
      node: {
        getNode: (_, context) => {
          address = callOf(context).peer.address;
          callOf(context).peer.closeConnection();
          return {};
        },
      },
    });
    await clientOf(server.port).getNode({ nodeId });
    expect(address).toBe("127.0.0.1");
    await until(() => server.listener.connections === 0, "the HTTP/2 connection is closed");
    const body = `{"node_id":"${nodeId}"}`;
    const head = `POST ${getNodePath} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Type: application/json\r\n`;
    expect(await exchange(server.port, `${head}Content-Length: ${body.length}\r\n\r\n${body}`)).toMatch(
      /^HTTP\/1.1 200/,
    );
  });
});

describe("CORS", () => {
  const preflight = (server: TestServer, origin: string) =>
    get(server, getNodePath, {
      method: "OPTIONS",
      headers: {
        origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,authorization",
      },
    });

  test("is silent by default", async () => {
    await using server = await startTestServer();
    const response = await preflight(server, "https://lucid.example");
    expect(response.status).not.toBe(204);
    expect(response.headers.get("access-control-allow-origin")).toBeNull();
  });

  test("answers preflights of stated origins alone", async () => {
    await using server = await startTestServer({ origins: ["https://lucid.example"] });
    const good = await preflight(server, "https://lucid.example");
    expect(good.status).toBe(204);
    expect(good.headers.get("access-control-allow-origin")).toBe("https://lucid.example");
    expect(good.headers.get("access-control-allow-credentials")).toBeNull();
    expect(good.headers.get("vary")).toBe("Origin");
    const allowed = good.headers.get("access-control-allow-headers")?.toLowerCase();
    for (const name of [
      "authorization",
      "connect-protocol-version",
      "connect-timeout-ms",
      "x-grpc-web",
      "grpc-timeout",
      "x-request-id",
    ]) {
      expect(allowed).toContain(name);
    }
    const bad = await preflight(server, "https://evil.example");
    expect([bad.status, bad.headers.get("access-control-allow-origin")]).toEqual([204, null]);
    expect(bad.headers.get("vary")).toBe("Origin");
  });

  test("shows errors to pages, also those of the gate", async () => {
    await using server = await startTestServer({ origins: ["https://lucid.example"] });
    const headers = { origin: "https://lucid.example", "content-type": "application/json" };
    const response = await get(server, getNodePath, { method: "POST", headers, body: "{}" });
    expect(response.status).toBe(401);
    expect(response.headers.get("access-control-allow-origin")).toBe("https://lucid.example");
    const exposed = response.headers.get("access-control-expose-headers")?.toLowerCase();
    for (const name of ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"])
      expect(exposed).toContain(name);
  });

  test("any origin is any origin, without credentials", async () => {
    await using server = await startTestServer({ origins: ["*"] });
    const response = await preflight(server, "https://anyone.example");
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(response.headers.get("access-control-allow-credentials")).toBeNull();
  });
});

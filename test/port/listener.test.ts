import { spawn } from "node:child_process";
import { connect as connectHttp2, constants } from "node:http2";
import { ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  Code,
  clientOf,
  exchange,
  failureOf,
  getNodePath,
  heartbeatPath,
  nodeId,
  protocols,
  rawSocket,
  startTestServer,
  type TestServer,
  until,
} from "../rpc/harness.js";
import { frame, rawHttp2, requestHeaders } from "../support/clients/raw-http2.js";

let server: TestServer;
beforeEach(async () => {
  server = await startTestServer({
    listener: {
      firstBytesTimeoutMs: 300,
      headersTimeoutMs: 300,
      keepAliveTimeoutMs: 300,
      pingIntervalMs: 100,
      pingTimeoutMs: 200,
    },
  });
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
});

const stillServes = async () => {
  const { node } = await clientOf(server.port).getNode({ nodeId });
  expect(node?.nodeId).toBe(nodeId);
};
const post = (path: string) =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer admin\r\nConnection: close\r\n`;
const body = `{"node_id":"${nodeId}"}`;

/** Sends one HTTP/2 request; resolves with its status and trailers, or with what ended it. */
function request(
  session: ReturnType<typeof connectHttp2>,
  headers: Record<string, string>,
): Promise<Record<string, unknown>> {
  return new Promise((resolve) => {
    const seen: Record<string, unknown> = {};
    const stream = session.request({ ":method": "POST", ...headers });
    stream.on("response", (head) => Object.assign(seen, head));
    stream.on("error", (error) => Object.assign(seen, { error: error.message }));
    stream.on("close", () => resolve(seen)).resume();
    stream.end();
  });
}

async function withSession<T>(
  use: (session: ReturnType<typeof connectHttp2>) => Promise<T>,
  port = server.port,
): Promise<T> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on("error", () => undefined);
  try {
    return await use(session);
  } finally {
    session.destroy();
  }
}

describe("one port", () => {
  test.each(protocols)("serves %s over HTTP/2", async (protocol) => {
    const { node } = await clientOf(server.port, protocol).getNode({ nodeId });
    expect(node?.nodeId).toBe(nodeId);
  });

  test("serves Connect JSON over HTTP/1.1, with proto names and implicit fields", async () => {
    const text = await exchange(server.port, `${post(getNodePath)}Content-Length: ${body.length}\r\n\r\n${body}`);
    expect(text).toMatch(/^HTTP\/1.1 200/);
    expect(text).toContain(`"node_id":"${nodeId}"`);
    expect(text).toContain(`"banned":false`);
  });

  test("waits for a preface that comes byte by byte", async () => {
    const { socket, text } = rawSocket(server.port);
    socket.setNoDelay(true);
    for (const byte of Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004\0\0\0\0\0", "latin1")) {
      await new Promise<void>((resolve) => socket.write(Uint8Array.of(byte), () => setImmediate(resolve)));
    }
    // An HTTP/2 server answers with a SETTINGS frame.
    await until(() => text().length >= 9, "the server's settings");
    expect(text().charCodeAt(3)).toBe(4);
    socket.destroy();
  });

  test("takes a client that half-closes after its HTTP/1.1 request", async () => {
    const { socket, text, closed } = rawSocket(server.port);
    socket.end(`${post(getNodePath)}Content-Length: ${body.length}\r\n\r\n${body}`);
    await until(closed, "the answer is out");
    expect(text()).toMatch(/^HTTP\/1.1 200/);
  });

  test("forgets HTTP/2 clients that go without a word", async () => {
    await Promise.all(
      Array.from({ length: 20 }, () => withSession((session) => request(session, { ":path": getNodePath }))),
    );
    await until(() => server.listener.connections === 0, "all are forgotten");
  });
});

describe("hostile bytes", () => {
  test.each([
    ["garbage", Buffer.from([0xff, 0x00, 0x80, 0x0a, 0x0d, 0x0a, 0x0d, 0x0a])],
    ["a TLS hello", Buffer.from("16030100050100000100", "hex")],
    ["an HTTP/2 preface that turns into something else", Buffer.from("PRI * HTTP/1.1\r\n\r\n")],
    ["headers beyond the limit", Buffer.from(`GET /live HTTP/1.1\r\nHost: x\r\nA: ${"x".repeat(20_000)}\r\n\r\n`)],
  ])("%s are refused", async (_name, bytes) => {
    expect(await exchange(server.port, bytes)).toMatch(/^HTTP\/1.1 4\d\d|^$/);
    await stillServes();
  });

  test("an RPC over HTTP/1.0 needs no Host", async () => {
    const text = `POST ${getNodePath} HTTP/1.0\r\nContent-Type: application/json\r\n\r\n`;
    expect(await exchange(server.port, text)).toMatch(/^HTTP\/1.1 401/);
    await stillServes();
  });

  const odd = [
    "a:b",
    "::1:8083",
    "[::1]:8083",
    "[fe80::1%25eth0]:8083",
    "host:99999",
    "/run/lucid.sock",
    "%2Frun%2Fx",
    "a b[",
  ];
  test.each(odd)("an RPC by HTTP/1.1 is served whatever its authority says: %s", async (host) => {
    const request = post(getNodePath).replace("Host: x", `Host: ${host}`).replace("Bearer admin", "Bearer nobody");
    expect(await exchange(server.port, `${request}\r\n`)).toMatch(/^HTTP\/1.1 401/);
    await stillServes();
  });

  test.each(odd.filter((host) => !/[ ]|^\//.test(host)))("and by HTTP/2: %s", async (authority) => {
    const named = (name: string) => ({ ":path": getNodePath, ":authority": name, "content-type": "application/grpc" });
    const [seen, usual] = await withSession(async (session) => [
      await request(session, named(authority)),
      await request(session, named("localhost")),
    ]);
    expect(seen?.[":status"]).toBe(200);
    expect(seen?.["grpc-status"]).toBe(usual?.["grpc-status"]);
    await stillServes();
  });

  test("a path in absolute form is served as the path alone", async () => {
    const lines = (target: string, type = "") => `${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${type}\r\n`;
    expect(await exchange(server.port, lines("GET http://lucid.example:8083/live"))).toMatch(/^HTTP\/1.1 200/);
    expect(await exchange(server.port, lines("GET HTTP://[::1]/live?a=http://b/c"))).toMatch(/^HTTP\/1.1 200/);
    expect(
      await exchange(server.port, lines(`POST http://x${getNodePath}`, "Content-Type: application/json\r\n")),
    ).toMatch(/^HTTP\/1.1 401/);
  });

  test("an HTTP/1.0 probe without Host is served", async () => {
    expect(await exchange(server.port, "GET /live HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1.1 200/);
  });

  test("a body of no bytes ends, also when its end comes in a frame of its own", async () => {
    const path = "/grpc.health.v1.Health/Check";
    for (const end of [true, false]) {
      using client = await rawHttp2(server.port);
      const headers = requestHeaders(path, { "content-type": "application/proto" });
      client.socket.cork();
      const stream = client.open(headers, end);
      if (!end) client.socket.write(frame(0, 1, stream));
      client.socket.uncork();
      await until(() => (client.seen.get(1) ?? 0) > 0, "an answer", 3_000);
    }
  });

  test("an answer that nobody reads ends its stream", async () => {
    const long = "x".repeat(100_000);
    await using unread = await startTestServer({
      listener: { unreadMs: 100 },
      node: { getNode: ({ nodeId: id }) => ({ node: { nodeId: id, name: long } }) },
    });
    using client = await rawHttp2(unread.port);
    const stream = client.open(
      requestHeaders(getNodePath, { authorization: "Bearer admin", "content-type": "application/grpc" }),
    );
    const id = Buffer.from(nodeId);
    // The server never opens the window beyond 65,535 bytes.
    await client.data(stream, Buffer.concat([Buffer.from([0, 0, 0, 0, id.length + 2, 10, id.length]), id]), 100);
    await until(() => client.seen.has(3), "a reset", 5_000);
    await unread.counted("Canceled");
  });

  test("HTTP/2 headers beyond the limit end their stream alone", async () => {
    await withSession(async (session) => {
      const seen = await request(session, { ":path": getNodePath, a: "x".repeat(20_000) });
      expect(seen[":status"]).not.toBe(200);
      expect((await request(session, { ":path": "/live", ":method": "GET" }))[":status"]).toBe(200);
    });
  });
});

describe("slow clients are closed", () => {
  test("who sends nothing", async () => {
    expect(await exchange(server.port, "")).toBe("");
  });
  test("who sends half a preface", async () => {
    expect(await exchange(server.port, "PRI * HTTP/2.0\r\n")).toBe("");
  });
  test("who half-closes before it says anything", async () => {
    const { socket, closed } = rawSocket(server.port);
    socket.end();
    await until(closed, "the server closes too");
    await until(() => server.listener.connections === 0, "and forgets it");
  });
  test("who never finishes its headers", async () => {
    expect(await exchange(server.port, "GET /live HTTP/1.1\r\nHost: x\r\n")).toMatch(/^HTTP\/1.1 408/);
  });
  test("who idles after its answer", async () => {
    expect(await exchange(server.port, "GET /live HTTP/1.1\r\nHost: x\r\n\r\n")).toMatch(/^HTTP\/1.1 200/);
  });
  test.each([false, true])("whose process is frozen, sent away before or not (%s)", async (sentAway) => {
    const acknowledged = Promise.withResolvers<void>();
    const script = `
      const session = require("node:http2").connect("http://127.0.0.1:${server.port}");
      const stream = session.request({ ":method": "POST", ":path": "${heartbeatPath}",
        "content-type": "application/grpc", authorization: "Bearer admin" });
      stream.write(Buffer.from([0, 0, 0, 0, 4, 18, 2, 8, 1]));
      stream.on("data", () => process.stdout.write("acknowledged"));`;
    const frozen = spawn(process.execPath, ["-e", script]);
    frozen.stdout.once("data", () => acknowledged.resolve());
    await acknowledged.promise;
    frozen.kill("SIGSTOP");
    if (sentAway) await server.listener.drain(0);
    const started = performance.now();
    await until(() => server.listener.connections === 0, "the server gives up", 5_000);
    expect(performance.now() - started).toBeLessThan(3_000);
    frozen.kill("SIGKILL");
    const labels = { grpc_method: "Heartbeat", grpc_code: "Canceled" };
    await until(async () => (await server.count("grpc_server_handled_total", labels)) === 1, "counted as canceled");
  });
  test("but not who answers pings", async () => {
    await withSession(async (session) => {
      let pings = 0;
      session.on("ping", () => pings++);
      await until(() => pings >= 4, "four pings, longer than the timeout");
      expect(session.destroyed).toBe(false);
    });
  });
});

test("T31 a rapid reset attack ends its own connection alone", async () => {
  // Attacker, victim and others share this process, so pings get as much time as in production.
  await using target = await startTestServer();
  const others = clientOf(target.port);
  const attack = withSession(async (session) => {
    const ended = Promise.withResolvers<number>();
    session.on("goaway", (code) => ended.resolve(code)).on("close", () => ended.resolve(-1));
    for (let i = 0; i < 20_000 && !session.destroyed && !session.closed; i++) {
      const stream = session.request({ ":method": "POST", ":path": heartbeatPath, "content-type": "application/grpc" });
      stream.on("error", () => undefined);
      stream.close(constants.NGHTTP2_CANCEL);
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    return ended.promise;
  }, target.port);
  for (let i = 0; i < 50; i++) expect((await others.getNode({ nodeId })).node?.nodeId).toBe(nodeId);
  await attack;
  expect((await clientOf(target.port).getNode({ nodeId })).node?.nodeId).toBe(nodeId);
}, 60_000);

describe("leaving", () => {
  test("stopAccepting takes no new connection and keeps those there are", async () => {
    await withSession(async (session) => {
      await request(session, { ":path": "/live", ":method": "GET" });
      server.listener.stopAccepting();
      expect((await failureOf(clientOf(server.port).getNode({ nodeId }))).code).toBe(Code.Unavailable);
      expect((await request(session, { ":path": "/live", ":method": "GET" }))[":status"]).toBe(200);
    });
  });

  test("drain lets open streams end and tells how it went", async () => {
    const shutdown = server.shutdown;
    let acknowledged = 0;
    async function* silent() {
      yield { message: { case: "beat" as const, value: { sequence: 1n } } };
      await new Promise(() => undefined);
    }
    const stream = failureOf(
      (async () => {
        for await (const _ of clientOf(server.port).heartbeat(silent())) acknowledged++;
      })(),
    );
    await until(() => acknowledged === 1, "the stream is open");
    server.listener.stopAccepting();
    expect(await server.listener.drain(100)).toBe(false);
    shutdown.abort(new ConnectError("server shutting down", Code.Unavailable));
    expect(await server.listener.drain(5_000)).toBe(true);
    expect((await stream).code).toBe(Code.Unavailable);
  });

  test("drain ends idle HTTP/1.1 and HTTP/2 connections at once", async () => {
    const idle = rawSocket(server.port);
    idle.socket.write("GET /live HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => idle.text().includes("alive"), "answered");
    await clientOf(server.port).getNode({ nodeId });
    server.listener.stopAccepting();
    expect(await server.listener.drain(5_000)).toBe(true);
  });

  test("connections beyond the cap are closed", async () => {
    await using small = await startTestServer({ listener: { connectionsMax: 2, firstBytesTimeoutMs: 5_000 } });
    const held = [rawSocket(small.port), rawSocket(small.port)];
    await until(() => small.listener.connections === 2, "two are in");
    expect(await exchange(small.port, "GET /live HTTP/1.1\r\n\r\n")).toBe("");
    for (const { socket } of held) socket.destroy();
  });
});

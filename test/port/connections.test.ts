// T31 and other floods against the port: a flood loses its own connections, and others are served meanwhile.
import { EventEmitter } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { addressKey } from "../../src/port/address.js";
import { createBudget } from "../../src/port/budget.js";
import { createConnections, defaultConnectionLimits } from "../../src/port/connections.js";
import {
  beat,
  clientOf,
  exchange,
  getNodePath,
  grpcJsClient,
  heartbeatPath,
  nodeId,
  rawSocket,
  startTestServer,
  type TestServer,
  until,
} from "../rpc/harness.js";
import type { Flood } from "../support/clients/flooder.js";
import { rawHttp2, requestHeaders } from "../support/clients/raw-http2.js";
import { startChild } from "../support/fleet/child.js";
import { longestTurnMs, watchTurns } from "../support/world/turns.js";

const children: { kill(): Promise<void> }[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) await child.kill();
});

function startFlood(flood: Flood) {
  const child = startChild(new URL("../support/clients/flooder.ts", import.meta.url), {
    args: [JSON.stringify(flood)],
  });
  children.push(child);
  return child;
}

/** How long a new connection waits for /live, in milliseconds. */
async function probe(server: TestServer): Promise<number> {
  const started = performance.now();
  const text = await exchange(server.port, "GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  expect(text).toMatch(/^HTTP\/1.1 200/);
  return performance.now() - started;
}

/** Probes again and again while the flood lasts; answers the times, fastest first. */
async function probesDuring(server: TestServer, ended: Promise<unknown>): Promise<number[]> {
  let over = false;
  void ended.finally(() => {
    over = true;
  });
  const taken: number[] = [];
  while (!over) taken.push(await probe(server));
  return taken.sort((left, right) => left - right);
}

describe("resets", () => {
  test.each([
    [10, 90],
    [60, 900],
  ])(
    "over %i connections, %i each: new connections are served at once, and a beat that was there before",
    async (connections, each) => {
      await using server = await startTestServer();
      const node = grpcJsClient(server.port);
      const stream = node.heartbeat();
      let acks = 0;
      stream.on("data", () => acks++).on("error", () => undefined);
      stream.write(beat(1));
      await until(() => acks === 1, "a beat before the flood");
      using turns = watchTurns();
      const child = startFlood({
        kind: "resets",
        port: server.port,
        path: getNodePath,
        connections,
        each,
        limitMs: 8_000,
      });
      const taken = await probesDuring(server, child.ended);
      stream.write(beat(2));
      await until(() => acks === 2, "a beat after the flood");
      expect(turns.worstMs()).toBeLessThan(500);
      expect(taken.at(-1)).toBeLessThan(2_000);
      expect(taken[Math.floor(taken.length / 2)]).toBeLessThan(200);
      expect(server.closed.get("resets")).toBeGreaterThan(0);
      node.close();
    },
    60_000,
  );

  test("a client that cancels now and then keeps its connection", async () => {
    await using server = await startTestServer();
    using client = await rawHttp2(server.port);
    for (let round = 0; round < 50; round++)
      client.reset(
        client.open(
          requestHeaders(heartbeatPath, { authorization: "Bearer admin", "content-type": "application/grpc" }),
        ),
      );
    const stream = client.open(
      requestHeaders(heartbeatPath, { authorization: "Bearer admin", "content-type": "application/grpc" }),
    );
    await client.data(stream, Buffer.from([0, 0, 0, 0, 4, 0x12, 2, 8, 1]), 9, false);
    await until(() => client.received() > 0, "an acknowledgement");
    expect(client.closed()).toBe(false);
  });

  test("a connection that lives from resets is told to calm down and closed", async () => {
    await using server = await startTestServer();
    using client = await rawHttp2(server.port);
    for (let round = 0; round < 20 && !client.closed(); round++) {
      // The streams wait for messages. A call that is answered at once is no wasted work when it is reset.
      const streams = Array.from({ length: 10 }, () =>
        client.open(
          requestHeaders(heartbeatPath, { authorization: "Bearer admin", "content-type": "application/grpc" }),
        ),
      );
      for (const stream of streams) client.reset(stream);
      client.ping();
      await until(() => client.closed() || (client.seen.get(6) ?? 0) > round, "the server has read them");
    }
    await until(() => client.closed(), "the connection is closed");
    expect(client.goneAway()).toBe(11);
    expect(server.closed.get("resets")).toBe(1);
  });
});

describe("calls without good credentials", () => {
  const limits = { public: 10, authenticated: 1_000_000, admin: 1_000_000, poot: 100, payout: 100, windowMs: 60_000 };

  test("close their connection beyond a budget, and others go on", async () => {
    const hit = async (key: string) => ({ allowed: !key.includes("public"), count: 11, resetMs: 1_000 });
    await using server = await startTestServer({ limits, hit });
    using client = await rawHttp2(server.port);
    for (let call = 0; call < 20_000 && !client.closed(); call++) {
      client.open(requestHeaders(getNodePath, { "content-type": "application/grpc" }), true);
      // Keeps as many calls open as a client may have.
      while (call - client.ended() > 500 && !client.closed()) {
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    await until(() => client.closed(), "the connection is closed");
    expect(client.goneAway()).toBe(11);
    expect(await probe(server)).toBeLessThan(200);
    expect(await clientOf(server.port).getNode({ nodeId })).toMatchObject({ node: { nodeId } });
  });
});

describe("connections", () => {
  test("of one address have a cap of their own, which others do not feel", async () => {
    await using server = await startTestServer({ listener: { connectionsPerAddressMax: 3 } });
    const held = [1, 2, 3].map(() => rawSocket(server.port));
    await until(() => server.listener.connections === 3, "three are in");
    expect(await exchange(server.port, "GET /live HTTP/1.1\r\n\r\n")).toBe("");
    const other = connect({ port: server.port, host: "127.0.0.1", localAddress: "127.0.0.9" });
    const heard: string[] = [];
    other.on("data", (chunk) => heard.push(String(chunk))).on("error", () => undefined);
    other.write("GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await until(() => heard.length > 0, "another address is served");
    expect(server.closed.get("address")).toBe(1);
    for (const { socket } of held) socket.destroy();
  });

  test("that do nothing make room, those with a call never do", async () => {
    await using server = await startTestServer({ listener: { connectionsMax: 5, idleMs: 50 } });
    using busy = await rawHttp2(server.port);
    const stream = busy.open(
      requestHeaders(heartbeatPath, { authorization: "Bearer admin", "content-type": "application/grpc" }),
    );
    await busy.data(stream, Buffer.from([0, 0, 0, 0, 4, 0x12, 2, 8, 1]), 9, false);
    await until(() => busy.received() > 0, "the stream is open");
    const idle = startFlood({ kind: "idle", port: server.port, path: "", connections: 4, each: 0, limitMs: 5_000 });
    await until(() => server.listener.connections === 5, "the port is full");
    const served = async () =>
      (await exchange(server.port, "GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).startsWith(
        "HTTP/1.1 200",
      );
    await until(served, "a newcomer is served");
    expect(server.closed.get("idle")).toBeGreaterThan(0);
    expect(busy.closed()).toBe(false);
    expect(
      server.lines.filter(({ message }) => String(message).includes("connections refused or closed")),
    ).toHaveLength(1);
    await idle.kill();
  });

  test("on which nothing is ever called are asked to go", async () => {
    await using server = await startTestServer({ listener: { unusedMs: 100, tendMs: 20 } });
    using client = await rawHttp2(server.port);
    await until(() => client.goneAway() !== undefined, "a GOAWAY");
    expect(client.goneAway()).toBe(0);
  });
});

describe("streams whose body never comes", () => {
  test("are bounded for each connection and end in their time, and others are served", async () => {
    await using server = await startTestServer({ bodyLimits: { patienceMs: 5_000 } });
    const path = "/grpc.health.v1.Health/Check";
    const child = startFlood({ kind: "half open", port: server.port, path, connections: 6, each: 900, limitMs: 8_000 });
    await child.line((line) => line === "begun");
    await until(() => server.listener.connections >= 4, "the flood is there");
    expect(await clientOf(server.port).getNode({ nodeId })).toMatchObject({ node: { nodeId } });
    const labels = { grpc_service: "grpc.health.v1.Health" };
    await until(
      async () => (await server.count("grpc_server_handled_total", labels)) >= 3_600,
      "all of them have ended",
      20_000,
    );
    expect(
      await server.count("grpc_server_handled_total", { ...labels, grpc_code: "ResourceExhausted" }),
    ).toBeGreaterThan(0);
  }, 40_000);
});

test("a budget gives back what time brings, and forgets whom it has not seen", () => {
  const budget = createBudget({ perSecond: 2, burst: 3 });
  expect([0, 0, 0].map((at) => budget.take("a", at))).toEqual([0, 0, 0]);
  expect(budget.take("a", 0)).toBe(500);
  expect(budget.take("a", 499)).toBeGreaterThan(0);
  expect(budget.take("a", 1_000)).toBe(0);
  // A clock that steps back refills no budget.
  expect(budget.take("b", 1_000)).toBe(0);
  expect(budget.take("b", 0)).toBe(0);
  for (let key = 0; key < 10_001; key++) budget.take(`key ${key}`, 1_000);
  expect([1_000, 1_000, 1_000].map((at) => budget.take("a", at))).toEqual([0, 0, 0]);
});

test.each([
  ["192.0.2.1", "192.0.2.1"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["2001:0DB8:0001:0002::", "2001:db8:1:2::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
  ["unknown", "unknown"],
])("the key of an address is the line it comes from: %s", (address, key) => {
  expect(addressKey(address)).toBe(key);
});

describe("what has not shown who it is", () => {
  test("holds so many streams and no more", async () => {
    const limits = { public: 10, authenticated: 1_000, admin: 1_000, poot: 100, payout: 100, windowMs: 60_000 };
    await using server = await startTestServer({ limits });
    const clients = await Promise.all([rawHttp2(server.port), rawHttp2(server.port)]);
    const watch = Buffer.from([0, 0, 0, 0, 0]);
    for (let index = 0; index < 300; index++) {
      const client = clients[index % 2] as (typeof clients)[number];
      const stream = client.open(
        requestHeaders("/grpc.health.v1.Health/Watch", { "content-type": "application/grpc" }),
      );
      await client.data(stream, watch, 5);
    }
    const labels = { grpc_method: "Watch", grpc_code: "ResourceExhausted" };
    await until(
      async () => (await server.count("grpc_server_handled_total", labels)) === 100,
      "those beyond are refused",
    );
    for (const client of clients) client.socket.destroy();
    // Streams whose deadline passes before they begin hold no place, either.
    using brief = await rawHttp2(server.port);
    for (let index = 0; index < 250; index++) {
      const headers = { "content-type": "application/grpc", "grpc-timeout": "0m" };
      const stream = brief.open(requestHeaders("/grpc.health.v1.Health/Watch", headers));
      await brief.data(stream, watch, 5);
    }
    await until(() => brief.ended() === 250, "they have ended");
    const watched = async () => {
      using client = await rawHttp2(server.port);
      const stream = client.open(
        requestHeaders("/grpc.health.v1.Health/Watch", { "content-type": "application/grpc" }),
      );
      await client.data(stream, watch, 5);
      await until(() => client.seen.has(1), "an answer");
      return client.received() > 0;
    };
    await until(watched, "there is room once they have gone");
  });

  test("gives way to others, however busy it is", async () => {
    await using server = await startTestServer({ listener: { connectionsMax: 4, idleMs: 50 } });
    const busy = await Promise.all(Array.from({ length: 4 }, () => rawHttp2(server.port)));
    for (const client of busy) {
      const headers = requestHeaders("/grpc.health.v1.Health/Watch", { "content-type": "application/grpc" });
      await client.data(client.open(headers), Buffer.from([0, 0, 0, 0, 0]), 5);
      await until(() => client.received() > 0, "it watches");
    }
    const served = async () =>
      (await exchange(server.port, "GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) !== "";
    await until(served, "a newcomer is served");
    for (const client of busy) client.socket.destroy();
  });

  test("sends so many requests ahead over HTTP/1.1 and no more, and holds nobody up", async () => {
    await using server = await startTestServer();
    const polite = rawSocket(server.port);
    polite.socket.write("GET /live HTTP/1.1\r\nHost: x\r\n\r\n".repeat(40));
    await until(() => polite.text().split("HTTP/1.1 200").length === 41, "forty answers");
    const longestMs = await longestTurnMs(150, async () => {
      const flood = rawSocket(server.port);
      flood.socket.write("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2_500));
      await until(flood.closed, "the connection is closed");
      expect(flood.text().split("HTTP/1.1").length).toBeLessThan(100);
    });
    expect(longestMs).toBeLessThan(150);
    polite.socket.destroy();
  });
});

test("a client whose deadlines pass or whose streams end keeps its connection, however many", async () => {
  await using server = await startTestServer();
  using client = await rawHttp2(server.port);
  const headers = requestHeaders(heartbeatPath, { authorization: "Bearer admin", "content-type": "application/grpc" });
  const beatFrame = Buffer.from([0, 0, 0, 0, 4, 0x12, 2, 8, 1]);
  const streams: number[] = [];
  for (let index = 0; index < 300; index++) {
    streams.push(client.open(headers));
    await client.data(streams.at(-1) as number, beatFrame, 9, false);
  }
  await until(() => client.received() >= 300 * 9, "all have been answered");
  for (const stream of streams) client.reset(stream);
  const more = client.open(headers);
  await client.data(more, beatFrame, 9, false);
  await until(() => client.received() >= 301 * 9, "the connection goes on");
  expect(client.goneAway()).toBeUndefined();
});

test("an address without a connection to give up keeps no other's from giving way", () => {
  let port = 0;
  const from = (remoteAddress: string) =>
    Object.assign(new EventEmitter(), {
      remoteAddress,
      remotePort: ++port,
      destroy: () => undefined,
    }) as unknown as Socket;
  let now = 0;
  const limits = { ...defaultConnectionLimits, connectionsMax: 3, connectionsPerAddressMax: 1, idleMs: 100 };
  const closed: string[] = [];
  const connections = createConnections(
    limits,
    () => now,
    () => false,
    (why) => void closed.push(why),
  );
  expect(connections.add(from("192.0.2.1"))).toBe(true);
  expect(connections.add(from("192.0.2.2"))).toBe(true);
  now = 1_000;
  // This connection is young, and no connection of its address can give way to it.
  expect(connections.add(from("192.0.2.3"))).toBe(true);
  expect(connections.add(from("192.0.2.3"))).toBe(false);
  expect(connections.add(from("192.0.2.4"))).toBe(true);
  expect(closed).toEqual(["address", "idle"]);
});

// T12, T14, T15: the ways in which a connection ends, and what each means for the node.
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../../../gen/grpc/health/v1/health_pb.js";
import { connectNode, openNodeStream } from "../../support/clients/node-stream.js";
import { onProductionEngines } from "../../support/engines/engines.js";
import { startChild } from "../../support/fleet/child.js";
import { connectionsOf, connectivityOf, fleetOf, untilConnectivity } from "../../support/fleet/look.js";
import { openProxy } from "../../support/fleet/proxy.js";
import { aNode } from "../../support/world/builders.js";
import { toRefusal } from "../../support/world/refusal.js";
import { inParallel, until } from "../../support/world/until.js";
import { lostAfterMs, openClockedWorld, openWorld } from "../../support/world/world.js";

const handled = "grpc_server_handled_total";
const heartbeats = { grpc_method: "Heartbeat" };
const graceEndsMs = 60_000;

describe("T12 a frozen client", () => {
  test("T12 real: its stream ends within keepalive time and timeout, the node is DISCONNECTED only after the grace", async () => {
    await using world = await openClockedWorld({ listenerLimits: { pingIntervalMs: 200, pingTimeoutMs: 300 } });
    const { nodeId } = await aNode(world.nodes);
    const args = [world.baseUrl, nodeId, await world.nodeToken(nodeId)];
    const child = startChild(new URL("frozen-node.ts", import.meta.url), { args });
    await child.line((line) => line === "welcome");
    process.kill(child.pid ?? 0, "SIGSTOP");
    const frozenAt = performance.now();
    await until(async () => (await world.count(handled, heartbeats)) === 1, "the stream has ended", 5_000);
    expect(performance.now() - frozenAt).toBeLessThan(3_000);
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
    await world.pass(graceEndsMs - 1_000);
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
    await world.pass(2_000);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected", "DISCONNECTED silent"]);
    await child.kill("SIGKILL");
  });
});

describe("T14 ends of a client", () => {
  test.each(["killed", "half-closed", "cancelled"])("T14 %s: CONNECTED until the grace is over", async (how) => {
    await using world = await openClockedWorld();
    await using proxy = await openProxy(world.port);
    const connection = new Http2SessionManager(proxy.baseUrl);
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode({ ...world, baseUrl: proxy.baseUrl }, nodeId, { connection });
    await stream.beat();
    if (how === "killed") proxy.cut();
    else if (how === "half-closed") stream.halfClose();
    else stream.cancel();
    await stream.ended();
    await until(async () => (await world.count(handled, heartbeats)) === 1, "the service has noticed");
    await world.pass(graceEndsMs - 1_000);
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
    await world.pass(2_000);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected", "DISCONNECTED silent"]);
    connection.abort();
  });

  test("T14 a half-close is answered OK", async () => {
    await using world = await openClockedWorld();
    const stream = await connectNode(world, (await aNode(world.nodes)).nodeId);
    stream.halfClose();
    expect(await stream.ended()).toBeUndefined();
  });

  test("T14 Leave: DISCONNECTED at once, and the status stays", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    const stream = await connectNode(world, nodeId);
    expect(await stream.leave("going home")).toBeUndefined();
    await untilConnectivity(world, nodeId, "DISCONNECTED");
    expect((await world.nodes.getNode({ nodeId })).node?.status).toBe(3);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected", "DISCONNECTED left: going home"]);
    await (await connectNode(world, nodeId)).beat();
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
  });

  test("T14 a node that left is LOST in its time like any other, and told once", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await (await connectNode(world, nodeId)).leave("");
    await untilConnectivity(world, nodeId, "DISCONNECTED");
    await world.pass(lostAfterMs - 10_000);
    expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
    await world.pass(60_000);
    const connections = await connectionsOf(world, nodeId);
    expect(connections).toEqual(["CONNECTED connected", "DISCONNECTED left", "LOST silent for too long"]);
  });

  test("T14 a stream that never says Hello is not kept, nor is one that says something else first", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    const dumb = openNodeStream(nodes, { nodeId });
    dumb.send({ message: { case: undefined } });
    await until(
      async () => (await world.count("lucid_node_management_unknown_messages_total")) === 1,
      "the stream is open",
    );
    await world.pass(11_000);
    expect(toRefusal(await dumb.ended())).toMatchObject({ code: "InvalidArgument", fields: ["hello"] });
    const rash = openNodeStream(nodes, { nodeId });
    await expect(rash.beat()).rejects.toThrow("hello");
    const twice = await connectNode(world, nodeId);
    await expect(twice.hello()).rejects.toThrow("only once");
  });

  test("T14 a stream is renewed at the end of its lifetime: Reconnect, OK, and the connection is asked to go", async () => {
    await using world = await openClockedWorld({ settings: { STREAM_LIFETIME: "100" } });
    const { nodeId } = await aNode(world.nodes);
    const connection = new Http2SessionManager(world.baseUrl);
    const stream = await connectNode(world, nodeId, { connection });
    for (let beats = 0; beats < 3; beats++) {
      await stream.beat();
      await world.pass(26_000);
    }
    expect(stream.end).toBeUndefined();
    await world.pass(3_000);
    expect((await stream.next("reconnect")).reason).toBe("stream lifetime");
    expect(await stream.ended()).toBeUndefined();
    await until(() => connection.state() !== "open", "the connection has gone");
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
  });
});

describe("T15 shutdown", () => {
  const fleet = onProductionEngines ? 40 : Number(process.env.SIMULATED_NODES ?? 200);
  const perConnection = 100;

  test(`T15 real: with ${fleet} streams health says NOT_SERVING first, all are told to reconnect and end OK, nobody is marked`, async () => {
    await using world = await openWorld({ settings: { DRAIN_WINDOW: "1" } });
    const connections = Array.from(
      { length: Math.ceil(fleet / perConnection) },
      () => new Http2SessionManager(world.baseUrl),
    );
    const streams = await inParallel(Array.from({ length: fleet }), 64, async (_, place) => {
      const { nodeId } = await aNode(world.nodes);
      const connection = connections[place % connections.length] ?? new Http2SessionManager(world.baseUrl);
      const stream = await connectNode(world, nodeId, { connection });
      await stream.beat();
      return stream;
    });
    const probe = createClient(Health, createGrpcTransport({ baseUrl: `http://127.0.0.1:${world.metricsPort}` }));
    expect((await probe.check({ service: "readiness" })).status).toBe(Serving.SERVING);

    const late = await aNode(world.nodes);
    const lateToken = await world.nodeToken(late.nodeId);
    const lateConnection = world.as(lateToken);
    const stopped = world.server.stop();
    await Promise.any(streams.map((stream) => stream.next("reconnect")));
    expect((await probe.check({ service: "readiness" })).status).toBe(Serving.NOT_SERVING);
    const refused = openNodeStream(lateConnection.nodes, { nodeId: late.nodeId });
    refused.hello().catch(() => undefined);
    const ends = await Promise.all(streams.map((stream) => stream.ended()));
    expect(ends.filter((error) => error !== undefined)).toEqual([]);
    const spread = streams.map((stream) => {
      const told = stream.received.find((message) => message.case === "reconnect");
      return told?.value.after?.nanos ?? -1;
    });
    expect(Math.min(...spread)).toBeGreaterThanOrEqual(0);
    expect(new Set(spread).size).toBeGreaterThan(fleet / 10);
    expect(toRefusal(await refused.ended()).code).toBe("Unavailable");
    await stopped;
    for (const connection of connections) connection.abort();

    await world.restart("stop");
    expect(await fleetOf(world)).toEqual({ CONNECTED: fleet, NEVER_CONNECTED: 1 });
  });

  test("T15 streams that open while it stops end OK or UNAVAILABLE with the time to wait, none in between", async () => {
    await using world = await openWorld();
    const nodeIds = await inParallel(Array.from({ length: 20 }), 20, async () => (await aNode(world.nodes)).nodeId);
    const tokens = await Promise.all(nodeIds.map((nodeId) => world.nodeToken(nodeId)));
    const streams = nodeIds.map((nodeId, place) => openNodeStream(world.as(tokens[place]).nodes, { nodeId }));
    const hellos = streams.map((stream) => stream.hello().catch(() => undefined));
    await hellos[0];
    const began = performance.now();
    await world.server.stop();
    expect(performance.now() - began).toBeLessThan(onProductionEngines ? 5_000 : 1_500);
    for (const stream of streams) {
      const error = await stream.ended();
      if (error === undefined) expect(stream.received.some((message) => message.case === "reconnect")).toBe(true);
      else expect(toRefusal(error)).toMatchObject({ code: "Unavailable", retryAfterMs: expect.any(Number) });
    }
  });

  test("T15 asked twice it ends once, and calls after it are refused", async () => {
    await using world = await openWorld();
    await Promise.all([world.server.stop(), world.server.stop()]);
    await expect(world.nodes.listNodes({})).rejects.toThrow();
  });
});

// T2, T3, T4, T13, T19, T23, T34: what silence means, and whether the node or the service was silent.
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Http2SessionManager } from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import type { NodeDocument } from "../../../src/nodes/node.js";
import { nodesCollection } from "../../../src/nodes/repository.js";
import { connectNode, type NodeStream } from "../../support/clients/node-stream.js";
import { onProductionEngines } from "../../support/engines/engines.js";
import {
  connectionsOf,
  connectivityOf,
  fleetOf,
  lastHeartbeatOf,
  statusOf,
  untilConnectivity,
} from "../../support/fleet/look.js";
import { openProxy } from "../../support/fleet/proxy.js";
import { aNode } from "../../support/world/builders.js";
import { inParallel, until } from "../../support/world/until.js";
import { lostAfterMs, openClockedWorld, openWorld, type World } from "../../support/world/world.js";

/** Interval and grace of the default settings. */
const graceEndsMs = 60_000;
const tickMs = 1_000;
const lostMs = lostAfterMs;

async function aConnectedNode(world: World): Promise<{ nodeId: string; stream: NodeStream }> {
  const { nodeId } = await aNode(world.nodes);
  const stream = await connectNode(world, nodeId);
  await stream.beat();
  return { nodeId, stream };
}

describe("T2 silence", () => {
  test("T2 for interval and grace: DISCONNECTED once, not before and not later than one tick", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aConnectedNode(world);
    await world.pass(graceEndsMs - 1);
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
    await world.pass(tickMs + 1);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected", "DISCONNECTED silent"]);
    await world.pass(lostMs - graceEndsMs - 2 * tickMs);
    expect(await connectionsOf(world, nodeId)).toHaveLength(2);
  });

  test("T2 for longer: LOST with one event, and never again", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aConnectedNode(world);
    const { version } = (await world.nodes.getNode({ nodeId })).node ?? { version: 0n };
    await world.pass(lostMs - 1);
    expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
    await world.pass(tickMs + 1);
    await world.pass(2 * lostMs);
    expect(await connectionsOf(world, nodeId)).toEqual([
      "CONNECTED connected",
      "DISCONNECTED silent",
      "LOST silent for too long",
    ]);
    expect(await statusOf(world, nodeId)).toBe("INACTIVE");
    expect((await world.nodes.getNode({ nodeId })).node?.version).toBe(version + 2n);
  });

  test("T2 a beat after LOST brings CONNECTED back, on the stream that still stands", async () => {
    await using world = await openClockedWorld();
    const { nodeId, stream } = await aConnectedNode(world);
    await world.pass(lostMs + tickMs);
    expect(await connectivityOf(world, nodeId)).toBe("LOST");
    await stream.beat();
    await untilConnectivity(world, nodeId, "CONNECTED");
    await world.pass(2 * tickMs);
    expect((await connectionsOf(world, nodeId)).at(-1)).toBe("CONNECTED heard again");
  });

  test("T2 the store being away judges nobody; when it is back everyone gets a restart's grace", async () => {
    await using world = await openClockedWorld();
    const beating = await aConnectedNode(world);
    const silent = await aConnectedNode(world);
    world.storeAway(true);
    for (let round = 0; round < 5; round++) {
      await world.pass(30_000);
      await beating.stream.beat();
    }
    world.storeAway(false);
    await world.pass(graceEndsMs - 2 * tickMs);
    expect(await connectivityOf(world, silent.nodeId)).toBe("CONNECTED");
    await beating.stream.beat();
    await world.pass(5 * tickMs);
    expect(await connectivityOf(world, silent.nodeId)).toBe("DISCONNECTED");
    expect(await connectionsOf(world, beating.nodeId)).toEqual(["CONNECTED connected"]);
  });
});

describe("T3 a beat and its expiry", () => {
  test("T3 a beat 1 ms before the end of the grace keeps the node connected", async () => {
    await using world = await openClockedWorld();
    const { nodeId, stream } = await aConnectedNode(world);
    await world.pass(graceEndsMs - 1);
    await stream.beat();
    await world.pass(graceEndsMs - 1);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("T3 a beat that comes while the verdict is being written leaves the node connected", async () => {
    await using world = await openClockedWorld();
    const { nodeId, stream } = await aConnectedNode(world);
    await world.pass(graceEndsMs - 10 * tickMs);
    let overtaken = false;
    world.beforeStore((operation) => {
      if (operation !== "findOneAndUpdate" || overtaken) return undefined;
      overtaken = true;
      return stream.beat().then(() => undefined);
    });
    await world.pass(11 * tickMs);
    world.beforeStore(undefined);
    expect(overtaken).toBe(true);
    await untilConnectivity(world, nodeId, "CONNECTED");
    await world.pass(5 * tickMs);
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
  });

  test("T3 a beat that another process has written rejects the late verdict", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aConnectedNode(world);
    const nodes = await world.store.collection<NodeDocument>(nodesCollection);
    await world.pass(graceEndsMs - tickMs);
    await nodes.updateOne({ _id: nodeId }, { $set: { last_heartbeat: world.clock.now() } });
    await world.pass(5 * tickMs);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("T3 a session that another process has opened rejects it, too, and takes the stream over", async () => {
    await using world = await openClockedWorld();
    const { nodeId, stream } = await aConnectedNode(world);
    const nodes = await world.store.collection<NodeDocument>(nodesCollection);
    await nodes.updateOne({ _id: nodeId }, { $inc: { session_epoch: 1 }, $set: { session_boot_id: "another" } });
    await world.pass(2 * tickMs);
    expect((await stream.ended())?.rawMessage).toContain("newer session");
    await world.pass(graceEndsMs + tickMs);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });
});

describe("T4 a restart", () => {
  const fleet = onProductionEngines ? 40 : Number(process.env.SIMULATED_NODES ?? 150);
  // On engines that replicas share, the dead replica's lease runs out first, and only then its silence is noticed.
  const foundDeadMs = onProductionEngines ? 26_000 : 0;

  test(`T4 with ${fleet} nodes disconnects nobody before the grace is over, and loses nobody before its time`, {
    timeout: 180_000 + 300 * fleet,
  }, async () => {
    await using world = await openClockedWorld();
    const nodeIds = await inParallel(Array.from({ length: fleet }), 64, async () => {
      const { nodeId } = await aNode(world.nodes);
      await world.nodes.startNode({ nodeId });
      return nodeId;
    });
    await inParallel(nodeIds, 64, async (nodeId) => (await connectNode(world, nodeId)).beat());
    expect(await fleetOf(world)).toEqual({ CONNECTED: fleet });
    await world.restart("crash");
    await world.pass(graceEndsMs - 3 * tickMs);
    expect(await fleetOf(world)).toEqual({ CONNECTED: fleet });

    const back = nodeIds.filter((_, place) => place % 2 === 0);
    const streams = await inParallel(back, 64, async (nodeId) => connectNode(world, nodeId));
    await inParallel(streams, 64, (stream) => stream.beat());
    await world.pass(10 * tickMs + foundDeadMs, 500);
    const rest = fleet - back.length;
    expect(await fleetOf(world)).toEqual({ CONNECTED: back.length, DISCONNECTED: rest });
    for (let silentMs = graceEndsMs + 8 * tickMs; silentMs < lostMs - 3 * tickMs; silentMs += 20_000) {
      await inParallel(streams, 64, (stream) => stream.beat());
      expect(await fleetOf(world)).toEqual({ CONNECTED: back.length, DISCONNECTED: rest });
      await world.pass(20_000);
    }
    await inParallel(streams, 64, (stream) => stream.beat());
    await world.pass(20 * tickMs + foundDeadMs);
    expect(await fleetOf(world)).toEqual({ CONNECTED: back.length, LOST: rest });
    const active = await world.nodes.listNodes({ limit: 1, status: 3 });
    expect(active.pagination?.total).toBe(fleet);
  });
});

describe("T13 a connection that swallows everything", () => {
  test("T13 silence is noticed although both sides of the connection stay open", async () => {
    await using world = await openWorld({ settings: { NODE_HEARTBEAT_INTERVAL: "1", HEARTBEAT_GRACE: "1" } });
    await using proxy = await openProxy(world.port);
    const connection = new Http2SessionManager(proxy.baseUrl);
    const { nodeId } = await aNode(world.nodes);
    const token = await world.nodeToken(nodeId);
    const through = { ...world, baseUrl: proxy.baseUrl };
    const stream = await connectNode(through, nodeId, { connection, token });
    await stream.beat();
    proxy.swallow();
    await untilConnectivity(world, nodeId, "DISCONNECTED");
    expect(stream.end).toBeUndefined();
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected", "DISCONNECTED silent"]);
    connection.abort();
  });
});

describe("T19 clocks", () => {
  test("T19 a node whose clock is a day off is dated by ours", async () => {
    await using world = await openClockedWorld();
    for (const offMs of [-86_400_000, 86_400_000]) {
      const { nodeId, stream } = await aConnectedNode(world);
      const sentAt = timestampFromDate(new Date(world.clock.now().getTime() + offMs));
      await world.pass(30_000);
      stream.send({ message: { case: "beat", value: { sequence: 2n, sentAt } } });
      const ack = await stream.next("ack");
      expect(ack.serverTime && timestampDate(ack.serverTime)).toEqual(world.clock.now());
      const heard = world.clock.now();
      await world.pass(2 * tickMs);
      expect(await lastHeartbeatOf(world, nodeId)).toEqual(heard);
      expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
    }
  });

  test.each([-3_600_000, 3_000_000])("T19 our wall clock stepping by %i ms marks nobody", async (stepMs) => {
    await using world = await openClockedWorld();
    const { nodeId, stream } = await aConnectedNode(world);
    await world.pass(10_000);
    world.clock.stepWall(stepMs);
    await world.pass(45_000);
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
    await stream.beat();
    await world.pass(45_000);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("T19 and silence is still noticed in time after our wall clock was stepped back", async () => {
    await using world = await openClockedWorld();
    const silentBefore = await aConnectedNode(world);
    const silentAfter = await aConnectedNode(world);
    await world.pass(20_000);
    world.clock.stepWall(-3_600_000);
    await silentAfter.stream.beat();
    await world.pass(graceEndsMs - 20_000 + tickMs);
    expect(await connectivityOf(world, silentBefore.nodeId)).toBe("DISCONNECTED");
    expect(await connectivityOf(world, silentAfter.nodeId)).toBe("CONNECTED");
    await world.pass(20_000);
    expect(await connectivityOf(world, silentAfter.nodeId)).toBe("DISCONNECTED");
  });
});

describe("T23 heard again within the grace", () => {
  test("T23 nothing is lost: status, pool, labels, configuration and history stand as they were", async () => {
    await using world = await openClockedWorld();
    const { pool } = await world.pools.createPool({ name: "steady" });
    const { nodeId } = await aNode(world.nodes, {
      initialPoolId: pool?.poolId ?? "",
      labels: { zone: "a" },
      configuration: { maxSessions: 7 },
    });
    await world.nodes.startNode({ nodeId });
    const first = await connectNode(world, nodeId);
    await first.beat();
    await world.pass(2 * tickMs);
    const before = (await world.nodes.getNode({ nodeId })).node;
    first.cancel();
    await world.pass(graceEndsMs - 5 * tickMs);
    const second = await connectNode(world, nodeId);
    await second.beat();
    await world.pass(20_000);
    const after = (await world.nodes.getNode({ nodeId })).node;
    expect(after).toEqual({ ...before, lastHeartbeat: after?.lastHeartbeat });
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });
});

describe("T34 our own stall", () => {
  test("T34 beats that queue behind a stall of ours count: nobody is marked", async () => {
    await using world = await openClockedWorld();
    const nodes = await Promise.all(Array.from({ length: 20 }, () => aConnectedNode(world)));
    await world.pass(20_000);
    await world.clock.stall(lostMs);
    await Promise.all(nodes.map(({ stream }) => stream.beat()));
    await world.pass(20_000);
    for (const { nodeId } of nodes) expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("T34 who stays silent after the stall is judged from its end", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aConnectedNode(world);
    await world.clock.stall(lostMs);
    await world.pass(graceEndsMs - 2 * tickMs);
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
    await world.pass(4 * tickMs);
    expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
  });

  test("T34 real: an event loop that stands still for longer than interval and grace marks nobody", async () => {
    await using world = await openWorld({ settings: { NODE_HEARTBEAT_INTERVAL: "1", HEARTBEAT_GRACE: "1" } });
    const nodes = await Promise.all(Array.from({ length: 10 }, () => aConnectedNode(world)));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3_500);
    const awakeMs = Date.now();
    await Promise.all(nodes.map(({ stream }) => stream.beat()));
    const nextTurn = (await world.count("lucid_node_management_heartbeats_total")) === 20;
    expect(nextTurn).toBe(true);
    await until(async () => {
      const heard = await Promise.all(nodes.map(({ nodeId }) => lastHeartbeatOf(world, nodeId)));
      return heard.every((at) => at !== undefined && at.getTime() >= awakeMs);
    }, "the late beats are written");
    for (const { nodeId } of nodes) expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });
});

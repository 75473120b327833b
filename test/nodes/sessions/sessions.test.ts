// Sessions under slow stores, crowds and goodbyes.
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { NodeDocument } from "../../../src/nodes/node.js";
import { nodesCollection } from "../../../src/nodes/repository.js";
import { connectNode, openNodeStream } from "../../support/clients/node-stream.js";
import { connectionsOf, connectivityOf, statusOf } from "../../support/fleet/look.js";
import { aNode } from "../../support/world/builders.js";
import { refusalOf } from "../../support/world/refusal.js";
import { until } from "../../support/world/until.js";
import { openClockedWorld, openWorld } from "../../support/world/world.js";

describe("a crowd", () => {
  test("of Hellos at the same moment fills the streams a replica may hold, and not one more", async () => {
    await using world = await openWorld({ settings: { STREAMS_MAX: "3" } });
    const nodes = await Promise.all(Array.from({ length: 12 }, () => aNode(world.nodes)));
    const opened = await Promise.allSettled(nodes.map(({ nodeId }) => connectNode(world, nodeId)));
    expect(opened.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
  });

  test("of silent streams of one node is not let in", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    const silent = Array.from({ length: 8 }, () => openNodeStream(nodes, { nodeId }));
    for (const stream of silent) stream.send({ message: { case: undefined } });
    await until(async () => (await world.count("lucid_node_management_unknown_messages_total")) === 8, "all are open");
    const { code, reason } = await refusalOf(openNodeStream(nodes, { nodeId }).hello());
    expect({ code, reason }).toEqual({ code: "ResourceExhausted", reason: "4291" });
    for (const stream of silent) stream.cancel();
    await until(
      () =>
        connectNode(world, nodeId).then(
          () => true,
          () => false,
        ),
      "there is room again",
    );
  });
});

describe("a store that takes its time", () => {
  test("does not make the nodes silent whose beats wait behind it", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    await world.pass(30_000);
    let slow = true;
    world.beforeStore((operation) => {
      if (operation !== "bulkUpdate" || !slow) return undefined;
      slow = false;
      return world.clock.stall(400_000);
    });
    await stream.beat();
    await world.pass(2_000);
    expect(slow).toBe(false);
    world.beforeStore(undefined);
    await stream.beat();
    await world.pass(2_000);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("a goodbye that was answered is true for whoever asks next", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    world.beforeStore((operation) => (operation === "findOneAndUpdate" ? delay(50) : undefined));
    expect(await stream.leave("")).toBeUndefined();
    world.beforeStore(undefined);
    expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
  });
});

describe("a session that another process has opened", () => {
  test("for the same agent ends the older stream OK", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    await stream.beat();
    const nodes = await world.store.collection<NodeDocument>(nodesCollection);
    await nodes.updateOne({ _id: nodeId }, { $inc: { session_epoch: 1 } });
    await world.pass(2_000);
    expect(await stream.ended()).toBeUndefined();
  });
});

describe("a shared identity", () => {
  test("is in ERROR and connected: what is wrong with it is not that it is silent", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    for (let turn = 0; (await statusOf(world, nodeId)) !== "ERROR" && turn < 20; turn++) {
      const stream = await connectNode(world, nodeId, { bootId: turn % 2 === 0 ? "left" : "right" });
      await stream.leave("");
      await world.pass(4_000);
    }
    expect(await statusOf(world, nodeId)).toBe("ERROR");
    const connections = await connectionsOf(world, nodeId);
    const last = await connectNode(world, nodeId, { bootId: "left" });
    await last.beat();
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
    expect(connections.at(-1)).toContain("DISCONNECTED");
  });
});

describe("a repeated beat", () => {
  test("is answered and is no sign of life", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    await stream.beat(5n);
    for (let round = 0; round < 5; round++) {
      await world.pass(15_000);
      expect((await stream.beat(5n)).sequence).toBe(5n);
    }
    expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
  });
});

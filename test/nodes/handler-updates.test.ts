// Names and updates of nodes, as callers of NodeService see them.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Node, NodeStatus, NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { nodesCollection } from "../../src/nodes/repository.js";
import { connectNode } from "../support/clients/node-stream.js";
import { updateNode } from "../support/clients/update-node.js";
import { historyOf, nodeOf } from "../support/fleet/look.js";
import { aName, aNode, aPool, tronAddress } from "../support/world/builders.js";
import { expectRefusal, toRefusal } from "../support/world/refusal.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

describe("a name", () => {
  test("is unique in its pool, and without a pool; case counts", async () => {
    const [one, two] = [await aPool(world.pools), await aPool(world.pools)];
    const name = aName("Name");
    for (const initialPoolId of ["", one.poolId, two.poolId]) {
      await aNode(world.nodes, { name, initialPoolId });
      await expectRefusal(aNode(world.nodes, { name, initialPoolId }), "AlreadyExists 5007");
    }
    await aNode(world.nodes, { name: name.toLowerCase() });
  });

  test("taken by many at once goes to one of them", async () => {
    const name = aName("race");
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => aNode(world.nodes, { name })));
    const refused = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [toRefusal(outcome.reason)] : []));
    expect(refused).toHaveLength(19);
    expect(new Set(refused.map(({ code, reason }) => `${code} ${reason}`))).toEqual(new Set(["AlreadyExists 5007"]));
  });

  test("goes with the node into its pool, and blocks the way where it is taken", async () => {
    const { poolId } = await aPool(world.pools);
    const name = aName("mover");
    const inside = await aNode(world.nodes, { name, initialPoolId: poolId });
    const outside = await aNode(world.nodes, { name });
    await expectRefusal(world.pools.addNodeToPool({ poolId, nodeId: outside.nodeId }), "AlreadyExists 5007");
    await expectRefusal(world.pools.removeNodeFromPool({ poolId, nodeId: inside.nodeId }), "AlreadyExists 5007");
    await expectRefusal(updateNode(world, { nodeId: outside.nodeId, poolId }, "pool_id"), "AlreadyExists 5007");
    const moved = await updateNode(world, { nodeId: outside.nodeId, poolId, name: aName("moved") }, "pool_id", "name");
    expect(moved.node).toMatchObject({ poolId, poolPriority: 50 });
  });

  test("is changed only to a free one", async () => {
    const [one, two] = [await aNode(world.nodes), await aNode(world.nodes)];
    await expectRefusal(updateNode(world, { nodeId: two.nodeId, name: one.name }, "name"), "AlreadyExists 5007");
    await updateNode(world, { nodeId: one.nodeId, name: aName() }, "name");
    await updateNode(world, { nodeId: two.nodeId, name: one.name }, "name");
  });
});

describe("an update", () => {
  test("changes what the mask names, and nothing else", async () => {
    const node = await aNode(world.nodes, { labels: { a: "1" }, location: { country: "DE" } });
    const { nodeId } = node;
    const wanted = { nodeId, name: aName(), labels: { b: "2" }, nodeType: NodeType.COMPUTE };
    const { node: after } = await updateNode(world, wanted, "labels");
    expect(after).toEqual({ ...node, labels: { b: "2" }, version: 2n, updatedAt: after?.updatedAt });
  });

  test("clears a named field that has no value, where it can be cleared", async () => {
    const { nodeId } = await aNode(world.nodes, {
      labels: { a: "1" },
      location: { country: "DE" },
      configuration: { maxSessions: 5 },
    });
    const { node } = await updateNode(world, { nodeId }, "labels", "location", "configuration");
    expect(node).toMatchObject({ labels: {} });
    expect(node?.location).toBeUndefined();
    expect(node?.configuration).toBeUndefined();
    await expectRefusal(updateNode(world, { nodeId }, "name"), "InvalidArgument 4001");
    await expectRefusal(updateNode(world, { nodeId }, "node_type"), "InvalidArgument 4001");
  });

  test("of the pool moves the node, and out of it", async () => {
    const [one, two] = [await aPool(world.pools), await aPool(world.pools)];
    const { nodeId } = await aNode(world.nodes, { initialPoolId: one.poolId });
    expect((await updateNode(world, { nodeId, poolId: two.poolId }, "pool_id")).node?.poolId).toBe(two.poolId);
    const { node } = await updateNode(world, { nodeId }, "pool_id");
    expect(node).toMatchObject({ poolId: "" });
    expect(node?.poolPriority).toBeUndefined();
    const { pools } = await world.pools.listPools({ limit: 100 });
    expect(pools.filter(({ poolId }) => [one.poolId, two.poolId].includes(poolId)).map((p) => p.nodeCount)).toEqual([
      0, 0,
    ]);
    await expectRefusal(updateNode(world, { nodeId, poolId: "pool_unknown" }, "pool_id"), "NotFound 5002");
  });

  test("into a full pool is refused 5004, and the rest of it is not done", async () => {
    const { poolId } = await aPool(world.pools, { maxNodes: 1 });
    await aNode(world.nodes, { initialPoolId: poolId });
    const node = await aNode(world.nodes);
    const wanted = { nodeId: node.nodeId, poolId, name: aName() };
    await expectRefusal(updateNode(world, wanted, "pool_id", "name"), "ResourceExhausted 5004");
    expect(await nodeOf(world, node.nodeId)).toEqual(node);
  });

  describe("into a pool that goes meanwhile", () => {
    /** Updates the node, and deletes the pool just before the update is written. */
    const tooLate = async (nodeId: string, wanted: Partial<Node>, ...paths: string[]) => {
      const { poolId } = await aPool(world.pools);
      let deleting = false;
      world.beforeStore(async (operation) => {
        if (operation !== "findOneAndUpdate" || deleting) return;
        deleting = true;
        await world.pools.deletePool({ poolId });
      });
      await expectRefusal(updateNode(world, { ...wanted, nodeId, poolId }, "pool_id", ...paths), "NotFound 5002");
      world.beforeStore(undefined);
    };

    test("takes everything else of it back", async () => {
      const home = await aPool(world.pools);
      const node = await aNode(world.nodes, {
        initialPoolId: home.poolId,
        labels: { a: "1" },
        configuration: { maxSessions: 5 },
      });
      const { nodeId } = node;
      const wanted = { name: aName(), nodeType: NodeType.COMPUTE, labels: { b: "2" }, location: undefined };
      await tooLate(nodeId, wanted, "name", "node_type", "labels", "location", "configuration");
      const after = await nodeOf(world, nodeId);
      expect(after).toEqual({ ...node, version: 3n, updatedAt: after.updatedAt });
      const stored = await (await world.store.collection<NodeDocument>(nodesCollection)).findOne({ _id: nodeId });
      expect(stored?.configuration_version).toBe(3);
      expect((await world.pools.getPool({ poolId: home.poolId })).pool?.nodeCount).toBe(1);
    });

    test("leaves a node without a pool as it was", async () => {
      const node = await aNode(world.nodes);
      await tooLate(node.nodeId, { location: undefined, labels: { b: "2" } }, "labels", "location");
      const after = await nodeOf(world, node.nodeId);
      expect(after).toEqual({ ...node, version: 3n, updatedAt: after.updatedAt });
    });
  });

  test.each([
    "status",
    "connectivity",
    "payout_address",
    "node_id",
    "version",
    "banned",
    "poot_score",
    "hardware_info",
    "labels.a",
    "nonsense",
    "*",
    "Name",
  ])("of %s is refused with the mask named", async (path) => {
    const node = await aNode(world.nodes, { labels: { a: "1" } });
    const refusal = await expectRefusal(
      world.nodes.updateNode({
        node: { nodeId: node.nodeId, status: NodeStatus.ACTIVE, payoutAddress: tronAddress },
        updateMask: { paths: [path] },
      }),
      "InvalidArgument 4001",
    );
    expect(refusal.fields).toEqual(["update_mask"]);
    expect(await nodeOf(world, node.nodeId)).toEqual(node);
  });

  test("without a mask, or with an empty one, is refused", async () => {
    const { nodeId } = await aNode(world.nodes);
    await expectRefusal(world.nodes.updateNode({ node: { nodeId } }), "InvalidArgument 4001");
    await expectRefusal(updateNode(world, { nodeId }), "InvalidArgument 4001");
    await expectRefusal(world.nodes.updateNode({ updateMask: { paths: ["name"] } }), "InvalidArgument 4001");
    await expectRefusal(
      world.nodes.updateNode({ node: { name: "abc" }, updateMask: { paths: ["name"] } }),
      "InvalidArgument 4001",
    );
  });

  test("that expects another version is ABORTED 5012; of many that expect the same one, one wins", async () => {
    const { nodeId } = await aNode(world.nodes);
    const change = (expectedVersion: bigint) =>
      world.nodes.updateNode({
        node: { nodeId, labels: { by: String(expectedVersion) } },
        updateMask: { paths: ["labels"] },
        expectedVersion,
      });
    await expectRefusal(change(2n), "Aborted 5012");
    await change(1n);
    await expectRefusal(change(1n), "Aborted 5012");
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => change(2n)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  test("is not disturbed by beats: they leave the version alone", async () => {
    await using clocked = await openClockedWorld();
    const { nodeId } = await aNode(clocked.nodes);
    const stream = await connectNode(clocked, nodeId);
    const { version } = await nodeOf(clocked, nodeId);
    for (let beats = 0; beats < 5; beats++) {
      await stream.beat();
      await clocked.pass(30_000);
    }
    expect((await nodeOf(clocked, nodeId)).version).toBe(version);
  });

  test("by many at once loses none", async () => {
    const { nodeId } = await aNode(world.nodes);
    await Promise.all(
      Array.from({ length: 20 }, (_, turn) => updateNode(world, { nodeId, labels: { turn: String(turn) } }, "labels")),
    );
    expect((await nodeOf(world, nodeId)).version).toBe(21n);
    expect(await historyOf(world, nodeId)).toHaveLength(21);
  });
});

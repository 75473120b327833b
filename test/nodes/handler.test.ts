// NodeService as its callers see it: nodes are created, created once for one key, and deleted.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Connectivity, NodeStatus, NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { nodesCollection } from "../../src/nodes/repository.js";
import { connectNode } from "../support/clients/node-stream.js";
import { updateNode } from "../support/clients/update-node.js";
import { historyOf, nodeOf } from "../support/fleet/look.js";
import { aHardware, aName, aNode, aPool, tronAddress } from "../support/world/builders.js";
import { expectRefusal, toRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import { openWorld, type World } from "../support/world/world.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

describe("a node", () => {
  test("comes back as it was given, INACTIVE and never connected", async () => {
    const request = {
      name: aName("whole"),
      nodeType: NodeType.STORAGE,
      hardwareInfo: aHardware({ gpu: { model: "A100", memoryBytes: 80_000_000_000n, computeCapability: "8.0" } }),
      location: { country: "DE", region: "BE", city: "Berlin", timezone: "Europe/Berlin" },
      configuration: { maxSessions: 10, autoScaling: true, maintenanceWindow: { startHour: 3, durationHours: 2 } },
      labels: { "lucid.io/zone": "a" },
    };
    const node = await aNode(world.nodes, request);
    expect(node).toMatchObject({
      ...request,
      status: NodeStatus.INACTIVE,
      connectivity: Connectivity.NEVER_CONNECTED,
      version: 1n,
      banned: false,
      poolId: "",
    });
    expect(node.lastHeartbeat).toBeUndefined();
    expect(node.pootScore).toBeUndefined();
    expect(node.nodeId).toMatch(/^node_[0-9a-hjkmnp-tv-z]{26}$/);
    expect(await nodeOf(world, node.nodeId)).toEqual(node);
  });

  test("that does not exist is NOT_FOUND 5001 for every call", async () => {
    const nodeId = "node_unknown";
    const { nodes } = world;
    const calls = [
      () => nodes.getNode({ nodeId }),
      () => nodes.deleteNode({ nodeId }),
      () => nodes.startNode({ nodeId }),
      () => nodes.stopNode({ nodeId }),
      () => nodes.restartNode({ nodeId }),
      () => nodes.enterMaintenance({ nodeId }),
      () => nodes.exitMaintenance({ nodeId }),
      () => nodes.banNode({ nodeId, reason: "x" }),
      () => nodes.unbanNode({ nodeId }),
      () => nodes.resetEnrollment({ nodeId }),
      () => nodes.setPayoutAddress({ nodeId, payoutAddress: tronAddress }),
      () => nodes.listNodeEvents({ nodeId }),
      () => updateNode(world, { nodeId, name: "new-name" }, "name"),
    ];
    for (const call of calls) await expectRefusal(call(), "NotFound 5001");
  });

  test("in a pool that does not exist is NOT_FOUND 5002 and is not made", async () => {
    const name = aName();
    await expectRefusal(aNode(world.nodes, { name, initialPoolId: "pool_unknown" }), "NotFound 5002");
    await aNode(world.nodes, { name });
  });
});

describe("an idempotency key", () => {
  test("sent at once by many makes one node; the others get it replayed", async () => {
    const request = { name: aName("once"), nodeType: NodeType.WORKER, idempotencyKey: aName("key") };
    const answers = await Promise.all(Array.from({ length: 20 }, () => world.nodes.createNode(request)));
    expect(new Set(answers.map(({ node }) => node?.nodeId)).size).toBe(1);
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
  });

  test("sent at once by many for a place in a pool takes one place", async () => {
    const { poolId } = await aPool(world.pools, { maxNodes: 3 });
    const base = {
      name: aName("once"),
      nodeType: NodeType.WORKER,
      idempotencyKey: aName("key"),
      initialPoolId: poolId,
    };
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.nodes.createNode(base)));
    expect(new Set(answers.map(({ node }) => node?.nodeId)).size).toBe(1);
    expect((await world.pools.getPool({ poolId })).pool?.nodeCount).toBe(1);
  });

  test("answers with the present state of what it made", async () => {
    const request = { name: aName("once"), nodeType: NodeType.WORKER, idempotencyKey: aName("key") };
    const { node } = await world.nodes.createNode(request);
    await world.nodes.startNode({ nodeId: node?.nodeId ?? "" });
    const again = await world.nodes.createNode(request);
    expect(again).toMatchObject({ replayed: true, node: { nodeId: node?.nodeId, status: NodeStatus.ACTIVE } });
  });

  test("with another meaning is ALREADY_EXISTS 5007", async () => {
    const request = { name: aName("once"), nodeType: NodeType.WORKER, idempotencyKey: aName("key") };
    await world.nodes.createNode(request);
    for (const other of [{ nodeType: NodeType.COMPUTE }, { name: aName() }, { labels: { a: "b" } }]) {
      await expectRefusal(world.nodes.createNode({ ...request, ...other }), "AlreadyExists 5007");
    }
  });

  test("is its sender's own, and another RPC's is another", async () => {
    const idempotencyKey = aName("key");
    const mine = await world.nodes.createNode({ name: aName(), nodeType: NodeType.WORKER, idempotencyKey });
    const { nodes } = world.as(await world.token("operator"));
    const theirs = await nodes.createNode({ name: aName(), nodeType: NodeType.WORKER, idempotencyKey });
    expect(theirs.node?.nodeId).not.toBe(mine.node?.nodeId);
    await world.pools.createPool({ name: aName(), idempotencyKey });
  });

  test("is free again when what it made was deleted", async () => {
    const request = { name: aName("once"), nodeType: NodeType.WORKER, idempotencyKey: aName("key") };
    const first = await world.nodes.createNode(request);
    await world.nodes.deleteNode({ nodeId: first.node?.nodeId ?? "" });
    const second = await world.nodes.createNode(request);
    expect(second.replayed).toBe(false);
    expect(second.node?.nodeId).not.toBe(first.node?.nodeId);
  });
});

describe("a deletion", () => {
  test("leaves the history, frees name and place, and the node is gone at once", async () => {
    const { poolId } = await aPool(world.pools, { maxNodes: 1 });
    const { nodeId, name } = await aNode(world.nodes, { initialPoolId: poolId });
    await world.nodes.deleteNode({ nodeId });
    await expectRefusal(world.nodes.getNode({ nodeId }), "NotFound 5001");
    await expectRefusal(world.nodes.deleteNode({ nodeId }), "NotFound 5001");
    expect((await world.nodes.listNodes({ poolId })).nodes).toEqual([]);
    const next = await aNode(world.nodes, { name, initialPoolId: poolId });
    expect(next.nodeId).not.toBe(nodeId);
    const history = async () => (await historyOf(world, nodeId)).map(({ type }) => type);
    await until(async () => (await history().catch(() => [])).length === 2, "the deletion is in the history");
    expect(await history()).toEqual(["CREATED", "DELETED"]);
  });

  test("of a node in ERROR works; of one that runs it is refused 5003", async () => {
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    await expectRefusal(world.nodes.deleteNode({ nodeId }), "FailedPrecondition 5003");
    const nodes = await world.store.collection<NodeDocument>(nodesCollection);
    await nodes.updateOne({ _id: nodeId }, { $set: { status: "error" } });
    await world.nodes.deleteNode({ nodeId });
  });

  test("ends the node's stream, and its token opens no other", async () => {
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    await world.nodes.deleteNode({ nodeId });
    expect(toRefusal(await stream.ended())).toMatchObject({ code: "NotFound", reason: "5001" });
    await expectRefusal(connectNode(world, nodeId), "NotFound 5001");
  });

  test("asked for by many at once is done by one", async () => {
    const { nodeId } = await aNode(world.nodes);
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => world.nodes.deleteNode({ nodeId })));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });
});

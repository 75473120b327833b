// The state of the fleet and its pools: counted from the nodes, and from their last samples.
import { describe, expect, test } from "vitest";
import { poolFigures } from "../../src/pools/figures.js";
import { aNode, aPool } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { openClockedWorld, openWorld } from "../support/world/world.js";
import { aTeller, flushedMs } from "./samples.js";

const noStatus = {
  NODE_STATUS_INACTIVE: 0,
  NODE_STATUS_STARTING: 0,
  NODE_STATUS_ACTIVE: 0,
  NODE_STATUS_STOPPING: 0,
  NODE_STATUS_MAINTENANCE: 0,
  NODE_STATUS_ERROR: 0,
};
const noConnectivity = {
  CONNECTIVITY_NEVER_CONNECTED: 0,
  CONNECTIVITY_CONNECTED: 0,
  CONNECTIVITY_DISCONNECTED: 0,
  CONNECTIVITY_LOST: 0,
};

describe("the fleet's summary", () => {
  test("of no node is all zeros", async () => {
    await using world = await openWorld();
    expect(await world.nodes.getFleetSummary({})).toMatchObject({
      total: 0,
      byStatus: noStatus,
      byConnectivity: noConnectivity,
      disruptedPools: [],
    });
  });

  test("counts every node once a map, in all or in a pool; deleted ones are gone", async () => {
    await using world = await openWorld();
    const { poolId } = await aPool(world.pools);
    const inside = [
      await aNode(world.nodes, { initialPoolId: poolId }),
      await aNode(world.nodes, { initialPoolId: poolId }),
    ];
    const [, outside, gone] = [await aTeller(world), await aNode(world.nodes), await aNode(world.nodes)];
    await world.nodes.startNode({ nodeId: inside[0]?.nodeId ?? "" });
    await world.nodes.startNode({ nodeId: outside.nodeId });
    await world.nodes.enterMaintenance({ nodeId: outside.nodeId });
    await world.nodes.deleteNode({ nodeId: gone.nodeId });
    expect(await world.nodes.getFleetSummary({})).toMatchObject({
      total: 4,
      byStatus: { ...noStatus, NODE_STATUS_ACTIVE: 1, NODE_STATUS_MAINTENANCE: 1, NODE_STATUS_INACTIVE: 2 },
      byConnectivity: { ...noConnectivity, CONNECTIVITY_CONNECTED: 1, CONNECTIVITY_NEVER_CONNECTED: 3 },
    });
    expect(await world.nodes.getFleetSummary({ poolId })).toMatchObject({
      total: 2,
      byStatus: { ...noStatus, NODE_STATUS_ACTIVE: 1, NODE_STATUS_INACTIVE: 1 },
      byConnectivity: { ...noConnectivity, CONNECTIVITY_NEVER_CONNECTED: 2 },
      disruptedPools: [],
    });
    await expectRefusal(world.nodes.getFleetSummary({ poolId: "pool_unknown" }), "NotFound 5002");
    await expectRefusal(world.nodes.getFleetSummary({ poolId: "node_1234" }), "InvalidArgument 4001");
  });

  test("names the pools that are disrupted", async () => {
    await using world = await openClockedWorld();
    const [silent, quiet] = [await aPool(world.pools), await aPool(world.pools)];
    const tellers = [];
    for (let place = 0; place < 5; place++) {
      tellers.push(await aTeller(world, (await aNode(world.nodes, { initialPoolId: silent.poolId })).nodeId));
    }
    for (const { stream } of tellers) await stream.beat();
    await world.pass(64_000);
    expect((await world.nodes.getFleetSummary({})).disruptedPools).toEqual([silent.poolId]);
    expect((await world.nodes.getFleetSummary({ poolId: silent.poolId })).disruptedPools).toEqual([silent.poolId]);
    expect((await world.nodes.getFleetSummary({ poolId: quiet.poolId })).disruptedPools).toEqual([]);
  });
});

describe("a pool's metrics", () => {
  test("are those of its nodes' last samples, while these are young", async () => {
    await using world = await openClockedWorld({ settings: { RESOURCE_COLLECTION_INTERVAL: "10" } });
    const { poolId } = await aPool(world.pools);
    const member = async () => aTeller(world, (await aNode(world.nodes, { initialPoolId: poolId })).nodeId);
    const [one, two, stranger] = [await member(), await member(), await aTeller(world)];
    await aNode(world.nodes, { initialPoolId: poolId });
    await one.tell({ cpu: 90, memory: 90, disk: 90 });
    await world.pass(flushedMs);
    await one.tell({ cpu: 20, memory: 40, disk: 60, rx: 6_000n });
    await two.tell({ cpu: 40, memory: 80, disk: 20 });
    await stranger.tell({ cpu: 100 });
    await world.pass(flushedMs);
    const answer = await world.pools.getPoolMetrics({ poolId });
    expect(answer).toMatchObject({
      poolId,
      nodeCount: 3,
      byStatus: { ...noStatus, NODE_STATUS_INACTIVE: 3 },
      byConnectivity: { ...noConnectivity, CONNECTIVITY_CONNECTED: 2, CONNECTIVITY_NEVER_CONNECTED: 1 },
      sampledNodes: 2,
      averageCpuPercent: 30,
      averageMemoryPercent: 60,
      averageDiskPercent: 40,
      memoryUsedBytes: 12e9,
      memoryTotalBytes: 20e9,
      diskUsedBytes: 80e9,
      diskTotalBytes: 200e9,
      networkRxBytesPerSecond: 1_000,
      networkTxBytesPerSecond: 0,
    });
    expect(answer.averagePootScore).toBeUndefined();
    await world.pass(50_000);
    const old = await world.pools.getPoolMetrics({ poolId });
    expect(old).toMatchObject({ nodeCount: 3, sampledNodes: 0 });
    expect([old.averageCpuPercent, old.memoryTotalBytes, old.networkRxBytesPerSecond]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    await expectRefusal(world.pools.getPoolMetrics({ poolId: "pool_unknown" }), "NotFound 5002");
  });

  test("of a sample in the hour before are found across the hour's edge", async () => {
    await using world = await openClockedWorld();
    const { poolId } = await aPool(world.pools);
    await world.clock.stall(3_600_000 - 10_000);
    await world.pass(0);
    const teller = await aTeller(world, (await aNode(world.nodes, { initialPoolId: poolId })).nodeId);
    await teller.tell({ cpu: 55 });
    await world.pass(20_000);
    expect(await world.pools.getPoolMetrics({ poolId })).toMatchObject({ sampledNodes: 1, averageCpuPercent: 55 });
  });

  test("average the scores of those nodes that have one", () => {
    const member = (poot_score: number) => ({ status: "active", connectivity: "connected", poot_score }) as const;
    expect(poolFigures([member(-1), member(0), member(90)], []).averagePootScore).toBe(45);
    expect(poolFigures([member(-1)], []).averagePootScore).toBeUndefined();
  });
});

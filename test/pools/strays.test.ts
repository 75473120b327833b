// Joins that were cut off between their two steps, or that could not be taken back.
import { describe, expect, test } from "vitest";
import { createMembership } from "../../src/nodes/membership.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { createNodeRepository, nodesCollection } from "../../src/nodes/repository.js";
import type { PoolDocument } from "../../src/pools/pool.js";
import { poolsCollection } from "../../src/pools/repository.js";
import { createStrays } from "../../src/pools/strays.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { historyOf, nodeOf } from "../support/fleet/look.js";
import { aName, aNode, aPool } from "../support/world/builders.js";
import { createTestClock } from "../support/world/clock.js";
import { within } from "../support/world/until.js";
import { openClockedFleet, openClockedWorld, openWorld, type World } from "../support/world/world.js";

const membersOf = async (world: World, poolId: string): Promise<string[]> =>
  (await world.nodes.listNodes({ poolId })).nodes.map(({ nodeId }) => nodeId).sort();

/** Leaves the node as a process does that dies after it claimed the slot and before it checked the claim. */
async function claimSlot(world: World, nodeId: string, poolId: string, slot: number): Promise<void> {
  const nodes = await world.store.collection<NodeDocument>(nodesCollection);
  const place = { pool_id: poolId, pool_slot: slot, pool_priority: 50, name_scope: poolId };
  await nodes.updateOne({ _id: nodeId }, { $set: place });
}

describe("members of a pool", () => {
  test("that is gone are taken out, with a name of their own where theirs was taken", async () => {
    await using world = await openClockedWorld();
    const { poolId } = await aPool(world.pools);
    const name = aName("stray");
    const [first, second] = [await aNode(world.nodes, { name }), await aNode(world.nodes)];
    await claimSlot(world, first.nodeId, poolId, 1);
    await claimSlot(world, second.nodeId, poolId, 2);
    const twin = await aNode(world.nodes, { name });
    const pools = await world.store.collection<PoolDocument>(poolsCollection);
    await pools.deleteMany({ _id: poolId }, { limit: 1 });
    await world.pass(60_000);
    const [one, two] = [await nodeOf(world, first.nodeId), await nodeOf(world, second.nodeId)];
    expect([one.poolId, two.poolId]).toEqual(["", ""]);
    expect([one.name, two.name]).toEqual([`${name}-${first.nodeId}`, second.name]);
    expect((await nodeOf(world, twin.nodeId)).name).toBe(name);
    expect((await historyOf(world, first.nodeId)).at(-1)?.reason).toContain("left its pool");
  });

  test("that is gone stay where their own name is taken, too, and hold up nobody else", async () => {
    await using world = await openClockedWorld();
    const { poolId } = await aPool(world.pools);
    const name = aName("stray");
    const [stuck, other] = [await aNode(world.nodes, { name }), await aNode(world.nodes)];
    await claimSlot(world, stuck.nodeId, poolId, 2);
    await claimSlot(world, other.nodeId, poolId, 1);
    for (const taken of [name, `${name}-${stuck.nodeId}`]) await aNode(world.nodes, { name: taken });
    const pools = await world.store.collection<PoolDocument>(poolsCollection);
    await pools.deleteMany({ _id: poolId }, { limit: 1 });
    await world.pass(60_000);
    expect(await membersOf(world, poolId)).toEqual([stuck.nodeId]);
    expect(world.server.tasks.running()).toContain("strays");
  });

  test("that holds more than it may are taken out until it holds as many, the highest slots first", async () => {
    await using fleet = await openClockedFleet(2);
    const world = fleet.replicas[0] as World;
    const { poolId } = await aPool(world.pools, { maxNodes: 2 });
    const ids: string[] = [];
    for (let slot = 1; slot <= 4; slot++) {
      const { nodeId } = await aNode(world.nodes);
      await claimSlot(world, nodeId, poolId, slot);
      ids.push(nodeId);
    }
    const full = await aPool(world.pools, { maxNodes: 1 });
    const { nodeId: inside } = await aNode(world.nodes, { initialPoolId: full.poolId });
    await fleet.pass(60_000);
    expect(await membersOf(world, poolId)).toEqual(ids.slice(0, 2).sort());
    expect(await membersOf(world, full.poolId)).toEqual([inside]);
  });

  test("stay while a lowering that is taken back is on its way", async () => {
    await using world = await openClockedWorld();
    const { poolId } = await aPool(world.pools, { maxNodes: 2 });
    const ids: string[] = [];
    for (let count = 0; count < 2; count++) ids.push((await aNode(world.nodes, { initialPoolId: poolId })).nodeId);
    const pools = await world.store.collection<PoolDocument>(poolsCollection);
    await pools.updateOne({ _id: poolId }, { $set: { max_nodes: 1 } });
    await world.pass(20_000);
    await pools.updateOne({ _id: poolId }, { $set: { max_nodes: 2 } });
    await world.pass(60_000);
    expect(await membersOf(world, poolId)).toEqual(ids.sort());
  });
});

describe("a node that is turned back", () => {
  test("leaves the pool although its name was taken meanwhile", async () => {
    await using world = await openWorld();
    const name = aName("a".repeat(80));
    const { nodeId } = await aNode(world.nodes, { name });
    let looks = 0;
    const membership = createMembership({
      repository: await createNodeRepository(world.store),
      openForJoining: async () => {
        if (looks++ === 0) return { maxNodes: 1 };
        await aNode(world.nodes, { name }).catch(() => undefined);
        return null;
      },
      now: world.clock.now,
      random: () => 0,
    });
    await expect(membership.join(nodeId, "pool_going", undefined, "test")).rejects.toThrow("pool_going not found");
    const node = await nodeOf(world, nodeId);
    expect(node.poolId).toBe("");
    expect(node.name).toMatch(/^[a-zA-Z0-9_-]{3,100}$/);
    expect(node.name.endsWith(nodeId)).toBe(true);
  });
});

describe("the leader's look", () => {
  /** The look of a leading replica at pools with as many members as `counts` says. It notes what the replica does. */
  function aLook(counts: Map<string, number>, maxNodes = 2) {
    const clock = createTestClock();
    const [counted, read, told]: [number[], string[], string[]] = [[], [], []];
    let failure: Error | undefined;
    const { task } = createStrays({
      pools: { find: async () => ({ max_nodes: maxNodes }) as PoolDocument },
      nodes: {
        nextPool: async (behind) => {
          if (failure !== undefined) throw failure;
          return [...counts.keys()].sort().find((id) => id > behind);
        },
        countPlaces: async (poolId, max) => {
          counted.push(max);
          return Math.min(counts.get(poolId) ?? 0, max);
        },
        membersOf: async (poolId) => {
          read.push(poolId);
          return [];
        },
      },
      membership: { takeOut: async () => true },
      leadership: () => ({ token: 1, holds: () => true }),
      clock,
      log: { warn: (message) => told.push(message), info: (message) => told.push(message) },
    });
    const control = new AbortController();
    const running = task(control.signal);
    const ended = running.catch((error: unknown) => error);
    return {
      counted,
      read,
      told,
      ended,
      fail: (error: Error | undefined) => {
        failure = error;
      },
      pass: async (seconds: number) => {
        for (let second = 0; second < seconds; second++) await clock.advance(1_000);
      },
      [Symbol.asyncDispose]: async () => {
        control.abort();
        await ended;
      },
    };
  }

  test("counts the places of each pool no further than it must, and reads members of overfull ones alone", async () => {
    await using look = aLook(
      new Map([
        ["full", 2],
        ["over", 900],
      ]),
    );
    await look.pass(60);
    expect(new Set(look.counted)).toEqual(new Set([3]));
    expect(new Set(look.read)).toEqual(new Set(["over"]));
  });

  test("is patient anew with a pool that had no members for a while", async () => {
    const counts = new Map([["pool", 5]]);
    await using look = aLook(counts);
    await look.pass(15);
    counts.clear();
    await look.pass(60);
    counts.set("pool", 5);
    await look.pass(20);
    expect(look.read).toEqual([]);
    await look.pass(40);
    expect(look.read).not.toEqual([]);
  });

  test("outlasts a store that is away, which it tells of once, and ends by a mistake of the program", async () => {
    await using look = aLook(new Map([["over", 5]]));
    look.fail(new StoreUnavailableError("away"));
    await look.pass(25);
    expect(look.told).toEqual(["Nodes that do not fit into their pool are not looked for now"]);
    look.fail(undefined);
    await look.pass(60);
    expect(look.told[1]).toBe("Nodes that do not fit into their pool are looked for again");
    expect(look.read).not.toEqual([]);
    const mistake = new TypeError("a mistake");
    look.fail(mistake);
    await look.pass(15);
    expect(await within(look.ended, "the task ends")).toBe(mistake);
  });
});

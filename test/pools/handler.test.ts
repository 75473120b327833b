// PoolService: capacity under pressure, and pools that shrink and go while nodes join.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Currency } from "../../gen/lucid/node/v1/common_pb.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { historyOf, nodeOf } from "../support/fleet/look.js";
import { aName, aNode, aPool } from "../support/world/builders.js";
import { expectRefusal, toRefusal } from "../support/world/refusal.js";
import { inParallel } from "../support/world/until.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

const membersOf = async (poolId: string) => {
  const [{ pool }, { nodes, pagination }] = await Promise.all([
    world.pools.getPool({ poolId }),
    world.pools.listPoolNodes({ poolId, limit: 100 }),
  ]);
  expect(pagination?.total).toBe(pool?.nodeCount);
  expect(nodes).toHaveLength(pool?.nodeCount ?? -1);
  return pool?.nodeCount ?? -1;
};
const nodes = (count: number) => inParallel(Array.from({ length: count }), 32, () => aNode(world.nodes));
const outcomesOf = async (calls: readonly Promise<unknown>[]) => {
  const outcomes = await Promise.allSettled(calls);
  const names = outcomes.map((outcome) => {
    if (outcome.status === "fulfilled") return "ok";
    const { code, reason } = toRefusal(outcome.reason);
    return `${code} ${reason}`;
  });
  return Object.fromEntries([...new Set(names)].map((name) => [name, names.filter((other) => other === name).length]));
};
const setMax = (poolId: string, maxNodes: number) =>
  world.pools.updatePool({ pool: { poolId, maxNodes }, updateMask: { paths: ["max_nodes"] } });

describe("a pool", () => {
  test("comes back as it was given, and holds 100 nodes unless told otherwise", async () => {
    const request = {
      name: aName("pool"),
      description: "for tests",
      resourceLimits: { cpuPercent: 50, memoryBytes: 1n },
      autoScaling: true,
      scalingPolicy: {
        scaleUpThresholdPercent: 80,
        scaleDownThresholdPercent: 20,
        minNodes: 1,
        maxNodes: 10,
        cooldown: { seconds: 300n },
      },
      pricing: { costPerHour: { currency: Currency.USDT, amount: "0.5" } },
    };
    const pool = await aPool(world.pools, request);
    expect(pool).toMatchObject({ ...request, maxNodes: 100, nodeCount: 0, version: 1n });
    expect(pool.poolId).toMatch(/^pool_[0-9a-hjkmnp-tv-z]{26}$/);
    expect((await world.pools.getPool({ poolId: pool.poolId })).pool).toEqual(pool);
  });

  test("has a name of its own: 5008, also for many at once and on update", async () => {
    const name = aName("pool");
    expect(await outcomesOf(Array.from({ length: 10 }, () => aPool(world.pools, { name })))).toEqual({
      ok: 1,
      "AlreadyExists 5008": 9,
    });
    const { poolId } = await aPool(world.pools);
    const rename = world.pools.updatePool({ pool: { poolId, name }, updateMask: { paths: ["name"] } });
    await expectRefusal(rename, "AlreadyExists 5008");
  });

  test("asked for with one key by many is made once; another meaning is 5007", async () => {
    const request = { name: aName("pool"), idempotencyKey: aName("key") };
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.pools.createPool(request)));
    expect(new Set(answers.map(({ pool }) => pool?.poolId)).size).toBe(1);
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    await expectRefusal(world.pools.createPool({ ...request, maxNodes: 5 }), "AlreadyExists 5007");
  });

  test("that does not exist is NOT_FOUND 5002 for every call", async () => {
    const poolId = "pool_unknown";
    const { nodeId } = await aNode(world.nodes);
    const { pools } = world;
    const calls = [
      () => pools.getPool({ poolId }),
      () => setMax(poolId, 5),
      () => pools.deletePool({ poolId }),
      () => pools.addNodeToPool({ poolId, nodeId }),
      () => pools.removeNodeFromPool({ poolId, nodeId }),
      () => pools.listPoolNodes({ poolId }),
      () => pools.scalePool({ poolId, targetSize: 1 }),
    ];
    for (const call of calls) await expectRefusal(call(), "NotFound 5002");
  });

  test("is updated by mask and version; what is cleared is gone", async () => {
    const { poolId, version } = await aPool(world.pools, { description: "old", resourceLimits: { cpuPercent: 5 } });
    const update = (paths: string[], expectedVersion?: bigint) =>
      world.pools.updatePool({
        pool: { poolId, nodeCount: 7 },
        updateMask: { paths },
        ...(expectedVersion === undefined ? {} : { expectedVersion }),
      });
    const { pool } = await update(["description", "resource_limits"], version);
    expect(pool).toMatchObject({ description: "", version: version + 1n });
    expect(pool?.resourceLimits).toBeUndefined();
    await expectRefusal(update(["description"], version), "Aborted 5012");
    for (const path of ["node_count", "pool_id", "desired_size", "version", "nonsense"]) {
      const refusal = await expectRefusal(update([path]), "InvalidArgument 4001");
      expect(refusal.fields).toEqual(["update_mask"]);
    }
    await expectRefusal(update([]), "InvalidArgument 4001");
    await expectRefusal(update(["name"]), "InvalidArgument 4001");
    const auto = { pool: { poolId, autoScaling: true }, updateMask: { paths: ["auto_scaling"] } };
    await expectRefusal(world.pools.updatePool(auto), "InvalidArgument 4001");
  });

  test("is scaled in word only, within max_nodes", async () => {
    const { poolId } = await aPool(world.pools, { maxNodes: 10 });
    expect((await world.pools.scalePool({ poolId, targetSize: 10 })).pool).toMatchObject({
      desiredSize: 10,
      nodeCount: 0,
    });
    await expectRefusal(world.pools.scalePool({ poolId, targetSize: 11 }), "ResourceExhausted 5004");
  });
});

describe("membership", () => {
  test("has a priority of 50 unless given, and adding again changes only that", async () => {
    const { poolId } = await aPool(world.pools);
    const { nodeId } = await aNode(world.nodes);
    expect((await world.pools.addNodeToPool({ poolId, nodeId })).node).toMatchObject({ poolId, poolPriority: 50 });
    const { node } = await world.pools.addNodeToPool({ poolId, nodeId });
    expect(node?.version).toBe(2n);
    expect((await world.pools.addNodeToPool({ poolId, nodeId, priority: 7 })).node?.poolPriority).toBe(7);
    expect((await world.pools.addNodeToPool({ poolId, nodeId })).node?.poolPriority).toBe(7);
    expect(await membersOf(poolId)).toBe(1);
  });

  test("ends by removal; of a node that is not in it is refused 5003", async () => {
    const [one, two] = [await aPool(world.pools), await aPool(world.pools)];
    const { nodeId } = await aNode(world.nodes, { initialPoolId: one.poolId });
    const wrong = world.pools.removeNodeFromPool({ poolId: two.poolId, nodeId });
    await expectRefusal(wrong, "FailedPrecondition 5003");
    const { node } = await world.pools.removeNodeFromPool({ poolId: one.poolId, nodeId });
    expect(node?.poolId).toBe("");
    expect(await membersOf(one.poolId)).toBe(0);
  });

  test("moves from pool to pool, and counts in one", async () => {
    const [one, two] = [await aPool(world.pools), await aPool(world.pools)];
    const { nodeId } = await aNode(world.nodes, { initialPoolId: one.poolId });
    await world.pools.addNodeToPool({ poolId: two.poolId, nodeId });
    expect([await membersOf(one.poolId), await membersOf(two.poolId)]).toEqual([0, 1]);
  });
});

describe("capacity", () => {
  test("under 100 adds at once: exactly max_nodes get in, the others 5004", async () => {
    const maxNodes = 37;
    const { poolId } = await aPool(world.pools, { maxNodes });
    const all = await nodes(100);
    const calls = all.map(({ nodeId }) => world.pools.addNodeToPool({ poolId, nodeId }));
    expect(await outcomesOf(calls)).toEqual({ ok: maxNodes, "ResourceExhausted 5004": 100 - maxNodes });
    expect(await membersOf(poolId)).toBe(maxNodes);
  });

  test("under 60 creations at once, the same", async () => {
    const { poolId } = await aPool(world.pools, { maxNodes: 10 });
    const calls = Array.from({ length: 60 }, () => aNode(world.nodes, { initialPoolId: poolId }));
    expect(await outcomesOf(calls)).toEqual({ ok: 10, "ResourceExhausted 5004": 50 });
    expect(await membersOf(poolId)).toBe(10);
  });

  test("is free again after a removal, a deletion and a move", async () => {
    const [full, other] = [await aPool(world.pools, { maxNodes: 3 }), await aPool(world.pools)];
    const members = await inParallel([0, 1, 2], 3, () => aNode(world.nodes, { initialPoolId: full.poolId }));
    const [first, second, third] = members.map(({ nodeId }) => nodeId);
    await world.pools.removeNodeFromPool({ poolId: full.poolId, nodeId: first ?? "" });
    await world.nodes.deleteNode({ nodeId: second ?? "" });
    await world.pools.addNodeToPool({ poolId: other.poolId, nodeId: third ?? "" });
    const calls = (await nodes(4)).map(({ nodeId }) => world.pools.addNodeToPool({ poolId: full.poolId, nodeId }));
    expect(await outcomesOf(calls)).toEqual({ ok: 3, "ResourceExhausted 5004": 1 });
  });

  test("is not lowered below what is inside", async () => {
    const { poolId } = await aPool(world.pools, { maxNodes: 5 });
    await inParallel([0, 1, 2], 3, () => aNode(world.nodes, { initialPoolId: poolId }));
    await expectRefusal(setMax(poolId, 2), "ResourceExhausted 5004");
    await setMax(poolId, 3);
    await expectRefusal(aNode(world.nodes, { initialPoolId: poolId }), "ResourceExhausted 5004");
    await setMax(poolId, 4);
    await aNode(world.nodes, { initialPoolId: poolId });
  });

  test("lowered while many join: never more inside than the pool says, whoever wins", async () => {
    for (let round = 0; round < 5; round++) {
      const { poolId } = await aPool(world.pools, { maxNodes: 30 });
      const all = await nodes(30);
      const lowerings: Promise<unknown>[] = [];
      const calls = all.map(({ nodeId }, place) => {
        if (place % 6 === 4) lowerings.push(setMax(poolId, 29 - place).catch(() => undefined));
        return world.pools.addNodeToPool({ poolId, nodeId });
      });
      const outcomes = await outcomesOf(calls);
      await Promise.all(lowerings);
      const { pool } = await world.pools.getPool({ poolId });
      const inside = await membersOf(poolId);
      expect(inside).toBeLessThanOrEqual(pool?.maxNodes ?? 0);
      expect(inside).toBe(outcomes.ok ?? 0);
      expect(Object.keys(outcomes).filter((name) => !["ok", "ResourceExhausted 5004"].includes(name))).toEqual([]);
    }
  });

  test("deleted while many join: either it is gone and empty, or it stands with those who got in", async () => {
    for (let round = 0; round < 5; round++) {
      const { poolId } = await aPool(world.pools, { maxNodes: 50 });
      const all = await nodes(12);
      const deletion = { done: Promise.resolve("") };
      const calls = all.map(({ nodeId }, place) => {
        if (place === round * 2) {
          deletion.done = world.pools.deletePool({ poolId }).then(
            () => "deleted",
            (error: unknown) => toRefusal(error).reason ?? "",
          );
        }
        return world.pools.addNodeToPool({ poolId, nodeId });
      });
      const outcomes = await outcomesOf(calls);
      const outcome = await deletion.done;
      const standing = await Promise.all(
        all.map(async ({ nodeId }) => (await nodeOf(world, nodeId)).poolId === poolId),
      );
      const inside = standing.filter(Boolean).length;
      if (outcome === "deleted") {
        expect(inside).toBe(0);
        await expectRefusal(world.pools.getPool({ poolId }), "NotFound 5002");
      } else {
        expect(outcome).toBe("5003");
        expect(await membersOf(poolId)).toBe(inside);
      }
      expect(inside).toBe(outcomes.ok ?? 0);
    }
  });

  test("a pool with nodes is not deleted; an empty one is, and its name is free", async () => {
    const { poolId, name } = await aPool(world.pools);
    const { nodeId } = await aNode(world.nodes, { initialPoolId: poolId });
    await expectRefusal(world.pools.deletePool({ poolId }), "FailedPrecondition 5003");
    await aNode(world.nodes, { initialPoolId: poolId });
    await world.pools.removeNodeFromPool({ poolId, nodeId });
    for (const node of (await world.pools.listPoolNodes({ poolId })).nodes) {
      await world.nodes.deleteNode({ nodeId: node.nodeId });
    }
    await world.pools.deletePool({ poolId });
    await expectRefusal(world.pools.deletePool({ poolId }), "NotFound 5002");
    await aPool(world.pools, { name });
  });

  test("a join that is refused leaves the node where it was", async () => {
    const [home, full] = [await aPool(world.pools), await aPool(world.pools, { maxNodes: 1 })];
    await aNode(world.nodes, { initialPoolId: full.poolId });
    const { nodeId } = await aNode(world.nodes, { initialPoolId: home.poolId });
    await expectRefusal(world.pools.addNodeToPool({ poolId: full.poolId, nodeId }), "ResourceExhausted 5004");
    expect((await nodeOf(world, nodeId)).poolId).toBe(home.poolId);
  });

  test("a join into a pool that goes meanwhile leaves the node where it was", async () => {
    const [home, going] = [await aPool(world.pools), await aPool(world.pools)];
    const { nodeId } = await aNode(world.nodes, { initialPoolId: home.poolId });
    let joined = false;
    let deletion: Promise<unknown> | undefined;
    world.beforeStore((operation) => {
      if (operation !== "findOneAndUpdate" || joined) return undefined;
      joined = true;
      deletion = world.pools.deletePool({ poolId: going.poolId });
      return deletion.then(() => undefined);
    });
    await expectRefusal(world.pools.addNodeToPool({ poolId: going.poolId, nodeId }), "NotFound 5002");
    world.beforeStore(undefined);
    await deletion;
    expect((await nodeOf(world, nodeId)).poolId).toBe(home.poolId);
    expect(await membersOf(home.poolId)).toBe(1);
    const reasons = (await historyOf(world, nodeId)).map(({ reason }) => reason);
    expect(reasons).toContain("back in its pool");
  });
});

describe("a refused deletion", () => {
  /** Runs the steps in order, each once, just before the store's next call of the operation that the step names. */
  const interrupt = (own: World, ...steps: (readonly [operation: string, step: () => Promise<unknown>])[]) => {
    let busy = false;
    own.beforeStore(async (operation) => {
      if (busy || steps[0]?.[0] !== operation) return;
      const step = steps.shift();
      busy = true;
      await step?.[1]().finally(() => {
        busy = false;
      });
    });
  };
  const poolOf = async (own: World, poolId: string) => (await own.pools.getPool({ poolId })).pool;

  test("changes nothing, and neither does one that somebody joins before", async () => {
    await using own = await openClockedWorld();
    const { poolId } = await aPool(own.pools);
    const { nodeId } = await aNode(own.nodes);
    const empty = await poolOf(own, poolId);
    await own.pass(0);
    interrupt(own, ["findOneAndUpdate", () => own.pools.addNodeToPool({ poolId, nodeId })]);
    await expectRefusal(own.pools.deletePool({ poolId }), "FailedPrecondition 5003");
    own.beforeStore(undefined);
    expect(await poolOf(own, poolId)).toEqual({ ...empty, nodeCount: 1 });
    await expectRefusal(own.pools.deletePool({ poolId }), "FailedPrecondition 5003");
    expect(await poolOf(own, poolId)).toEqual({ ...empty, nodeCount: 1 });
    await aNode(own.nodes, { initialPoolId: poolId });
  });

  test("turns out nobody whose priority changes meanwhile", async () => {
    await using own = await openClockedWorld();
    const { poolId } = await aPool(own.pools);
    const { nodeId } = await aNode(own.nodes);
    await own.pass(0);
    const join = async () => {
      await own.pools.addNodeToPool({ poolId, nodeId });
      await own.pass(0);
    };
    interrupt(
      own,
      ["findOneAndUpdate", join],
      ["page", () => own.pools.addNodeToPool({ poolId, nodeId, priority: 7 })],
    );
    await expectRefusal(own.pools.deletePool({ poolId }), "FailedPrecondition 5003");
    own.beforeStore(undefined);
    expect(await nodeOf(own, nodeId)).toMatchObject({ poolId, poolPriority: 7 });
  });

  test("that could not look inside leaves the pool open", async () => {
    await using own = await openClockedWorld();
    const { poolId } = await aPool(own.pools);
    const away = () => Promise.reject(new StoreUnavailableError("away"));
    await own.pass(0);
    interrupt(own, ["findOneAndUpdate", () => Promise.resolve()], ["page", away]);
    await expectRefusal(own.pools.deletePool({ poolId }), "Unavailable 5031");
    own.beforeStore(undefined);
    await aNode(own.nodes, { initialPoolId: poolId });
  });

  test("that broke off between closing and removing keeps nobody out for longer than a minute", async () => {
    await using own = await openClockedWorld();
    const { poolId } = await aPool(own.pools);
    interrupt(own, ["deleteMany", async () => own.storeAway(true)]);
    await expectRefusal(own.pools.deletePool({ poolId }), "Unavailable 5031");
    own.beforeStore(undefined);
    own.storeAway(false);
    await expectRefusal(aNode(own.nodes, { initialPoolId: poolId }), "NotFound 5002");
    await own.clock.stall(60_001);
    const { nodeId } = await aNode(own.nodes, { initialPoolId: poolId });
    expect((await nodeOf(own, nodeId)).poolId).toBe(poolId);
  });

  test("that took longer than a minute removes no pool that somebody has joined", async () => {
    await using own = await openClockedWorld();
    const { poolId } = await aPool(own.pools);
    const { nodeId } = await aNode(own.nodes);
    const late = async () => {
      await own.clock.stall(60_001);
      await own.pools.addNodeToPool({ poolId, nodeId });
    };
    interrupt(own, ["deleteMany", late]);
    await expectRefusal(own.pools.deletePool({ poolId }), "FailedPrecondition 5003");
    own.beforeStore(undefined);
    expect((await own.pools.getPool({ poolId })).pool?.nodeCount).toBe(1);
    await aNode(own.nodes, { initialPoolId: poolId });
  });
});

describe("lists", () => {
  test("of pools and of their nodes go on by token", async () => {
    await using own = await openWorld();
    const made = await inParallel(Array.from({ length: 5 }), 5, () => aPool(own.pools));
    const first = await own.pools.listPools({ limit: 3 });
    const value = first.pagination?.nextPageToken ?? "";
    const rest = await own.pools.listPools({ limit: 3, position: { case: "pageToken", value } });
    expect(new Set([...first.pools, ...rest.pools].map(({ poolId }) => poolId))).toEqual(
      new Set(made.map(({ poolId }) => poolId)),
    );
    const [one, two] = made.map(({ poolId }) => poolId);
    await inParallel(Array.from({ length: 4 }), 4, () => aNode(own.nodes, { initialPoolId: one ?? "" }));
    const page = await own.pools.listPoolNodes({ poolId: one ?? "", limit: 3 });
    const position = { case: "pageToken", value: page.pagination?.nextPageToken ?? "" } as const;
    expect((await own.pools.listPoolNodes({ poolId: one ?? "", limit: 3, position })).nodes).toHaveLength(1);
    await expectRefusal(own.pools.listPoolNodes({ poolId: two ?? "", position }), "InvalidArgument 4001");
  });
});

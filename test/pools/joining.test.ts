// Whether a node may join a pool while the pool is being deleted, and after a deletion that was cut off.
import { afterEach, beforeEach, expect, test } from "vitest";
import { createOpenForJoining } from "../../src/pools/joining.js";
import { closedMsMax } from "../../src/pools/pool.js";
import { createPoolRepository, poolsCollection } from "../../src/pools/repository.js";
import { aPool } from "../support/world/builders.js";
import { createTestClock } from "../support/world/clock.js";
import { openWorld, type World } from "../support/world/world.js";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world[Symbol.asyncDispose]());

test.each([
  ["that is open may be joined", undefined, true],
  ["that is being deleted may not", 1_000, false],
  ["whose deletion may still be under way may not", closedMsMax, false],
  ["whose deletion was cut off may, and is open again", closedMsMax + 1, true],
])("a pool %s", async (_, closedAgoMs, isOpen) => {
  const { poolId } = await aPool(world.pools, { maxNodes: 7 });
  const clock = createTestClock();
  const pools = await world.store.collection(poolsCollection);
  if (closedAgoMs !== undefined) {
    const closed_at = new Date(clock.now().getTime() - closedAgoMs);
    await pools.updateOne({ _id: poolId }, { $set: { closed_at } });
  }
  const openForJoining = createOpenForJoining(await createPoolRepository(world.store), clock);
  expect(await openForJoining(poolId)).toEqual(isOpen ? { maxNodes: 7 } : null);
  expect("closed_at" in ((await pools.findOne({ _id: poolId })) ?? {})).toBe(!isOpen);
});

test("a pool that is not there may not be joined", async () => {
  const openForJoining = createOpenForJoining(await createPoolRepository(world.store), createTestClock());
  expect(await openForJoining("pool_unknown")).toBeNull();
});

// Allocations: never more than the node has, however many callers ask at once, and one for each idempotency key.
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Node, ResourceAllocation } from "../../../gen/lucid/node/v1/node_service_pb.js";
import type { NodeDocument } from "../../../src/nodes/node.js";
import { nodesCollection } from "../../../src/nodes/repository.js";
import { resourceAllocationsCollection } from "../../../src/resources/allocations/allocator.js";
import { StoreUnavailableError } from "../../../src/storage/collection.js";
import { historyOf, nodeOf } from "../../support/fleet/look.js";
import { aHardware, aName, aNode, aPool } from "../../support/world/builders.js";
import { expectRefusal, toRefusal } from "../../support/world/refusal.js";
import { openClockedFleet, openClockedWorld, openWorld, type World } from "../../support/world/world.js";
import { timeOf } from "../samples.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

type Request = Parameters<typeof aNode>[1];

async function anActiveNode(own: World, request: Request = {}): Promise<Node> {
  const node = await aNode(own.nodes, { hardwareInfo: aHardware(), ...request });
  await own.nodes.startNode({ nodeId: node.nodeId });
  return node;
}

const standingOn = async (own: World, nodeId: string): Promise<ResourceAllocation[]> =>
  (await own.nodes.getNodeResources({ nodeId })).allocations;

async function outcomesOf(calls: readonly Promise<unknown>[]): Promise<Record<string, number>> {
  const outcomes = await Promise.allSettled(calls);
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) {
    const { code, reason } = outcome.status === "fulfilled" ? { code: "ok", reason: "" } : toRefusal(outcome.reason);
    const name = `${code} ${reason}`.trim();
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

describe("an allocation", () => {
  test("is told back, stands on its node, and stands in the node's history", async () => {
    const { nodeId } = await anActiveNode(world);
    const request = { nodeId, cpuPercent: 12.5, memoryBytes: 1_000_000_000n, diskBytes: 5n, networkMbps: 7 };
    const { allocation, replayed } = await world.nodes.allocateResources(request);
    expect(allocation).toMatchObject(request);
    expect(allocation?.allocationId).toMatch(/^alloc_[0-9a-hjkmnp-tv-z]{26}$/);
    expect([replayed, allocation?.expiresAt, allocation?.releasedAt]).toEqual([false, undefined, undefined]);
    expect(await standingOn(world, nodeId)).toEqual([allocation]);
    expect((await historyOf(world, nodeId)).at(-1)).toMatchObject({ reason: "resources allocated", actor: "admin-1" });
  });

  test("is bounded by hardware, configuration and pool: alone above one is 5009, beside others 5004 with what is left", async () => {
    const { poolId } = await aPool(world.pools, { resourceLimits: { memoryBytes: 3_000n } });
    const { nodeId } = await anActiveNode(world, {
      initialPoolId: poolId,
      configuration: { resourceLimits: { cpuPercent: 50 } },
    });
    const ask = (amounts: Partial<ResourceAllocation>) => {
      const { cpuPercent = 0, memoryBytes = 0n, diskBytes = 0n, networkMbps = 0 } = amounts;
      return world.nodes.allocateResources({ nodeId, cpuPercent, memoryBytes, diskBytes, networkMbps });
    };
    const misfits: [Partial<ResourceAllocation>, string, RegExp][] = [
      [{ cpuPercent: 50.5 }, "cpu_percent", /ceiling of 50/],
      [{ cpuPercent: 1e6 }, "cpu_percent", /ceiling of 50/],
      [{ memoryBytes: 3_001n }, "memory_bytes", /ceiling of 3000/],
      [{ diskBytes: 500_000_000_001n }, "disk_bytes", /ceiling of 500000000000/],
      [{ networkMbps: 1_001 }, "network_mbps", /ceiling of 1000/],
      [{}, "cpu_percent", /above 0/],
    ];
    for (const [amounts, field, message] of misfits) {
      const refusal = await expectRefusal(ask(amounts), "InvalidArgument 5009");
      expect(refusal.fields).toEqual([field]);
      expect(refusal.message).toMatch(message);
    }
    await ask({ cpuPercent: 40, memoryBytes: 2_000n, diskBytes: 500_000_000_000n, networkMbps: 1_000 });
    expect((await expectRefusal(ask({ cpuPercent: 11 }), "ResourceExhausted 5004")).message).toMatch(
      /10 of 50 is left/,
    );
    expect((await expectRefusal(ask({ memoryBytes: 1_001n }), "ResourceExhausted 5004")).message).toMatch(
      /1000 of 3000/,
    );
    await expectRefusal(ask({ diskBytes: 1n }), "ResourceExhausted 5004");
    await expectRefusal(ask({ networkMbps: 1 }), "ResourceExhausted 5004");
    await ask({ cpuPercent: 10, memoryBytes: 1_000n });
    // A ceiling below what is already allocated takes nothing away, and admits nothing more.
    await world.nodes.updateNode({
      node: { nodeId, configuration: { resourceLimits: { cpuPercent: 20 } } },
      updateMask: { paths: ["configuration"] },
    });
    expect(await standingOn(world, nodeId)).toHaveLength(2);
    await expectRefusal(ask({ cpuPercent: 1 }), "ResourceExhausted 5004");
  });

  test("by 200 at once never goes beyond the ceiling, and fills it", async () => {
    const { nodeId } = await anActiveNode(world);
    const calls = Array.from({ length: 200 }, () => world.nodes.allocateResources({ nodeId, cpuPercent: 3 }));
    expect(await outcomesOf(calls)).toEqual({ ok: 33, "ResourceExhausted 5004": 167 });
    const standing = await standingOn(world, nodeId);
    expect(standing.reduce((sum, { cpuPercent }) => sum + cpuPercent, 0)).toBe(99);
    await Promise.all(standing.map(({ allocationId }) => world.nodes.releaseResources({ allocationId })));
    expect(await standingOn(world, nodeId)).toEqual([]);
  });

  test("needs a node at work: 5003 for any other, also in maintenance or banned", async () => {
    const idle = await aNode(world.nodes, { hardwareInfo: aHardware() });
    const busy = await anActiveNode(world);
    const banned = await anActiveNode(world);
    await world.nodes.enterMaintenance({ nodeId: busy.nodeId });
    await world.nodes.banNode({ nodeId: banned.nodeId, reason: "test" });
    for (const { nodeId } of [idle, busy, banned]) {
      await expectRefusal(world.nodes.allocateResources({ nodeId, cpuPercent: 1 }), "FailedPrecondition 5003");
    }
    await world.nodes.exitMaintenance({ nodeId: busy.nodeId });
    await world.nodes.allocateResources({ nodeId: busy.nodeId, cpuPercent: 1 });
    await expectRefusal(world.nodes.allocateResources({ nodeId: "node_unknown", cpuPercent: 1 }), "NotFound 5001");
  });

  test("outlives a stop and maintenance of its node, and ends with the node's deletion", async () => {
    const { nodeId } = await anActiveNode(world);
    const { allocation } = await world.nodes.allocateResources({ nodeId, cpuPercent: 100 });
    const allocationId = allocation?.allocationId ?? "";
    await world.nodes.enterMaintenance({ nodeId });
    await world.nodes.stopNode({ nodeId });
    await world.nodes.startNode({ nodeId });
    await expectRefusal(world.nodes.allocateResources({ nodeId, cpuPercent: 1 }), "ResourceExhausted 5004");
    await world.nodes.stopNode({ nodeId });
    expect(await standingOn(world, nodeId)).toHaveLength(1);
    await world.nodes.deleteNode({ nodeId });
    expect((await world.nodes.releaseResources({ allocationId })).allocation).toMatchObject({ allocationId, nodeId });
  });

  test("with a shape that cannot be is refused by field", async () => {
    const { nodeId } = await anActiveNode(world);
    const wrong: [object, string][] = [
      [{ cpuPercent: Number.NaN }, "cpu_percent"],
      [{ cpuPercent: -1 }, "cpu_percent"],
      [{ cpuPercent: Number.POSITIVE_INFINITY }, "cpu_percent"],
      [{ memoryBytes: -1n }, "memory_bytes"],
      [{ memoryBytes: 2n ** 53n }, "memory_bytes"],
      [{ diskBytes: 2n ** 53n }, "disk_bytes"],
      [{ networkMbps: -1 }, "network_mbps"],
      [{ ttl: durationFromMs(999) }, "ttl"],
      [{ ttl: durationFromMs(31_536_000_001) }, "ttl"],
      [{ idempotencyKey: "ü" }, "idempotency_key"],
    ];
    for (const [tweaks, field] of wrong) {
      const call = world.nodes.allocateResources({ nodeId, cpuPercent: 1, ...tweaks });
      expect((await expectRefusal(call, "InvalidArgument 4001")).fields).toEqual([field]);
    }
    expect(await standingOn(world, nodeId)).toEqual([]);
  });
});

describe("an idempotency key", () => {
  test("makes one allocation however often it comes; another meaning is 5007", async () => {
    const { nodeId } = await anActiveNode(world);
    const request = { nodeId, cpuPercent: 10, idempotencyKey: aName("key") };
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.nodes.allocateResources(request)));
    expect(new Set(answers.map(({ allocation }) => allocation?.allocationId)).size).toBe(1);
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(await standingOn(world, nodeId)).toHaveLength(1);
    await expectRefusal(world.nodes.allocateResources({ ...request, cpuPercent: 11 }), "AlreadyExists 5007");
    const other = await anActiveNode(world);
    await expectRefusal(world.nodes.allocateResources({ ...request, nodeId: other.nodeId }), "AlreadyExists 5007");
    expect(await standingOn(world, other.nodeId)).toEqual([]);
  });

  test("tells of an allocation as it stands now, and makes no second one when it is released", async () => {
    const { nodeId } = await anActiveNode(world);
    const request = { nodeId, cpuPercent: 10, idempotencyKey: aName("key") };
    const { allocation } = await world.nodes.allocateResources(request);
    await world.nodes.releaseResources({ allocationId: allocation?.allocationId ?? "" });
    const again = await world.nodes.allocateResources(request);
    expect(again).toMatchObject({ replayed: true, allocation: { allocationId: allocation?.allocationId } });
    expect(again.allocation?.releasedAt).toBeDefined();
    expect(await standingOn(world, nodeId)).toEqual([]);
  });

  test("of a request that was refused serves the same request when there is room", async () => {
    const { nodeId } = await anActiveNode(world);
    const { allocation } = await world.nodes.allocateResources({ nodeId, cpuPercent: 100 });
    const request = { nodeId, cpuPercent: 10, idempotencyKey: aName("key") };
    await expectRefusal(world.nodes.allocateResources(request), "ResourceExhausted 5004");
    await world.nodes.releaseResources({ allocationId: allocation?.allocationId ?? "" });
    expect((await world.nodes.allocateResources(request)).replayed).toBe(false);
    expect((await world.nodes.allocateResources(request)).replayed).toBe(true);
    expect(await standingOn(world, nodeId)).toHaveLength(1);
  });

  // An allocation calls the store for pointer, node and confirmation. The process may die after each of these calls.
  test.each([0, 1, 2])(
    "finishes what an attempt left behind that died after %i writes, without doubling it",
    async (writes) => {
      await using own = await openWorld();
      const { nodeId } = await anActiveNode(own);
      const request = { nodeId, cpuPercent: 60, idempotencyKey: "key-1" };
      let left = writes;
      const isWrite = (operation: string) => ["insertOne", "findOneAndUpdate", "updateOne"].includes(operation);
      let dead = false;
      own.beforeStore(async (operation) => {
        if (dead || (isWrite(operation) && left-- === 0)) {
          dead = true;
          throw new StoreUnavailableError("died");
        }
      });
      await expectRefusal(own.nodes.allocateResources(request), "Unavailable 5031");
      expect(dead).toBe(true);
      own.beforeStore(undefined);
      await own.restart("crash");
      const { allocation } = await own.nodes.allocateResources(request);
      expect((await own.nodes.allocateResources(request)).allocation).toEqual(allocation);
      expect(await standingOn(own, nodeId)).toEqual([allocation]);
      await own.nodes.releaseResources({ allocationId: allocation?.allocationId ?? "" });
      expect(await standingOn(own, nodeId)).toEqual([]);
    },
  );
});

test("a key whose allocation was never made and would be over by now makes one that lasts", async () => {
  await using own = await openClockedWorld();
  const { nodeId } = await anActiveNode(own);
  const request = { nodeId, cpuPercent: 60, ttl: { seconds: 5n, nanos: 0 }, idempotencyKey: "key-1" };
  own.beforeStore(async (operation) => {
    if (operation === "findOneAndUpdate") throw new StoreUnavailableError("away");
  });
  await expectRefusal(own.nodes.allocateResources(request), "Unavailable 5031");
  own.beforeStore(undefined);
  await own.pass(6_000);
  const { allocation, replayed } = await own.nodes.allocateResources(request);
  expect(replayed).toBe(false);
  expect(timeOf(allocation?.expiresAt)).toBeGreaterThan(own.clock.now().getTime());
  expect(await standingOn(own, nodeId)).toEqual([allocation]);
});

describe("a release", () => {
  test("is a success however often it comes; of what never was it is 5001", async () => {
    const { nodeId } = await anActiveNode(world);
    const { allocation } = await world.nodes.allocateResources({ nodeId, cpuPercent: 100 });
    const allocationId = allocation?.allocationId ?? "";
    const answers = await Promise.all([1, 2, 3, 4].map(() => world.nodes.releaseResources({ allocationId })));
    expect(new Set(answers.map(({ allocation: one }) => timeOf(one?.releasedAt))).size).toBe(1);
    await world.nodes.allocateResources({ nodeId, cpuPercent: 100 });
    await world.nodes.releaseResources({ allocationId });
    expect(await standingOn(world, nodeId)).toHaveLength(1);
    const unknown = world.nodes.releaseResources({ allocationId: "alloc_unknown" });
    expect((await expectRefusal(unknown, "NotFound 5001")).message).toBe("Allocation alloc_unknown not found");
    await expectRefusal(world.nodes.releaseResources({ allocationId: "node_unknown" }), "InvalidArgument 4001");
  });

  test("that was refused, with an allocation that was, leaves no trace of it", async () => {
    const { nodeId } = await anActiveNode(world);
    const before = (await nodeOf(world, nodeId)).version;
    await expectRefusal(world.nodes.allocateResources({ nodeId, memoryBytes: 2n ** 50n }), "InvalidArgument 5009");
    expect((await nodeOf(world, nodeId)).version).toBe(before);
    expect(await standingOn(world, nodeId)).toEqual([]);
  });
});

describe("time", () => {
  test("ends an allocation at its ttl; what it held is free, and its release is a success for a day", async () => {
    await using own = await openClockedWorld();
    const { nodeId } = await anActiveNode(own);
    const ttl = durationFromMs(5_000);
    const { allocation } = await own.nodes.allocateResources({ nodeId, cpuPercent: 100, ttl });
    const allocationId = allocation?.allocationId ?? "";
    expect(timeOf(allocation?.expiresAt) - timeOf(allocation?.createdAt)).toBe(5_000);
    await own.pass(4_000);
    await expectRefusal(own.nodes.allocateResources({ nodeId, cpuPercent: 1 }), "ResourceExhausted 5004");
    await own.pass(1_000);
    expect(await standingOn(own, nodeId)).toEqual([]);
    await own.nodes.allocateResources({ nodeId, cpuPercent: 100 });
    expect((await own.nodes.releaseResources({ allocationId })).allocation?.releasedAt).toBeUndefined();
    expect(await standingOn(own, nodeId)).toHaveLength(1);
    await own.clock.stall(86_400_000);
    await expectRefusal(own.nodes.releaseResources({ allocationId }), "NotFound 5001");
  });
});

describe("the deletion of a node", () => {
  test("ends its allocations: their release is a success for a day, and then they are forgotten", async () => {
    await using own = await openClockedWorld();
    const { nodeId } = await anActiveNode(own);
    const { allocation } = await own.nodes.allocateResources({ nodeId, cpuPercent: 100 });
    const allocationId = allocation?.allocationId ?? "";
    await own.nodes.stopNode({ nodeId });
    await own.nodes.deleteNode({ nodeId });
    const deletedAt = own.clock.now();
    await own.pass(6_000);
    const [{ allocation: released }, again] = [
      await own.nodes.releaseResources({ allocationId }),
      await own.nodes.releaseResources({ allocationId }),
    ];
    expect(again.allocation).toEqual(released);
    // The deletion of the node released it, not the later call.
    expect(timeOf(released?.releasedAt)).toBeGreaterThanOrEqual(deletedAt.getTime());
    expect(timeOf(released?.releasedAt)).toBeLessThan(own.clock.now().getTime());
    await own.clock.stall(86_400_000);
    await expectRefusal(own.nodes.releaseResources({ allocationId }), "NotFound 5001");
  });
});

describe("two replicas", () => {
  test("asked with one key at once: what the faster one made and its maker released is not made again by the slower one", async () => {
    await using fleet = await openClockedFleet(2);
    const [fast, slow] = fleet.replicas as [World, World];
    const { nodeId } = await anActiveNode(fast);
    const request = { nodeId, cpuPercent: 10, idempotencyKey: "key-1" };
    let overtaken = false;
    // The slow replica has written its pointer and is about to write into the node.
    slow.beforeStore(async (operation) => {
      if (operation !== "findOneAndUpdate" || overtaken) return;
      overtaken = true;
      const { allocation } = await fast.nodes.allocateResources(request);
      await fast.nodes.releaseResources({ allocationId: allocation?.allocationId ?? "" });
    });
    const answer = await slow.nodes.allocateResources(request);
    expect(overtaken).toBe(true);
    expect(answer.allocation?.releasedAt).toBeDefined();
    expect(await standingOn(fast, nodeId)).toEqual([]);
  });

  test("asked with one key: what the slower one writes into the node while its twin is being released does not stay", async () => {
    await using fleet = await openClockedFleet(2);
    const [fast, slow] = fleet.replicas as [World, World];
    const { nodeId } = await anActiveNode(fast);
    const request = { nodeId, cpuPercent: 10, idempotencyKey: "key-1" };
    const { allocation } = await fast.nodes.allocateResources(request);
    const allocationId = allocation?.allocationId ?? "";
    const nodes = await fast.store.collection<NodeDocument>(nodesCollection);
    const before = await nodes.findOne({ _id: nodeId });
    const pointers = await fast.store.collection<{ _id: string; released_at?: Date }>(resourceAllocationsCollection);
    // For each write of the release that finds the allocation on its node: whether the pointer is marked as released.
    const markedWhenTaken: boolean[] = [];
    slow.beforeStore(async (operation) => {
      if (operation !== "findOneAndUpdate") return;
      const [node, pointer] = [await nodes.findOne({ _id: nodeId }), await pointers.findOne({ _id: allocationId })];
      if (node?.allocations?.length === 1) markedWhenTaken.push(pointer?.released_at !== undefined);
    });
    await slow.nodes.releaseResources({ allocationId });
    // The release marks the pointer first, and only then takes the allocation off its node.
    expect(markedWhenTaken).toEqual([false, true]);
    await nodes.updateOne({ _id: nodeId }, { $set: { allocations: before?.allocations ?? [] } });
    expect((await slow.nodes.allocateResources(request)).allocation?.releasedAt).toBeDefined();
    expect(await standingOn(fast, nodeId)).toEqual([]);
  });

  test("together never go beyond the ceiling", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = fleet.replicas as [World, World];
    const { nodeId } = await anActiveNode(one);
    const ask = (own: World) => own.nodes.allocateResources({ nodeId, cpuPercent: 9 });
    const outcomes = await outcomesOf(Array.from({ length: 60 }, (_, place) => ask(place % 2 === 0 ? one : two)));
    expect(outcomes).toEqual({ ok: 11, "ResourceExhausted 5004": 49 });
    expect(await standingOn(two, nodeId)).toHaveLength(11);
  });
});

describe("an allocation that a late replica writes into its node after it was released", () => {
  /** A released allocation of 60 % that is on its node again. */
  async function revenant(key: string) {
    const { nodeId } = await anActiveNode(world);
    const request = { nodeId, cpuPercent: 60, idempotencyKey: key };
    const { allocation } = await world.nodes.allocateResources(request);
    const allocationId = allocation?.allocationId ?? "";
    const nodes = await world.store.collection<NodeDocument>(nodesCollection);
    const before = await nodes.findOne({ _id: nodeId });
    await world.nodes.releaseResources({ allocationId });
    await nodes.updateOne({ _id: nodeId }, { $set: { allocations: before?.allocations } });
    expect(await standingOn(world, nodeId)).toHaveLength(1);
    return { nodeId, allocationId, request };
  }

  test("is taken away by releasing it again", async () => {
    const { nodeId, allocationId } = await revenant(aName("key"));
    await world.nodes.releaseResources({ allocationId });
    expect(await standingOn(world, nodeId)).toEqual([]);
  });

  test("is taken away by asking for it again under its key, which says that it was released", async () => {
    const { nodeId, request } = await revenant(aName("key"));
    const { allocation, replayed } = await world.nodes.allocateResources(request);
    expect(replayed).toBe(true);
    expect(allocation?.releasedAt).toBeDefined();
    expect(await standingOn(world, nodeId)).toEqual([]);
  });

  test.each(["its pointer says so", "its pointer is gone"])(
    "makes room for others when the node is full: %s",
    async (how) => {
      const { nodeId, allocationId } = await revenant(aName("key"));
      const pointers = await world.store.collection<{ _id: string }>(resourceAllocationsCollection);
      if (how === "its pointer is gone") await pointers.deleteMany({ _id: allocationId }, { limit: 1 });
      const { allocation } = await world.nodes.allocateResources({ nodeId, cpuPercent: 50 });
      expect(await standingOn(world, nodeId)).toEqual([allocation]);
      // The allocation of 50 % keeps its share.
      await expectRefusal(world.nodes.allocateResources({ nodeId, cpuPercent: 60 }), "ResourceExhausted 5004");
    },
  );
});

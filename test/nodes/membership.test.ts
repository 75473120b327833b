// Slots: a pool never holds more nodes than it may, in whatever order joins, leaves and changes of max_nodes come.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { claimableSlots, createMembership } from "../../src/nodes/membership.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { createNodeRepository } from "../../src/nodes/repository.js";
import { aNode } from "../support/world/builders.js";
import { openWorld } from "../support/world/world.js";

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const taken = fc.uniqueArray(fc.integer({ min: 1, max: 40 })).map((slots) => new Set(slots));
const max = fc.integer({ min: 1, max: 40 });

describe(`claimable slots (seed ${seed})`, () => {
  test("are free, within max_nodes, in order, and never more than there is room for", () => {
    fc.assert(
      fc.property(taken, max, (slots, maxNodes) => {
        const found = claimableSlots(slots, maxNodes);
        expect(found.every((slot) => slot >= 1 && slot <= maxNodes && !slots.has(slot))).toBe(true);
        expect(found).toEqual([...found].sort((a, b) => a - b));
        expect(found.length + slots.size).toBeLessThanOrEqual(Math.max(maxNodes, slots.size));
      }),
      { seed },
    );
  });

  test("fill a pool exactly", () => {
    fc.assert(
      fc.property(taken, max, (slots, maxNodes) => {
        const filled = new Set(slots);
        for (let found = claimableSlots(filled, maxNodes); found.length > 0; found = claimableSlots(filled, maxNodes)) {
          filled.add(found[0] ?? 0);
        }
        expect(filled.size).toBe(Math.max(maxNodes, slots.size));
      }),
      { seed },
    );
  });

  test("claimed by many who all saw the same pool never overfill it: the unique slot is the referee", () => {
    const picks = fc.array(fc.double({ min: 0, max: 0.999999, noNaN: true }), { maxLength: 60 });
    fc.assert(
      fc.property(taken, max, picks, (slots, maxNodes, claimants) => {
        const filled = new Set(slots);
        const seen = claimableSlots(slots, maxNodes);
        for (const pick of claimants) {
          const slot = seen[Math.floor(pick * seen.length)];
          if (slot !== undefined) filled.add(slot);
        }
        expect(filled.size).toBeLessThanOrEqual(Math.max(maxNodes, slots.size));
      }),
      { seed },
    );
  });
});

test("a node that is turned back is told of as it stands then", async () => {
  await using world = await openWorld();
  const { nodeId } = await aNode(world.nodes);
  const told: NodeDocument[] = [];
  const pools = [{ maxNodes: 1 }, null];
  const repository = await createNodeRepository(world.store);
  repository.changes.listen((node) => void told.push(node));
  const membership = createMembership({
    repository,
    openForJoining: async () => pools.shift() ?? null,
    now: world.clock.now,
    random: () => 0,
  });
  await expect(membership.join(nodeId, "pool_going", undefined, "test")).rejects.toThrow("pool_going not found");
  expect(told).toMatchObject([
    { _id: nodeId, version: 2, pool_id: "pool_going" },
    { _id: nodeId, version: 3, name_scope: "-" },
  ]);
  expect(told[1]?.pool_id).toBeUndefined();
});

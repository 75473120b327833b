// Times that callers send, at the edges of what Timestamp allows.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { onProductionEngines } from "../support/engines/engines.js";
import { aNode } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { openWorld, type World } from "../support/world/world.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

describe("a time that Timestamp does not allow", () => {
  test.each([
    [{ seconds: 10n ** 15n }],
    [{ seconds: -(10n ** 15n) }],
    [{ seconds: 253_402_300_800n }],
    [{ seconds: -62_135_596_801n }],
    [{ seconds: 5_000_000_000n, nanos: -1 }],
    [{ seconds: 5_000_000_000n, nanos: 1_000_000_000 }],
  ])("is refused with its field named: %o", async (time) => {
    const { nodeId } = await aNode(world.nodes);
    const deadline = await expectRefusal(
      world.nodes.enterMaintenance({ nodeId, deadline: time }),
      "InvalidArgument 4001",
    );
    expect(deadline.fields).toEqual(["deadline"]);
    const since = await expectRefusal(world.nodes.listNodeEvents({ nodeId, since: time }), "InvalidArgument 4001");
    expect(since.fields).toEqual(["since"]);
  });

  test("the first and the last that it allows are taken", async () => {
    const { nodeId } = await aNode(world.nodes);
    const first = { seconds: -62_135_596_800n };
    expect((await world.nodes.listNodeEvents({ nodeId, since: first })).events).toHaveLength(1);
    // The stand-in for MongoDB does not support the last second (docs/decisions/0004).
    if (onProductionEngines) return;
    const last = { seconds: 253_402_300_799n, nanos: 999_999_999 };
    expect((await world.nodes.listNodeEvents({ nodeId, since: last })).events).toHaveLength(0);
  });
});

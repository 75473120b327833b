// T19: our wall clock steps by hours while nodes are connected: no node is given up, and tokens are judged sanely.
import { describe, expect, test } from "vitest";
import { Role } from "../../../gen/lucid/node/v1/admin_service_pb.js";
import { connectNode } from "../../support/clients/node-stream.js";
import { connectionsOf, connectivityOf } from "../../support/fleet/look.js";
import { aNode } from "../../support/world/builders.js";
import { expectRefusal } from "../../support/world/refusal.js";
import { type ClockedWorld, openClockedFleet, openClockedWorld, type World } from "../../support/world/world.js";

const hourMs = 3_600_000;
const steps = [-2 * hourMs, 2 * hourMs];

/** A node without a stream. It reports as often as the service asks, and its token outlives every step of the clock. */
async function aUnaryNode(world: World) {
  const { nodeId } = await aNode(world.nodes);
  const expiresAt = new Date(world.clock.now().getTime() + 1_000 * hourMs);
  const token = await world.nodeToken(nodeId, "worker", { expiresAt });
  let [sequence, sessionEpoch] = [0n, undefined as bigint | undefined];
  return {
    nodeId,
    report: async (by = world) => {
      sequence++;
      const named = sessionEpoch === undefined ? {} : { sessionEpoch };
      const answer = await by
        .as(token)
        .nodes.reportHeartbeat({ nodeId, bootId: "unary", beat: { sequence }, ...named });
      ({ sessionEpoch } = answer);
    },
  };
}

async function passBeating(world: Pick<ClockedWorld, "pass">, beats: readonly (() => Promise<unknown>)[], ms: number) {
  for (let gone = 0; gone < ms; gone += 20_000) {
    for (const beat of beats) await beat();
    await world.pass(20_000, 2_000);
  }
}

describe.each(steps)("a wall clock that steps by %i ms", (step) => {
  test("makes nobody DISCONNECTED who beats, with a stream or without, and silence is noticed as ever", async () => {
    await using world = await openClockedWorld();
    const held = await aNode(world.nodes);
    const stream = await connectNode(world, held.nodeId);
    const unary = await aUnaryNode(world);
    const beats = [() => stream.beat(), () => unary.report()];
    await passBeating(world, beats, 60_000);
    world.clock.stepWall(step);
    await passBeating(world, beats, 200_000);
    expect(stream.end).toBeUndefined();
    for (const { nodeId } of [held, unary]) {
      expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
    }
    await world.pass(80_000, 2_000);
    for (const { nodeId } of [held, unary]) expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
  });

  test("between a unary beat and its judgement neither hides silence nor makes any", async () => {
    await using world = await openClockedWorld();
    const [silent, beating] = [await aUnaryNode(world), await aUnaryNode(world)];
    await passBeating(world, [() => silent.report(), () => beating.report()], 40_000);
    await passBeating(world, [() => beating.report()], 20_000);
    world.clock.stepWall(step);
    await passBeating(world, [() => beating.report()], 80_000);
    expect(await connectivityOf(world, silent.nodeId)).toBe("DISCONNECTED");
    expect(await connectionsOf(world, beating.nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("on two replicas costs no node its connection", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = fleet.replicas as [World, World];
    const streams = [];
    for (const world of [one, two]) streams.push(await connectNode(world, (await aNode(world.nodes)).nodeId));
    const unary = await aUnaryNode(one);
    let turn = 0;
    const beats = [...streams.map((stream) => () => stream.beat()), () => unary.report(turn++ % 2 === 0 ? one : two)];
    await passBeating(fleet, beats, 40_000);
    fleet.clock.stepWall(step);
    await passBeating(fleet, beats, 120_000);
    for (const stream of streams) expect(stream.end).toBeUndefined();
    expect(await connectionsOf(two, unary.nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("leaves tokens what they are: by the clock as it is now, revoked for good, refreshed once", async () => {
    await using world = await openClockedWorld();
    const issue = () => world.admin.issueToken({ subject: "ops", role: Role.OPERATOR });
    const [old, renewed] = [await issue(), await issue()];
    const token = await world.token("operator", {
      jti: "leaked",
      expiresAt: new Date(world.clock.now().getTime() + 1_000 * hourMs),
    });
    await world.admin.revokeToken({ jti: "leaked" });
    await world.as(old.accessToken).nodes.listNodes({});
    world.clock.stepWall(step);
    await world.pass(2_000);
    const listed = world.as(old.accessToken).nodes.listNodes({});
    if (step > 0) await expectRefusal(listed, "Unauthenticated 4011");
    else await listed;
    await expectRefusal(world.as(token).nodes.listNodes({}), "Unauthenticated 4011");
    const next = await world.as(undefined).admin.refreshToken({ refreshToken: renewed.refreshToken });
    await world.as(next.accessToken).nodes.listNodes({});
    await world.as((await issue()).accessToken).nodes.listNodes({});
    await world.admin.revokeToken({ jti: "another" });
    await expectRefusal(
      world.as(await world.token("operator", { jti: "another" })).nodes.listNodes({}),
      "Unauthenticated 4011",
    );
  });
});

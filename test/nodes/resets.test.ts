// A reset of an enrolment shuts the old holder of the node out on every replica, and does not disturb the new holder.
import { describe, expect, test } from "vitest";
import { Role, TokenType } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { createNodeRepository } from "../../src/nodes/repository.js";
import { anIdentity, enroll, enrollmentToken } from "../support/clients/enroll.js";
import { connectNode, openNodeStream } from "../support/clients/node-stream.js";
import { connectivityOf } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { expectRefusal, toRefusal } from "../support/world/refusal.js";
import { until, within } from "../support/world/until.js";
import { type ClockedFleet, openClockedFleet, type World } from "../support/world/world.js";

const out = "Unauthenticated 4011";
const hourMs = 3_600_000;

function pairOf({ replicas }: ClockedFleet): [World, World] {
  const [one, two] = replicas;
  if (one === undefined || two === undefined) throw new Error("a fleet of two was asked for");
  return [one, two];
}

const beat = (world: World, token: string, nodeId: string) =>
  world.as(token).nodes.reportHeartbeat({ nodeId, bootId: "any", beat: { sequence: 1n } });

/** A node with a holder, and one token of every kind that a holder may have. */
async function heldNode(world: World) {
  const { nodeId } = await aNode(world.nodes);
  const invitation = await enrollmentToken(world, nodeId);
  const enrolled = await enroll(world.as(invitation), anIdentity(nodeId));
  const issued = await world.admin.issueToken({ role: Role.WORKER, nodeId });
  const spare = await world.admin.issueToken({ subject: "ops", tokenType: TokenType.NODE_ENROLLMENT, nodeId });
  const access = {
    enrolled: enrolled.accessToken,
    issued: issued.accessToken,
    /** A token that another service made, so it names no enrolment. */
    foreign: await world.nodeToken(nodeId),
  };
  return { nodeId, access, refresh: [enrolled.refreshToken, issued.refreshToken], spare: spare.accessToken };
}

describe("after a reset the tokens of before", () => {
  test.each([0, -hourMs, hourMs])("serve no more, whatever the clocks say (stepped by %i ms)", async (step) => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId, access, refresh, spare } = await heldNode(one);
    await fleet.pass(2_000);
    for (const token of Object.values(access)) await two.as(token).nodes.getNode({ nodeId });
    fleet.clock.stepWall(step / 100);
    await one.nodes.resetEnrollment({ nodeId });
    // A token that names no enrolment is judged by its time: after the clock went back it seems newer than the reset.
    const foreign = step < 0 ? [] : [access.foreign];
    for (const token of [access.enrolled, access.issued, ...foreign]) {
      await expectRefusal(beat(one, token, nodeId), out);
      await expectRefusal(connectNode(one, nodeId, { token }), out);
    }
    // The other replica has not heard of the reset yet. It lets a node open three sessions in 8 s.
    await expectRefusal(beat(two, access.enrolled, nodeId), out);
    await expectRefusal(connectNode(two, nodeId, { token: access.issued }), out);
    for (const token of foreign) await expectRefusal(connectNode(two, nodeId, { token }), out);
    for (const world of [one, two]) {
      for (const refreshToken of refresh) {
        await expectRefusal(world.as(undefined).admin.refreshToken({ refreshToken }), out);
      }
      await expectRefusal(enroll(world.as(spare), anIdentity(nodeId)), out);
    }
    for (const token of [access.enrolled, access.issued]) {
      await expectRefusal(one.as(token).nodes.getNode({ nodeId }), out);
    }
    await fleet.pass(2_000);
    for (const token of [access.enrolled, access.issued]) {
      await expectRefusal(two.as(token).nodes.getNode({ nodeId }), out);
    }
    await one.restart("crash");
    await expectRefusal(one.as(access.issued).nodes.getNode({ nodeId }), out);
  });

  test("do not disturb the new holder, who comes in the very second", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId, access } = await heldNode(one);
    await one.nodes.resetEnrollment({ nodeId });
    const invitation = await enrollmentToken(two, nodeId);
    const { accessToken, refreshToken } = await enroll(two.as(invitation), anIdentity(nodeId));
    const holder = await connectNode(two, nodeId, { token: accessToken, bootId: "new" });
    for (const token of Object.values(access)) {
      await expectRefusal(connectNode(one, nodeId, { token, bootId: "old" }), out);
      await expectRefusal(beat(one, token, nodeId), out);
    }
    await expectRefusal(connectNode(two, nodeId, { token: access.enrolled, bootId: "old" }), out);
    await expectRefusal(beat(two, access.foreign, nodeId), out);
    await fleet.pass(3_000);
    await holder.beat();
    expect(holder.end).toBeUndefined();
    await one.as(undefined).admin.refreshToken({ refreshToken });
  });

  test("are refused on a replica whose clock was ahead when it took them, and those of after are not", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    fleet.clock.stepWall(hourMs / 100);
    const { nodeId, access } = await heldNode(two);
    fleet.clock.stepWall(-hourMs / 100);
    await one.nodes.resetEnrollment({ nodeId });
    await expectRefusal(connectNode(two, nodeId, { token: access.enrolled }), out);
    fleet.clock.stepWall(-hourMs / 100);
    const { accessToken } = await enroll(one.as(await enrollmentToken(one, nodeId)), anIdentity(nodeId));
    await connectNode(two, nodeId, { token: accessToken });
  });
});

test("a reset on one replica is known on the other by the log, before that looks for resets itself", async () => {
  await using fleet = await openClockedFleet(2);
  const [one, two] = pairOf(fleet);
  const { nodeId, access } = await heldNode(one);
  const { nodes } = two.as(access.enrolled);
  await nodes.getNode({ nodeId });
  await one.nodes.resetEnrollment({ nodeId });
  const refused = () =>
    nodes.getNode({ nodeId }).then(
      () => false,
      () => true,
    );
  await until(refused, "the token is refused although no time has passed");
  await expectRefusal(nodes.getNode({ nodeId }), out);
});

describe("a reset ends", () => {
  test("the stream on whichever replica, although its clock says that it was opened later", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId, access } = await heldNode(one);
    const stream = await connectNode(two, nodeId, { token: access.enrolled });
    await stream.beat();
    fleet.clock.stepWall(-hourMs);
    await one.nodes.resetEnrollment({ nodeId });
    await fleet.pass(2_000);
    expect(toRefusal(await stream.ended())).toMatchObject({ code: "Unauthenticated", reason: "4011" });
    expect(await connectivityOf(one, nodeId)).toBe("DISCONNECTED");
  });

  test("a session that is being opened, whose epoch was read before", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId, access } = await heldNode(one);
    const [reached, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    two.beforeStore((operation) => {
      if (operation !== "findOneAndUpdate") return undefined;
      reached.resolve();
      return released.promise;
    });
    const stream = openNodeStream(two.as(access.enrolled).nodes, { nodeId });
    const said = stream.hello().catch(toRefusal);
    await within(reached.promise, "its epoch is about to be written");
    await one.nodes.resetEnrollment({ nodeId });
    released.resolve();
    two.beforeStore(undefined);
    expect(await said).toMatchObject({ code: "Unauthenticated", reason: "4011" });
    expect(await connectivityOf(one, nodeId)).toBe("NEVER_CONNECTED");
  });

  test("what its session still says: a late beat does not connect the node", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId, access } = await heldNode(one);
    const stream = await connectNode(two, nodeId, { token: access.enrolled });
    await stream.beat();
    await fleet.pass(2_000);
    await one.nodes.resetEnrollment({ nodeId });
    // The other replica has not heard of the reset yet.
    stream.send({ message: { case: "beat", value: { sequence: 2n } } });
    await fleet.pass(3_000);
    expect(await connectivityOf(one, nodeId)).toBe("DISCONNECTED");
  });
});

describe("a reset by the version before, which counts no enrolments and leaves the session's epoch,", () => {
  /** Resets the enrolment with the write of the version before. */
  async function resetByFormer(world: World, nodeId: string): Promise<void> {
    const repository = await createNodeRepository(world.store);
    await repository.change(nodeId, world.clock.now, ({ connectivity }) => ({
      set: {
        enrollment_reset_at: world.clock.now(),
        ...(connectivity === "connected" ? { connectivity: "disconnected" } : {}),
      },
      unset: ["public_key", "key_fingerprint", "silent_since"],
      event: { type: "updated", reason: "enrolment reset", actor: "ops" },
    }));
  }

  test.each(["first", "after one of this version"])("shuts out every token from before (%s)", async (which) => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId, access, refresh, spare } = await heldNode(one);
    const tokens = { access: [access.enrolled, access.issued], refresh, spare };
    if (which !== "first") {
      await one.nodes.resetEnrollment({ nodeId });
      const enrolled = await enroll(one.as(await enrollmentToken(one, nodeId)), anIdentity(nodeId));
      tokens.access = [enrolled.accessToken];
      tokens.refresh = [enrolled.refreshToken];
      tokens.spare = await enrollmentToken(one, nodeId);
    }
    await fleet.pass(2_000);
    await resetByFormer(two, nodeId);
    // The replicas have not heard of the reset yet.
    const [streaming, reporting] = [tokens.access.at(0) ?? "", tokens.access.at(-1) ?? ""];
    await expectRefusal(connectNode(one, nodeId, { token: streaming }), out);
    await expectRefusal(beat(two, reporting, nodeId), out);
    for (const refreshToken of tokens.refresh) {
      await expectRefusal(one.as(undefined).admin.refreshToken({ refreshToken }), out);
    }
    await expectRefusal(enroll(two.as(tokens.spare), anIdentity(nodeId)), out);
    await fleet.pass(10_000);
    for (const world of [one, two]) {
      for (const token of tokens.access) {
        await expectRefusal(world.as(token).nodes.getNode({ nodeId }), out);
      }
    }
    const holder = await enroll(one.as(await enrollmentToken(one, nodeId)), anIdentity(nodeId));
    const stream = await connectNode(two, nodeId, { token: holder.accessToken, bootId: "new" });
    await fleet.pass(3_000);
    await stream.beat();
    expect(stream.end).toBeUndefined();
    // A reset by this version continues the count of enrolments.
    await one.nodes.resetEnrollment({ nodeId });
    await expectRefusal(beat(two, holder.accessToken, nodeId), out);
    await connectNode(two, nodeId, {
      token: (await enroll(one.as(await enrollmentToken(one, nodeId)), anIdentity(nodeId))).accessToken,
    });
  });

  test.each([0, -hourMs])("ends the stream that is open, whatever the clocks say (stepped by %i ms)", async (step) => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId, access } = await heldNode(one);
    const stream = await connectNode(two, nodeId, { token: access.enrolled });
    await stream.beat();
    await fleet.pass(2_000);
    fleet.clock.stepWall(step);
    await resetByFormer(one, nodeId);
    // The replica has not heard of the reset yet: this beat must not connect the node again.
    stream.send({ message: { case: "beat", value: { sequence: 2n } } });
    await fleet.pass(3_000);
    expect(toRefusal(await stream.ended())).toMatchObject({ code: "Unauthenticated", reason: "4011" });
    expect(await connectivityOf(one, nodeId)).toBe("DISCONNECTED");
  });
});

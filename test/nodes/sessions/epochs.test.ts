// Hellos whose reads and writes come late: a stream that has died meanwhile must not shut out a living one.
import { describe, expect, test } from "vitest";
import { Role } from "../../../gen/lucid/node/v1/admin_service_pb.js";
import { connectNode, openNodeStream } from "../../support/clients/node-stream.js";
import { connectionsOf, connectivityOf } from "../../support/fleet/look.js";
import { aNode } from "../../support/world/builders.js";
import { expectRefusal, toRefusal } from "../../support/world/refusal.js";
import { until, within } from "../../support/world/until.js";
import { type ClockedFleet, openClockedFleet, type World } from "../../support/world/world.js";

/** Holds back the next operation of this name in the store until `release` is called. The others go on. */
function holdNext(world: World, operation: string) {
  const [reached, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let held = false;
  world.beforeStore((name) => {
    if (name !== operation || held) return undefined;
    held = true;
    reached.resolve();
    return released.promise;
  });
  return { reached: within(reached.promise, `${operation} is asked for`), release: released.resolve };
}

const streamOf = async (world: World, nodeId: string, bootId: string) =>
  openNodeStream(world.as(await world.nodeToken(nodeId)).nodes, { nodeId, bootId });

/** The replica at this place; after the last one the count starts again at the first. */
const at = ({ replicas }: ClockedFleet, place: number): World => replicas[place % replicas.length] as World;

const untilStreamsGone = (fleet: ClockedFleet, world: World) =>
  until(async () => {
    await fleet.pass(1_000);
    return (await world.count("lucid_node_management_heartbeat_streams")) === 0;
  }, "its stream is gone");

describe("the Hello of a process that died", () => {
  test.each([
    ["written late", "findOneAndUpdate", 2],
    ["written late by the replica that the living agent is on", "findOneAndUpdate", 1],
    ["judged late", "findOne", 2],
  ])("%s does not supersede the agent that lives", async (_, operation, count) => {
    await using fleet = await openClockedFleet(count);
    const [first, second] = [at(fleet, 0), at(fleet, 1)];
    const { nodeId } = await aNode(first.nodes);
    const dead = await streamOf(first, nodeId, "dead");
    const held = holdNext(first, operation);
    const said = dead.hello().catch(toRefusal);
    await held.reached;
    dead.cancel();
    await said;
    const living = await connectNode(second, nodeId, { bootId: "living" });
    if (count > 1) await untilStreamsGone(fleet, first);
    held.release();
    await fleet.pass(3_000);
    await living.beat();
    await fleet.pass(3_000);
    expect(living.end).toBeUndefined();
    const again = await connectNode(second, nodeId, { bootId: "living" });
    expect(again.welcome.sessionEpoch).toBe(living.welcome.sessionEpoch + 1n);
    expect(await connectionsOf(second, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("written while the living agent says its own does not shut that one out: it is asked to come again", async () => {
    await using fleet = await openClockedFleet(2);
    const [first, second] = [at(fleet, 0), at(fleet, 1)];
    const { nodeId } = await aNode(first.nodes);
    const living = await streamOf(second, nodeId, "living");
    const held = holdNext(second, "findOneAndUpdate");
    const said = living.hello().catch(toRefusal);
    await held.reached;
    const dead = await connectNode(first, nodeId, { bootId: "dead" });
    dead.cancel();
    held.release();
    expect(await said).toMatchObject({ code: "Unavailable", reason: "5031" });
    const again = await connectNode(second, nodeId, { bootId: "living" });
    await fleet.pass(3_000);
    await again.beat();
    expect(again.end).toBeUndefined();
  });

  test("leaves the node as it was when its stream is gone before the epoch is written", async () => {
    await using fleet = await openClockedFleet(1);
    const world = at(fleet, 0);
    const { nodeId } = await aNode(world.nodes);
    const dead = await streamOf(world, nodeId, "dead");
    const held = holdNext(world, "findOneAndUpdate");
    const said = dead.hello().catch(toRefusal);
    await held.reached;
    dead.cancel();
    await said;
    held.release();
    await fleet.pass(3_000);
    expect(await connectivityOf(world, nodeId)).toBe("NEVER_CONNECTED");
  });
});

describe("two Hellos of one process", () => {
  test.each([1, 2])("end in one session, and neither is told ABORTED (replicas: %i)", async (count) => {
    await using fleet = await openClockedFleet(count);
    const [first, second] = [at(fleet, 0), at(fleet, 1)];
    const { nodeId } = await aNode(first.nodes);
    const slow = await streamOf(first, nodeId, "one");
    const held = holdNext(first, "findOneAndUpdate");
    const said = slow.hello().catch(toRefusal);
    await held.reached;
    const other = await connectNode(second, nodeId, { bootId: "one" });
    held.release();
    expect(await said).toMatchObject({ code: "Unavailable", reason: "5031" });
    await fleet.pass(3_000);
    await other.beat();
    expect(other.end).toBeUndefined();
  });

  test("without a stream: a late report goes on under the newest epoch", async () => {
    await using fleet = await openClockedFleet(2);
    const [first, second] = [at(fleet, 0), at(fleet, 1)];
    const { nodeId } = await aNode(first.nodes);
    const token = await first.nodeToken(nodeId);
    const report = (world: World, bootId: string, sessionEpoch?: bigint) =>
      world.as(token).nodes.reportHeartbeat({
        nodeId,
        bootId,
        beat: { sequence: 1n },
        ...(sessionEpoch === undefined ? {} : { sessionEpoch }),
      });
    const older = await report(first, "one");
    const newer = await report(second, "one");
    expect(newer.sessionEpoch).toBe(older.sessionEpoch + 1n);
    expect((await report(first, "one", older.sessionEpoch)).sessionEpoch).toBe(newer.sessionEpoch);
    await expectRefusal(report(first, "two", older.sessionEpoch), "Aborted 5013");
  });
});

describe("a process that goes on without a stream", () => {
  const report = (world: World, token: string, nodeId: string, sessionEpoch?: bigint) =>
    world.as(token).nodes.reportHeartbeat({
      nodeId,
      bootId: "one",
      beat: { sequence: 1n },
      ...(sessionEpoch === undefined ? {} : { sessionEpoch }),
    });

  test.each([
    ["the replica that holds the stream", 0],
    ["another replica", 1],
  ])(
    "is heard at once although a stream of its own, of which it never heard, took the next epoch (by %s)",
    async (_, place) => {
      await using fleet = await openClockedFleet(2);
      const [first, by] = [at(fleet, 0), at(fleet, place)];
      const { nodeId } = await aNode(first.nodes);
      const token = await first.nodeToken(nodeId);
      const { sessionEpoch } = await report(first, token, nodeId);
      const lost = await connectNode(first, nodeId, { token, bootId: "one" });
      const again = await report(by, token, nodeId, sessionEpoch);
      expect(again.sessionEpoch).toBe(lost.welcome.sessionEpoch);
      lost.cancel();
      await untilStreamsGone(fleet, first);
      expect((await report(by, token, nodeId, sessionEpoch)).sessionEpoch).toBe(again.sessionEpoch);
      expect((await report(by, token, nodeId, again.sessionEpoch)).sessionEpoch).toBe(again.sessionEpoch);
      expect(await connectivityOf(first, nodeId)).toBe("CONNECTED");
    },
  );

  test.each([0, 1])("is heard with new tokens after a reset of its node's enrolment (replica %i)", async (place) => {
    await using fleet = await openClockedFleet(2);
    const [first, by] = [at(fleet, 0), at(fleet, place)];
    const { nodeId } = await aNode(first.nodes);
    const old = await first.nodeToken(nodeId);
    const { sessionEpoch } = (await connectNode(first, nodeId, { token: old, bootId: "one" })).welcome;
    await first.nodes.resetEnrollment({ nodeId });
    await fleet.pass(2_000);
    const token = (await first.admin.issueToken({ role: Role.WORKER, nodeId })).accessToken;
    const again = await report(by, token, nodeId, sessionEpoch);
    expect(again.sessionEpoch).toBeGreaterThan(sessionEpoch);
    await fleet.pass(3_000);
    expect(await connectivityOf(first, nodeId)).toBe("CONNECTED");
    await expectRefusal(report(by, old, nodeId, again.sessionEpoch), "Unauthenticated 4011");
  });
});

// T9, T10, T11: two connections of one node.
import { describe, expect, test } from "vitest";
import { connectNode, openNodeStream } from "../../support/clients/node-stream.js";
import { connectionsOf, connectivityOf, historyOf, nodeOf, statusOf } from "../../support/fleet/look.js";
import { aNode } from "../../support/world/builders.js";
import { expectRefusal, toRefusal } from "../../support/world/refusal.js";
import { inParallel, until } from "../../support/world/until.js";
import { openClockedWorld, openWorld } from "../../support/world/world.js";

const beats = "lucid_node_management_heartbeats_total";
const registrationWindowMs = 8_000;

describe("T9 two connections of one node", () => {
  test("T9 two connections of one node: the newer epoch wins, the older stream ends ABORTED 5013", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const older = await connectNode(world, nodeId, { bootId: "a" });
    await older.beat();
    const newer = await connectNode(world, nodeId, { bootId: "b" });
    const error = await older.ended();
    expect(toRefusal(error)).toMatchObject({ code: "Aborted", reason: "5013" });
    expect(newer.welcome.sessionEpoch).toBe(older.welcome.sessionEpoch + 1n);
    await newer.beat();
    await world.pass(2_000);
    expect(newer.end).toBeUndefined();
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("T9 the same boot id ends the older stream OK: it is one machine that dialled anew", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const older = await connectNode(world, nodeId, { bootId: "a" });
    const newer = await connectNode(world, nodeId, { bootId: "a" });
    expect(await older.ended()).toBeUndefined();
    await newer.beat();
    expect(newer.end).toBeUndefined();
  });

  test("T9 what the older one still sends is dropped, and the node is counted once", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const older = await connectNode(world, nodeId, { bootId: "a" });
    await older.beat();
    const newer = await connectNode(world, nodeId, { bootId: "b" });
    for (let sequence = 2n; sequence < 6n; sequence++) {
      older.send({ message: { case: "beat", value: { sequence } } });
    }
    older.send({ message: { case: "leave", value: {} } });
    await older.ended();
    await newer.beat();
    expect(await world.count(beats)).toBe(2);
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
    await world.pass(3_000);
    expect(await world.count("lucid_node_management_heartbeat_streams")).toBe(1);
  });

  test("T9 many connections of one node at once leave exactly one", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const token = await world.nodeToken(nodeId);
    const streams = Array.from({ length: 3 }, (_, place) =>
      openNodeStream(world.as(token).nodes, { nodeId, bootId: `boot-${place}` }),
    );
    await Promise.all(streams.map((stream) => stream.hello().catch(() => undefined)));
    await until(() => streams.filter(({ end }) => end !== undefined).length === 2, "two of three have ended");
    for (const { end } of streams) {
      if (end !== undefined) expect(toRefusal(end.error)).toMatchObject({ code: "Aborted", reason: "5013" });
    }
    const standing = streams.find(({ end }) => end === undefined);
    await standing?.beat();
    expect(standing?.end).toBeUndefined();
  });

  test("T9 the fourth session within 8 s waits: RESOURCE_EXHAUSTED with the time", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    for (let opened = 0; opened < 3; opened++) {
      await connectNode(world, nodeId, { bootId: `boot-${opened}` });
      await world.pass(1_000);
    }
    const refusal = await expectRefusal(connectNode(world, nodeId, { bootId: "one-more" }), "ResourceExhausted 4291");
    expect(refusal.retryAfterMs).toBe(registrationWindowMs - 3_000);
    await world.pass(registrationWindowMs - 3_000);
    await connectNode(world, nodeId, { bootId: "one-more" });
  });
});

describe("T10 an identity that two machines share", () => {
  test("T10 alternating every second for a minute puts the node into ERROR once, and nobody thrashes", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    let opened = 0;
    for (let second = 0; second < 60; second++) {
      const bootId = second % 2 === 0 ? "left" : "right";
      await connectNode(world, nodeId, { bootId }).then(
        () => opened++,
        () => undefined,
      );
      await world.pass(1_000);
    }
    expect(opened).toBeLessThanOrEqual(3 * Math.ceil(60_000 / registrationWindowMs));
    const { statusReason } = await nodeOf(world, nodeId);
    expect(await statusOf(world, nodeId)).toBe("ERROR");
    expect(statusReason).toBe("duplicate identity");
    const raised = (await historyOf(world, nodeId)).filter(({ reason }) => reason === "duplicate identity");
    expect(raised).toHaveLength(1);
  });

  test("T10 one machine that crashes and comes back with a new boot id each time is no such thing", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    for (let crash = 0; crash < 15; crash++) {
      await connectNode(world, nodeId, { bootId: `boot-${crash}` });
      await world.pass(4_000);
    }
    expect(await statusOf(world, nodeId)).toBe("ACTIVE");
  });

  test("T10 a Start takes the node out of it", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    for (let turn = 0; turn < 12; turn++) {
      await connectNode(world, nodeId, { bootId: turn % 2 === 0 ? "left" : "right" });
      await world.pass(4_000);
    }
    expect(await statusOf(world, nodeId)).toBe("ERROR");
    await world.pass(120_000);
    await world.nodes.startNode({ nodeId });
    await connectNode(world, nodeId, { bootId: "left" });
    expect(await nodeOf(world, nodeId)).toMatchObject({ status: 3, statusReason: "" });
  });
});

describe("T11 a session that was superseded", () => {
  test("T11 reports by unary calls under the old epoch are refused ABORTED 5013 and leave nothing behind", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    const first = await nodes.reportHeartbeat({ nodeId, bootId: "a", beat: { sequence: 1n } });
    const second = await nodes.reportHeartbeat({ nodeId, bootId: "b", beat: { sequence: 1n } });
    expect(second.sessionEpoch).toBe(first.sessionEpoch + 1n);
    const late = { nodeId, bootId: "a", sessionEpoch: first.sessionEpoch, beat: { sequence: 2n } };
    await expectRefusal(nodes.reportHeartbeat(late), "Aborted 5013");
    expect(await world.count(beats)).toBe(2);
    await nodes.reportHeartbeat({ nodeId, bootId: "b", sessionEpoch: second.sessionEpoch, beat: { sequence: 2n } });
  });

  test("T11 an epoch that never was is refused, too, and so is another boot's", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    const { sessionEpoch } = await nodes.reportHeartbeat({ nodeId, bootId: "a", beat: { sequence: 1n } });
    const beat = { sequence: 2n };
    await expectRefusal(nodes.reportHeartbeat({ nodeId, bootId: "a", sessionEpoch: 99n, beat }), "Aborted 5013");
    await expectRefusal(nodes.reportHeartbeat({ nodeId, bootId: "b", sessionEpoch, beat }), "Aborted 5013");
  });

  test("T11 a result for a command, sent under the old epoch, ends no transition", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    const first = await nodes.reportHeartbeat({ nodeId, bootId: "a", beat: { sequence: 1n } });
    await nodes.reportHeartbeat({ nodeId, bootId: "b", beat: { sequence: 1n } });
    await world.nodes.startNode({ nodeId });
    const { commands } = await nodes.reportHeartbeat({
      nodeId,
      bootId: "b",
      sessionEpoch: first.sessionEpoch + 1n,
      beat: { sequence: 2n },
    });
    const start = commands.find(({ command }) => command.case === "start");
    const late = nodes.reportHeartbeat({
      nodeId,
      bootId: "a",
      sessionEpoch: first.sessionEpoch,
      beat: { sequence: 2n },
      commandResults: [{ commandId: start?.commandId ?? "", status: 1 }],
    });
    await expectRefusal(late, "Aborted 5013");
    expect(await statusOf(world, nodeId)).toBe("STARTING");
  });

  test("T11 a session goes on by unary calls after the service was restarted", async () => {
    await using world = await openClockedWorld();
    const ids = await inParallel(Array.from({ length: 3 }), 3, async () => (await aNode(world.nodes)).nodeId);
    for (const nodeId of ids) {
      const { nodes } = world.as(await world.nodeToken(nodeId));
      await nodes.reportHeartbeat({ nodeId, bootId: "a", beat: { sequence: 1n } });
    }
    await world.restart("crash");
    for (const nodeId of ids) {
      const { nodes } = world.as(await world.nodeToken(nodeId));
      const { sessionEpoch } = await nodes.reportHeartbeat({
        nodeId,
        bootId: "a",
        sessionEpoch: 1n,
        beat: { sequence: 2n },
      });
      expect(sessionEpoch).toBe(1n);
      expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
    }
  });
});

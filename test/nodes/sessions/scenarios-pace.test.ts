// T1 and T20: how often nodes beat, and what lost, doubled and disordered beats change.
import { create } from "@bufbuild/protobuf";
import { DurationSchema, durationMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { baseIntervalMs, type HeartbeatTiming, nextBeatAfterMs } from "../../../src/nodes/heartbeat.js";
import { connectNode } from "../../support/clients/node-stream.js";
import { connectionsOf, lastHeartbeatOf } from "../../support/fleet/look.js";
import { aNode } from "../../support/world/builders.js";
import { openClockedWorld } from "../../support/world/world.js";

const gaps = "lucid_node_management_heartbeat_sequence_gaps_total";
const beats = "lucid_node_management_heartbeats_total";

describe("T1 the interval", () => {
  // Nomad's figures: 50 beats a second, at least 10 s apart.
  const timing: HeartbeatTiming = { intervalMs: 10_000, graceMs: 10_000, lostAfterMs: undefined, rateMax: 50 };

  test.each([
    [1, 10_000],
    [500, 10_000],
    [501, 10_020],
    [10_000, 200_000],
  ])("T1 with %i nodes the base is %i ms and each wait is up to a tenth longer", (nodes, baseMs) => {
    expect(baseIntervalMs(timing, nodes)).toBe(baseMs);
    expect(nextBeatAfterMs(baseMs, 0)).toBe(baseMs);
    expect(nextBeatAfterMs(baseMs, 1 - Number.EPSILON)).toBeLessThanOrEqual(baseMs * 1.1);
    expect((nodes / baseMs) * 1000).toBeLessThanOrEqual(timing.rateMax);
  });

  test("T1 over ten intervals a fleet stays within the rate", () => {
    const nodes = 2_000;
    const baseMs = baseIntervalMs(timing, nodes);
    let total = 0;
    for (let node = 0; node < nodes; node++) {
      for (let atMs = (node / nodes) * baseMs; atMs < 10 * baseMs; total++) {
        atMs += nextBeatAfterMs(baseMs, ((node * 7919 + total) % 100) / 100);
      }
    }
    expect(total / ((10 * baseMs) / 1000)).toBeLessThanOrEqual(timing.rateMax * 1.1);
  });

  test("T1 the server dictates it: Welcome says the base, each Ack the base and up to 10 %", async () => {
    let random = 0;
    await using world = await openClockedWorld({ random: () => random });
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    expect(stream.welcome.heartbeatInterval && durationMs(stream.welcome.heartbeatInterval)).toBe(30_000);
    const told: number[] = [];
    for (random of [0, 0.5, 0.999]) {
      await world.pass(20_000);
      const { nextHeartbeatAfter } = await stream.beat();
      told.push(nextHeartbeatAfter === undefined ? 0 : durationMs(nextHeartbeatAfter));
    }
    expect(told).toEqual([30_000, 31_500, 32_997]);
  });

  test("T1 the more nodes are known, the longer they wait", async () => {
    await using world = await openClockedWorld({ settings: { NODE_HEARTBEAT_INTERVAL: "1", HEARTBEAT_RATE_MAX: "2" } });
    const waits: number[] = [];
    for (let count = 0; count < 6; count++) {
      const stream = await connectNode(world, (await aNode(world.nodes)).nodeId);
      const { heartbeatInterval } = stream.welcome;
      waits.push(heartbeatInterval === undefined ? 0 : durationMs(heartbeatInterval));
    }
    expect(waits[0]).toBe(1_000);
    expect(waits.at(-1)).toBeGreaterThanOrEqual(2_500);
    expect(waits.at(-1)).toBeLessThanOrEqual(3_000);
  });
});

describe("T20 the sequence", () => {
  test("T20 gaps are counted and nothing is asked", async () => {
    await using world = await openClockedWorld();
    const stream = await connectNode(world, (await aNode(world.nodes)).nodeId);
    await stream.next("command");
    await stream.beat(1n);
    await world.pass(30_000);
    await stream.beat(5n);
    await world.pass(30_000);
    await stream.beat(6n);
    expect(await world.count(gaps)).toBe(3);
    expect(await world.count(beats)).toBe(3);
    expect(stream.received.filter(({ case: kind }) => kind === "command")).toHaveLength(1);
    expect(stream.end).toBeUndefined();
  });

  test("T20 a doubled beat is acknowledged again and changes nothing", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    await stream.beat(1n);
    await world.pass(20_000);
    await stream.beat(2n);
    await world.pass(2_000);
    const heard = await lastHeartbeatOf(world, nodeId);
    const again = await stream.beat(2n);
    expect(again.sequence).toBe(2n);
    await world.pass(2_000);
    expect(await lastHeartbeatOf(world, nodeId)).toEqual(heard);
    expect(await world.count(beats)).toBe(2);
    expect(await world.count(gaps)).toBe(0);
  });

  test("T20 a beat that comes late behind a newer one is acknowledged and does not count", async () => {
    await using world = await openClockedWorld();
    const stream = await connectNode(world, (await aNode(world.nodes)).nodeId);
    await stream.beat(1n);
    await world.pass(30_000);
    await stream.beat(3n);
    expect((await stream.beat(2n)).sequence).toBe(2n);
    expect(await world.count(gaps)).toBe(1);
    expect(await world.count(beats)).toBe(2);
  });

  test("T20 a sequence at the end of its range says nothing about a number of beats", async () => {
    await using world = await openClockedWorld();
    const stream = await connectNode(world, (await aNode(world.nodes)).nodeId);
    await stream.beat(1n);
    await world.pass(30_000);
    await stream.beat(9_223_372_036_854_775_807n);
    expect(await world.count(gaps)).toBe(10_000);
  });

  test("T20 whoever beats too often is told the same pace as anyone, and keeping to that keeps it connected", async () => {
    await using world = await openClockedWorld({ settings: { HEARTBEAT_GRACE: "5" } });
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    await stream.beat();
    for (let round = 0; round < 3; round++) {
      await world.pass(14_000);
      const { nextHeartbeatAfter } = await stream.beat();
      await world.pass(nextHeartbeatAfter === undefined ? 0 : durationMs(nextHeartbeatAfter));
      await stream.beat();
    }
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });
});

describe("a node without a stream", () => {
  test.each([
    ["beats too soon", 1n],
    ["says a beat again", 0n],
  ])("that %s, and then comes as told, is never silent, however short the grace", async (_, step) => {
    const settings = { NODE_HEARTBEAT_INTERVAL: "30", HEARTBEAT_GRACE: "5" };
    await using world = await openClockedWorld({ settings });
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    let [sequence, sessionEpoch] = [0n, undefined as bigint | undefined];
    const report = async (more: bigint): Promise<number> => {
      sequence += more;
      const named = sessionEpoch === undefined ? {} : { sessionEpoch };
      const answer = await nodes.reportHeartbeat({ nodeId, bootId: "a", beat: { sequence }, ...named });
      sessionEpoch = answer.sessionEpoch;
      return durationMs(answer.ack?.nextHeartbeatAfter ?? create(DurationSchema));
    };
    await report(1n);
    for (let round = 0; round < 4; round++) {
      await world.pass(14_000);
      const nextAfterMs = await report(step);
      await world.pass(nextAfterMs);
      await report(1n);
    }
    await world.pass(3_000);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });
});

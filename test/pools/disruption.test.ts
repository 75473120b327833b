// T6, T7, T8: most or all nodes of a pool fall silent together.

import { describe, expect, test } from "vitest";
import type { NodeRepository } from "../../src/nodes/repository.js";
import { createDisruption } from "../../src/pools/disruption.js";
import { isDisrupted, type PoolDocument } from "../../src/pools/pool.js";
import { createPoolRepository, type PoolRepository, poolsCollection } from "../../src/pools/repository.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { silentLog } from "../../src/telemetry/log.js";
import { connectNode, type NodeStream } from "../support/clients/node-stream.js";
import { connectionsOf, connectivityOf, lastHeartbeatOf } from "../support/fleet/look.js";
import { aNode, aPool } from "../support/world/builders.js";
import { createTestClock } from "../support/world/clock.js";
import { within } from "../support/world/until.js";
import {
  type ClockedWorld,
  lostAfterMs,
  openClockedFleet,
  openClockedWorld,
  type World,
} from "../support/world/world.js";

const silentMs = 62_000;
const lostMs = lostAfterMs;
const hourMs = 3_600_000;

interface Member {
  readonly nodeId: string;
  readonly stream: NodeStream;
}

/** A pool of `size` nodes, each of which has beaten once. */
async function aPoolOf(world: World, size: number): Promise<{ poolId: string; members: Member[] }> {
  const { poolId } = await aPool(world.pools);
  const members: Member[] = [];
  for (let place = 0; place < size; place++) {
    const { nodeId } = await aNode(world.nodes, { initialPoolId: poolId });
    const stream = await connectNode(world, nodeId);
    await stream.beat();
    members.push({ nodeId, stream });
  }
  return { poolId, members };
}

/** Lets the time pass while only these nodes beat, every 20 s. */
async function passBeating(world: Pick<ClockedWorld, "pass">, beating: readonly Member[], ms: number): Promise<void> {
  for (let gone = 0; gone < ms; gone += 20_000) {
    for (const { stream } of beating) await stream.beat();
    await world.pass(Math.min(20_000, ms - gone));
  }
}

const isMarked = async (world: World, poolId: string): Promise<boolean | undefined> =>
  (await world.pools.getPool({ poolId })).pool?.disrupted;

describe("T6 most of a pool falls silent", () => {
  test("T6 60 %: marked, DISCONNECTED is recorded, nobody is LOST; other pools are as always", async () => {
    await using world = await openClockedWorld();
    const struck = await aPoolOf(world, 5);
    const other = await aPoolOf(world, 5);
    const beating = [...struck.members.slice(3), ...other.members.slice(1)];
    await passBeating(world, beating, silentMs + 2_000);
    expect(await isMarked(world, struck.poolId)).toBe(true);
    expect(await isMarked(world, other.poolId)).toBe(false);
    await passBeating(world, beating, 2 * lostMs);
    for (const { nodeId } of struck.members.slice(0, 3)) {
      expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected", "DISCONNECTED silent"]);
    }
    expect(await connectivityOf(world, other.members[0]?.nodeId ?? "")).toBe("LOST");
    expect(await world.count("lucid_node_management_pools_disrupted")).toBe(1);
  });

  test.each([
    [5, 2, "less than 55 % of it"],
    [3, 3, "a pool of three"],
  ])("T6 of %i nodes %i silent is none: %s", async (size, silent) => {
    await using world = await openClockedWorld();
    const { poolId, members } = await aPoolOf(world, size);
    await passBeating(world, members.slice(silent), silentMs + 2_000);
    expect(await isMarked(world, poolId)).toBe(false);
    await passBeating(world, members.slice(silent), lostMs);
    expect(await connectivityOf(world, members[0]?.nodeId ?? "")).toBe("LOST");
  });

  test("T6 nodes that said goodbye, and nodes that never came, are not silent", async () => {
    await using world = await openClockedWorld();
    const { poolId, members } = await aPoolOf(world, 5);
    for (let place = 0; place < 5; place++) await aNode(world.nodes, { initialPoolId: poolId });
    for (const { stream } of members.slice(0, 4)) await stream.leave();
    await passBeating(world, members.slice(4), silentMs + 2_000);
    expect(await isMarked(world, poolId)).toBe(false);
  });

  test("T6 is found by the replica that leads when the nodes are another one's, and by the next leader", async () => {
    await using fleet = await openClockedFleet(2);
    const [, two] = fleet.replicas as [World, World];
    const { poolId, members } = await aPoolOf(two, 4);
    await fleet.pass(silentMs + 4_000);
    expect(await isMarked(two, poolId)).toBe(true);
    await fleet.end(0, "crash");
    await fleet.pass(12_000);
    for (const { stream } of members) await stream.beat();
    await fleet.pass(4_000);
    expect(await isMarked(two, poolId)).toBe(false);
  });
});

describe("T7 all of a pool falls silent, and one comes back", () => {
  test("T7 nobody is LOST while it lasts, the mark goes when enough are back, and the others are timed anew", async () => {
    await using world = await openClockedWorld();
    const { poolId, members } = await aPoolOf(world, 5);
    await world.pass(silentMs + 2 * lostMs);
    expect(await isMarked(world, poolId)).toBe(true);
    const heardAt = await lastHeartbeatOf(world, members[4]?.nodeId ?? "");
    await passBeating(world, members.slice(0, 1), 4_000);
    expect(await isMarked(world, poolId)).toBe(true);
    await passBeating(world, members.slice(0, 3), 40_000);
    expect(await isMarked(world, poolId)).toBe(false);
    for (const { nodeId } of members.slice(3)) expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
    expect(await lastHeartbeatOf(world, members[4]?.nodeId ?? "")).toEqual(heardAt);
    await passBeating(world, members.slice(0, 3), lostMs + 4_000);
    for (const { nodeId } of members.slice(3)) {
      expect(await connectionsOf(world, nodeId)).toEqual([
        "CONNECTED connected",
        "DISCONNECTED silent",
        "LOST silent for too long",
      ]);
    }
  });

  test("T7 who stays silent is timed anew from the recovery, also where that comes just before its time", async () => {
    await using world = await openClockedWorld();
    const { poolId, members } = await aPoolOf(world, 5);
    await world.pass(lostMs - 6_000);
    await passBeating(world, members.slice(0, 3), 4_000);
    expect(await isMarked(world, poolId)).toBe(false);
    await passBeating(world, members.slice(0, 3), lostMs - 20_000);
    for (const { nodeId } of members.slice(3)) expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
    await passBeating(world, members.slice(0, 3), 40_000);
    for (const { nodeId } of members.slice(3)) expect(await connectivityOf(world, nodeId)).toBe("LOST");
  });

  test("T7 after an hour they are LOST again", async () => {
    await using world = await openClockedWorld({ settings: { NODE_HEARTBEAT_INTERVAL: "1" } });
    const { poolId, members } = await aPoolOf(world, 5);
    await world.pass(silentMs);
    await world.clock.stall(hourMs - 3 * silentMs);
    await world.pass(silentMs);
    expect(await isMarked(world, poolId)).toBe(true);
    for (const { nodeId } of members) expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
    await world.pass(lostMs + 120_000);
    for (const { nodeId } of members) expect(await connectivityOf(world, nodeId)).toBe("LOST");
    expect(await isMarked(world, poolId)).toBe(false);
  });
});

describe("T8 scaling while a pool is disrupted", () => {
  test("T8 nothing of ours changes its size, and the pool says why nobody else should", async () => {
    await using world = await openClockedWorld();
    const { poolId } = await aPoolOf(world, 5);
    await world.pools.scalePool({ poolId, targetSize: 5 });
    const { pool: before } = await world.pools.getPool({ poolId });
    await world.pass(silentMs + lostMs);
    const { pool } = await world.pools.getPool({ poolId });
    expect(pool).toMatchObject({ desiredSize: 5, nodeCount: 5, disrupted: true, version: before?.version });
  });
});

describe("a pool is disrupted", () => {
  const members = (heard: number, silent: number, others = 0) => [
    ...Array.from({ length: heard }, () => ({ connectivity: "connected" as const })),
    ...Array.from({ length: silent }, () => ({ connectivity: "disconnected" as const, silent_since: new Date(0) })),
    ...Array.from({ length: others }, () => ({ connectivity: "disconnected" as const })),
  ];
  test.each([
    [0, 3, false],
    [0, 4, true],
    [9, 11, true],
    [10, 12, false],
    [46, 54, false],
    [45, 55, true],
  ])("%i heard and %i silent: %s", (heard, silent, expected) => {
    expect(isDisrupted(members(heard, silent, 50))).toBe(expected);
  });
});

describe("the late word of a leader that no longer leads", () => {
  test("that a pool is disrupted is taken back, where nobody has judged that pool since", async () => {
    await using world = await openClockedWorld();
    const { poolId } = await aPoolOf(world, 5);
    const pools = await world.store.collection<PoolDocument>(poolsCollection);
    await pools.updateOne({ _id: poolId }, { $set: { disrupted_since: world.clock.now(), fence: 0 } });
    expect(await isMarked(world, poolId)).toBe(true);
    await world.pass(3_000);
    expect(await isMarked(world, poolId)).toBe(false);
  });

  test("that a pool is heard again is taken back, too", async () => {
    await using world = await openClockedWorld();
    const { poolId } = await aPoolOf(world, 5);
    await world.pass(silentMs + 2_000);
    expect(await isMarked(world, poolId)).toBe(true);
    const pools = await world.store.collection<PoolDocument>(poolsCollection);
    await pools.updateOne({ _id: poolId }, { $unset: { disrupted_since: true } });
    await world.pass(3_000);
    expect(await isMarked(world, poolId)).toBe(true);
  });

  test("is refused where its successor has judged that pool, though nothing had changed", async () => {
    await using fleet = await openClockedFleet(2);
    const [, two] = fleet.replicas as [World, World];
    const { poolId, members } = await aPoolOf(two, 5);
    await fleet.end(0, "crash");
    await fleet.pass(12_000);
    await passBeating(fleet, members.slice(1), silentMs + 2_000);
    const pools = await createPoolRepository(two.store);
    const { fence = 0, disrupted_since } = await pools.get(poolId);
    expect([fence > 1, disrupted_since]).toEqual([true, undefined]);
    expect(await pools.setDisrupted(poolId, true, fleet.clock.now(), fence - 1)).toBe(false);
    expect(await isMarked(two, poolId)).toBe(false);
  });
});

test("the leader's look outlasts a store that is away, which it tells of once, and ends by a mistake of the program", async () => {
  const clock = createTestClock();
  const warnings: unknown[] = [];
  let failure: Error = new StoreUnavailableError("away");
  const { task } = createDisruption({
    pools: { disrupted: () => Promise.reject(failure) } as unknown as PoolRepository,
    nodes: {} as NodeRepository,
    leadership: () => ({ token: 1, holds: () => true }),
    clock,
    lostAfterMs: lostMs,
    gauge: { set: () => undefined },
    log: { ...silentLog, warn: (message) => warnings.push(message) },
  });
  const ended = task(new AbortController().signal).catch((error: unknown) => error);
  await clock.advance(3_000);
  expect(warnings).toEqual(["Silent pools are not looked for now"]);
  failure = new TypeError("a mistake");
  await clock.advance(1_000);
  expect(await within(ended, "the task ends")).toBe(failure);
});

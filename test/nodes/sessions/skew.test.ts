// Nodes whose clocks are off: what their histories and the log say of it.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import type { NodeDocument, Patch } from "../../../src/nodes/node.js";
import { createSkewWatch, isOurClock, newsOfClock } from "../../../src/nodes/sessions/skew.js";
import { connectNode } from "../../support/clients/node-stream.js";
import { aNode } from "../../support/world/builders.js";
import { createTestClock } from "../../support/world/clock.js";
import { type ClockedWorld, openClockedWorld } from "../../support/world/world.js";

describe("two beats in a row of a node", () => {
  test.each<[string, number, number, number, number | undefined]>([
    ["that are right say nothing", 0, 100, -200, undefined],
    ["that are off say so", 0, 6_000, 7_000, 7_000],
    ["that are as far off as told say nothing", 7_000, 7_000, 13_900, undefined],
    ["that are twice as far off as told say so", 7_000, 14_000, 14_100, 14_100],
    ["of which one alone is twice as far off say nothing", 7_000, 60_000, 7_000, undefined],
    ["that are nearer than told and still off say nothing", 60_000, 6_000, 6_000, undefined],
    ["that are off the other way say so", 60_000, -6_000, -6_000, -6_000],
    ["that are right again say so", -60_000, 100, 200, 0],
    ["of which one alone is right say nothing", 60_000, 60_000, 0, undefined],
    ["that swing about the limit say nothing", 5_100, 4_900, 5_100, undefined],
    ["that stay close below the limit say nothing", 5_100, 4_900, 4_900, undefined],
  ])("%s", (_, toldMs, formerMs, latterMs, expected) => {
    expect(newsOfClock(toldMs, formerMs, latterMs)).toBe(expected);
  });
});

test("our clock is the one that is off when more than half of ten nodes or more are off one way", () => {
  expect(isOurClock({ heard: 10, ahead: 6, behind: 0 }, false)).toBe(true);
  expect(isOurClock({ heard: 10, ahead: 0, behind: 6 }, false)).toBe(true);
  expect(isOurClock({ heard: 9, ahead: 9, behind: 0 }, false)).toBe(false);
  expect(isOurClock({ heard: 10, ahead: 5, behind: 5 }, false)).toBe(false);
  expect(isOurClock({ heard: 10, ahead: 4, behind: 0 }, true)).toBe(true);
  expect(isOurClock({ heard: 10, ahead: 3, behind: 0 }, true)).toBe(false);
});

const clockEvents = async (world: ClockedWorld, nodeId: string) =>
  (await world.nodes.listNodeEvents({ nodeId, limit: 100 })).events
    .map(({ reason }) => reason)
    .filter((reason) => reason.includes("clock"))
    .reverse();
const beatAt = (world: ClockedWorld, sequence: bigint, aheadMs: number) => ({
  message: {
    case: "beat" as const,
    value: { sequence, sentAt: timestampFromDate(new Date(world.clock.now().getTime() + aheadMs)) },
  },
});

/** Sends one beat for each of `aheads`, the time in ms that the node's clock is ahead. The beats are 1 s apart. */
async function beatAll(
  world: ClockedWorld,
  stream: Awaited<ReturnType<typeof connectNode>>,
  aheads: readonly number[],
) {
  for (const [place, aheadMs] of aheads.entries()) {
    stream.send(beatAt(world, BigInt(place + 1), aheadMs));
    await stream.next("ack");
    await world.pass(1_000);
  }
}

describe("a node whose clock is off", () => {
  test("has it in its history once, however many sessions it opens", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const said = ["the node's clock is 60 s ahead"];
    for (const session of [1, 2, 3, 4]) {
      const stream = await connectNode(world, nodeId);
      await beatAll(world, stream, [60_000, 60_000, 60_000, 61_000 + session]);
      expect(await clockEvents(world, nodeId)).toEqual(said);
      stream.cancel();
      await stream.ended();
      await world.pass(1_000);
    }
  });

  test("has it in its history when it doubles and when it ends", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    const off = (aheadMs: number) => [aheadMs, aheadMs, aheadMs];
    await beatAll(world, stream, [...off(20_000), ...off(39_000), ...off(41_000), ...off(0), ...off(-8_000)]);
    expect(await clockEvents(world, nodeId)).toEqual([
      "the node's clock is 20 s ahead",
      "the node's clock is 41 s ahead",
      "the node's clock is right again",
      "the node's clock is 8 s behind",
    ]);
  });
});

/** A watch over nodes in memory; `writes` lists what the watch wrote into them. */
function aWatch() {
  const clock = createTestClock();
  const nodes = new Map<string, NodeDocument>();
  const [writes, lines]: [string[], string[]] = [[], []];
  const change = async (nodeId: string, _: unknown, decide: (node: NodeDocument) => unknown) => {
    const node = nodes.get(nodeId) ?? ({ _id: nodeId, session_epoch: 1, banned: false } as NodeDocument);
    const patch = decide(node) as Patch | undefined;
    if (patch === undefined) return node;
    writes.push(`${nodeId} ${patch.event.reason}`);
    const { clock_off_ms: _off, ...rest } = { ...node, ...patch.set };
    const after = patch.unset === undefined ? { ...node, ...patch.set } : (rest as NodeDocument);
    nodes.set(nodeId, after);
    return after;
  };
  const open = () =>
    createSkewWatch({
      repository: { change },
      clock,
      log: { warn: (line) => lines.push(line) },
    });
  let watch = open();
  const beat = async (nodeId: string, aheadMs: number) => {
    watch.heard({ nodeId, epoch: 1 }, clock.now().getTime() + aheadMs);
    await clock.advance(60);
  };
  /** Lets `count` nodes beat in turn, `rounds` times each. */
  const beatAll = async (count: number, aheadOf: (place: number) => number, rounds: number) => {
    for (let round = 0; round < rounds; round++) {
      for (let place = 0; place < count; place++) await beat(`node-${place}`, aheadOf(place));
    }
  };
  const restart = () => {
    watch = open();
  };
  return { clock, writes, lines, beat, beatAll, restart };
}

describe("a service whose own clock is off", () => {
  test.each([-3_600_000, 60_000])("by %i ms says so once in its log, and in no node's history", async (offMs) => {
    const { writes, lines, beatAll } = aWatch();
    await beatAll(30, () => 0, 3);
    await beatAll(30, () => offMs, 20);
    expect(writes).toEqual([]);
    expect(lines).toEqual([expect.stringContaining("this machine's own")]);
  });

  test("says so again when it was right in between, and then of a node what is that node's", async () => {
    const { writes, lines, beatAll } = aWatch();
    for (const _ of [1, 2]) {
      await beatAll(12, () => -90_000, 3);
      await beatAll(12, () => 0, 3);
    }
    expect(lines).toHaveLength(2);
    expect(writes).toEqual([]);
    await beatAll(12, (place) => (place === 3 ? 30_000 : 0), 3);
    expect(writes).toEqual(["node-3 the node's clock is 30 s ahead"]);
  });

  test("is not blamed for nodes that are off in two directions, or for the fewer", async () => {
    const { writes, lines, beatAll } = aWatch();
    await beatAll(20, () => 0, 1);
    await beatAll(20, (place) => (place % 2 === 0 ? 30_000 : -30_000), 3);
    expect(lines).toEqual([]);
    expect(writes).toHaveLength(20);
  });

  test("is not blamed for one beat of each that was held up", async () => {
    const { writes, lines, beatAll } = aWatch();
    for (const aheadMs of [0, -20_000, 0, -20_000, 0]) await beatAll(20, () => aheadMs, 1);
    expect([writes, lines]).toEqual([[], []]);
  });
});

describe("what a node's history says of its clock", () => {
  test("is not said again by a service that was restarted, which still knows when it ends", async () => {
    const { writes, beatAll, restart } = aWatch();
    await beatAll(2, () => 60_000, 4);
    restart();
    await beatAll(2, () => 60_000, 4);
    expect(writes).toHaveLength(2);
    restart();
    await beatAll(2, () => 0, 4);
    expect(writes.slice(2)).toEqual([
      "node-0 the node's clock is right again",
      "node-1 the node's clock is right again",
    ]);
  });

  test("grows by six entries an hour at the most, whatever the node says", async () => {
    const { clock, writes, beatAll } = aWatch();
    const restless = async () => {
      for (let round = 0; round < 20; round++) await beatAll(1, () => (round % 2 === 0 ? 60_000 : 0), 3);
    };
    await restless();
    expect(writes).toHaveLength(6);
    await clock.advance(3_600_000);
    await restless();
    expect(writes).toHaveLength(12);
  });
});

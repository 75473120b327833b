// Nodes whose clocks are off, or are set while they run: the agent uses the service's time for proofs and tokens.
import { type Timestamp, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterEach, describe, expect, test } from "vitest";
import { createMemoryCredentials } from "../../src/agent/credentials.js";
import { type ProverOptions, runProver } from "../../src/agent/prover.js";
import { createServiceTime, wordsOfSkew } from "../../src/agent/service-time.js";
import { holdStream, type StreamParts } from "../../src/agent/stream.js";
import { type MachineAgentOptions, runMachineAgent } from "../../src/cli/agent.js";
import { type Clock, systemClock } from "../../src/clock.js";
import { clockIsOff } from "../../src/nodes/sessions/skew.js";
import { enrollmentToken } from "../support/clients/enroll.js";
import { connectNode } from "../support/clients/node-stream.js";
import { untilStatus } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { createTestClock } from "../support/world/clock.js";
import { until, within } from "../support/world/until.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";

const hour = 3_600_000;

describe("the service's time", () => {
  const skews: number[] = [];
  const open = () => {
    skews.length = 0;
    const clock = createTestClock();
    return { clock, time: createServiceTime(clock, (aheadMs) => skews.push(aheadMs)) };
  };

  test("is the node's own until the service has told it", () => {
    const { clock, time } = open();
    expect(time.now()).toEqual(clock.now());
  });

  test("goes on from what was told, however the node's clock is set meanwhile", async () => {
    const { clock, time } = open();
    const told = new Date(clock.now().getTime() - 2 * hour);
    time.hear(told, 0);
    await clock.advance(60_000);
    for (const step of [hour, -5 * hour, 365 * 24 * hour]) {
      clock.stepWall(step);
      expect(time.now().getTime()).toBe(told.getTime() + 60_000);
    }
  });

  test("is half a round trip later than it was told", () => {
    const { clock, time } = open();
    time.hear(clock.now(), 1_000);
    expect(time.now().getTime()).toBe(clock.now().getTime() + 500);
  });

  test("warns once of a clock that is off, and again when it was right in between", () => {
    const { clock, time } = open();
    const hear = (aheadMs: number) => time.hear(new Date(clock.now().getTime() - aheadMs), 0);
    for (const aheadMs of [0, 4_000, -4_000]) hear(aheadMs);
    expect(skews).toEqual([]);
    for (const aheadMs of [120_000, 120_000, -120_000]) hear(aheadMs);
    expect(skews).toEqual([120_000]);
    hear(0);
    hear(-6_000);
    expect(skews).toEqual([120_000, -6_000]);
    expect(wordsOfSkew(120_000)).toContain("120 s ahead");
    expect(wordsOfSkew(-6_000)).toContain("6 s behind");
  });

  test("warns of nothing by an answer that was long on its way, and keeps what it knew", () => {
    const { clock, time } = open();
    time.hear(clock.now(), 0);
    time.hear(new Date(clock.now().getTime() - 30_000), 30_000);
    expect(skews).toEqual([]);
    expect(time.now()).toEqual(clock.now());
  });

  test.each([
    ["the machine was suspended, its monotonic clock with it", 8 * hour],
    ["the wall clock was set back", -8 * hour],
    ["the machine was suspended for six seconds", 6_000],
  ])("is not known after %s, until it is told again", async (_, jumpMs) => {
    const { clock, time } = open();
    expect(time.isKnown()).toBe(true);
    time.hear(clock.now(), 0);
    clock.stepWall(4_900);
    await clock.advance(60_000);
    expect(time.isKnown()).toBe(true);
    clock.stepWall(-4_900 + jumpMs);
    expect(time.isKnown()).toBe(false);
    time.hear(new Date(Number.NaN), 0);
    expect(time.isKnown()).toBe(false);
    // While the time is unknown, a slow answer counts, too. It adds half of the round trip, at most 1 s.
    const told = new Date(clock.now().getTime());
    time.hear(told, 4_000);
    expect(time.isKnown()).toBe(true);
    expect(time.now().getTime()).toBe(told.getTime() + 1_000);
  });

  test("takes no time that is none", () => {
    const { clock, time } = open();
    for (const told of [new Date(Number.NaN), new Date(0), new Date(-1)]) time.hear(told, 0);
    expect(time.now()).toEqual(clock.now());
  });
});

const running: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of running.splice(0)) await stop();
});

/** An agent on a machine whose wall clock is ahead by this time. */
async function startOff(world: World, offMs: () => number) {
  const { nodeId } = await aNode(world.nodes);
  const [skews, verdicts, problems]: [number[], boolean[], string[]] = [[], [], []];
  const clock: Clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + offMs()) };
  const options: MachineAgentOptions = {
    baseUrl: world.baseUrl,
    credentials: createMemoryCredentials(nodeId),
    enrollmentToken: await enrollmentToken(world, nodeId),
    clock,
    onState: () => undefined,
    onSkew: (aheadMs) => skews.push(Math.round(aheadMs / 60_000)),
    prove: {
      produce: async () => crypto.getRandomValues(new Uint8Array(16_384)),
      onProof: ({ isValid }) => verdicts.push(isValid),
      onProblem: (message) => problems.push(message),
    },
  };
  const control = new AbortController();
  const end = runMachineAgent(options, control.signal);
  running.push(() => {
    control.abort();
    return within(end, "the agent leaves");
  });
  return { nodeId, skews, verdicts, problems };
}

describe("a node whose clock is off", () => {
  const settings = {
    NODE_HEARTBEAT_INTERVAL: "1",
    HEARTBEAT_GRACE: "5",
    HARDWARE_VALIDATION_ENABLED: "true",
    POOT_CHALLENGES_REQUIRED: "true",
  };

  test.each([
    ["two minutes fast", 120_000, "ahead"],
    ["an hour slow", -hour, "behind"],
    ["three hours fast, longer than a token lives", 3 * hour, "ahead"],
    ["ten years slow", -10 * 365 * 24 * hour, "behind"],
  ])("by %s has its proofs judged, is told once, and its history says so once", async (_, offMs, word) => {
    await using world = await openWorld({ settings });
    const { nodeId, skews, verdicts, problems } = await startOff(world, () => offMs);
    await until(async () => (await world.nodes.getNode({ nodeId })).node?.connectivity === 1, "connected");
    await world.nodes.startNode({ nodeId });
    await untilStatus(world, nodeId, "ACTIVE");
    await until(() => verdicts.length + problems.length > 0, "a verdict");
    expect({ verdicts, problems }).toEqual({ verdicts: [true], problems: [] });
    const told = async () =>
      (await world.nodes.listNodeEvents({ nodeId })).events.filter(({ reason }) => reason.includes("clock"));
    await until(async () => (await told()).length > 0, "an event");
    expect((await told()).map(({ reason }) => reason)).toEqual([expect.stringContaining(word)]);
    expect(skews).toEqual([Math.round(offMs / 60_000)]);
    for (const stop of running.splice(0)) await stop();
  });

  test("from one moment to the next beats on, and its proofs are none the worse", async () => {
    await using world = await openWorld({ settings });
    let offMs = 0;
    const { nodeId, skews, verdicts } = await startOff(world, () => offMs);
    await until(async () => (await world.nodes.getNode({ nodeId })).node?.connectivity === 1, "connected");
    offMs = -48 * hour;
    await until(() => skews.length === 1, "the jump is noticed");
    await world.nodes.startNode({ nodeId });
    await until(() => verdicts.length > 0, "a verdict");
    expect(verdicts).toEqual([true]);
    const { events } = await world.nodes.listNodeEvents({ nodeId });
    expect(events.filter(({ reason }) => reason === "silent")).toEqual([]);
    for (const stop of running.splice(0)) await stop();
  });
});

describe("a machine that was suspended", () => {
  test("asks for no nonce and dates no proof until the service has told its time again", async () => {
    const clock = createTestClock();
    const time = createServiceTime(clock, () => undefined);
    time.hear(clock.now(), 0);
    const [issued, dates, problems]: [number[], Date[], string[]] = [[], [], []];
    const control = new AbortController();
    const poot = {
      issuePoOTChallenge: async () => {
        issued.push(clock.monotonicMs());
        return { nonce: "nonce-of-a-test" };
      },
      validatePoOT: async ({ timestamp }: { timestamp: Timestamp }) => {
        dates.push(timestampDate(timestamp));
        return { validation: {} };
      },
    } as unknown as ProverOptions["poot"];
    const proving = runProver(
      {
        poot,
        identity: createMemoryCredentials("00000000-0000-4000-8000-000000000001").identity,
        token: async () => "token",
        now: time.now,
        isTimeKnown: time.isKnown,
        // The machine is suspended for eight hours while it produces the output.
        produce: async () => {
          if (issued.length === 1) clock.stepWall(8 * hour);
          return new Uint8Array(32);
        },
        clock,
        random: () => 0,
        intervalMs: 60_000,
        isAtWork: () => true,
        onProof: () => undefined,
        onProblem: (message) => problems.push(message),
      },
      control.signal,
    );
    await clock.advance(20_000);
    expect([issued.length, dates]).toEqual([1, []]);
    time.hear(clock.now(), 0);
    await clock.advance(1_000);
    expect(dates.map((date) => Math.abs(date.getTime() - clock.now().getTime()) <= 1_000)).toEqual([true]);

    clock.stepWall(hour);
    await clock.advance(120_000);
    expect(issued).toHaveLength(1);
    time.hear(clock.now(), 0);
    await clock.advance(1_000);
    expect(dates).toHaveLength(2);
    expect(problems).toEqual([]);
    control.abort();
    await within(proving, "the prover ends");
  });

  test("takes no time from an answer that waited for it to wake", async () => {
    const clock = createTestClock();
    const told: number[] = [];
    let acks = 0;
    const answers = async function* (requests: AsyncIterable<{ message?: { case?: string } }>) {
      let sequence = 0n;
      for await (const { message } of requests) {
        if (message?.case === "leave") return;
        const serverTime = timestampFromDate(clock.now());
        if (message?.case === "hello") {
          yield { message: { case: "welcome", value: { serverTime } } };
        } else {
          sequence++;
          // The machine sleeps after the service has answered and before the agent reads the answer.
          if (sequence === 2n) clock.stepWall(8 * hour);
          yield { message: { case: "ack", value: { sequence, serverTime } } };
        }
      }
    };
    const control = new AbortController();
    const ended = holdStream(
      {
        nodes: { heartbeat: answers } as unknown as StreamParts["nodes"],
        clock,
        random: () => 0,
        hello: { nodeId: "node", bootId: "boot", agentVersion: "test" },
        token: "token",
        sample: async () => undefined,
        perform: async () => "done",
        onServerTime: (serverTime) => told.push(clock.now().getTime() - serverTime.getTime()),
        onWelcome: () => undefined,
        onAck: () => void acks++,
        onDesired: () => undefined,
      },
      control.signal,
    );
    for (let second = 0; second < 600 && acks < 3; second++) await clock.advance(1_000);
    expect(acks).toBe(3);
    expect(told).toEqual([0, 0, 0]);
    control.abort();
    await within(ended, "the stream ends");
  });
});

describe("the history of a node", () => {
  const clockEvents = async (world: World, nodeId: string) =>
    (await world.nodes.listNodeEvents({ nodeId })).events
      .map(({ reason }) => reason)
      .filter((r) => r.includes("clock"));
  const beatAt = (world: World, sequence: bigint, aheadMs: number) => ({
    message: {
      case: "beat" as const,
      value: { sequence, sentAt: timestampFromDate(new Date(world.clock.now().getTime() + aheadMs)) },
    },
  });

  test.each<[string, number[], string[]]>([
    ["says nothing of a clock that is right", [0, 4_900, -4_900, 0], []],
    ["says nothing of one beat that was long on its way", [0, -60_000, 0, -60_000, 0], []],
    ["says once that a clock is ahead", [60_000, 60_000, 60_000, 60_000], ["the node's clock is 60 s ahead"]],
    ["says once that a clock is behind", [0, -7_000, -7_400, -7_000], ["the node's clock is 7 s behind"]],
    ["says nothing of a clock that swings", [60_000, -60_000, 60_000], []],
  ])("%s", async (_, aheads, expected) => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    for (const [place, aheadMs] of aheads.entries()) {
      stream.send(beatAt(world, BigInt(place + 1), aheadMs));
      await stream.next("ack");
      await world.pass(1_000);
    }
    expect(await clockEvents(world, nodeId)).toEqual(expected);
  });

  test("says it of a node that reports by unary calls, and not again in its next session", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    for (const bootId of ["one", "two"]) {
      let sessionEpoch: bigint | undefined;
      for (const sequence of [1n, 2n, 3n]) {
        const { value: beat } = beatAt(world, sequence, -20_000).message;
        const told = { nodeId, bootId, beat, ...(sessionEpoch === undefined ? {} : { sessionEpoch }) };
        ({ sessionEpoch } = await nodes.reportHeartbeat(told));
        await world.pass(1_000);
      }
    }
    expect(await clockEvents(world, nodeId)).toEqual(["the node's clock is 20 s behind"]);
  });
});

test("a clock is off by two beats in a row and in one direction", () => {
  expect(clockIsOff(5_001, 5_001)).toBe(true);
  expect(clockIsOff(-5_001, -9_000)).toBe(true);
  for (const [former, latter] of [
    [5_000, 9_000],
    [9_000, 5_000],
    [-9_000, 9_000],
    [0, 9_000],
  ] as const) {
    expect(clockIsOff(former, latter)).toBe(false);
  }
});

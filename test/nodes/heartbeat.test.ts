// What silence means, and how often a node may open a new session: tables of pure decisions.
import { describe, expect, test } from "vitest";
import {
  type HeartbeatTiming,
  type Judgement,
  judgement,
  lostAfterMs,
  sequenceStep,
  sharedIdentity,
} from "../../src/nodes/heartbeat.js";

const timing: HeartbeatTiming = { intervalMs: 30_000, graceMs: 30_000, lostAfterMs: undefined, rateMax: 2000 };
const never = Number.NEGATIVE_INFINITY;

describe("the judgement", () => {
  // The columns: last heard, able to hear since, now (ms of one monotonic clock).
  test.each<[string, number, number, number, Judgement]>([
    ["just heard", 1_000, 0, 1_000, "alive"],
    ["one short of the grace's end", 1_000, 0, 60_999, "alive"],
    ["at the grace's end", 1_000, 0, 61_000, "disconnected"],
    ["one short of lost", 1_000, 0, 300_999, "disconnected"],
    ["lost", 1_000, 0, 301_000, "lost"],
    ["not heard by this judge, who has just begun", never, 500_000, 500_000, "alive"],
    ["not heard by this judge for the grace", never, 500_000, 560_000, "disconnected"],
    ["not heard by this judge for as long as lost takes", never, 500_000, 800_000, "lost"],
    ["heard before the judge stood still: counted from then", 1_000, 500_000, 559_999, "alive"],
    ["heard before the judge stood still, silent since", 1_000, 500_000, 560_000, "disconnected"],
    ["heard since the judge stood still", 510_000, 500_000, 569_999, "alive"],
    ["heard since, silent since", 510_000, 500_000, 570_000, "disconnected"],
  ])("%s", (_, lastHeardMs, ableSinceMs, nowMs, expected) => {
    const judge = { nowMs, ableSinceMs, longestIntervalMs: 33_000 };
    expect(judgement({ lastHeardMs, intervalMs: 30_000 }, judge, timing)).toBe(expected);
  });

  test("of one not heard since counts the longest interval that may have been given before", () => {
    const judge = { nowMs: 700_000, ableSinceMs: 0, longestIntervalMs: 400_000 };
    expect(judgement({ lastHeardMs: never, intervalMs: 30_000 }, judge, timing)).toBe("disconnected");
    expect(judgement({ lastHeardMs: 1, intervalMs: 30_000 }, judge, timing)).toBe("lost");
  });

  test("LOST comes after max(300 s, 2 x (interval + grace)), or when the setting says", () => {
    expect(lostAfterMs(timing, 30_000)).toBe(300_000);
    expect(lostAfterMs(timing, 200_000)).toBe(460_000);
    expect(lostAfterMs({ ...timing, lostAfterMs: 5_000 }, 200_000)).toBe(5_000);
  });
});

describe("sequences", () => {
  test.each<[bigint, bigint, boolean, number]>([
    [0n, 1n, true, 0],
    [1n, 2n, true, 0],
    [1n, 4n, true, 2],
    [4n, 4n, false, 0],
    [4n, 3n, false, 0],
    [1n, 2n ** 63n - 1n, true, 10_000],
  ])("%i then %i", (last, sequence, fresh, missed) => {
    expect(sequenceStep(last, sequence)).toEqual({ fresh, missed });
  });
});

describe("takeovers", () => {
  /** Whether the identity counts as shared after each session; the node's document keeps the last twelve sessions. */
  const run = (sessions: readonly (readonly [number, string])[]): boolean[] =>
    sessions.map((_, last) =>
      sharedIdentity(
        sessions.slice(Math.max(0, last - 11), last + 1).map(([at, boot_id]) => ({ boot_id, at: new Date(at) })),
      ),
    );
  const alternating = (everyMs: number, count: number) =>
    Array.from({ length: count }, (_, turn): [number, string] => [turn * everyMs, turn % 2 === 0 ? "a" : "b"]);

  test("more than five back and forth in a minute are two machines", () => {
    expect(run(alternating(4_000, 9))).toEqual([false, false, false, false, false, false, false, true, true]);
  });

  test("slower than that they are not", () => {
    expect(run(alternating(15_000, 40))).not.toContain(true);
  });

  test("an agent that crashes on and on is one machine, and so is one that reconnects on and on", () => {
    expect(run(Array.from({ length: 40 }, (_, turn) => [turn * 1_000, `boot-${turn}`]))).not.toContain(true);
    expect(run(Array.from({ length: 40 }, (_, turn) => [turn * 1_000, "a"]))).not.toContain(true);
  });
});

// From which moment silence counts, given the stalls of the judge's own turns and of its store.
import { describe, expect, test } from "vitest";
import { createStallWatch } from "../../../src/nodes/silence/stall.js";

const turnMs = 1_000;

/** A watch that was made at 100 ms, on a clock that only `pass` moves. */
function aWatch(graceMs = 30_000) {
  let nowMs = 100;
  const watch = createStallWatch({ monotonicMs: () => nowMs }, turnMs, graceMs);
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { watch, pass, now: () => nowMs };
}

/** A turn that begins `afterMs` after the turn before it, and whose read of the store takes `answerMs`. */
function turn({ watch, pass }: ReturnType<typeof aWatch>, afterMs: number, answerMs = 0): number | undefined {
  pass(afterMs);
  const stoodMs = watch.turnBegins();
  pass(answerMs);
  watch.storeAnswered();
  watch.turnEnds();
  return stoodMs;
}

test("silence counts from the judge's start, whatever comes before its first turn", () => {
  const judge = aWatch();
  expect(turn(judge, 60_000)).toBeUndefined();
  expect(judge.watch.ableSinceMs()).toBe(100);
});

describe("a turn that comes late", () => {
  test.each([
    ["by the most that is no stall", 30_000, 3_000, undefined],
    ["by more", 30_000, 3_001, 3_001],
    ["where half the grace is less, by half the grace", 1_000, 1_500, undefined],
    ["and by more than half the grace", 1_000, 1_501, 1_501],
  ])("%s", (_, graceMs, afterMs, stoodMs) => {
    const judge = aWatch(graceMs);
    turn(judge, turnMs);
    expect(turn(judge, afterMs)).toBe(stoodMs);
    expect(judge.watch.ableSinceMs()).toBe(stoodMs === undefined ? 100 : judge.now());
  });

  test("is told once: the next one is on time", () => {
    const judge = aWatch();
    turn(judge, turnMs);
    turn(judge, 60_000);
    const ableSinceMs = judge.watch.ableSinceMs();
    expect(turn(judge, turnMs)).toBeUndefined();
    expect(judge.watch.ableSinceMs()).toBe(ableSinceMs);
  });

  test("is late by the end of the one before it, not by how long that one took", () => {
    const judge = aWatch();
    turn(judge, turnMs, 1_900);
    expect(turn(judge, 2_900)).toBeUndefined();
  });
});

describe("a store that answers late", () => {
  test.each([
    [30_000, 2_000, false],
    [30_000, 2_001, true],
    [1_000, 500, false],
    [1_000, 501, true],
  ])("with a grace of %i ms, after %i ms: counts anew is %s", (graceMs, answerMs, anew) => {
    const judge = aWatch(graceMs);
    turn(judge, turnMs, answerMs);
    expect(judge.watch.ableSinceMs()).toBe(anew ? judge.now() : 100);
  });
});

describe("a store that is away", () => {
  const cutOff = ({ watch, pass }: ReturnType<typeof aWatch>) => {
    pass(turnMs);
    watch.turnBegins();
    watch.storeAway();
  };

  test("has silence counted from its return, which is told by an answer and not by the attempt", () => {
    const judge = aWatch();
    for (let turns = 0; turns < 3; turns++) cutOff(judge);
    expect(judge.watch.ableSinceMs()).toBe(100);
    turn(judge, turnMs);
    expect(judge.watch.ableSinceMs()).toBe(judge.now());
  });

  test("has it counted anew once, not by each turn that follows", () => {
    const judge = aWatch();
    cutOff(judge);
    turn(judge, turnMs);
    const returnedMs = judge.now();
    turn(judge, turnMs);
    expect(judge.watch.ableSinceMs()).toBe(returnedMs);
  });

  test("is no stall of ours: a turn that was cut off has been a turn", () => {
    const judge = aWatch();
    turn(judge, turnMs);
    for (let turns = 0; turns < 5; turns++) cutOff(judge);
    expect(turn(judge, turnMs)).toBeUndefined();
  });
});

test("a judge that has just taken over counts from that moment", () => {
  const judge = aWatch();
  judge.pass(5_000);
  judge.watch.presumeLife();
  expect(judge.watch.ableSinceMs()).toBe(5_100);
});

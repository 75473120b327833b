// A loop goes on through an outage and ends at a programming mistake, and tasks that run together end together.
import { describe, expect, test } from "vitest";
import { CoordinationUnavailableError } from "../src/coordination/coordination.js";
import { nodeNotFound, unavailable } from "../src/failure.js";
import { DuplicateKeyError, StoreUnavailableError } from "../src/storage/collection.js";
import { type Next, runTasks, TaskError, turns, untilDone } from "../src/task.js";
import { createTestClock } from "./support/world/clock.js";
import { until, within } from "./support/world/until.js";

const everyMs = 1_000;

/** A loop whose turns end with `outcomes` in order. Later turns repeat the last outcome. */
function aLoop(outcomes: readonly (Next | Error)[], last?: () => Promise<void>) {
  const clock = createTestClock();
  const control = new AbortController();
  const told: string[] = [];
  const turnsAtMs: number[] = [];
  const loop = turns({
    clock,
    everyMs,
    turn: async () => {
      const outcome = outcomes[Math.min(turnsAtMs.length, outcomes.length - 1)];
      turnsAtMs.push(clock.monotonicMs());
      if (outcome instanceof Error) throw outcome;
      return outcome;
    },
    away: { began: (error) => told.push(`began ${String(error)}`), ended: () => told.push("ended") },
    ...(last === undefined ? {} : { last }),
  });
  const ended = loop.task(control.signal);
  ended.catch(() => undefined);
  return {
    ...{ clock, told, turnsAtMs, ended, wake: loop.wake },
    /** Lets the time of this many more waits pass. */
    pass: (waits: number) => clock.advance(waits * everyMs),
    stop: async () => {
      control.abort();
      await within(ended, "the loop ends");
    },
  };
}

const storeAway = new StoreUnavailableError("the store is away");

describe("a loop", () => {
  test.each([
    ["the store is away", storeAway],
    ["the coordination is away", new CoordinationUnavailableError("Redis is away")],
    ["a call is refused as unavailable", unavailable("many at once", 1_000)],
  ])("goes on when %s, and tells once that it began and once that it is over", async (_, error) => {
    const loop = aLoop([undefined, error, error, error, undefined]);
    await loop.pass(3);
    expect(loop.told).toEqual([`began ${String(error)}`]);
    await loop.pass(3);
    expect(loop.told).toEqual([`began ${String(error)}`, "ended"]);
    expect(loop.turnsAtMs).toEqual([0, 1, 2, 3, 4, 5, 6].map((turn) => turn * everyMs));
    await loop.stop();
  });

  test.each([
    ["a TypeError", new TypeError("a mistake")],
    ["a plain error", new Error("unforeseen")],
    ["an answer of the store that its turn should have taken", new DuplicateKeyError("nodes", "idx_name")],
    ["a refusal that its turn should have taken", nodeNotFound("node_1")],
  ])("ends by %s, with that error", async (_, error) => {
    const loop = aLoop([undefined, storeAway, error, undefined]);
    await loop.pass(5);
    expect(
      await within(
        loop.ended.catch((thrown: unknown) => thrown),
        "the loop ends",
      ),
    ).toBe(error);
    expect(loop.turnsAtMs).toHaveLength(3);
    expect(loop.told).toEqual([`began ${String(storeAway)}`]);
  });

  test("that takes no outage ends by one", async () => {
    const clock = createTestClock();
    const { task } = turns({ clock, everyMs, turn: () => Promise.reject<void>(storeAway) });
    await expect(task(new AbortController().signal)).rejects.toBe(storeAway);
  });

  test("tells of a second outage like of the first", async () => {
    const loop = aLoop([storeAway, undefined, storeAway, undefined]);
    await loop.pass(5);
    expect(loop.told).toEqual([`began ${String(storeAway)}`, "ended", `began ${String(storeAway)}`, "ended"]);
    await loop.stop();
  });

  test("takes no turn that asked nothing for the end of an outage", async () => {
    const loop = aLoop([storeAway, "idle", storeAway, "idle", undefined]);
    await loop.pass(3);
    expect(loop.told).toEqual([`began ${String(storeAway)}`]);
    await loop.pass(1);
    expect(loop.told).toEqual([`began ${String(storeAway)}`, "ended"]);
    await loop.stop();
  });

  test("goes on at once while its turns say so, and waits after the others", async () => {
    const loop = aLoop(["at once", "at once", undefined]);
    await loop.pass(1);
    expect(loop.turnsAtMs).toEqual([0, 0, 0, everyMs]);
    await loop.stop();
  });

  test("ends when a turn says that all is done", async () => {
    const loop = aLoop([storeAway, storeAway, "done"]);
    await loop.pass(2);
    await within(loop.ended, "the loop ends");
    expect(loop.turnsAtMs).toHaveLength(3);
    expect(loop.told.at(-1)).toBe("ended");
  });

  test("that is woken does not wait, whether it was in a wait or in a turn", async () => {
    const clock = createTestClock();
    const control = new AbortController();
    const endTurn: (() => void)[] = [];
    const { task, wake } = turns({
      clock,
      everyMs,
      turn: () => new Promise<void>((resolve) => endTurn.push(resolve)),
    });
    const ended = task(control.signal);
    endTurn[0]?.();
    await until(() => clock.sleepers === 1, "it waits");
    wake();
    await until(() => endTurn.length === 2, "it was woken out of its wait");
    wake();
    endTurn[1]?.();
    await until(() => endTurn.length === 3, "it was woken in its turn");
    expect(clock.sleepers).toBe(0);
    endTurn[2]?.();
    await until(() => clock.sleepers === 1, "nothing wakes it any more");
    control.abort();
    await within(ended, "the loop ends");
  });

  test("does what is left to do once, after the end, and an outage then is told and no failure", async () => {
    let count = 0;
    const loop = aLoop([undefined], async () => {
      count++;
      throw storeAway;
    });
    await loop.pass(1);
    expect(count).toBe(0);
    await loop.stop();
    expect([count, loop.told]).toEqual([1, [`began ${String(storeAway)}`]]);
  });

  test("that has begun to end takes no further turn", async () => {
    const loop = aLoop([undefined]);
    await loop.pass(1);
    await loop.stop();
    await loop.pass(3);
    expect(loop.turnsAtMs).toHaveLength(2);
  });
});

describe("tasks that run together", () => {
  const untilAborted = (signal: AbortSignal) =>
    new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));

  test("end together when one fails, with its error and its name", async () => {
    const mistake = new TypeError("a mistake");
    const failing = Promise.withResolvers<void>();
    const tasks = runTasks({
      // This task fails because the others end, so its error is not the reason for the end.
      follower: async (signal) => {
        await untilAborted(signal);
        throw new Error("cut off");
      },
      failing: () => failing.promise,
      brief: async () => undefined,
    });
    await until(() => tasks.running().length === 2, "one task is done");
    expect(tasks.running()).toEqual(["follower", "failing"]);
    failing.reject(mistake);
    const error = await within(
      tasks.ended.catch((thrown: unknown) => thrown),
      "all end",
    );
    expect(error).toBeInstanceOf(TaskError);
    expect(error).toMatchObject({ task: "failing", cause: mistake });
    expect([tasks.names, tasks.running()]).toEqual([["follower", "failing", "brief"], []]);
    await tasks.stop();
  });

  test("end in order when they are stopped, and a failure on the way is told by their end", async () => {
    const orderly = runTasks({ one: untilAborted, two: untilAborted });
    await within(orderly.stop(), "they stop");
    await orderly.ended;
    const tasks = runTasks({
      one: untilAborted,
      two: async (signal) => {
        await untilAborted(signal);
        throw new TypeError("a mistake at the end");
      },
    });
    await within(tasks.stop(), "they stop");
    await expect(tasks.ended).rejects.toMatchObject({ task: "two" });
  });

  test("may be tried until they are done", async () => {
    const clock = createTestClock();
    const told: string[] = [];
    let tries = 0;
    const task = untilDone({
      work: async () => {
        if (++tries < 3) throw storeAway;
      },
      clock,
      away: { began: () => told.push("began"), ended: () => told.push("ended") },
    });
    const ended = task(new AbortController().signal);
    await clock.advance(2_000);
    await within(ended, "it is done");
    expect([tries, told]).toEqual([3, ["began", "ended"]]);
  });
});

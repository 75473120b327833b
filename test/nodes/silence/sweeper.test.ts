// The flush of beats into a store that is too slow for many writes at once.
import { expect, test } from "vitest";
import type { NodeRepository } from "../../../src/nodes/repository.js";
import type { Session } from "../../../src/nodes/sessions/session.js";
import type { Sessions } from "../../../src/nodes/sessions/sessions.js";
import { createSweeper } from "../../../src/nodes/silence/sweeper.js";
import { StoreUnavailableError } from "../../../src/storage/collection.js";
import { silentLog } from "../../../src/telemetry/log.js";
import { createTestClock } from "../../support/world/clock.js";
import { until } from "../../support/world/until.js";

test("beats get through to a store that takes only few at a time, and many again when it can", async () => {
  const clock = createTestClock();
  const beats = 1000;
  const waiting = new Set(
    Array.from({ length: beats }, (_, place) => ({ nodeId: `node_${place}`, epoch: 1, lastHeardAt: clock.now() })),
  );
  let mostAtOnce = 60;
  const written: number[] = [];
  let reports = 0;
  const sessions = {
    tend: () => undefined,
    settleDoubts: async () => undefined,
    registry: {
      all: () => [].values(),
      paceMs: () => 30_000,
      takeHeard: () => {
        const taken = [...waiting];
        waiting.clear();
        return taken as unknown as Session[];
      },
      putBackHeard: (taken: readonly Session[]) => {
        for (const session of taken) waiting.add(session);
      },
    },
  } as unknown as Sessions;
  const repository = {
    flush: async (part: readonly unknown[]) => {
      if (part.length > mostAtOnce) throw new StoreUnavailableError("no answer in time");
      written.push(part.length);
      return part.length;
    },
  } as unknown as NodeRepository;
  const sweeper = createSweeper({
    repository,
    sessions,
    expire: async () => ({ kind: "moved" }),
    replicaId: "replica",
    storeNow: async () => clock.now(),
    report: async () => {
      reports++;
    },
    leave: async () => undefined,
    clock,
    timing: { intervalMs: 30_000, graceMs: 30_000, lostAfterMs: undefined, rateMax: 2000 },
    log: silentLog,
  });
  const over = new AbortController();
  const running = sweeper.task(over.signal);
  const turn = async () => {
    await until(() => clock.sleepers > 0, "the turn is over");
    await clock.advance(1000);
  };
  const sum = () => written.reduce((total, count) => total + count, 0);
  for (let count = 0; sum() < beats; count++) {
    expect(count).toBeLessThan(40);
    await turn();
  }
  expect(sum()).toBe(beats);
  await until(() => reports > 0, "the watermark has moved");

  mostAtOnce = 1000;
  for (let node = 0; node < 5000; node++) {
    waiting.add({ nodeId: `node_${node}`, epoch: 1, lastHeardAt: clock.now() });
  }
  await turn();
  await until(() => sum() === beats + 5000, "all are written");
  expect(Math.max(...written)).toBe(1000);
  over.abort();
  await running;
});

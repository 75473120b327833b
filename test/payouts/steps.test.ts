// Steps of one payout that need a world around them, and no chance.
import { expect, it } from "vitest";
import { randomFrom } from "../support/world/random.js";
import type { Fault, Point } from "./world/process.js";
import { createPayoutWorld } from "./world/world.js";

const open = (fault: (point: Point) => Fault | undefined, random: () => number = () => 0.5) =>
  createPayoutWorld({ random, unknownForMs: 0, weather: { delayMs: () => 1, fault } });

it("does not build a transaction again that it has given up: one txid has one end", async () => {
  let signs = 0;
  // The first signature fails, and the next stamps are the same for a while: within one block they make the same bytes.
  const stamps = [0.1, 0.1, 0.1, 0.2];
  const world = open(
    ({ name }) => (name === "gateway sign" && ++signs === 1 ? { kind: "lost", applied: false, blindMs: 0 } : undefined),
    () => stamps.shift() ?? 0.3,
  );
  const caller = await world.startCaller("c");
  await world.startWorker("a");
  void caller.create({ key: "k" });
  expect(await world.until(() => world.payout("k")?.phase === "done", 600_000)).toBe(true);
  const { attempts = [], status } = world.payout("k") ?? {};
  expect(status).toBe("completed");
  expect(attempts.map(({ outcome }) => outcome)).toEqual(["never_sent", "landed"]);
  expect(new Set(attempts.map(({ txid }) => txid)).size).toBe(2);
  await world.pass(60_000);
  world.finish();
});

it("gives each of 50 payouts to one recipient a transaction of its own, though stamps repeat", async () => {
  const random = randomFrom(3);
  // A hundred stamps for fifty payouts that are built within a few blocks: some meet in one txid.
  const world = createPayoutWorld({
    ...{ random, stamps: 100, unknownForMs: 0, batchSize: 50 },
    weather: { delayMs: () => 1, fault: () => undefined },
  });
  const caller = await world.startCaller("c");
  await world.startWorker("a");
  await world.startWorker("b");
  const same = { recipient: "somebody", amountMinor: 7n };
  void caller.createBatch(
    "batch_1",
    Array.from({ length: 50 }, (_, n) => ({ ...same, key: `k${n}` })),
  );
  await world.startWorker("story", true);
  const all = () => [...world.payouts().values()];
  expect(await world.until(() => all().length === 50 && all().every(({ phase }) => phase === "done"), 600_000)).toBe(
    true,
  );
  expect(new Set(all().map(({ txid }) => txid)).size).toBe(50);
  expect(all().every(({ status, retry_count: retries }) => status === "completed" && retries === 0)).toBe(true);
  world.finish();
});

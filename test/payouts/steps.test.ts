// Steps of one payout that need a world around them, and no chance.
import { expect, it } from "vitest";
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

// Coordination within one process: it keeps the contract, and its memory is bounded.
import { expect, it } from "vitest";
import { createLocalCoordination } from "../../src/coordination/local.js";
import { describeCoordination } from "../contract/coordination.js";
import { createTestClock } from "../support/world/clock.js";

describeCoordination("local", async () => {
  const clock = createTestClock();
  const coordination = createLocalCoordination({ clock });
  return {
    coordination,
    other: coordination,
    pass: (ms) => clock.advance(ms),
    close: () => coordination[Symbol.asyncDispose](),
  };
});

it("forgets the oldest when more keys come than it keeps, and no others", async () => {
  const coordination = createLocalCoordination({ clock: createTestClock() });
  const hit = async (key: string) => (await coordination.hit(key, 1, 60_000)).count;
  for (let n = 0; n < 100_000; n++) await hit(`key${n}`);
  expect(await hit("key0")).toBe(2);
  await hit("one more");
  expect(await hit("key1")).toBe(2);
  expect(await hit("key0")).toBe(1);
});

it("lets go of what is over as other calls come", async () => {
  const clock = createTestClock();
  const coordination = createLocalCoordination({ clock });
  // If windows that are over were kept, they would fill the memory and push out those that still count.
  await coordination.hit("lasting", 1, 1_000_000);
  for (let round = 0; round < 20; round++) {
    for (let n = 0; n < 10_000; n++) await coordination.hit(`${round} ${n}`, 1, 1000);
    await clock.advance(1000);
  }
  expect(await coordination.hit("lasting", 1, 1_000_000)).toMatchObject({ count: 2 });
});

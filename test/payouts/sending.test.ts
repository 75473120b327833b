// Whether payouts may be sent, as all replicas see it.
import { expect, it } from "vitest";
import type { UnknownTransfer } from "../../src/payouts/document.js";
import { createPayoutRepository } from "../../src/payouts/repository.js";
import { createSending } from "../../src/payouts/sending.js";
import { createTestClock } from "../support/world/clock.js";
import { createMemoryStore } from "./world/memory-store.js";

const person = (name: string) => ({ at: new Date(0), actor: name });
const orphan = (txid: string): UnknownTransfer => ({
  ...{ txid, currency: "USDT", amount_minor: "5", recipient_masked: "T…", recipient_fingerprint: "print" },
  ...{ block: { number: 1, id: "b1", timeMs: 0 }, kind: "orphan" },
});

async function openTwo() {
  const store = createMemoryStore({ now: () => new Date(0) });
  const clock = createTestClock();
  const replica = async () => createSending({ repository: await createPayoutRepository(store), clock });
  return { clock, one: await replica(), other: await replica() };
}

it("waits for the comparison of each currency after each start", async () => {
  const { one, other } = await openTwo();
  one.markCompared("USDT");
  expect(await one.stopped("USDT")).toBeUndefined();
  expect(await one.stopped("LUCID")).toMatchObject({ code: "COMPARING" });
  expect(await other.stopped("USDT")).toMatchObject({ code: "COMPARING" });
});

it("stops on all replicas within a second when a person pauses it, until a person resumes", async () => {
  const { clock, one, other } = await openTwo();
  for (const sending of [one, other]) sending.markCompared("USDT");
  expect(await other.stopped("USDT")).toBeUndefined();
  await one.pause("an audit", person("ann"));
  await one.pause("another reason", person("bob"));
  expect(await one.stopped("USDT")).toEqual({ code: "PAUSED", message: "Sending is paused: an audit" });
  await clock.advance(1_000);
  expect(await other.stopped("USDT")).toMatchObject({ code: "PAUSED" });
  await other.resume(person("bob"));
  await clock.advance(1_000);
  expect(await one.stopped("USDT")).toBeUndefined();
});

it("stops at an unknown transfer until a person accepts it, and is not resumed over it", async () => {
  const { one } = await openTwo();
  one.markCompared("USDT");
  await one.pause("an audit", person("ann"));
  await one.change(() => ({ unknown: [orphan("t1")] }));
  await expect(one.resume(person("ann"))).rejects.toThrow(/t1/);
  await expect(one.accept("t2", "", person("ann"))).rejects.toThrow(/t2/);
  await one.accept("t1", "known", person("ann"));
  await one.accept("t1", "again", person("bob"));
  expect((await one.look()).accepted).toMatchObject([{ txid: "t1", note: "known", by: "ann" }]);
  expect(await one.stopped("USDT")).toMatchObject({ code: "PAUSED" });
  await one.resume(person("ann"));
  expect(await one.stopped("USDT")).toBeUndefined();
});

it("keeps every change when replicas write at once", async () => {
  const { one, other } = await openTwo();
  const changes = Array.from({ length: 20 }, (_, n) =>
    (n % 2 === 0 ? one : other).change(({ unknown }) => ({ unknown: [...unknown, orphan(`t${n}`)] })),
  );
  await Promise.all(changes);
  expect((await one.look()).unknown).toHaveLength(20);
});

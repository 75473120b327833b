// The comparison of what the wallets paid with what is recorded. After a restore it is all that stands between a payout
// and its second payment.
import { describe, expect, it } from "vitest";
import type { PayoutDocument, SendingDocument } from "../../src/payouts/document.js";
import type { BlockRef, Gateway, SeenTransfer } from "../../src/payouts/gateway/gateway.js";
import { createMatching, kindOf } from "../../src/payouts/matching.js";
import { createPayoutRepository } from "../../src/payouts/repository.js";
import { createSending } from "../../src/payouts/sending.js";
import { silentLog } from "../../src/telemetry/log.js";
import { createTestClock } from "../support/world/clock.js";
import { randomFrom } from "../support/world/random.js";
import { createMemoryStore } from "./world/memory-store.js";
import type { Process } from "./world/process.js";
import { createPayoutWorld } from "./world/world.js";

const block = (number: number): BlockRef => ({ number, id: `b${number}`, timeMs: 1_000_000 + number * 3_000 });
const seen = (txid: string, number = 1): SeenTransfer => ({
  ...{ txid, recipient: "somebody", amountMinor: 5n, block: block(number) },
});
const print = (text: string) => `print of ${text}`;
const never = { began: () => undefined, ended: () => undefined };

describe("a transfer out of the wallet", () => {
  const attempt = { txid: "t1", sends: 1, outcome: "live" };
  const payout = (fields: object = {}, ofAttempt: object = {}): PayoutDocument =>
    ({
      ...{ recipient_fingerprint: print("somebody"), amount_minor: "5", status: "processing" },
      ...{
        attempts: [
          { txid: "t0", sends: 1, outcome: "dead" },
          { ...attempt, ...ofAttempt },
        ],
        ...fields,
      },
    }) as unknown as PayoutDocument;

  it.each([
    ["belongs to a live attempt", payout(), "matched"],
    ["belongs to a completed payout", payout({ status: "completed" }, { outcome: "landed" }), "matched"],
    ["belongs to no payout", null, "orphan"],
    ["belongs to an attempt that was never sent", payout({}, { sends: 0, outcome: "never_sent" }), "wrong"],
    ["belongs to an attempt whose send was not recorded", payout({}, { sends: 0 }), "wrong"],
    ["belongs to an attempt that counts as dead", payout({}, { outcome: "dead" }), "wrong"],
    ["belongs to an attempt that counts as reverted", payout({}, { outcome: "reverted" }), "wrong"],
    ["belongs to a payout that failed", payout({ status: "failed" }), "wrong"],
    ["belongs to a payout that was cancelled", payout({ status: "cancelled" }), "wrong"],
    ["pays another amount", payout({ amount_minor: "6" }), "wrong"],
    ["pays another recipient", payout({ recipient_fingerprint: print("another") }), "wrong"],
  ] as const)("that %s", (_, found, kind) => {
    expect(kindOf(seen("t1"), print("somebody"), found)).toBe(kind);
  });
});

describe("the comparison after a start", () => {
  const open = async (gateway: Partial<Gateway>, now = block(0)) => {
    const store = createMemoryStore({ now: () => new Date(now.timeMs) });
    const repository = await createPayoutRepository(store);
    const clock = createTestClock();
    const sending = createSending({ repository, clock });
    const gateways = new Map([
      ["USDT", { unknownForMs: 60_000, solidAfterMs: 60_000, ...gateway } as Gateway] as const,
    ]);
    const vault = { fingerprint: print };
    const matching = createMatching({ repository, gateways, sending, vault, clock, log: silentLog, away: never });
    return { sending, matching };
  };
  const honest = (to: () => number, transfers: readonly SeenTransfer[] = []): Partial<Gateway> => ({
    solid: async () => block(to()),
    transfersAfter: async (after) => ({
      transfers: transfers.filter((one) => one.block.number > after && one.block.number <= to()),
      to: block(to()),
    }),
  });

  it("waits until solid blocks show all that a former process may have sent", async () => {
    let solid = 0;
    const { sending, matching } = await open(honest(() => solid));
    for (solid = 0; solid < 40; solid += 5) {
      await matching.now();
      expect(sending.isCompared("USDT")).toBe(false);
    }
    solid = 40;
    await matching.now();
    expect(sending.isCompared("USDT")).toBe(true);
  });

  it("is not shortened by a node that lags behind", async () => {
    let solid = 0;
    // The store's clock is 100 blocks ahead of what the node tells: a transaction may still come 20 blocks later.
    const { sending, matching } = await open(
      honest(() => solid),
      block(100),
    );
    for (const next of [0, 50, 100, 119]) {
      solid = next;
      await matching.now();
      expect(sending.isCompared("USDT")).toBe(false);
    }
    solid = 120;
    await matching.now();
    expect(sending.isCompared("USDT")).toBe(true);
  });

  it("is not over while the transfers themselves come from a node that lags behind", async () => {
    let told = 0;
    let solid = 0;
    const { sending, matching } = await open({ ...honest(() => told), solid: async () => block(solid) });
    await matching.now();
    [told, solid] = [20, 100];
    await matching.now();
    expect(sending.isCompared("USDT")).toBe(false);
    told = 100;
    await matching.now();
    expect(sending.isCompared("USDT")).toBe(true);
  });

  it("is not over while there are more unknown transfers than people are told of at once", async () => {
    const transfers = Array.from({ length: 150 }, (_, n) => seen(`t${n}`, 1 + Math.floor(n / 10)));
    let solid = 0;
    const { sending, matching } = await open({ ...honest(() => solid, transfers), unknownForMs: 0 }, block(0));
    await sending.change(() => ({ matched: { USDT: block(0) } }));
    solid = 50;
    await matching.now();
    const { unknown } = await sending.look();
    expect(unknown).toHaveLength(100);
    expect(await sending.stopped("USDT")).toMatchObject({ code: "UNKNOWN_TRANSFER" });
    const person = { at: new Date(0), actor: "a person" };
    for (const { txid } of unknown) await sending.accept(txid, "looked at", person);
    expect(await sending.stopped("USDT")).toMatchObject({ code: "COMPARING" });
    await matching.now();
    expect(await sending.stopped("USDT")).toMatchObject({ code: "UNKNOWN_TRANSFER" });
    expect((await sending.look()).unknown).toHaveLength(50);
  });
});

describe("a store that was restored from an old copy", () => {
  /** Twenty payouts, each to a recipient of its own; the store goes back to an older time while they are being paid. */
  const restore = async (seed: number): Promise<{ twice: string[]; paid: number; unknown: number }> => {
    const random = randomFrom(seed);
    let lag = 0;
    const world = createPayoutWorld({
      random,
      weather: { delayMs: () => 5, fault: () => undefined },
      node: () => ({ lag }),
      ...{ everyMs: 2_000, claimMs: 10_000, batchSize: 5 },
    });
    const keys = Array.from({ length: 20 }, (_, n) => `k${n}`);
    const caller = await world.startCaller("c");
    let workers: Process[] = await Promise.all(["a", "b"].map((name) => world.startWorker(name)));
    const copyMs = 150_000 + random() * 200_000;
    for (const [n, key] of keys.entries()) {
      // Half of them have been paid for long; the others are new when the copy is taken.
      const atMs = n % 2 === 0 ? random() * copyMs : copyMs - random() * 3_000;
      world.scheduler.after(atMs, () => void caller.create({ key }));
    }
    await world.pass(copyMs);
    const copy = world.store.snapshot();
    await world.pass(1_000 + random() * (random() < 0.5 ? 10_000 : 150_000));
    for (const worker of workers) worker.crash();
    world.store.restore(copy);
    world.auditor.restored(world.payouts());
    // At once, and from a node that is minutes behind and catches up in one leap.
    lag = Math.floor(random() * 60);
    workers = await Promise.all(["c", "d"].map((name) => world.startWorker(name)));
    await world.pass(20_000 + random() * 60_000);
    lag = 0;
    let unknown = 0;
    for (let look = 0; look < 60; look++) {
      await world.pass(15_000);
      const [sending] = [...world.store.all<SendingDocument>("payout_sending").values()];
      for (const { txid, recipient_fingerprint: recipient } of sending?.unknown ?? []) {
        unknown++;
        // A person looks at whom it paid, and cancels the payout that does not know of it.
        const owner = [...world.payouts().values()].find((one) => one.recipient_fingerprint === recipient);
        if (owner?.idempotency_id !== undefined) void caller.cancel(owner.idempotency_id);
        await world.pass(1_000);
        void caller.sending.accept(txid, "paid before the restore", { at: new Date(0), actor: "a person" });
        await world.pass(1_000);
      }
    }
    const transfers = new Map<string, number>();
    const solid = world.chain.solid().number;
    for (let number = 0; number <= solid; number++) {
      for (const { wanted, revert } of world.chain.block(number)?.included ?? []) {
        if (revert === undefined) transfers.set(wanted.recipient, (transfers.get(wanted.recipient) ?? 0) + 1);
      }
    }
    expect([...world.mistakes, ...world.auditor.broken]).toEqual([]);
    const twice = [...transfers].filter(([, count]) => count > 1).map(([recipient]) => recipient);
    return { twice, paid: transfers.size, unknown };
  };

  it("pays nothing twice, whatever was paid since the copy", { timeout: 60_000 }, async () => {
    const seeds = Array.from({ length: 25 }, (_, n) => n + 1);
    let [unknown, paid] = [0, 0];
    for (const seed of seeds) {
      const ran = await restore(seed);
      expect({ seed, twice: ran.twice }).toEqual({ seed, twice: [] });
      unknown += ran.unknown;
      paid += ran.paid;
    }
    // Otherwise the restores were too harmless to show anything.
    expect(unknown).toBeGreaterThan(25);
    expect(paid).toBeGreaterThan(250);
  });
});

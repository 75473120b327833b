// What is told afterwards: each step of a payout once and in order, each act of a person in the audit log, and figures
// that add up.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type PayoutEvent, PayoutPhase, PayoutStatus } from "../../gen/lucid/node/v1/payout_service_pb.js";
import { type AuditDocument, auditCollection } from "../../src/admin/audit.js";
import { isLegal, type Step, transitions } from "../../src/payouts/payout.js";
import { aName } from "../support/world/builders.js";
import { until } from "../support/world/until.js";
import { openWorld, type World } from "../support/world/world.js";
import {
  aPayee,
  done,
  lucid,
  lucidAddress,
  order,
  payBehindOurBack,
  quickChain,
  settling,
  slowChain,
  storyOf,
  usdt,
} from "./paying.js";

const phaseNames = ["none", "held", "queued", "building", "sending", "settling", "done"] as const;
/** Each event follows from the one before, by legal steps and growing versions, and is there once. */
function expectWhole(story: readonly PayoutEvent[]) {
  let phase: (typeof phaseNames)[number] = "none";
  let version = 0n;
  for (const { step, from, to, version: made, eventId, payoutId } of story) {
    expect(phaseNames[from]).toBe(phase);
    const next = phaseNames[to] ?? "none";
    expect(next !== "none" && step in transitions && isLegal(step as Step, phase, next), `${step} to ${next}`).toBe(
      true,
    );
    expect(made).toBeGreaterThan(version);
    expect(eventId).toContain(payoutId);
    [phase, version] = [next, made];
  }
  expect(new Set(story.map(({ eventId }) => eventId)).size).toBe(story.length);
}

describe("the story of a payout", () => {
  test("tells each step once and in order, in pages of any size, also after restarts", async () => {
    await using world = await openWorld({ settings: { ...quickChain, SANDBOX_FAULTS: "revert=1" } });
    const { payoutId } = await order(world, await aPayee(world));
    await settling(world, payoutId);
    await world.restart("crash");
    await done(world, payoutId);
    const story = await storyOf(world, payoutId);
    expectWhole(story);
    expect(story.at(0)).toMatchObject({ step: "create", actor: "admin-1", from: PayoutPhase.UNSPECIFIED });
    expect(story.at(-1)).toMatchObject({ step: "revert", to: PayoutPhase.DONE });
    expect(story.filter(({ step }) => step === "send")).toHaveLength(4);
    expect(story.slice(1).every(({ actor }) => actor.startsWith("worker:"))).toBe(true);
    await world.restart("stop");
    for (const limit of [1, 3, 100]) expect(await storyOf(world, payoutId, limit)).toEqual(story);
    const { pagination } = await world.payouts.listPayoutEvents({ payoutId, limit: 2 });
    expect(pagination?.total).toBe(story.length);
  });

  test("is whole when it is read while it is written", async () => {
    await using world = await openWorld({ settings: quickChain });
    const { payoutId } = await order(world, await aPayee(world));
    let last = 0;
    await until(
      async () => {
        const story = await storyOf(world, payoutId, 2);
        expectWhole(story);
        expect(story.length).toBeGreaterThanOrEqual(last);
        last = story.length;
        return story.at(-1)?.to === PayoutPhase.DONE;
      },
      "the story ends",
      20_000,
    );
  });
});

describe("the audit log", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld({ settings: { ...quickChain, PAYOUT_APPROVAL_THRESHOLD_USDT: "100" } });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  /** All entries about these, when there are at least so many. */
  async function audited(targets: readonly string[], count: number): Promise<AuditDocument[]> {
    const collection = await world.store.collection<AuditDocument>(auditCollection);
    const find = async () => {
      const { items } = await collection.page({}, { index: "idx_at", limit: 500 });
      return items.filter(({ target }) => targets.includes(target));
    };
    await until(async () => (await find()).length >= count, `${count} acts are in the audit log`, 20_000);
    return find();
  }
  const actsOf = (entries: readonly AuditDocument[]) =>
    entries.map(({ action, actor }) => `${action} by ${actor}`).sort();

  test("has each act on a payout once, with who did it, why, and in which request; workers are not in it", async () => {
    const nodeId = await aPayee(world);
    const approver = world.as(await world.token("approver")).payouts;
    const large = { money: usdt("500") };
    const approved = await order(world, nodeId, large);
    await approver.approvePayout({ payoutId: approved.payoutId, note: "it is right" });
    await approver.approvePayout({ payoutId: approved.payoutId, note: "again" });
    const rejected = await order(world, nodeId, large);
    await approver.rejectPayout({ payoutId: rejected.payoutId, reason: "it is wrong" });
    const cancelled = await order(world, nodeId, large);
    for (let times = 0; times < 2; times++) await world.payouts.cancelPayout({ payoutId: cancelled.payoutId });
    await done(world, approved.payoutId);
    const ids = [approved, rejected, cancelled].map(({ payoutId }) => payoutId);
    const entries = await audited(ids, 6);
    expect(actsOf(entries)).toEqual([
      ...["payout.approve by approver-1", "payout.cancel by admin-1"],
      ...["payout.create by admin-1", "payout.create by admin-1", "payout.create by admin-1"],
      "payout.reject by approver-1",
    ]);
    const { reason, request_id: requestId, at } = entries.find(({ action }) => action === "payout.reject") ?? {};
    expect([reason, typeof requestId, at instanceof Date]).toEqual(["it is wrong", "string", true]);
  });

  test("has one entry for a batch, not one for each payout of it", async () => {
    const nodeId = await aPayee(world);
    const payoutRequests = Array.from({ length: 5 }, () => ({ nodeId, money: usdt("1") }));
    const batchId = aName("batch_b");
    await world.payouts.createBatchPayout({ batchId, payoutRequests });
    let payouts = (await world.payouts.listPayouts({ batchId })).payouts;
    await until(async () => {
      payouts = (await world.payouts.listPayouts({ batchId })).payouts;
      return payouts.length === 5 && payouts.every(({ status }) => status === PayoutStatus.COMPLETED);
    }, "the batch is paid");
    for (const { payoutId } of payouts) expectWhole(await storyOf(world, payoutId));
    expect(actsOf(await audited([batchId, ...payouts.map(({ payoutId }) => payoutId)], 1))).toEqual([
      "batch.create by admin-1",
    ]);
  });

  test("has a caller's acts even if that caller is called like a worker", async () => {
    const nodeId = await aPayee(world);
    const sly = world.as(await world.token("payer", { subject: "worker:me" }));
    const { payoutId } = await order(sly, nodeId, { money: usdt("500") });
    await sly.payouts.cancelPayout({ payoutId });
    expect(actsOf(await audited([payoutId], 2))).toEqual([
      ...["payout.cancel by worker:me", "payout.create by worker:me"],
    ]);
  });

  test("has every act on sending", async () => {
    await world.payouts.pausePayouts({ reason: "we look" });
    await world.payouts.pausePayouts({ reason: "again" });
    await world.payouts.resumePayouts({});
    await world.payouts.resumePayouts({});
    const transactionHash = await payBehindOurBack(world, { block: 1 });
    await world.payouts.reconcilePayouts({});
    await world.payouts.acceptTransfer({ transactionHash, note: "I did it" });
    await world.payouts.acceptTransfer({ transactionHash, note: "again" });
    const entries = await audited(["sending"], 4);
    expect(actsOf(entries)).toEqual([
      ...["sending.accept_transfer by admin-1", "sending.pause by admin-1"],
      ...["sending.reconcile by admin-1", "sending.resume by admin-1"],
    ]);
    expect(entries.find(({ action }) => action === "sending.accept_transfer")).toMatchObject({
      ...{ reason: "I did it", transaction_hash: transactionHash },
    });
  });
});

test("the audit log tells a retry", async () => {
  const settings = { ...quickChain, SANDBOX_FAULTS: "revert=1", PAYOUT_MAX_RETRIES: "0" };
  await using world = await openWorld({ settings });
  const { payoutId } = await order(world, await aPayee(world));
  await done(world, payoutId);
  const { payout } = await world.payouts.retryPayout({ payoutId, idempotencyKey: "again" });
  const collection = await world.store.collection<AuditDocument>(auditCollection);
  await until(
    async () =>
      (await collection.page({ target: payout?.payoutId ?? "" }, { index: "idx_target", limit: 9 })).items.length > 0,
    "the retry is in the audit log",
  );
  const { items } = await collection.page({ target: payout?.payoutId ?? "" }, { index: "idx_target", limit: 9 });
  expect(items.map(({ action }) => action)).toEqual(["payout.retry"]);
});

describe("figures", () => {
  test("of statistics, queue and earnings agree with the payouts", async () => {
    await using world = await openWorld({ settings: quickChain });
    const [one, other] = [await aPayee(world), await aPayee(world)];
    const paid = [
      await order(world, one, { money: usdt("0.1") }),
      await order(world, one, { money: usdt("0.2") }),
      await order(world, one, { money: lucid("0.00000101"), walletAddress: lucidAddress }),
      await order(world, other, { money: usdt("1000000") }),
    ];
    for (const { payoutId } of paid) await done(world, payoutId);
    await world.payouts.pausePayouts({ reason: "for the test" });
    const waiting = await order(world, one, { money: usdt("5") });
    const cancelled = await order(world, one, { money: usdt("7") });
    await world.payouts.cancelPayout({ payoutId: cancelled.payoutId });

    const { earnings } = await world.payouts.getNodeEarnings({ nodeId: one });
    expect(earnings).toMatchObject([
      { currency: 1, paid: "0.3", inFlight: "5", failed: "0" },
      { currency: 2, paid: "0.00000101", inFlight: "0", failed: "0" },
    ]);
    const { totals } = await world.payouts.getPayoutStatistics({});
    const told = totals.map(({ currency, status, count, amount }) => `${currency} ${status} ${count} ${amount}`).sort();
    expect(told).toEqual(
      [
        ...[`1 ${PayoutStatus.PENDING} 1 5`, `1 ${PayoutStatus.COMPLETED} 3 1000000.3`],
        ...[`1 ${PayoutStatus.CANCELLED} 1 7`, `2 ${PayoutStatus.COMPLETED} 1 0.00000101`],
      ].sort(),
    );
    expect(await world.payouts.getPayoutQueue({})).toMatchObject({
      byStatus: { PAYOUT_STATUS_PENDING: 1, PAYOUT_STATUS_PROCESSING: 0 },
      byPhase: { PAYOUT_PHASE_QUEUED: 1, PAYOUT_PHASE_HELD: 0, PAYOUT_PHASE_SETTLING: 0 },
      oldestWaiting: waiting.createdAt,
    });

    const name = (suffix: string) => `lucid_node_management_${suffix}`;
    expect(await world.count(name("payouts_total"), { currency: "USDT", status: "pending" })).toBe(5);
    expect(await world.count(name("payouts_total"), { currency: "USDT", status: "completed" })).toBe(3);
    expect(await world.count(name("payouts_total"), { currency: "USDT", status: "cancelled" })).toBe(1);
    expect(await world.count(name("payouts_total"), { currency: "LUCID", status: "completed" })).toBe(1);
    expect(await world.count(name("payout_gateway_answers_total"), { currency: "USDT", class: "accepted" })).toBe(3);
  });

  test("of the queue are measured, with what holds it", async () => {
    await using world = await openWorld({ settings: slowChain });
    const nodeId = await aPayee(world);
    await settling(world, (await order(world, nodeId)).payoutId);
    await world.payouts.pausePayouts({ reason: "for the test" });
    await order(world, nodeId);
    await world.restart("stop");
    const name = (suffix: string) => `lucid_node_management_${suffix}`;
    await until(
      async () => (await world.count(name("payout_queue_depth"), { phase: "settling" })) === 1,
      "it is measured",
    );
    expect(await world.count(name("payout_queue_depth"), { phase: "queued" })).toBe(1);
    expect(await world.count(name("payout_queue_held"), { reason: "PAUSED" })).toBe(1);
    expect(await world.count(name("payout_oldest_waiting_seconds"))).toBeGreaterThan(0);
  });
});

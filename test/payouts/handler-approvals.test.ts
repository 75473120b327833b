// A second person decides about large payouts, and nobody sees more of a recipient than the mask.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BatchStatus, PayoutPhase, PayoutStatus } from "../../gen/lucid/node/v1/payout_service_pb.js";
import type { BatchDocument, PayoutDocument } from "../../src/payouts/document.js";
import { payoutBatchesCollection, payoutsCollection } from "../../src/payouts/repository.js";
import { createLogger } from "../../src/telemetry/log.js";
import { aName, otherTronAddress, payeeAddress } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import { type Clients, openClockedWorld, openWorld, type World } from "../support/world/world.js";
import {
  allPayouts,
  aPayee,
  done,
  lucidAddress,
  onChain,
  order,
  payoutOf,
  quickChain,
  stepsOf,
  storyOf,
  transfersTo,
  usdt,
} from "./paying.js";

const settings = { ...quickChain, PAYOUT_APPROVAL_THRESHOLD_USDT: "100", PAYOUT_APPROVAL_THRESHOLD_LUCID: "100" };
let world: World;
let payer: Clients;
let approver: Clients;
let nodeId: string;
beforeAll(async () => {
  world = await openWorld({ settings });
  payer = world.as(await world.token("payer"));
  approver = world.as(await world.token("approver"));
  nodeId = await aPayee(world);
});
afterAll(() => world[Symbol.asyncDispose]());

const large = (tweaks: object = {}) => order(payer, nodeId, { money: usdt("100.000001"), ...tweaks });
const held = { phase: PayoutPhase.HELD, status: PayoutStatus.PENDING, stateReason: { code: "APPROVAL_NEEDED" } };

describe("a payout above the threshold", () => {
  test("is held until another person approves it; then it is paid", async () => {
    expect((await order(payer, nodeId, { money: usdt("100") })).phase).toBe(PayoutPhase.QUEUED);
    const { payoutId, ...made } = await large({ walletAddress: otherTronAddress });
    expect(made).toMatchObject({ ...held, createdBy: "payer-1" });
    expect(made.nextStepAt).toBeUndefined();
    const [first, second] = await Promise.all([
      approver.payouts.approvePayout({ payoutId, note: "it is right" }),
      approver.payouts.approvePayout({ payoutId }),
    ]);
    expect(first.payout?.phase).not.toBe(PayoutPhase.HELD);
    expect(second.payout?.phase).not.toBe(PayoutPhase.HELD);
    expect((await done(world, payoutId)).status).toBe(PayoutStatus.COMPLETED);
    expect((await approver.payouts.approvePayout({ payoutId })).payout?.status).toBe(PayoutStatus.COMPLETED);
    await expectRefusal(approver.payouts.rejectPayout({ payoutId, reason: "late" }), "FailedPrecondition 5006");
    expect((await stepsOf(world, payoutId)).filter((step) => step === "approve")).toHaveLength(1);
    expect(await transfersTo(world, otherTronAddress)).toHaveLength(1);
  });

  test("is not approved or rejected by its creator, whatever the role", async () => {
    const { payoutId } = await order(world, nodeId, { money: usdt("101") });
    await expectRefusal(world.payouts.approvePayout({ payoutId }), "PermissionDenied 4031");
    await expectRefusal(world.payouts.rejectPayout({ payoutId, reason: "no" }), "PermissionDenied 4031");
    const sameSubject = world.as(await world.token("approver", { subject: "admin-1" }));
    await expectRefusal(sameSubject.payouts.approvePayout({ payoutId }), "PermissionDenied 4031");
    await expectRefusal(payer.payouts.approvePayout({ payoutId }), "PermissionDenied 4031");
    expect(await payoutOf(world, payoutId)).toMatchObject(held);
  });

  test("that is rejected is cancelled for good, and tells who did it and why", async () => {
    const { payoutId } = await large();
    for (let times = 0; times < 2; times++) {
      const { payout } = await approver.payouts.rejectPayout({ payoutId, reason: "unknown invoice" });
      expect(payout).toMatchObject({ status: PayoutStatus.CANCELLED, phase: PayoutPhase.DONE });
    }
    await expectRefusal(approver.payouts.approvePayout({ payoutId }), "FailedPrecondition 5006");
    const told = await storyOf(world, payoutId);
    expect(told.map(({ step }) => step)).toEqual(["create", "reject"]);
    expect(told.at(-1)).toMatchObject({ actor: "approver-1", reason: "unknown invoice" });
  });

  test("that was cancelled cannot be approved any more", async () => {
    const { payoutId } = await large();
    await payer.payouts.cancelPayout({ payoutId });
    await expectRefusal(approver.payouts.approvePayout({ payoutId }), "FailedPrecondition 5006");
    expect((await payoutOf(world, payoutId)).status).toBe(PayoutStatus.CANCELLED);
  });

  test("that is rejected and approved at the same time is one or the other", async () => {
    const { payoutId } = await large();
    const other = world.as(await world.token("approver", { subject: "approver-2" }));
    const outcomes = await Promise.allSettled([
      approver.payouts.approvePayout({ payoutId }),
      other.payouts.rejectPayout({ payoutId, reason: "no" }),
    ]);
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const { status } = await done(world, payoutId);
    expect(status).toBe(outcomes[0]?.status === "fulfilled" ? PayoutStatus.COMPLETED : PayoutStatus.CANCELLED);
  });

  test("a payout that needs nobody is neither approved nor rejected", async () => {
    const { payoutId } = await order(payer, nodeId);
    await expectRefusal(approver.payouts.approvePayout({ payoutId }), "FailedPrecondition 5006");
    await expectRefusal(approver.payouts.rejectPayout({ payoutId, reason: "no" }), "FailedPrecondition 5006");
    await expectRefusal(approver.payouts.approvePayout({ payoutId: "payout_nobody" }), "NotFound 5011");
    await expectRefusal(approver.payouts.approvePayout({ batchId: "batch_nobody" }), "NotFound 5011");
    await expectRefusal(approver.payouts.approvePayout({}), "InvalidArgument 4001");
    await expectRefusal(approver.payouts.approvePayout({ payoutId, batchId: "batch_nobody" }), "InvalidArgument 4001");
  });
});

describe("a batch above the threshold by its sum", () => {
  const aBatch = async () => {
    const payoutRequests = Array.from({ length: 3 }, () => ({
      ...{ nodeId, money: usdt("34"), walletAddress: otherTronAddress },
    }));
    const batchId = aName("batch_b");
    const { batch, estimatedCompletion } = await payer.payouts.createBatchPayout({ batchId, payoutRequests });
    expect(estimatedCompletion).toBeUndefined();
    expect(batch).toMatchObject({
      ...{ approvalNeeded: true, status: BatchStatus.QUEUED, stateReason: { code: "APPROVAL_NEEDED" } },
      totals: [{ status: PayoutStatus.PENDING, count: 3n, amount: "102" }],
    });
    expect(await allPayouts(world, { batchId })).toEqual([]);
    return batchId;
  };
  const statusOf = async (batchId: string) => (await world.payouts.getPayoutBatch({ batchId })).batch?.status;

  test("is approved as a whole, by another person, once", async () => {
    const batchId = await aBatch();
    const before = (await transfersTo(world, otherTronAddress)).length;
    const creator = world.as(await world.token("admin", { subject: "payer-1" }));
    await expectRefusal(creator.payouts.approvePayout({ batchId }), "PermissionDenied 4031");
    for (let times = 0; times < 2; times++) {
      expect((await approver.payouts.approvePayout({ batchId })).batch).toMatchObject({ approvalNeeded: false });
    }
    await until(async () => (await statusOf(batchId)) === BatchStatus.COMPLETED, "the batch is paid", 30_000);
    expect(await transfersTo(world, otherTronAddress)).toHaveLength(before + 3);
    await expectRefusal(approver.payouts.rejectPayout({ batchId, reason: "late" }), "FailedPrecondition 5006");
  });

  test("that is rejected or cancelled has no payout", async () => {
    const before = (await onChain(world)).length;
    const rejected = await aBatch();
    const { batch } = await approver.payouts.rejectPayout({ batchId: rejected, reason: "no" });
    expect(batch).toMatchObject({ status: BatchStatus.CANCELLED, approvalNeeded: false });
    expect(batch?.stateReason).toBeUndefined();
    const cancelled = await aBatch();
    const nothing = { cancelled: [], requested: [], tooLate: [] };
    expect(await payer.payouts.cancelPayoutBatch({ batchId: cancelled })).toMatchObject(nothing);
    for (const batchId of [rejected, cancelled]) {
      await expectRefusal(approver.payouts.approvePayout({ batchId }), "FailedPrecondition 5006");
      expect(await statusOf(batchId)).toBe(BatchStatus.CANCELLED);
      expect(await allPayouts(world, { batchId })).toEqual([]);
    }
    expect(await onChain(world)).toHaveLength(before);
  });
});

test("approval shortens neither the wait for a time nor that of a changed address", async () => {
  await using own = await openClockedWorld({ settings: { ...settings, SANDBOX_BLOCK_TIME: "1000" } });
  const clerk = own.as(await own.token("payer", { expiresAt: new Date(own.clock.now().getTime() + 5 * 86_400_000) }));
  const node = await aPayee(own);
  const money = usdt("500");
  await own.nodes.setPayoutAddress({ nodeId: node, payoutAddress: otherTronAddress });
  const { payoutId } = await order(clerk, node, { money });
  const named = await order(clerk, node, { money, walletAddress: otherTronAddress });
  const hour = timestampFromDate(new Date(own.clock.now().getTime() + 3_600_000));
  const later = await order(clerk, await aPayee(own), { money, scheduledAt: hour });
  // The node's address is another one meanwhile: what was ordered for the former one waits nevertheless.
  await own.nodes.setPayoutAddress({ nodeId: node, payoutAddress: payeeAddress });
  for (const one of [payoutId, named.payoutId]) {
    const { payout } = await own.payouts.approvePayout({ payoutId: one });
    expect(payout).toMatchObject({ phase: PayoutPhase.HELD, stateReason: { code: "ADDRESS_COOLDOWN" } });
  }
  const { payout } = await own.payouts.approvePayout({ payoutId: later.payoutId });
  expect(payout).toMatchObject({ phase: PayoutPhase.HELD, stateReason: { code: "SCHEDULED" }, nextStepAt: hour });
  await own.pass(60_000, 20_000);
  expect(await onChain(own)).toEqual([]);
  await own.clock.stall(3_600_000);
  await own.pass(60_000, 20_000);
  expect(await onChain(own)).toHaveLength(1);
  await own.clock.stall(23 * 3_600_000);
  await own.pass(60_000, 20_000);
  expect(await transfersTo(own, otherTronAddress)).toHaveLength(2);
});

test("recipients are masked in every answer, event and log line, and sealed in the store", async () => {
  const lines: string[] = [];
  const log = createLogger({
    ...{ level: "DEBUG", format: "json", service: "t", version: "1", write: (line) => void lines.push(line) },
  });
  await using own = await openWorld({ settings: { ...settings, SANDBOX_FAULTS: "revert=0.3,lost=0.1" }, log });
  const node = await aPayee(own);
  const clerk = own.as(await own.token("payer"));
  const paid = await order(clerk, node, { walletAddress: otherTronAddress });
  const waiting = await order(clerk, node, { money: usdt("500") });
  const token = await order(clerk, node, { money: { currency: 2, amount: "1" }, walletAddress: lucidAddress });
  const broken = `${otherTronAddress.slice(0, -1)}8`;
  const refusal = await expectRefusal(order(clerk, node, { walletAddress: broken }), "InvalidArgument 4001");
  const payoutRequests = [{ nodeId: node, money: usdt("1") }];
  const made = await clerk.payouts.createBatchPayout({ payoutRequests });
  await done(own, paid.payoutId);
  await done(own, token.payoutId);
  const cancelled = await clerk.payouts.cancelPayout({ payoutId: waiting.payoutId });
  expect(paid.walletAddress).toBe(`${otherTronAddress.slice(0, 4)}…${otherTronAddress.slice(-4)}`);
  expect(token.walletAddress).toBe("0x5a…eaed");
  const answers = [
    ...[paid, waiting, token, refusal, made, cancelled, await payoutOf(own, paid.payoutId), await allPayouts(own)],
    ...[await storyOf(own, paid.payoutId), await own.payouts.getPayoutQueue({})],
    ...[await own.payouts.reconcilePayouts({}), await own.payouts.getNodeEarnings({ nodeId: node })],
  ];
  const payouts = await own.store.collection<PayoutDocument>(payoutsCollection);
  const batches = await own.store.collection<BatchDocument>(payoutBatchesCollection);
  const page = { index: "idx_created_at", limit: 100 };
  const stored = [(await payouts.page({}, page)).items, (await batches.page({}, page)).items];
  const wire = JSON.stringify([answers, stored], (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
  expect(wire).toContain(paid.payoutId);
  expect(lines.join("\n")).toContain(paid.payoutId);
  for (const address of [payeeAddress, otherTronAddress, broken, lucidAddress, lucidAddress.toLowerCase()]) {
    expect(wire).not.toContain(address);
    expect(lines.join("\n")).not.toContain(address);
  }
});

test("a node sees its own payouts, and nobody else's", async () => {
  const other = await aPayee(world);
  const { payoutId } = await order(payer, nodeId);
  const itself = world.as(await world.nodeToken(nodeId)).payouts;
  const stranger = world.as(await world.nodeToken(other)).payouts;
  expect((await itself.getPayout({ payoutId })).payout?.payoutId).toBe(payoutId);
  expect((await itself.listPayouts({ nodeId })).payouts.map((one) => one.payoutId)).toContain(payoutId);
  expect((await itself.listPayoutEvents({ payoutId })).events.length).toBeGreaterThan(0);
  expect((await itself.getNodeEarnings({ nodeId })).earnings).toHaveLength(1);
  for (const call of [
    () => stranger.getPayout({ payoutId }),
    () => stranger.listPayoutEvents({ payoutId }),
    () => stranger.listPayouts({ nodeId }),
    () => stranger.listPayouts({}),
    () => itself.listPayouts({}),
    () => stranger.getNodeEarnings({ nodeId }),
    () => itself.getPayoutStatistics({}),
    () => itself.getPayoutQueue({}),
    () => itself.cancelPayout({ payoutId }),
    () => itself.approvePayout({ payoutId }),
    () => itself.pausePayouts({ reason: "no" }),
  ]) {
    await expectRefusal(call(), "PermissionDenied 4031");
  }
});

// Batches: all or nothing, one batch for an id, sums that agree with the payouts, and many equal payouts at once.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BatchStatus, type PayoutBatch, PayoutStatus } from "../../gen/lucid/node/v1/payout_service_pb.js";
import { aName, otherTronAddress, payeeAddress, tronAddress } from "../support/world/builders.js";
import { expectRefusal, refusalOf } from "../support/world/refusal.js";
import { inParallel, until } from "../support/world/until.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";
import {
  allPayouts,
  aPayee,
  countsOf,
  lucid,
  lucidAddress,
  onChain,
  quickChain,
  slowChain,
  transfersTo,
  usdt,
} from "./paying.js";

let world: World;
let nodeId: string;
beforeAll(async () => {
  world = await openWorld({ settings: quickChain });
  nodeId = await aPayee(world);
});
afterAll(() => world[Symbol.asyncDispose]());

const aBatchId = () => aName("batch_b");
const items = (count: number, amount = (place: number) => `${1 + place}`) =>
  Array.from({ length: count }, (_, place) => ({ nodeId, money: usdt(amount(place)) }));

const batchOf = async (of: World, batchId: string): Promise<PayoutBatch> => {
  const { batch } = await of.payouts.getPayoutBatch({ batchId });
  if (batch === undefined) throw new Error("no batch in the answer");
  return batch;
};
async function finished(of: World, batchId: string): Promise<PayoutBatch> {
  await until(async () => (await batchOf(of, batchId)).completedAt !== undefined, `${batchId} is done`, 60_000);
  return batchOf(of, batchId);
}

describe("a batch that is refused leaves nothing behind", () => {
  test("none, or more than 1000", async () => {
    for (const count of [0, 1001]) {
      const batchId = aBatchId();
      const call = world.payouts.createBatchPayout({ batchId, payoutRequests: items(count) });
      expect((await expectRefusal(call, "InvalidArgument 4001")).fields).toEqual(["payout_requests"]);
      await expectRefusal(world.payouts.getPayoutBatch({ batchId }), "NotFound 5011");
    }
  });

  test("one wrong item names its place, and no other item is paid", async () => {
    const good = { nodeId, money: usdt("1"), walletAddress: otherTronAddress };
    const wrong = [
      { ...good, money: usdt("0") },
      { ...good, money: usdt("1e3") },
      { ...good, walletAddress: tronAddress },
      { ...good, money: lucid("1"), walletAddress: payeeAddress },
      { ...good, walletAddress: `${otherTronAddress.slice(0, -1)}8` },
    ];
    const fields = ["money.amount", "money.amount", "wallet_address", "wallet_address", "wallet_address"];
    for (const [place, item] of wrong.entries()) {
      const batchId = aBatchId();
      const call = world.payouts.createBatchPayout({ batchId, payoutRequests: [good, good, item, good] });
      const refusal = await expectRefusal(call, "InvalidArgument 4001");
      expect(refusal.fields).toEqual([`payout_requests[2].${fields[place]}`]);
      await expectRefusal(world.payouts.getPayoutBatch({ batchId }), "NotFound 5011");
    }
    const banned = await aPayee(world);
    await world.nodes.banNode({ nodeId: banned, reason: "it lied" });
    const noAddress = (await world.nodes.createNode({ name: aName("node"), nodeType: 1 })).node?.nodeId ?? "";
    const refusals = [
      [{ ...good, nodeId: "node_nobody" }, "NotFound 5001"],
      [{ ...good, nodeId: banned }, "FailedPrecondition 5006"],
      [{ nodeId: noAddress, money: usdt("1") }, "FailedPrecondition 5006"],
    ] as const;
    for (const [item, refusal] of refusals) {
      const batchId = aBatchId();
      const call = world.payouts.createBatchPayout({ batchId, payoutRequests: [good, item] });
      await expectRefusal(call, refusal);
      expect(await allPayouts(world, { batchId })).toEqual([]);
    }
    expect(await transfersTo(world, otherTronAddress)).toEqual([]);
  });

  test("a bad id, a bad URL for the notice, a time that has passed", async () => {
    const payoutRequests = items(1);
    const past = timestampFromDate(new Date(world.clock.now().getTime() - 61_000));
    const bad = [
      [{ batchId: "payout_1" }, "batch_id"],
      [{ batchId: "batch_ä1" }, "batch_id"],
      [{ notificationUrl: "https://me:secret@example.com/" }, "notification_url"],
      [{ notificationUrl: "file:///etc/passwd" }, "notification_url"],
      [{ scheduledAt: past }, "scheduled_at"],
    ] as const;
    for (const [tweaks, field] of bad) {
      const { code, reason, fields } = await refusalOf(world.payouts.createBatchPayout({ payoutRequests, ...tweaks }));
      expect([code, reason, fields[0]]).toEqual(["InvalidArgument", "4001", field]);
    }
  });
});

describe("a batch id", () => {
  test("100 times at once is one batch, and each item is paid once", async () => {
    const batchId = aBatchId();
    const payoutRequests = items(3).map((item) => ({ ...item, walletAddress: otherTronAddress }));
    const before = (await transfersTo(world, otherTronAddress)).length;
    const answers = await inParallel(Array.from({ length: 100 }), 100, () =>
      world.payouts.createBatchPayout({ batchId, payoutRequests }),
    );
    expect(answers.filter(({ batch }) => !batch?.replayed)).toHaveLength(1);
    expect(new Set(answers.map((answer) => answer.batchId))).toEqual(new Set([batchId]));
    expect(await finished(world, batchId)).toMatchObject({ status: BatchStatus.COMPLETED, itemCount: 3 });
    expect(await transfersTo(world, otherTronAddress)).toHaveLength(before + 3);
    const again = await world.payouts.createBatchPayout({
      batchId,
      payoutRequests: payoutRequests.map((item, place) => ({ ...item, money: usdt(`${1 + place}.0`) })),
    });
    expect(again).toMatchObject({ status: BatchStatus.COMPLETED, batch: { replayed: true } });
    expect(again.estimatedCompletion).toEqual(again.batch?.completedAt);
  });

  test("with one changed item, another order of items, or other terms is 5007, and changes nothing", async () => {
    const batchId = aBatchId();
    const payoutRequests = items(3);
    await world.payouts.createBatchPayout({ batchId, payoutRequests });
    const [first, second, third] = payoutRequests;
    const others = [
      { payoutRequests: [first, second, { nodeId, money: usdt("3.000001") }] },
      { payoutRequests: [second, first, third] },
      { payoutRequests: [first, second] },
      { payoutRequests, notificationUrl: "https://example.com/" },
      { payoutRequests, priority: 4 as const },
    ];
    for (const other of others) {
      const request = { batchId, ...other, payoutRequests: other.payoutRequests.flatMap((item) => item ?? []) };
      await expectRefusal(world.payouts.createBatchPayout(request), "AlreadyExists 5007");
    }
    const { byStatus } = await finished(world, batchId);
    expect(byStatus).toMatchObject({ PAYOUT_STATUS_COMPLETED: 3, PAYOUT_STATUS_PENDING: 0 });
  });
});

test("1000 payouts are taken at once, and their sums agree with the items at every moment", async () => {
  await using slow = await openWorld({ settings: slowChain });
  await slow.payouts.pausePayouts({ reason: "until it is counted" });
  const paid = [await aPayee(slow), await aPayee(slow)];
  const payoutRequests = Array.from({ length: 1000 }, (_, place) => ({
    nodeId: paid[place % 2] ?? "",
    ...(place % 4 === 0
      ? { money: lucid("0.00000101"), walletAddress: lucidAddress }
      : { money: usdt(`0.${String(10 * place + 1).padStart(6, "0")}`) }),
  }));
  const { batchId, batch, estimatedCompletion } = await slow.payouts.createBatchPayout({ payoutRequests });
  expect(batchId).toMatch(/^batch_[0-9a-hjkmnp-tv-z]{26}$/);
  expect(batch).toMatchObject({ itemCount: 1000, status: BatchStatus.QUEUED, replayed: false });
  expect(estimatedCompletion).toBeDefined();
  const sum = payoutRequests.reduce((total, _, place) => (place % 4 === 0 ? total : total + 10 * place + 1), 0);
  expect(sum).toBe(3_750_750);
  const totals = [
    { currency: 1, status: PayoutStatus.PENDING, count: 750n, amount: "3.75075" },
    { currency: 2, status: PayoutStatus.PENDING, count: 250n, amount: "0.0002525" },
  ];
  const inOrder = (found: PayoutBatch | undefined) =>
    found?.totals.toSorted((one, other) => one.currency - other.currency);
  expect(inOrder(batch)).toMatchObject(totals);
  await until(async () => {
    expect(inOrder(await batchOf(slow, batchId))).toMatchObject(totals);
    return (await slow.payouts.getPayoutQueue({})).byPhase.PAYOUT_PHASE_QUEUED === 1000;
  }, "all are payouts");
  const listed = await allPayouts(slow, { batchId });
  expect(listed.map(({ nodeId: of, money }) => [of, money?.amount])).toEqual(
    payoutRequests.map(({ nodeId: of, money }) => [of, money.amount]),
  );
  expect(new Set(listed.map(({ payoutId }) => payoutId)).size).toBe(1000);
  const { cancelled } = await slow.payouts.cancelPayoutBatch({ batchId });
  expect(cancelled).toHaveLength(1000);
  expect(await batchOf(slow, batchId)).toMatchObject({ status: BatchStatus.CANCELLED, completedAt: expect.anything() });
});

test("50 times the same recipient and amount within one block are 50 transactions, and all are paid", async () => {
  await using own = await openClockedWorld({ settings: { SANDBOX_BLOCK_TIME: "1000" } });
  const payee = await aPayee(own);
  const payoutRequests = Array.from({ length: 50 }, () => ({ nodeId: payee, money: usdt("7") }));
  await own.pass(5_000);
  const { batchId } = await own.payouts.createBatchPayout({ payoutRequests });
  await own.pass(30_000);
  const payouts = await allPayouts(own, { batchId });
  expect(countsOf(payouts)).toEqual({ COMPLETED: 50 });
  expect(new Set(payouts.map(({ transactionHash }) => transactionHash)).size).toBe(50);
  const chain = await onChain(own);
  expect(chain).toHaveLength(50);
  expect(new Set(chain.map(({ block }) => block)).size).toBe(1);
  expect(await batchOf(own, batchId)).toMatchObject({
    ...{ status: BatchStatus.COMPLETED, totals: [{ count: 50n, amount: "350" }] },
  });
});

test("batches are listed, newest first and in pages; a node sees none", async () => {
  await using own = await openWorld({ settings: slowChain });
  const payee = await aPayee(own);
  const ids: string[] = [];
  for (let place = 0; place < 3; place++) {
    const payoutRequests = [{ nodeId: payee, money: usdt("1") }];
    ids.unshift((await own.payouts.createBatchPayout({ payoutRequests })).batchId);
  }
  const first = await own.payouts.listPayoutBatches({ limit: 2 });
  const value = first.pagination?.nextPageToken ?? "";
  const second = await own.payouts.listPayoutBatches({ limit: 2, position: { case: "pageToken", value } });
  expect([...first.batches, ...second.batches].map(({ batchId }) => batchId)).toEqual(ids);
  const itself = own.as(await own.nodeToken(payee));
  await expectRefusal(itself.payouts.listPayoutBatches({}), "PermissionDenied 4031");
  await expectRefusal(itself.payouts.getPayoutBatch({ batchId: ids[0] ?? "" }), "PermissionDenied 4031");
});

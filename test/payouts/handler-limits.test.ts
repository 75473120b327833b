// What makes payouts wait, and what forbids them: limits of a day, the wallet's floor, changed addresses, banned and
// deleted nodes, and a pause.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PayoutPhase, PayoutStatus } from "../../gen/lucid/node/v1/payout_service_pb.js";
import { aNode, otherTronAddress, payeeAddress } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import { type ClockedWorld, openClockedWorld, openWorld, type World } from "../support/world/world.js";
import {
  allPayouts,
  aPayee,
  countsOf,
  done,
  lucid,
  lucidAddress,
  onChain,
  order,
  passUntil,
  passUntilDone,
  payoutOf,
  quickChain,
  settling,
  slowChain,
  storyOf,
  transfersTo,
  usdt,
} from "./paying.js";

const hourMs = 3_600_000;
/** A payout is settled in two seconds. */
const brisk = { SANDBOX_BLOCK_TIME: "100" };
const holdsOf = async ({ payouts }: Pick<World, "payouts">) =>
  (await payouts.getPayoutQueue({})).holds.map(({ code }) => code);

const passUntilHeld = (world: ClockedWorld, payoutId: string) =>
  passUntil(
    world,
    `${payoutId} is held by the limit`,
    async () => (await payoutOf(world, payoutId)).stateReason?.code === "DAILY_LIMIT",
  );

describe("the limit of a day", () => {
  test("makes the queue wait until the next day (UTC), and fails nothing", async () => {
    await using world = await openClockedWorld({ settings: { ...brisk, PAYOUT_DAILY_LIMIT_USDT: "10" } });
    const nodeId = await aPayee(world);
    const first = await order(world, nodeId, { money: usdt("7") });
    expect(await passUntilDone(world, first.payoutId)).toMatchObject({ status: PayoutStatus.COMPLETED });
    const second = await order(world, nodeId, { money: usdt("3.000001") });
    const free = await order(world, nodeId, { money: lucid("1000"), walletAddress: lucidAddress });
    expect(await passUntilDone(world, free.payoutId)).toMatchObject({ status: PayoutStatus.COMPLETED });
    await passUntilHeld(world, second.payoutId);
    expect(await payoutOf(world, second.payoutId)).toMatchObject({
      ...{ phase: PayoutPhase.QUEUED, stateReason: { code: "DAILY_LIMIT" }, attempts: [] },
    });
    expect(await holdsOf(world)).toEqual(["DAILY_LIMIT"]);
    // A smaller one fits into what is left, and goes before it.
    const third = await order(world, nodeId, { money: usdt("3") });
    expect(await passUntilDone(world, third.payoutId)).toMatchObject({ status: PayoutStatus.COMPLETED });
    expect((await storyOf(world, second.payoutId)).filter(({ step }) => step === "defer")).toHaveLength(1);

    await world.clock.stall(24 * hourMs);
    expect(await passUntilDone(world, second.payoutId)).toMatchObject({ status: PayoutStatus.COMPLETED });
    expect(await holdsOf(world)).toEqual([]);
  });

  test("has back what a cancelled payout had taken of it", async () => {
    const settings = { ...brisk, PAYOUT_DAILY_LIMIT_USDT: "10", SANDBOX_FAULTS: "lost=0.5" };
    let chance = 0;
    await using world = await openClockedWorld({ settings, random: () => chance });
    const nodeId = await aPayee(world);
    const lost = await order(world, nodeId, { money: usdt("10") });
    await world.pass(1_000);
    await world.payouts.cancelPayout({ payoutId: lost.payoutId });
    chance = 0.9;
    const next = await order(world, nodeId, { money: usdt("10") });
    await passUntilHeld(world, next.payoutId);
    expect(await passUntilDone(world, lost.payoutId)).toMatchObject({ status: PayoutStatus.CANCELLED });
    expect(await passUntilDone(world, next.payoutId)).toMatchObject({ status: PayoutStatus.COMPLETED });
  });

  test("counts a payout on the day on which it is sent, although an earlier attempt of it has died", async () => {
    const settings = { ...brisk, PAYOUT_DAILY_LIMIT_USDT: "10", SANDBOX_FAULTS: "lost=0.5" };
    let chance = 0;
    await using world = await openClockedWorld({ settings, random: () => chance });
    const nodeId = await aPayee(world);
    await world.clock.stall(24 * hourMs - 10_000);
    await world.pass(6_000, 3_000);
    const lost = await order(world, nodeId, { money: usdt("10") });
    await world.pass(2_000);
    expect(await payoutOf(world, lost.payoutId)).toMatchObject({ phase: PayoutPhase.SETTLING });
    chance = 0.9;
    // It is sent again on the next day, and spends the limit of that day.
    expect(await passUntilDone(world, lost.payoutId)).toMatchObject({ status: PayoutStatus.COMPLETED, retryCount: 1 });
    const next = await order(world, nodeId, { money: usdt("10") });
    await passUntilHeld(world, next.payoutId);
  });

  test("that is wide enough holds nobody, however many take from it at once", async () => {
    const settings = { ...slowChain, PAYOUT_DAILY_LIMIT_USDT: "1000", PAYOUT_BATCH_SIZE: "1000" };
    await using world = await openWorld({ settings });
    const held: unknown[] = [];
    world.beforeStore((_, [, update], collection) => {
      const { $set: set } = (update ?? {}) as { readonly $set?: { readonly reason?: { readonly code: string } } };
      if (collection === "payouts" && set?.reason?.code === "DAILY_LIMIT") held.push(set.reason);
      return undefined;
    });
    const nodeId = await aPayee(world);
    const payoutRequests = Array.from({ length: 150 }, () => ({ nodeId, money: usdt("1") }));
    await world.payouts.createBatchPayout({ payoutRequests });
    const isSent = async () => (await world.payouts.getPayoutQueue({})).byPhase.PAYOUT_PHASE_SETTLING === 150;
    await until(isSent, "the batch is sent", 30_000);
    expect(held).toEqual([]);
  });
});

describe("the wallet's floor", () => {
  // The sandbox's wallet begins with 10^18 minor units: 10^12 USDT.
  const settings = { ...quickChain, PAYOUT_WALLET_FLOOR_USDT: "999999900" };

  test("is kept, also by payouts that are begun at the same time", async () => {
    await using world = await openWorld({ settings });
    const nodeId = await aPayee(world);
    await world.payouts.pausePayouts({ reason: "until all are ordered" });
    const ids: string[] = [];
    for (const amount of ["60", "61", "62", "63"]) {
      ids.push((await order(world, nodeId, { money: usdt(amount) })).payoutId);
    }
    await world.payouts.resumePayouts({});
    await until(async () => (await holdsOf(world)).includes("WALLET_FLOOR"), "the queue waits", 20_000);
    await until(async () => countsOf(await allPayouts(world)).COMPLETED === 1, "one is paid", 20_000);
    await until(
      async () => {
        const payouts = await allPayouts(world);
        return payouts.filter(({ stateReason }) => stateReason?.code === "WALLET_FLOOR").length === 3;
      },
      "the others wait",
      20_000,
    );
    expect(countsOf(await allPayouts(world))).toEqual({ COMPLETED: 1, PENDING: 3 });
    expect(await onChain(world)).toHaveLength(1);
    // What still fits above the floor goes.
    const small = await order(world, nodeId, { money: usdt("37") });
    expect((await done(world, small.payoutId)).status).toBe(PayoutStatus.COMPLETED);

    for (const payoutId of ids) await world.payouts.cancelPayout({ payoutId });
    expect(countsOf(await allPayouts(world))).toEqual({ COMPLETED: 2, CANCELLED: 3 });
    expect(await holdsOf(world), "nothing waits any more").toEqual([]);
  });
});

describe("a changed address", () => {
  test("waits for its time, also when it is named, in any spelling; then it is paid", async () => {
    const settings = { ...brisk, PAYOUT_ADDRESS_COOLDOWN: "3600" };
    await using world = await openClockedWorld({ settings });
    const nodeId = await aPayee(world, "0x52908400098527886e0f7030069857d2e4169ee7");
    await world.nodes.setPayoutAddress({ nodeId, payoutAddress: lucidAddress });
    const capitals = `0x${lucidAddress.slice(2).toUpperCase()}`;
    const money = lucid("1");
    const batch = await world.payouts.createBatchPayout({
      payoutRequests: [
        { nodeId, money },
        { nodeId, money, walletAddress: capitals },
      ],
    });
    const orders = [
      await order(world, nodeId, { money }),
      await order(world, nodeId, { money, walletAddress: lucidAddress }),
      await order(world, nodeId, { money, walletAddress: lucidAddress.toLowerCase() }),
      await order(world, nodeId, { money, walletAddress: capitals }),
    ];
    const elsewhere = await order(world, nodeId, { money: usdt("1"), walletAddress: payeeAddress });
    await world.pass(6_000, 3_000);
    expect((await payoutOf(world, elsewhere.payoutId)).status).toBe(PayoutStatus.COMPLETED);
    const held = await allPayouts(world, { batchId: batch.batchId });
    expect(held).toHaveLength(2);
    for (const { payoutId } of [...orders, ...held]) {
      expect(await payoutOf(world, payoutId)).toMatchObject({
        ...{ phase: PayoutPhase.HELD, stateReason: { code: "ADDRESS_COOLDOWN" } },
      });
    }
    await world.clock.stall(hourMs);
    await world.pass(6_000, 3_000);
    expect(countsOf(await allPayouts(world))).toEqual({ COMPLETED: 7 });
  });

  test("is not what was ordered before the change", async () => {
    await using world = await openWorld({ settings: quickChain });
    const nodeId = await aPayee(world);
    await world.payouts.pausePayouts({ reason: "for the test" });
    const { payoutId } = await order(world, nodeId);
    await world.nodes.setPayoutAddress({ nodeId, payoutAddress: otherTronAddress });
    await world.payouts.resumePayouts({});
    await done(world, payoutId);
    expect([await transfersTo(world, payeeAddress), await transfersTo(world, otherTronAddress)]).toMatchObject([
      [{ amount_minor: "1000000" }],
      [],
    ]);
  });
});

describe("a node", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld({ settings: quickChain });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test("that is banned after the order is not paid", async () => {
    await world.payouts.pausePayouts({ reason: "for the test" });
    const nodeId = await aPayee(world);
    const { payoutId } = await order(world, nodeId);
    await world.nodes.banNode({ nodeId, reason: "it lied" });
    await world.payouts.resumePayouts({});
    expect(await done(world, payoutId)).toMatchObject({
      ...{ status: PayoutStatus.FAILED, stateReason: { code: "NODE_BANNED" }, attempts: [] },
    });
  });

  test("with an open payout is not deleted; afterwards it is, and gets no order any more", async () => {
    await world.payouts.pausePayouts({ reason: "for the test" });
    const nodeId = await aPayee(world);
    const { payoutId } = await order(world, nodeId);
    await expectRefusal(world.nodes.deleteNode({ nodeId }), "FailedPrecondition 5003");
    await world.payouts.resumePayouts({});
    expect((await done(world, payoutId)).status).toBe(PayoutStatus.COMPLETED);
    await world.nodes.deleteNode({ nodeId });
    await expectRefusal(order(world, nodeId), "NotFound 5001");
    expect((await payoutOf(world, payoutId)).nodeId).toBe(nodeId);
    expect((await world.payouts.getNodeEarnings({ nodeId })).earnings).toMatchObject([{ paid: "1" }]);
    await expectRefusal(world.payouts.getNodeEarnings({ nodeId: await deleted(world) }), "NotFound 5001");
  });
});

const deleted = async (world: World): Promise<string> => {
  const { nodeId } = await aNode(world.nodes);
  await world.nodes.deleteNode({ nodeId });
  return nodeId;
};

describe("while sending is paused", () => {
  test("nothing is sent, also after a restart, and what was sent is settled; then all goes on", async () => {
    await using world = await openWorld({ settings: { SANDBOX_BLOCK_TIME: "50" } });
    const nodeId = await aPayee(world);
    const sent = await order(world, nodeId);
    await settling(world, sent.payoutId);
    const { pausedAt } = await world.payouts.pausePayouts({ reason: "we look" });
    expect((await world.payouts.pausePayouts({ reason: "again" })).pausedAt).toEqual(pausedAt);
    const waits = await order(world, nodeId);
    expect((await done(world, sent.payoutId)).status).toBe(PayoutStatus.COMPLETED);
    await world.restart("stop");
    const another = await order(world, nodeId);
    await world.payouts.reconcilePayouts({});
    expect(await world.payouts.getPayoutQueue({})).toMatchObject({
      ...{ paused: true, pausedReason: "we look", pausedBy: "admin-1", pausedAt },
      byPhase: { PAYOUT_PHASE_QUEUED: 2, PAYOUT_PHASE_SETTLING: 0 },
    });
    expect(await onChain(world)).toHaveLength(1);
    expect(await world.payouts.resumePayouts({})).toMatchObject({ unknownTransfers: 0 });
    expect(await world.payouts.resumePayouts({})).toMatchObject({ unknownTransfers: 0 });
    for (const { payoutId } of [waits, another]) {
      expect((await done(world, payoutId)).status).toBe(PayoutStatus.COMPLETED);
    }
    expect(await world.payouts.getPayoutQueue({})).toMatchObject({ paused: false, pausedReason: "", pausedBy: "" });
  });

  test("only an admin pauses and resumes, with a reason", async () => {
    await using world = await openWorld({ settings: slowChain });
    const payer = world.as(await world.token("payer")).payouts;
    await expectRefusal(payer.pausePayouts({ reason: "no" }), "PermissionDenied 4031");
    await expectRefusal(payer.resumePayouts({}), "PermissionDenied 4031");
    await expectRefusal(world.payouts.pausePayouts({}), "InvalidArgument 4001");
  });
});

test("a chain that cannot be asked makes its queue wait", async () => {
  await using world = await openWorld({ settings: { ...quickChain, SANDBOX_FAULTS: "away=1" } });
  const { payoutId } = await order(world, await aPayee(world));
  // It has never compared its transfers either, so that nothing is begun.
  await expectRefusal(world.payouts.reconcilePayouts({}), "Unavailable 5006");
  expect((await payoutOf(world, payoutId)).phase).toBe(PayoutPhase.QUEUED);
  const { payout } = await world.payouts.cancelPayout({ payoutId });
  expect(payout?.status).toBe(PayoutStatus.CANCELLED);
});

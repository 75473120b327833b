// Several replicas over one store: limits, pauses and payouts are shared, and replicas may do a part of the work only.
import { describe, expect, test } from "vitest";
import { PayoutStatus } from "../../gen/lucid/node/v1/payout_service_pb.js";
import { expectRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import { openClockedFleet, openClockedWorld, type World } from "../support/world/world.js";
import { allPayouts, aPayee, countsOf, onChain, order, payoutOf, storyOf, usdt } from "./paying.js";

const brisk = { SANDBOX_BLOCK_TIME: "500" };
const first = ([world]: readonly World[]): World => {
  if (world === undefined) throw new Error("no replica");
  return world;
};

describe("two replicas", () => {
  test.each([
    ["the limit of a day", { PAYOUT_DAILY_LIMIT_USDT: "15" }],
    ["what the wallet may lose", { PAYOUT_WALLET_FLOOR_USDT: "999999985" }],
  ])("that reserve at the same time spend no more than %s", async (_, limit) => {
    await using fleet = await openClockedFleet(2, { settings: { ...brisk, ...limit, PAYOUT_BATCH_SIZE: "2" } });
    const world = first(fleet.replicas);
    const nodeId = await aPayee(world);
    await world.payouts.pausePayouts({ reason: "until all are ordered" });
    await fleet.pass(1_000);
    for (let place = 0; place < 4; place++) await order(world, nodeId, { money: usdt("10") });
    // The replica that reserves first waits before its write until the other has read the same.
    const reading = new Set<number>();
    let isHeld = false;
    for (const [place, replica] of fleet.replicas.entries()) {
      replica.beforeStore((operation, __, collection) => {
        if (collection !== "payout_days") return undefined;
        if (operation === "findOne") {
          reading.add(place);
          return undefined;
        }
        if (isHeld) return undefined;
        isHeld = true;
        return until(() => reading.size === 2, "the other replica reserves, too");
      });
    }
    await world.payouts.resumePayouts({});
    await fleet.pass(60_000, 5_000);
    expect([isHeld, reading.size]).toEqual([true, 2]);
    expect(countsOf(await allPayouts(world, { nodeId }))).toEqual({ COMPLETED: 1, PENDING: 3 });
    expect(await onChain(world)).toHaveLength(1);
  });

  test("pay a batch together, each payout once, and both stop when one is told to", async () => {
    await using fleet = await openClockedFleet(2, { settings: { ...brisk, PAYOUT_BATCH_SIZE: "10" } });
    const [one, other] = fleet.replicas;
    const world = first(fleet.replicas);
    const nodeId = await aPayee(world);
    const payoutRequests = Array.from({ length: 40 }, () => ({ nodeId, money: usdt("1") }));
    const { batchId } = await world.payouts.createBatchPayout({ payoutRequests });
    await fleet.pass(30_000, 1_000);
    const payouts = await allPayouts(world, { batchId });
    expect(countsOf(payouts)).toEqual({ COMPLETED: 40 });
    expect(await onChain(world)).toHaveLength(40);
    const stories = await Promise.all(payouts.map(({ payoutId }) => storyOf(world, payoutId)));
    expect(new Set(stories.flat().flatMap(({ step, actor }) => (step === "claim" ? [actor] : []))).size).toBe(2);

    await one?.payouts.pausePayouts({ reason: "stop" });
    await fleet.pass(1_000);
    for (let place = 0; place < 5; place++) await order(world, nodeId);
    await fleet.pass(20_000, 1_000);
    expect(await onChain(world)).toHaveLength(40);
    await other?.payouts.resumePayouts({});
    await fleet.pass(30_000, 1_000);
    expect(await onChain(world)).toHaveLength(45);
  });
});

describe("a replica with a part of the work", () => {
  test("that only answers takes orders and pays nothing; one that only pays pays them", async () => {
    await using fleet = await openClockedFleet(1, { settings: { ...brisk, ROLES: "api" } });
    const world = first(fleet.replicas);
    const nodeId = await aPayee(world);
    const single = await order(world, nodeId);
    const { batchId } = await world.payouts.createBatchPayout({ payoutRequests: [{ nodeId, money: usdt("2") }] });
    await fleet.pass(60_000, 10_000);
    expect(await payoutOf(world, single.payoutId)).toMatchObject({ status: PayoutStatus.PENDING, attempts: [] });
    expect(await onChain(world)).toEqual([]);
    const cancelled = await order(world, nodeId);
    expect((await world.payouts.cancelPayout({ payoutId: cancelled.payoutId })).payout?.status).toBe(
      PayoutStatus.CANCELLED,
    );
    expect((await storyOf(world, cancelled.payoutId)).map(({ step }) => step)).toEqual(["create", "cancel"]);
    expect((await world.payouts.reconcilePayouts({})).report).toMatchObject({ matched: 0n, orphan: 0n });

    const payer = await fleet.join({ ROLES: "payouts" });
    await fleet.pass(60_000, 5_000);
    expect((await payoutOf(world, single.payoutId)).status).toBe(PayoutStatus.COMPLETED);
    expect(countsOf(await allPayouts(world, { batchId }))).toEqual({ COMPLETED: 1 });
    expect(await onChain(world)).toHaveLength(2);
    expect(payer.server.tasks.running()).toContain("payouts");
    expect(world.server.tasks.running()).not.toContain("payouts");
  });

  test("that only pays answers no RPC of payouts or nodes, and says that it is well", async () => {
    await using world = await openClockedWorld({ settings: { ...brisk, ROLES: "payouts" } });
    const { payouts, nodes } = world.as(await world.token("admin"));
    await expectRefusal(payouts.getPayoutQueue({}), "Unimplemented");
    await expectRefusal(nodes.listNodes({}), "Unimplemented");
    for (const path of ["/health", "/health/ready", "/health/live"]) {
      const { status } = await fetch(`${world.baseUrl}${path}`);
      expect([path, status]).toEqual([path, 200]);
    }
  });
});

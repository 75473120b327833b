// Payouts that somebody wants back, in each phase, and failed ones that are made again.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CancelOutcome, PayoutPhase, PayoutStatus } from "../../gen/lucid/node/v1/payout_service_pb.js";
import { aName } from "../support/world/builders.js";
import { expectRefusal, toRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";
import {
  allPayouts,
  aPayee,
  done,
  onChain,
  order,
  passUntilDone,
  payoutOf,
  quickChain,
  settling,
  slowChain,
  stepsOf,
  usdt,
} from "./paying.js";

const cancel = async ({ payouts }: Pick<World, "payouts">, payoutId: string) => {
  const { outcome, payout } = await payouts.cancelPayout({ payoutId });
  return { outcome, phase: payout?.phase, status: payout?.status, asked: payout?.cancelRequested };
};
const isCancelled = {
  ...{ outcome: CancelOutcome.CANCELLED, phase: PayoutPhase.DONE, status: PayoutStatus.CANCELLED },
  asked: false,
};

/** Holds the worker before its next call of that kind, until the test lets it go on. */
function holdWorker(
  world: World,
  isIt: (operation: string, given: readonly unknown[], collection?: string) => boolean,
) {
  let letGo = () => {};
  let isHeld = false;
  const gone = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  world.beforeStore((operation, given, collection) => {
    if (isHeld || !isIt(operation, given, collection)) return undefined;
    isHeld = true;
    return gone;
  });
  return { held: () => until(() => isHeld, "the worker is held"), letGo: () => letGo() };
}
/** The write of a payout that sets this field. */
const writes =
  (field: string, value?: string) =>
  (_: string, [, update]: readonly unknown[], collection?: string): boolean => {
    const { $set: set = {} } = (update ?? {}) as { readonly $set?: Readonly<Record<string, unknown>> };
    return collection === "payouts" && set[field] !== undefined && (value === undefined || set[field] === value);
  };

describe("a payout that is cancelled", () => {
  let world: World;
  let nodeId: string;
  beforeAll(async () => {
    world = await openWorld({ settings: quickChain });
    nodeId = await aPayee(world);
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test("while it is held or queued is cancelled at once, and again is the same answer", async () => {
    const scheduledAt = timestampFromDate(new Date(world.clock.now().getTime() + 60_000));
    const held = await order(world, nodeId, { scheduledAt });
    expect(held.phase).toBe(PayoutPhase.HELD);
    await world.payouts.pausePayouts({ reason: "for the test" });
    const queued = await order(world, nodeId);
    for (const { payoutId } of [held, queued]) {
      expect(await cancel(world, payoutId)).toEqual(isCancelled);
      expect(await cancel(world, payoutId)).toEqual(isCancelled);
      expect(await stepsOf(world, payoutId)).toEqual(["create", "cancel"]);
    }
    await world.payouts.resumePayouts({});
    expect(await onChain(world)).toEqual([]);
  });

  test.each([
    ["before its transaction is written", writes("live_txid"), ["create", "claim", "ask", "drop"]],
    ["before its transaction is sent", writes("phase", "sending"), ["create", "claim", "draft", "ask", "drop"]],
  ] as const)("%s never has a transfer", async (_, isIt, steps) => {
    const worker = holdWorker(world, isIt);
    const { payoutId } = await order(world, nodeId);
    await worker.held();
    const asked = { outcome: CancelOutcome.REQUESTED, phase: PayoutPhase.BUILDING, asked: true };
    expect(await cancel(world, payoutId)).toMatchObject(asked);
    expect(await cancel(world, payoutId)).toMatchObject(asked);
    worker.letGo();
    expect((await done(world, payoutId)).status).toBe(PayoutStatus.CANCELLED);
    expect(await stepsOf(world, payoutId)).toEqual(steps);
    expect(await onChain(world)).toEqual([]);
    expect(await cancel(world, payoutId)).toMatchObject({ outcome: CancelOutcome.CANCELLED });
  });

  test("while it is sent is paid nevertheless, if its transaction arrives", async () => {
    const worker = holdWorker(
      world,
      (operation, __, collection) => operation === "insertOne" && collection === "sandbox_transactions",
    );
    const { payoutId } = await order(world, nodeId);
    await worker.held();
    expect(await cancel(world, payoutId)).toMatchObject({
      ...{ outcome: CancelOutcome.REQUESTED, phase: PayoutPhase.SENDING, asked: true },
    });
    worker.letGo();
    expect(await done(world, payoutId)).toMatchObject({ status: PayoutStatus.COMPLETED, cancelRequested: true });
    expect(await onChain(world)).toHaveLength(1);
    expect(await cancel(world, payoutId)).toMatchObject({
      ...{ outcome: CancelOutcome.TOO_LATE, status: PayoutStatus.COMPLETED },
    });
  });

  test("that is not there is 5011", async () => {
    await expectRefusal(world.payouts.cancelPayout({ payoutId: "payout_nobody" }), "NotFound 5011");
    await expectRefusal(world.payouts.cancelPayoutBatch({ batchId: "batch_nobody" }), "NotFound 5011");
  });
});

describe("a transaction that was sent and is lost", () => {
  test("is not sent again for a payout that is to be cancelled, and the payout is cancelled when it is dead", async () => {
    let chance = 0;
    const settings = { SANDBOX_BLOCK_TIME: "250", SANDBOX_FAULTS: "busy=0.5" };
    await using world = await openClockedWorld({ settings, random: () => chance });
    const nodeId = await aPayee(world);
    const { payoutId } = await order(world, nodeId);
    await world.pass(1_000);
    const sent = await payoutOf(world, payoutId);
    expect(sent).toMatchObject({ phase: PayoutPhase.SETTLING, attempts: [{ sends: 1 }] });
    expect(await cancel(world, payoutId)).toMatchObject({ outcome: CancelOutcome.REQUESTED, asked: true });
    // From now on the chain takes whatever it is sent.
    chance = 0.9;
    expect(await passUntilDone(world, payoutId)).toMatchObject({
      ...{ status: PayoutStatus.CANCELLED, attempts: [{ outcome: 4, sends: 1 }] },
    });
    expect(await onChain(world)).toEqual([]);
  });

  test("is sent again for any other payout, before it expires", async () => {
    let chance = 0;
    const settings = { SANDBOX_BLOCK_TIME: "1000", SANDBOX_FAULTS: "busy=0.5" };
    await using world = await openClockedWorld({ settings, random: () => chance });
    const { payoutId } = await order(world, await aPayee(world));
    await world.pass(1_000);
    chance = 0.9;
    expect(await passUntilDone(world, payoutId)).toMatchObject({
      ...{ status: PayoutStatus.COMPLETED, retryCount: 0, attempts: [{ sends: 2 }] },
    });
  });
});

test("a batch is cancelled payout by payout, and says what became of each", async () => {
  await using world = await openWorld({ settings: { ...slowChain, PAYOUT_BATCH_SIZE: "2" } });
  const nodeId = await aPayee(world);
  const first = await world.payouts.createBatchPayout({ payoutRequests: [{ nodeId, money: usdt("1") }] });
  const [sent] = await until(
    async () => (await allPayouts(world, { batchId: first.batchId })).length === 1,
    "the batch is a payout",
  ).then(() => allPayouts(world, { batchId: first.batchId }));
  await settling(world, sent?.payoutId ?? "");
  expect(await world.payouts.cancelPayoutBatch({ batchId: first.batchId })).toMatchObject({
    ...{ cancelled: [], requested: [sent?.payoutId], tooLate: [] },
  });
  // A batch that is cancelled before its payouts exist has them all cancelled, and none is made later.
  await world.payouts.pausePayouts({ reason: "for the test" });
  const payoutRequests = Array.from({ length: 30 }, () => ({ nodeId, money: usdt("1") }));
  const { batchId } = await world.payouts.createBatchPayout({ payoutRequests });
  const answers = await Promise.all([
    world.payouts.cancelPayoutBatch({ batchId }),
    world.payouts.cancelPayoutBatch({ batchId }),
  ]);
  for (const { cancelled } of answers) expect(cancelled).toHaveLength(30);
  const { batch } = await world.payouts.getPayoutBatch({ batchId });
  expect(batch?.byStatus).toMatchObject({ PAYOUT_STATUS_CANCELLED: 30, PAYOUT_STATUS_PENDING: 0 });
});

describe("a failed payout", () => {
  let world: World;
  let nodeId: string;
  let failedId: string;
  beforeAll(async () => {
    const settings = { ...quickChain, SANDBOX_FAULTS: "revert=1", PAYOUT_MAX_RETRIES: "0" };
    world = await openWorld({ settings });
    nodeId = await aPayee(world);
    failedId = (await order(world, nodeId)).payoutId;
  });
  afterAll(() => world[Symbol.asyncDispose]());
  const retry = (payoutId: string, idempotencyKey = aName("retry")) =>
    world.payouts.retryPayout({ payoutId, idempotencyKey });

  test("tells why, and that no money moved", async () => {
    expect(await done(world, failedId)).toMatchObject({
      ...{ status: PayoutStatus.FAILED, stateReason: { code: "REVERTED" }, retryCount: 0, maxRetries: 0 },
      attempts: [{ number: 1, outcome: 3, gateway: "sandbox", fee: "100000000" }],
    });
    expect((await payoutOf(world, failedId)).errorMessage).toContain("OUT_OF_ENERGY");
    expect((await onChain(world)).filter(({ result }) => result === "SUCCESS")).toEqual([]);
    expect(await cancel(world, failedId)).toMatchObject({ outcome: CancelOutcome.TOO_LATE });
  });

  test("is made again once: under one key by many, and under another key it is 5007", async () => {
    await done(world, failedId);
    const keys = ["one", "two"].map((word) => aName(word));
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, place) => retry(failedId, keys[place % 2])),
    );
    const made = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value.payout] : []));
    const refused = outcomes.flatMap((outcome) =>
      outcome.status === "rejected" ? [`${toRefusal(outcome.reason).code} ${toRefusal(outcome.reason).reason}`] : [],
    );
    expect(new Set(made.map((payout) => payout?.payoutId)).size).toBe(1);
    expect(made.filter((payout) => payout?.replayed === false)).toHaveLength(1);
    expect([made.length, new Set(refused)]).toEqual([10, new Set(["AlreadyExists 5007"])]);
    const [again] = made;
    expect(again).toMatchObject({ retryOf: failedId, nodeId, money: { amount: "1" } });
    expect(await payoutOf(world, failedId)).toMatchObject({ status: PayoutStatus.FAILED });

    // The retry has failed as well, and is made again itself.
    await done(world, again?.payoutId ?? "");
    expect((await retry(again?.payoutId ?? "")).payout?.retryOf).toBe(again?.payoutId);
  });

  test("any other is not made again", async () => {
    const scheduledAt = timestampFromDate(new Date(world.clock.now().getTime() + 60_000));
    const { payoutId } = await order(world, nodeId, { scheduledAt });
    await expectRefusal(retry(payoutId), "FailedPrecondition 5006");
    await world.payouts.cancelPayout({ payoutId });
    await expectRefusal(retry(payoutId), "FailedPrecondition 5006");
    await expectRefusal(retry("payout_nobody"), "NotFound 5011");
    await expectRefusal(retry(payoutId, ""), "InvalidArgument 4001");
  });

  test("of a banned node is not made again", async () => {
    const other = await aPayee(world);
    const { payoutId } = await order(world, other);
    await done(world, payoutId);
    await world.nodes.banNode({ nodeId: other, reason: "it lied" });
    await expectRefusal(retry(payoutId), "FailedPrecondition 5006");
  });
});

test("a transaction that is reverted is followed by others, as many as are allowed", async () => {
  const settings = { ...quickChain, SANDBOX_FAULTS: "revert=1", PAYOUT_MAX_RETRIES: "2" };
  await using world = await openWorld({ settings });
  const { payoutId } = await order(world, await aPayee(world));
  const payout = await done(world, payoutId);
  expect(payout).toMatchObject({ status: PayoutStatus.FAILED, retryCount: 2, maxRetries: 2 });
  expect(payout.attempts.map(({ number, outcome }) => [number, outcome])).toEqual([1, 2, 3].map((n) => [n, 3]));
  expect(new Set(payout.attempts.map(({ transactionHash }) => transactionHash)).size).toBe(3);
});

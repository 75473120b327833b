// Orders of single payouts: what is refused and leaves nothing behind, and what the same order makes when it is asked
// for twice.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MoneySchema } from "../../gen/lucid/node/v1/common_pb.js";
import { PayoutPhase, PayoutPriority, PayoutStatus } from "../../gen/lucid/node/v1/payout_service_pb.js";
import { aName, aNode, otherTronAddress, payeeAddress, tronAddress } from "../support/world/builders.js";
import { expectRefusal, refusalOf } from "../support/world/refusal.js";
import { inParallel } from "../support/world/until.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";
import {
  allPayouts,
  aPayee,
  done,
  lucid,
  lucidAddress,
  onChain,
  order,
  passUntilDone,
  payoutOf,
  quickChain,
  slowChain,
  transfersTo,
  usdt,
} from "./paying.js";

const day = 86_400_000;
const zeros = `0x${"0".repeat(40)}`;

describe("an order that is refused leaves nothing behind", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld({ settings: quickChain });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  /** The service has taken nothing, neither in its own records nor on the chain. */
  const expectNothing = async (nodeId: string) => {
    expect(await allPayouts(world, { nodeId })).toEqual([]);
    expect([...(await onChain(world)), ...(await onChain(world, "LUCID"))]).toEqual([]);
  };

  const amounts: [string, MessageInitShape<typeof MoneySchema>][] = [
    ...[
      "0",
      "-1",
      "1e3",
      "0.0000001",
      "1000000.000001",
      "1,5",
      " 1",
      "01",
      "1".repeat(40),
      "１２",
      "",
      "+1",
      "1.",
      ".5",
    ],
    ...["1_000", "0x10", "NaN", "1000001", "0.0000010"],
  ].map((amount) => [`"${amount}" USDT`, usdt(amount)]);
  test.each([...amounts, ['"0.000000001" LUCID', lucid("0.000000001")]] as const)("the amount %s", async (_, money) => {
    const nodeId = await aPayee(world);
    const call = order(world, nodeId, { money, walletAddress: "" });
    const { fields } = await expectRefusal(call, "InvalidArgument 4001");
    expect(fields).toEqual(["money.amount"]);
    await expectNothing(nodeId);
  });

  test.each([
    ["a wrong checksum", usdt("1"), `${otherTronAddress.slice(0, -1)}8`],
    ["a hex address for USDT", usdt("1"), lucidAddress],
    ["the token's contract", usdt("1"), tronAddress],
    ["the wallet that pays", usdt("1"), "TUkqZTRc4YFKCqvRhnfWGssG5WzqfFyhHM"],
    ["the zero address", usdt("1"), "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb"],
    ["a TRON address for LUCID", lucid("1"), payeeAddress],
    ["a LUCID address with a wrong checksum", lucid("1"), lucidAddress.replace("5aA", "5Aa")],
    ["the zero address of LUCID", lucid("1"), zeros],
    ["the wallet that pays LUCID", lucid("1"), "0xee824c0760ee7729b933a68a67e49f68333a62e7"],
    ["the wallet that pays LUCID, in capitals", lucid("1"), "0xEE824C0760EE7729B933A68A67E49F68333A62E7"],
    ["an address with a blank", usdt("1"), ` ${payeeAddress}`],
    ["text", usdt("1"), "pay me"],
  ])("%s", async (_, money, walletAddress) => {
    const nodeId = await aPayee(world);
    const { fields, message } = await expectRefusal(
      order(world, nodeId, { money, walletAddress }),
      "InvalidArgument 4001",
    );
    expect(fields).toEqual(["wallet_address"]);
    expect(message).not.toContain(walletAddress);
    await expectNothing(nodeId);
  });

  test("a time in the past, or ten years ahead", async () => {
    const nodeId = await aPayee(world);
    const at = (aheadMs: number) => timestampFromDate(new Date(world.clock.now().getTime() + aheadMs));
    for (const scheduledAt of [at(-61_000), at(3_650 * day), at(366 * day), { seconds: -1n }]) {
      const call = order(world, nodeId, { scheduledAt });
      expect((await expectRefusal(call, "InvalidArgument 4001")).fields).toEqual(["scheduled_at"]);
    }
    await expectNothing(nodeId);
  });

  test("no money, no key, or a key that cannot be one", async () => {
    const nodeId = await aPayee(world);
    const fieldsOf = async (tweaks: Parameters<typeof order>[2]) => {
      const { code, reason, fields } = await refusalOf(order(world, nodeId, tweaks));
      return [code, reason, ...new Set(fields)];
    };
    expect(await fieldsOf({ money: {} })).toEqual([...["InvalidArgument", "4001", "money.currency", "money.amount"]]);
    for (const idempotencyKey of ["", "k".repeat(129), "a b", "schlüssel"]) {
      expect(await fieldsOf({ idempotencyKey })).toEqual(["InvalidArgument", "4001", "idempotency_key"]);
    }
    await expectNothing(nodeId);
  });

  test("a banned node, a node without an address, a node that is not there", async () => {
    const banned = await aPayee(world);
    await world.nodes.banNode({ nodeId: banned, reason: "it lied" });
    await expectRefusal(order(world, banned, { walletAddress: payeeAddress }), "FailedPrecondition 5006");
    await expectNothing(banned);

    const { nodeId } = await aNode(world.nodes);
    await expectRefusal(order(world, nodeId), "FailedPrecondition 5006");
    const forContract = await aPayee(world, tronAddress);
    await expectRefusal(order(world, forContract), "FailedPrecondition 5006");
    await expectRefusal(order(world, await aPayee(world), { money: lucid("1") }), "FailedPrecondition 5006");
    await expectRefusal(order(world, "node_nobody"), "NotFound 5001");
    await expectNothing(nodeId);
  });

  test("a caller who may not order", async () => {
    const nodeId = await aPayee(world);
    for (const role of ["approver", "operator"] as const) {
      await expectRefusal(order(world.as(await world.token(role)), nodeId), "PermissionDenied 4031");
    }
    await expectRefusal(order(world.as(await world.nodeToken(nodeId)), nodeId), "PermissionDenied 4031");
    await expectRefusal(order(world.as(undefined), nodeId), "Unauthenticated 4011");
    await expectNothing(nodeId);
  });
});

test("a node that is deleted while its payout is ordered is not paid", async () => {
  await using world = await openWorld({ settings: quickChain });
  const nodeId = await aPayee(world);
  let deleted = false;
  // DeleteNode has found no open payout, and the order has found the node.
  world.beforeStore((operation, _, collection) => {
    if (operation !== "insertOne" || collection !== "payouts" || deleted) return undefined;
    deleted = true;
    return world.nodes.deleteNode({ nodeId }).then(() => undefined);
  });
  await expectRefusal(order(world, nodeId), "NotFound 5001");
  expect(deleted).toBe(true);
  const [payout] = await allPayouts(world, { nodeId });
  const { status } = await done(world, payout?.payoutId ?? "");
  expect([PayoutStatus.CANCELLED, PayoutStatus.FAILED]).toContain(status);
  expect(await onChain(world)).toEqual([]);
});

describe("the same order twice", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld({ settings: quickChain });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test("100 times at once makes one payout, and one transfer", async () => {
    const nodeId = await aPayee(world, otherTronAddress);
    const idempotencyKey = aName("key");
    const answers = await inParallel(Array.from({ length: 100 }), 100, () => order(world, nodeId, { idempotencyKey }));
    expect(new Set(answers.map(({ payoutId }) => payoutId)).size).toBe(1);
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    await done(world, answers[0]?.payoutId ?? "");
    expect(await transfersTo(world, otherTronAddress)).toHaveLength(1);
  });

  test("is the same in any spelling of the amount and of the address, and from another caller", async () => {
    const nodeId = await aPayee(world);
    const idempotencyKey = aName("key");
    const first = await order(world, nodeId, {
      ...{ money: lucid("1.5"), walletAddress: lucidAddress, idempotencyKey },
    });
    const payer = world.as(await world.token("payer"));
    const again = await order(payer, nodeId, {
      ...{ money: lucid("1.50"), walletAddress: lucidAddress.toLowerCase(), idempotencyKey },
    });
    expect(again).toMatchObject({ payoutId: first.payoutId, replayed: true, money: { amount: "1.5" } });
  });

  test("under a key that means something else is 5007, also at another RPC", async () => {
    const nodeId = await aPayee(world);
    const idempotencyKey = aName("key");
    const { payoutId } = await order(world, nodeId, { idempotencyKey });
    const others = [
      { money: usdt("1.000001") },
      { money: lucid("1"), walletAddress: lucidAddress },
      { walletAddress: payeeAddress },
      { priority: PayoutPriority.URGENT },
      { scheduledAt: timestampFromDate(new Date(world.clock.now().getTime() + day)) },
    ];
    for (const tweaks of others) {
      await expectRefusal(order(world, nodeId, { idempotencyKey, ...tweaks }), "AlreadyExists 5007");
    }
    await expectRefusal(order(world, await aPayee(world), { idempotencyKey }), "AlreadyExists 5007");
    await expectRefusal(world.payouts.retryPayout({ payoutId, idempotencyKey }), "AlreadyExists 5007");
    expect(await allPayouts(world, { nodeId })).toHaveLength(1);
  });
});

test("an order is answered again after its time has passed, its node has gone and its gateway refuses it", async () => {
  await using world = await openClockedWorld({ settings: { SANDBOX_BLOCK_TIME: "100" } });
  const nodeId = await aPayee(world);
  const scheduledAt = timestampFromDate(new Date(world.clock.now().getTime() + 10_000));
  const wanted = { idempotencyKey: aName("key"), scheduledAt };
  const first = await order(world, nodeId, wanted);
  expect(first).toMatchObject({
    ...{ phase: PayoutPhase.HELD, status: PayoutStatus.PENDING, stateReason: { code: "SCHEDULED" } },
    ...{ nextStepAt: scheduledAt, scheduledAt },
  });
  await world.pass(9_000, 3_000);
  expect((await payoutOf(world, first.payoutId)).phase).toBe(PayoutPhase.HELD);
  expect((await passUntilDone(world, first.payoutId)).status).toBe(PayoutStatus.COMPLETED);
  await world.clock.stall(120_000);
  await world.nodes.deleteNode({ nodeId });
  expect(await order(world, nodeId, wanted)).toMatchObject({
    ...{ payoutId: first.payoutId, replayed: true, status: PayoutStatus.COMPLETED },
  });
  await expectRefusal(order(world, nodeId, { scheduledAt }), "InvalidArgument 4001");
});

test("the most urgent payouts are taken first, the oldest among equals", async () => {
  await using world = await openClockedWorld({ settings: { ...slowChain, PAYOUT_BATCH_SIZE: "2" } });
  const nodeId = await aPayee(world);
  await world.payouts.pausePayouts({ reason: "until all are ordered" });
  const ids: string[] = [];
  const { LOW, NORMAL, UNSPECIFIED, HIGH, URGENT } = PayoutPriority;
  for (const priority of [LOW, NORMAL, UNSPECIFIED, HIGH, URGENT]) {
    ids.push((await order(world, nodeId, { priority })).payoutId);
    await world.pass(1_000);
  }
  const begun: string[] = [];
  world.beforeStore((_, given, collection) => {
    const [filter, update] = given as [{ readonly _id: string }, { readonly $set?: { readonly processed_at?: Date } }];
    if (collection === "payouts" && update?.$set?.processed_at !== undefined) begun.push(filter._id);
    return undefined;
  });
  await world.payouts.resumePayouts({});
  await world.pass(2_000);
  expect(begun.map((payoutId) => ids.indexOf(payoutId))).toEqual([4, 3, 1, 2, 0]);
});

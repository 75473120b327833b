// Transfers out of the wallet that no record explains: nothing is sent until a person has looked at each.
import { describe, expect, test } from "vitest";
import { PayoutPhase, PayoutStatus, UnknownTransfer_Kind } from "../../gen/lucid/node/v1/payout_service_pb.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { createLogger } from "../../src/telemetry/log.js";
import { otherTronAddress, payeeAddress } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import { openWorld, type World } from "../support/world/world.js";
import {
  aPayee,
  changeTransaction,
  done,
  onChain,
  order,
  payBehindOurBack,
  payoutOf,
  quickChain,
  solidOnChain,
  stepsOf,
  usdt,
} from "./paying.js";

const queueOf = ({ payouts }: Pick<World, "payouts">) => payouts.getPayoutQueue({});
/** Waits until the transaction is in a solid block, and the service has compared it. */
async function compared(world: World, txid: string) {
  await until(
    async () => {
      await world.payouts.reconcilePayouts({});
      return (await queueOf(world)).unknownTransfers.some(({ transactionHash }) => transactionHash === txid);
    },
    `${txid} is told of`,
    20_000,
  );
}

describe("a transfer that nobody ordered", () => {
  test("stops all sending until a person accepts it", async () => {
    const lines: string[] = [];
    const log = createLogger({
      ...{ level: "DEBUG", format: "json", service: "t", version: "1", write: (line) => void lines.push(line) },
    });
    await using world = await openWorld({ settings: quickChain, log });
    const nodeId = await aPayee(world);
    await done(world, (await order(world, nodeId)).payoutId);
    expect((await world.payouts.reconcilePayouts({})).report).toMatchObject({
      ...{ matched: 1n, missing: 0n, orphan: 0n, wrong: 0n, transfers: [] },
    });

    const txid = await payBehindOurBack(world, { amount_minor: "5000000" });
    await compared(world, txid);
    // More open payouts to the same address than are read at once.
    const { batchId } = await world.payouts.createBatchPayout({
      payoutRequests: Array.from({ length: 30 }, () => ({ nodeId, money: usdt("2") })),
    });
    await until(
      async () => ((await queueOf(world)).byPhase.PAYOUT_PHASE_QUEUED ?? 0) === 30,
      "the batch waits",
      20_000,
    );
    const suspect = await order(world, nodeId, { money: usdt("5") });
    const others = [
      await order(world, nodeId, { money: usdt("5"), walletAddress: otherTronAddress }),
      await order(world, nodeId, { money: usdt("5.000001") }),
    ];
    const { unknownTransfers } = await queueOf(world);
    expect(unknownTransfers).toMatchObject([
      {
        ...{ transactionHash: txid, amount: "5", kind: UnknownTransfer_Kind.ORPHAN, openPayouts: [suspect.payoutId] },
        recipient: `${payeeAddress.slice(0, 4)}…${payeeAddress.slice(-4)}`,
      },
    ]);
    const { report } = await world.payouts.reconcilePayouts({});
    expect(report).toMatchObject({ matched: 1n, missing: 0n, orphan: 1n, wrong: 0n });
    expect(report?.transfers).toMatchObject([{ transactionHash: txid, openPayouts: [suspect.payoutId] }]);
    expect(lines.filter((line) => line.includes(txid)).join("\n")).toContain("belongs to no recorded attempt");
    expect(lines.join("\n")).not.toContain(payeeAddress);

    await expectRefusal(world.payouts.resumePayouts({}), "FailedPrecondition 5006");
    for (const { payoutId } of [suspect, ...others]) {
      expect(await payoutOf(world, payoutId)).toMatchObject({ phase: PayoutPhase.QUEUED, attempts: [] });
    }
    const accept = (transactionHash: string, note = "I did it") =>
      world.payouts.acceptTransfer({ transactionHash, note });
    await expectRefusal(accept(txid, ""), "InvalidArgument 4001");
    await expectRefusal(accept("sandbox:me"), "InvalidArgument 4001");
    await expectRefusal(accept(`sandbox:${"f".repeat(64)}`), "NotFound 5011");
    const payer = world.as(await world.token("payer")).payouts;
    await expectRefusal(payer.acceptTransfer({ transactionHash: txid, note: "no" }), "PermissionDenied 4031");
    await world.payouts.cancelPayout({ payoutId: suspect.payoutId });
    await world.payouts.cancelPayoutBatch({ batchId });

    for (let times = 0; times < 2; times++) expect((await accept(txid)).unknownTransfers).toBe(0);
    for (const { payoutId } of others) {
      expect((await done(world, payoutId)).status).toBe(PayoutStatus.COMPLETED);
    }
    expect((await queueOf(world)).unknownTransfers).toEqual([]);
    expect((await world.payouts.reconcilePayouts({})).report).toMatchObject({
      ...{ matched: 3n, orphan: 0n, wrong: 0n, transfers: [] },
    });
    // It stays accepted after a start.
    await world.restart("stop");
    expect((await done(world, (await order(world, nodeId)).payoutId)).status).toBe(PayoutStatus.COMPLETED);
  });

  test("that came while the service was down is found before anything is sent", async () => {
    await using world = await openWorld({ settings: quickChain });
    const nodeId = await aPayee(world);
    await done(world, (await order(world, nodeId)).payoutId);
    // The first service neither begins with the payout nor tells of the transfer.
    world.beforeStore((_, [, update], collection) => {
      const { $set: set } = Object(update) as { readonly $set?: { readonly processed_at?: Date } };
      const begins = collection === "payouts" && set?.processed_at !== undefined;
      const tells = collection === "payout_sending" && set !== undefined;
      if (!begins && !tells) return undefined;
      return Promise.reject(new StoreUnavailableError("as this test wants it"));
    });
    const { payoutId } = await order(world, nodeId, { money: usdt("2") });
    const txid = await payBehindOurBack(world, { amount_minor: "2000000" });
    await solidOnChain(world, txid);
    expect((await queueOf(world)).unknownTransfers).toEqual([]);
    await world.restart("crash");
    await until(async () => (await queueOf(world)).unknownTransfers.length === 1, "it is told of", 20_000);
    // No worker has even begun with it.
    expect(await stepsOf(world, payoutId)).toEqual(["create"]);
    await world.payouts.cancelPayout({ payoutId });
    await world.payouts.acceptTransfer({ transactionHash: txid, note: "paid by hand" });
    await done(world, (await order(world, nodeId)).payoutId);
    expect(await onChain(world)).toHaveLength(3);
  });

  test("that is older than the records is found by a reconciliation, and holds sending until it is accepted", async () => {
    await using world = await openWorld({ settings: quickChain });
    const nodeId = await aPayee(world);
    await done(world, (await order(world, nodeId)).payoutId);
    // Behind the block up to which all was compared.
    const txid = await payBehindOurBack(world, { block: 1 });
    const { report } = await world.payouts.reconcilePayouts({});
    expect(report).toMatchObject({ orphan: 1n, transfers: [{ transactionHash: txid }] });
    const { payoutId } = await order(world, nodeId);
    expect((await queueOf(world)).unknownTransfers).toMatchObject([{ transactionHash: txid, blockNumber: 1n }]);
    expect((await payoutOf(world, payoutId)).phase).toBe(PayoutPhase.QUEUED);
    await world.payouts.acceptTransfer({ transactionHash: txid, note: "from the time before" });
    expect((await done(world, payoutId)).status).toBe(PayoutStatus.COMPLETED);
  });
});

test("a transaction that pays although its payout counts it as dead stops sending", async () => {
  const settings = { ...quickChain, SANDBOX_FAULTS: "revert=1", PAYOUT_MAX_RETRIES: "0" };
  await using world = await openWorld({ settings });
  const nodeId = await aPayee(world);
  const { payoutId } = await order(world, nodeId);
  const { transactionHash } = await done(world, payoutId);
  expect((await payoutOf(world, payoutId)).status).toBe(PayoutStatus.FAILED);
  await changeTransaction(world, transactionHash, { result: "SUCCESS" });
  await compared(world, transactionHash);
  const [transfer] = (await queueOf(world)).unknownTransfers;
  expect(transfer).toMatchObject({ kind: UnknownTransfer_Kind.WRONG, amount: "1" });
  expect((await world.payouts.reconcilePayouts({})).report).toMatchObject({ matched: 0n, wrong: 1n, orphan: 0n });
});

test("so does a transaction that pays although a later one was built after it", async () => {
  const settings = { ...quickChain, SANDBOX_FAULTS: "revert=1", PAYOUT_MAX_RETRIES: "1" };
  await using world = await openWorld({ settings });
  const { payoutId } = await order(world, await aPayee(world));
  const { attempts } = await done(world, payoutId);
  expect(attempts).toHaveLength(2);
  const transactionHash = attempts[0]?.transactionHash ?? "";
  await changeTransaction(world, transactionHash, { result: "SUCCESS" });
  await compared(world, transactionHash);
  expect((await queueOf(world)).unknownTransfers).toMatchObject([{ kind: UnknownTransfer_Kind.WRONG }]);
  expect((await world.payouts.reconcilePayouts({})).report).toMatchObject({ wrong: 1n, orphan: 0n });
});

test("a transaction that pays another amount than its payout wants is not counted as paid", async () => {
  await using world = await openWorld({ settings: { SANDBOX_BLOCK_TIME: "100" } });
  const { payoutId } = await order(world, await aPayee(world));
  await until(async () => (await payoutOf(world, payoutId)).phase === PayoutPhase.SETTLING, "it is sent");
  const { transactionHash } = await payoutOf(world, payoutId);
  await changeTransaction(world, transactionHash, { amount_minor: "999999" });
  await until(
    async () => (await payoutOf(world, payoutId)).stateReason?.code === "WRONG_TRANSFER",
    "the payout says so",
    20_000,
  );
  await compared(world, transactionHash);
  expect((await queueOf(world)).unknownTransfers).toMatchObject([{ kind: UnknownTransfer_Kind.WRONG }]);
  expect((await payoutOf(world, payoutId)).status).toBe(PayoutStatus.PROCESSING);
});

test("a completed payout whose transfer is not on the chain is counted as missing", async () => {
  await using world = await openWorld({ settings: quickChain });
  const { payoutId } = await order(world, await aPayee(world));
  const { transactionHash } = await done(world, payoutId);
  await changeTransaction(world, transactionHash, { result: "OUT_OF_ENERGY" });
  expect((await world.payouts.reconcilePayouts({})).report).toMatchObject({ matched: 0n, missing: 1n, orphan: 0n });
});

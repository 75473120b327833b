// Payouts through their clients: orders to begin with, waiting for what becomes of them, and a look at the sandbox's chain.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Currency, type MoneySchema } from "../../gen/lucid/node/v1/common_pb.js";
import {
  type CreatePayoutRequestSchema,
  type Payout,
  type PayoutEvent,
  PayoutPhase,
  PayoutStatus,
} from "../../gen/lucid/node/v1/payout_service_pb.js";

import { openSandboxChain } from "../../src/payouts/gateway/sandbox-chain.js";
import { type SandboxTransaction, sandboxTransactionsCollection } from "../../src/payouts/gateway/sandbox-head.js";
import { pages } from "../../src/storage/pages.js";

import { aName, aNode, payeeAddress } from "../support/world/builders.js";
import { until } from "../support/world/until.js";
import type { Clients, ClockedWorld, World } from "../support/world/world.js";

type CreatePayout = Exclude<MessageInitShape<typeof CreatePayoutRequestSchema>, { $typeName: string }>;

/** The fastest chain that the sandbox offers: a payout is settled in about a third of a second. */
export const quickChain = { SANDBOX_BLOCK_TIME: "10" };
/** A chain on which nothing is settled while a test runs. */
export const slowChain = { SANDBOX_BLOCK_TIME: "60000" };

export const lucidAddress = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
export const usdt = (amount: string): MessageInitShape<typeof MoneySchema> => ({ currency: Currency.USDT, amount });
export const lucid = (amount: string): MessageInitShape<typeof MoneySchema> => ({ currency: Currency.LUCID, amount });

/** A node that has an address to be paid at. */
export const aPayee = async (world: World, payoutAddress = payeeAddress): Promise<string> =>
  (await aNode(world.nodes, { payoutAddress })).nodeId;

/** Orders one USDT for the node unless told otherwise. */
export async function order(
  { payouts }: Pick<Clients, "payouts">,
  nodeId: string,
  tweaks: CreatePayout = {},
): Promise<Payout> {
  const { payout } = await payouts.createPayout({
    nodeId,
    money: usdt("1"),
    idempotencyKey: aName("order"),
    ...tweaks,
  });
  if (payout === undefined) throw new Error("no payout in the answer");
  return payout;
}

export async function payoutOf({ payouts }: Pick<Clients, "payouts">, payoutId: string): Promise<Payout> {
  const { payout } = await payouts.getPayout({ payoutId });
  if (payout === undefined) throw new Error("no payout in the answer");
  return payout;
}

/** Waits until the payout is what the test waits for. */
export async function seen(
  world: World,
  payoutId: string,
  what: string,
  isSo: (payout: Payout) => boolean,
): Promise<Payout> {
  let last = await payoutOf(world, payoutId);
  await until(
    async () => {
      last = await payoutOf(world, payoutId);
      return isSo(last);
    },
    `${payoutId} ${what}`,
    60_000,
  );
  return last;
}

export const done = (world: World, payoutId: string): Promise<Payout> =>
  seen(world, payoutId, "is done", ({ phase }) => phase === PayoutPhase.DONE);
export const settling = (world: World, payoutId: string): Promise<Payout> =>
  seen(world, payoutId, "is settling", ({ phase }) => phase === PayoutPhase.SETTLING);
export const withReason = (world: World, payoutId: string, code: string): Promise<Payout> =>
  seen(world, payoutId, `waits: ${code}`, ({ stateReason }) => stateReason?.code === code);

/** How many of them are in each status, by its name. */
export function countsOf(payouts: readonly Payout[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status } of payouts) {
    const name = Object.entries(PayoutStatus).find(([, value]) => value === status)?.[0] ?? "none";
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Every payout that the filter finds. */
export async function allPayouts(
  { payouts }: Pick<Clients, "payouts">,
  filter: { readonly nodeId?: string; readonly batchId?: string } = {},
): Promise<Payout[]> {
  const found: Payout[] = [];
  let position: { case: "pageToken"; value: string } | { case: undefined } = { case: undefined };
  do {
    const { payouts: page, pagination } = await payouts.listPayouts({ ...filter, limit: 100, position });
    found.push(...page);
    const value = pagination?.nextPageToken ?? "";
    position = value === "" ? { case: undefined } : { case: "pageToken", value };
  } while (position.case !== undefined);
  return found;
}

/** The whole story, read in pages of that size. */
export async function storyOf(
  { payouts }: Pick<Clients, "payouts">,
  payoutId: string,
  limit = 100,
): Promise<PayoutEvent[]> {
  const told: PayoutEvent[] = [];
  let position: { case: "pageToken"; value: string } | { case: undefined } = { case: undefined };
  do {
    const { events, pagination } = await payouts.listPayoutEvents({ payoutId, limit, position });
    told.push(...events);
    const value = pagination?.nextPageToken ?? "";
    position = value === "" ? { case: undefined } : { case: "pageToken", value };
  } while (position.case !== undefined);
  return told;
}

export const stepsOf = async (world: World, payoutId: string): Promise<string[]> =>
  (await storyOf(world, payoutId)).map(({ step }) => step);

const chainOf = ({ store }: Pick<World, "store">) =>
  store.collection<SandboxTransaction>(sandboxTransactionsCollection);

/** All transactions that the sandbox has taken of that currency, and that are in a block. */
export async function onChain(world: Pick<World, "store">, currency = "USDT"): Promise<SandboxTransaction[]> {
  const transactions = await chainOf(world);
  const found: SandboxTransaction[] = [];
  const included = { chain: currency, state: "included" };
  for await (const page of pages((after) =>
    transactions.page(included, { index: "idx_chain_block", limit: 500, after }),
  ))
    found.push(...page);
  return found;
}

/** The transfers that moved money to that recipient. */
export const transfersTo = async (world: Pick<World, "store">, recipient: string): Promise<SandboxTransaction[]> =>
  (await onChain(world)).filter((one) => one.recipient === recipient && one.result === "SUCCESS");

/** Somebody else pays out of the wallet: a transaction that no attempt has recorded waits for a block, or is in one. */
export async function payBehindOurBack(
  world: Pick<World, "store">,
  tweaks: Partial<SandboxTransaction> = {},
): Promise<string> {
  const txid = `sandbox:${(++foreign).toString(16).padStart(64, "0")}`;
  await (await chainOf(world)).insertOne({
    ...{ _id: txid, chain: "USDT", recipient: payeeAddress, amount_minor: "1000000", due: 0 },
    ...(tweaks.block === undefined ? { state: "pending" } : { state: "included", block_id: "b", ...moved }),
    ...{ expires_at_ms: Number.MAX_SAFE_INTEGER, fee_limit: "1000000000", holds_token: true },
    ...tweaks,
  } as SandboxTransaction);
  return txid;
}
const moved = { result: "SUCCESS", retryable: false, fee: "0" };
let foreign = 0;

/** Lets the chain go on until the transaction is in a solid block. The service has no part in it. */
export async function solidOnChain({ store }: Pick<World, "store">, txid: string): Promise<void> {
  const blockMs = Number(quickChain.SANDBOX_BLOCK_TIME);
  const chain = await openSandboxChain({ store, chain: "USDT", blockMs, startMinor: 10n ** 15n });
  const isSolid = async () => {
    const { solidNumber } = await chain.look(true);
    const { block } = (await chain.find(txid)) ?? {};
    return block !== undefined && block <= solidNumber;
  };
  await until(isSolid, `${txid} is solid`);
}

/** Changes a transaction on the chain, as no chain would. */
export async function changeTransaction(
  world: Pick<World, "store">,
  txid: string,
  set: Partial<SandboxTransaction>,
): Promise<void> {
  await (await chainOf(world)).updateOne({ _id: txid }, { $set: set });
}

/** Lets time go by, a second at a time, until the condition holds: on a slow store a turn takes many of them. */
export async function passUntil(
  world: Pick<ClockedWorld, "pass">,
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  for (let seconds = 0; seconds < 120; seconds++) {
    if (await condition()) return;
    await world.pass(1_000);
  }
  throw new Error(`not within two minutes: ${what}`);
}

/** Lets time go by until the payout is done. */
export async function passUntilDone(world: ClockedWorld, payoutId: string): Promise<Payout> {
  await passUntil(
    world,
    `${payoutId} is done`,
    async () => (await payoutOf(world, payoutId)).phase === PayoutPhase.DONE,
  );
  return payoutOf(world, payoutId);
}

// Sums of payouts, and the state of a batch by the payouts that were made of it. Pure.
import type { BatchDocument, PayoutDocument, Status } from "./document.js";
import { type Currency, currencies, sumOf } from "./money.js";

/** Payouts of one currency in one status, added up in minor units. */
export interface Total {
  readonly currency: Currency;
  readonly status: Status;
  readonly count: number;
  readonly minor: bigint;
}

export type BatchState = "queued" | "processing" | "completed" | "partial" | "failed" | "cancelled";

/**
 * The totals of all items of a batch, from those of the payouts made so far: an item that is no payout yet is pending, or
 * cancelled with its batch. Counts and sums agree with the items at every moment.
 */
export function batchTotals(
  { items, cancelled }: Pick<BatchDocument, "items" | "cancelled">,
  made: readonly Total[],
): Total[] {
  const status: Status = cancelled ? "cancelled" : "pending";
  const rest = currencies.map((currency): Total => {
    const wanted = items.filter((item) => item.currency === currency);
    const known = made.filter((total) => total.currency === currency);
    return {
      currency,
      status,
      count: wanted.length - countOf(known),
      minor: sumOf(wanted.map((item) => BigInt(item.amount_minor))) - sumOf(known.map(({ minor }) => minor)),
    };
  });
  return added([...made, ...rest]);
}

/** One total for each currency and status; those of no payout are left out. */
export function added(totals: readonly Total[]): Total[] {
  const sums = new Map<string, Total>();
  for (const total of totals) {
    const key = `${total.currency} ${total.status}`;
    const { count, minor } = sums.get(key) ?? { count: 0, minor: 0n };
    sums.set(key, { ...total, count: count + total.count, minor: minor + total.minor });
  }
  return [...sums.values()].filter(({ count }) => count !== 0);
}

/** Totals of payouts. */
export const totalsOf = (payouts: readonly Pick<PayoutDocument, "currency" | "status" | "amount_minor">[]): Total[] =>
  added(
    payouts.map(({ currency, status, amount_minor: minor }) => ({ currency, status, count: 1, minor: BigInt(minor) })),
  );

export const countOf = (totals: readonly Total[]): number => totals.reduce((sum, { count }) => sum + count, 0);

/** `totals` of all items of a batch, which has at least one. */
export function batchState(totals: readonly Total[]): BatchState {
  const has = (status: Status) => totals.some((total) => total.status === status);
  if (has("processing")) return "processing";
  if (has("pending")) return has("completed") || has("failed") ? "processing" : "queued";
  if (has("completed")) return has("failed") || has("cancelled") ? "partial" : "completed";
  return has("failed") ? "failed" : "cancelled";
}

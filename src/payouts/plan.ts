// Decisions about many payouts: the order of the queue, and what the payouts of a batch make of the batch. Pure.
import type { BatchDocument, Status } from "./document.js";
import { priorities } from "./document.js";
import { type Currency, currencies } from "./money.js";
import { placeOf } from "./payout.js";

/** The places of the queue in the order in which a worker empties them: the most urgent first, each by age. */
export const queuePlaces: readonly string[] = priorities.map((priority) => placeOf("queued", priority));

export const batchStatuses = ["queued", "processing", "completed", "partial", "failed", "cancelled"] as const;
export type BatchStatus = (typeof batchStatuses)[number];

/** Payouts and their sum, by currency and status. Combinations without a payout are absent. */
export type Tally = readonly {
  readonly currency: Currency;
  readonly status: Status;
  readonly count: bigint;
  readonly minor: bigint;
}[];

/** Adds up amounts by currency and status, in the order of the currencies, then of first appearance. */
export function tallyOf(
  payouts: Iterable<{ readonly currency: Currency; readonly status: Status; readonly amount_minor: string }>,
): Tally {
  const sums = new Map<string, { currency: Currency; status: Status; count: bigint; minor: bigint }>();
  for (const { currency, status, amount_minor: minor } of payouts) {
    const sum = sums.get(`${currency} ${status}`) ?? { currency, status, count: 0n, minor: 0n };
    sums.set(`${currency} ${status}`, { ...sum, count: sum.count + 1n, minor: sum.minor + BigInt(minor) });
  }
  return [...sums.values()].sort((a, b) => currencies.indexOf(a.currency) - currencies.indexOf(b.currency));
}

/** What the items of a batch are while they are no payouts: all of one status. */
export const itemStatus = ({ cancelled }: Pick<BatchDocument, "cancelled">): Status =>
  cancelled === true ? "cancelled" : "pending";

/**
 * The status of a batch by the statuses of its payouts. `partial`: all are done and some, not all, are completed.
 * Failed and cancelled ones together, without a completed one, make a failed batch.
 */
export function batchStatusOf(tally: Tally): BatchStatus {
  const has = (status: Status): boolean => tally.some((sum) => sum.status === status && sum.count > 0n);
  const only = (status: Status): boolean => tally.every((sum) => sum.status === status);
  if (only("pending")) return "queued";
  if (has("pending") || has("processing")) return "processing";
  if (only("completed")) return "completed";
  if (only("cancelled")) return "cancelled";
  return has("completed") ? "partial" : "failed";
}

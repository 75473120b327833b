// Between the contract's messages and what this folder speaks: plain translation, no decisions. Recipients leave the
// service masked.
import type { DescEnum, MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Currency as WireCurrency } from "../../gen/lucid/node/v1/common_pb.js";
import {
  BatchStatus,
  CancelOutcome,
  type GetPayoutQueueResponseSchema,
  PayoutAttemptOutcome,
  type PayoutAttemptSchema,
  type PayoutBatchSchema,
  type PayoutEventSchema,
  PayoutPhase,
  PayoutPhaseSchema,
  PayoutPriority,
  type PayoutSchema,
  PayoutStatus,
  PayoutStatusSchema,
  type PayoutTotalSchema,
  type ReconcilePayoutsResponseSchema,
  UnknownTransfer_Kind as UnknownKind,
  type UnknownTransferSchema,
} from "../../gen/lucid/node/v1/payout_service_pb.js";
import { present } from "../present.js";
import type {
  Attempt,
  BatchDocument,
  Entry,
  PayoutDocument,
  Phase,
  Priority,
  SendingDocument,
  Status,
  UnknownTransfer,
} from "./document.js";
import { type Currency, currencies, formatAmount } from "./money.js";
import { approvalReason } from "./payout.js";
import { type BatchState, batchState, batchTotals, countOf, type Total } from "./tally.js";

export const currencyToWire: Readonly<Record<Currency, WireCurrency>> = {
  USDT: WireCurrency.USDT,
  LUCID: WireCurrency.LUCID,
};
const statusToWire: Readonly<Record<Status, PayoutStatus>> = {
  pending: PayoutStatus.PENDING,
  processing: PayoutStatus.PROCESSING,
  completed: PayoutStatus.COMPLETED,
  failed: PayoutStatus.FAILED,
  cancelled: PayoutStatus.CANCELLED,
};
const phaseToWire: Readonly<Record<Phase, PayoutPhase>> = {
  held: PayoutPhase.HELD,
  queued: PayoutPhase.QUEUED,
  building: PayoutPhase.BUILDING,
  sending: PayoutPhase.SENDING,
  settling: PayoutPhase.SETTLING,
  done: PayoutPhase.DONE,
};
const priorityToWire: Readonly<Record<Priority, PayoutPriority>> = {
  low: PayoutPriority.LOW,
  normal: PayoutPriority.NORMAL,
  high: PayoutPriority.HIGH,
  urgent: PayoutPriority.URGENT,
};
const batchStateToWire: Readonly<Record<BatchState, BatchStatus>> = {
  queued: BatchStatus.QUEUED,
  processing: BatchStatus.PROCESSING,
  completed: BatchStatus.COMPLETED,
  partial: BatchStatus.PARTIAL,
  failed: BatchStatus.FAILED,
  cancelled: BatchStatus.CANCELLED,
};
const attemptOutcomeToWire: Readonly<Record<Attempt["outcome"], PayoutAttemptOutcome>> = {
  live: PayoutAttemptOutcome.LIVE,
  landed: PayoutAttemptOutcome.LANDED,
  reverted: PayoutAttemptOutcome.REVERTED,
  dead: PayoutAttemptOutcome.DEAD,
  never_sent: PayoutAttemptOutcome.NEVER_SENT,
};
export type Cancellation = "cancelled" | "requested" | "too late";
export const cancellationToWire: Readonly<Record<Cancellation, CancelOutcome>> = {
  cancelled: CancelOutcome.CANCELLED,
  requested: CancelOutcome.REQUESTED,
  "too late": CancelOutcome.TOO_LATE,
};
const unknownKindToWire: Readonly<Record<UnknownTransfer["kind"], UnknownKind>> = {
  orphan: UnknownKind.ORPHAN,
  wrong: UnknownKind.WRONG,
};

/** The domain's word for a number of the wire; undefined for UNSPECIFIED. */
const reading =
  <Word extends string, Value extends number>(table: Readonly<Record<Word, Value>>) =>
  (value: Value): Word | undefined =>
    (Object.keys(table) as Word[]).find((word) => table[word] === value);
export const currencyFromWire = reading(currencyToWire);
export const statusFromWire = reading(statusToWire);
export const priorityFromWire = reading(priorityToWire);

/** A batch with the totals of the payouts that were made of it. */
export interface BatchView {
  readonly batch: BatchDocument;
  readonly tally: readonly Total[];
  /** When its last payout was done; absent while one is open. */
  readonly completedAt?: Date;
}

/** An unknown transfer with the ids of open payouts that want the same amount for the same recipient. */
export interface UnknownView {
  readonly transfer: UnknownTransfer;
  readonly openPayouts: readonly string[];
}

export interface QueueView {
  readonly byStatus: Readonly<Record<"pending" | "processing", number>>;
  readonly byPhase: Readonly<Record<Exclude<Phase, "done">, number>>;
  /** When the oldest open payout was created. */
  readonly oldest?: Date;
  readonly sending: Pick<SendingDocument, "paused" | "holds">;
  readonly unknown: readonly UnknownView[];
}

/** How a currency's wallet and the records compare. The counts are absent when the chain could not be read. */
export interface Reconciled {
  readonly currency: Currency;
  readonly matched?: number;
  readonly missing?: number;
  readonly orphan?: number;
  readonly wrong?: number;
  /** The last solid block that was compared. */
  readonly upTo?: { readonly number: number };
  /** Why the chain could not be read. */
  readonly problem?: string;
}

const amountToWire = (currency: Currency, minorText: string): string =>
  formatAmount({ currency, minor: BigInt(minorText) });

export function payoutToWire(payout: PayoutDocument, replayed = false): MessageInitShape<typeof PayoutSchema> {
  // While a worker holds it, `wake_at` is the end of that claim and not a step to wait for.
  const nextStepAt = payout.open && payout.claim_owner === undefined ? payout.wake_at : undefined;
  return {
    payoutId: payout._id,
    nodeId: payout.node_id,
    money: { currency: currencyToWire[payout.currency], amount: amountToWire(payout.currency, payout.amount_minor) },
    walletAddress: payout.recipient_masked,
    status: statusToWire[payout.status],
    phase: phaseToWire[payout.phase],
    cancelRequested: payout.cancel_requested ?? false,
    transactionHash: payout.txid ?? "",
    attempts: payout.attempts.map(attemptToWire),
    batchId: payout.batch_id ?? "",
    retryOf: payout.retry_of ?? "",
    priority: priorityToWire[payout.priority],
    errorMessage: payout.error_message ?? "",
    retryCount: payout.retry_count,
    maxRetries: payout.max_retries,
    createdAt: timestampFromDate(payout.created_at),
    version: BigInt(payout.version),
    replayed,
    createdBy: payout.created_by,
    ...present({
      stateReason: payout.reason && { code: payout.reason.code, message: payout.reason.message },
      scheduledAt: payout.scheduled_at && timestampFromDate(payout.scheduled_at),
      nextStepAt: nextStepAt && timestampFromDate(nextStepAt),
      processedAt: payout.processed_at && timestampFromDate(payout.processed_at),
      completedAt: payout.completed_at && timestampFromDate(payout.completed_at),
    }),
  };
}

const attemptToWire = (attempt: Attempt): MessageInitShape<typeof PayoutAttemptSchema> => ({
  number: attempt.n,
  gateway: attempt.gateway,
  transactionHash: attempt.txid,
  outcome: attemptOutcomeToWire[attempt.outcome],
  sends: attempt.sends,
  builtAt: timestampFromDate(attempt.built_at),
  expiresAt: timestampFromMs(attempt.expires_at_ms),
  fee: attempt.fee ?? "",
  ...present({
    firstSentAt: attempt.first_sent_at && timestampFromDate(attempt.first_sent_at),
    blockNumber: attempt.block && BigInt(attempt.block.number),
  }),
});

export const totalToWire = ({ currency, status, count, minor }: Total): MessageInitShape<typeof PayoutTotalSchema> => ({
  currency: currencyToWire[currency],
  status: statusToWire[status],
  count: BigInt(count),
  amount: formatAmount({ currency, minor }),
});

export function batchStatusOf({ batch, tally }: BatchView): BatchStatus {
  return batchStateToWire[batchState(batchTotals(batch, tally))];
}

export function batchToWire(view: BatchView, replayed = false): MessageInitShape<typeof PayoutBatchSchema> {
  const { batch, tally, completedAt } = view;
  const totals = batchTotals(batch, tally);
  const approvalNeeded = batch.approval === "needed" && !batch.cancelled;
  const counts = (status: Status) => countOf(totals.filter((total) => total.status === status));
  return {
    batchId: batch._id,
    status: batchStatusOf(view),
    totals: totals.map(totalToWire),
    itemCount: batch.items.length,
    byStatus: named(statusToWire, PayoutStatusSchema, counts),
    approvalNeeded,
    priority: priorityToWire[batch.priority],
    notificationUrl: batch.notification_url ?? "",
    createdBy: batch.created_by,
    createdAt: timestampFromDate(batch.created_at),
    updatedAt: timestampFromDate(batch.updated_at),
    version: BigInt(batch.version),
    replayed,
    ...present({
      stateReason: approvalNeeded ? { ...approvalReason } : undefined,
      scheduledAt: batch.scheduled_at && timestampFromDate(batch.scheduled_at),
      completedAt: completedAt && timestampFromDate(completedAt),
    }),
  };
}

/** A step of a payout's story as it is logged. */
export interface LoggedEntry extends Entry {
  readonly _id: string;
  readonly payout_id: string;
}

export const eventToWire = (entry: LoggedEntry): MessageInitShape<typeof PayoutEventSchema> => ({
  eventId: entry._id,
  payoutId: entry.payout_id,
  from: entry.from === undefined ? PayoutPhase.UNSPECIFIED : phaseToWire[entry.from],
  to: entry.to === undefined ? PayoutPhase.UNSPECIFIED : phaseToWire[entry.to],
  actor: entry.actor,
  reason: entry.reason ?? "",
  transactionHash: entry.txid ?? "",
  occurredAt: timestampFromDate(entry.at),
  version: BigInt(entry.version),
  step: entry.step,
});

export const unknownToWire = ({
  transfer,
  openPayouts,
}: UnknownView): MessageInitShape<typeof UnknownTransferSchema> => ({
  transactionHash: transfer.txid,
  currency: currencyToWire[transfer.currency],
  amount: amountToWire(transfer.currency, transfer.amount_minor),
  recipient: transfer.recipient_masked,
  blockNumber: BigInt(transfer.block.number),
  kind: unknownKindToWire[transfer.kind],
  openPayouts: openPayouts.slice(0, openPayoutsMax),
});
const openPayoutsMax = 10;

export function queueToWire(view: QueueView): MessageInitShape<typeof GetPayoutQueueResponseSchema> {
  const { paused, holds } = view.sending;
  const { pending, processing } = statusToWire;
  const { done: _, ...openPhases } = phaseToWire;
  return {
    byStatus: named({ pending, processing }, PayoutStatusSchema, (status) => view.byStatus[status]),
    byPhase: named(openPhases, PayoutPhaseSchema, (phase) => view.byPhase[phase]),
    paused: paused !== undefined,
    pausedReason: paused?.reason ?? "",
    pausedBy: paused?.by ?? "",
    holds: currencies.flatMap((currency) => {
      const hold = holds[currency];
      return hold === undefined ? [] : [{ currency: currencyToWire[currency], code: hold.code, message: hold.message }];
    }),
    unknownTransfers: view.unknown.map(unknownToWire),
    ...present({
      oldestWaiting: view.oldest && timestampFromDate(view.oldest),
      pausedAt: paused && timestampFromDate(paused.at),
    }),
  };
}

export function reconciledToWire(
  reconciled: readonly Reconciled[],
  unknown: readonly UnknownView[],
): MessageInitShape<typeof ReconcilePayoutsResponseSchema> {
  const sum = (field: "matched" | "missing" | "orphan" | "wrong") =>
    BigInt(reconciled.reduce((total, one) => total + (one[field] ?? 0), 0));
  const blocks = reconciled.flatMap(({ upTo }) => (upTo === undefined ? [] : [upTo.number]));
  return {
    report: {
      matched: sum("matched"),
      missing: sum("missing"),
      orphan: sum("orphan"),
      wrong: sum("wrong"),
      transfers: unknown.map(unknownToWire),
      ...(blocks.length === 0 ? {} : { upToBlock: BigInt(Math.min(...blocks)) }),
    },
    currencies: reconciled.map((one) => ({
      currency: currencyToWire[one.currency],
      matched: BigInt(one.matched ?? 0),
      missing: BigInt(one.missing ?? 0),
      orphan: BigInt(one.orphan ?? 0),
      wrong: BigInt(one.wrong ?? 0),
      problem: one.problem ?? "",
      ...(one.upTo === undefined ? {} : { upToBlock: BigInt(one.upTo.number) }),
    })),
  };
}

/** A number for each word, by the words' names in the contract. */
const named = <Word extends string>(
  table: Readonly<Record<Word, number>>,
  { value }: DescEnum,
  count: (word: Word) => number,
): Record<string, number> =>
  Object.fromEntries((Object.keys(table) as Word[]).map((word) => [value[table[word]]?.name ?? word, count(word)]));

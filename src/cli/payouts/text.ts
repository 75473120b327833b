// What the contract's messages say to people.
import type { DescEnum } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { CurrencySchema } from "../../../gen/lucid/node/v1/common_pb.js";
import {
  BatchStatusSchema,
  type CancelPayoutBatchResponse,
  type GetPayoutQueueResponse,
  type Payout,
  PayoutAttemptOutcomeSchema,
  type PayoutBatch,
  type PayoutEvent,
  PayoutPhase,
  PayoutPhaseSchema,
  PayoutPriority,
  PayoutPrioritySchema,
  PayoutStatus,
  PayoutStatusSchema,
  type ReconcilePayoutsResponse,
  type StateReason,
  UnknownTransfer_KindSchema as UnknownKindSchema,
  type UnknownTransfer,
} from "../../../gen/lucid/node/v1/payout_service_pb.js";
import { fieldsOf, tableOf } from "../table.js";

/** The value's name without the prefix of its enum, such as "PENDING"; its number when it is newer than this program. */
const wordOf = (desc: DescEnum, value: number): string => desc.value[value]?.localName ?? `${value}`;

/** UTC, to the second; empty for none. */
export const timeOf = (time: Timestamp | undefined): string =>
  time === undefined
    ? ""
    : timestampDate(time)
        .toISOString()
        .replace(/\.\d+Z$/, "Z");

const moneyOf = ({ money }: Payout): string =>
  money === undefined ? "" : `${money.amount} ${wordOf(CurrencySchema, money.currency)}`;

const reasonOf = (reason: StateReason | undefined): string =>
  reason === undefined ? "" : `${reason.message} (${reason.code})`;

/** The phase says more while a payout is under way. */
const stateOf = ({ status, phase }: Payout): string =>
  phase === PayoutPhase.DONE
    ? wordOf(PayoutStatusSchema, status)
    : `${wordOf(PayoutStatusSchema, status)}, ${wordOf(PayoutPhaseSchema, phase).toLowerCase()}`;

export const payoutsText = (payouts: readonly Payout[]): string =>
  tableOf(
    ["PAYOUT", "NODE", "AMOUNT", "STATE", "CREATED", "WHY"],
    payouts.map((payout) => [
      ...[payout.payoutId, payout.nodeId, moneyOf(payout), stateOf(payout)],
      ...[timeOf(payout.createdAt), reasonOf(payout.stateReason)],
    ]),
  );

export const payoutLine = (payout: Payout): string =>
  [`${payout.payoutId}  ${moneyOf(payout)}  ${stateOf(payout)}`, reasonOf(payout.stateReason)]
    .filter((part) => part !== "")
    .join("  ");

/** The story of a payout: what it is, its transactions, and each step with the time since the first. */
export function storyText(payout: Payout, events: readonly PayoutEvent[]): string {
  const head = fieldsOf({
    payout: payout.payoutId,
    state: stateOf(payout),
    why: reasonOf(payout.stateReason),
    node: payout.nodeId,
    pays: `${moneyOf(payout)} to ${payout.walletAddress}`,
    "asked by": `${payout.createdBy}, ${timeOf(payout.createdAt)}`,
    "not before": timeOf(payout.scheduledAt),
    priority: payout.priority === PayoutPriority.NORMAL ? "" : wordOf(PayoutPrioritySchema, payout.priority),
    batch: payout.batchId,
    "retry of": payout.retryOf,
    cancellation: payout.cancelRequested ? "asked for; a transaction may have left the service" : "",
    retries: `${payout.retryCount} of ${payout.maxRetries}`,
    "next look": timeOf(payout.nextStepAt),
    done: timeOf(payout.completedAt),
  });
  const parts = [head, attemptsText(payout), eventsText(payout, events)];
  return parts.filter((part) => part !== "").join("\n\n");
}

const attemptsText = ({ attempts }: Payout): string =>
  attempts.length === 0
    ? ""
    : tableOf(
        ["NO", "OUTCOME", "SENT", "BLOCK", "FEE", "TRANSACTION"],
        attempts.map(({ number, outcome, sends, blockNumber, fee, transactionHash }) => [
          ...[`${number}`, wordOf(PayoutAttemptOutcomeSchema, outcome), sends === 0 ? "never" : `${sends}x`],
          ...[blockNumber === undefined ? "" : `${blockNumber}`, fee, transactionHash],
        ]),
      );

function eventsText({ attempts }: Payout, events: readonly PayoutEvent[]): string {
  const firstMs = msOf(events[0]?.occurredAt);
  return tableOf(
    ["TIME", "AFTER", "STEP", "PHASE", "BY", "WHY"],
    events.map((event) => {
      const number = attempts.find(({ transactionHash }) => transactionHash === event.transactionHash)?.number;
      const about = number === undefined ? "" : `transaction ${number}`;
      return [
        ...[timeOf(event.occurredAt), `+${((msOf(event.occurredAt) - firstMs) / 1000).toFixed(1)}s`, event.step],
        ...[phaseText(event), event.actor, [about, event.reason].filter((part) => part !== "").join(": ")],
      ];
    }),
  );
}

const msOf = (time: Timestamp | undefined): number => (time === undefined ? 0 : timestampDate(time).getTime());

function phaseText({ from, to }: PayoutEvent): string {
  const word = (phase: PayoutPhase) =>
    phase === PayoutPhase.UNSPECIFIED ? "" : wordOf(PayoutPhaseSchema, phase).toLowerCase();
  return from === to || from === PayoutPhase.UNSPECIFIED ? word(to) : `${word(from)} > ${word(to)}`;
}

export function batchText(batch: PayoutBatch): string {
  const head = fieldsOf({
    batch: batch.batchId,
    state: wordOf(BatchStatusSchema, batch.status),
    why: reasonOf(batch.stateReason),
    payouts: countsText(batch),
    "asked by": `${batch.createdBy}, ${timeOf(batch.createdAt)}`,
    "not before": timeOf(batch.scheduledAt),
    done: timeOf(batch.completedAt),
  });
  const totals = tableOf(
    ["CURRENCY", "STATUS", "PAYOUTS", "AMOUNT"],
    batch.totals.map(({ currency, status, count, amount }) => [
      ...[wordOf(CurrencySchema, currency), wordOf(PayoutStatusSchema, status), `${count}`, amount],
    ]),
  );
  return `${head}\n\n${totals}`;
}

/** Such as "2 of 3 done: COMPLETED 2, PROCESSING 1". */
export function countsText({ itemCount, byStatus }: PayoutBatch): string {
  const countOf = (status: PayoutStatus) => byStatus[`PAYOUT_STATUS_${wordOf(PayoutStatusSchema, status)}`] ?? 0;
  const ends = [PayoutStatus.COMPLETED, PayoutStatus.FAILED, PayoutStatus.CANCELLED];
  const done = ends.reduce((sum, status) => sum + countOf(status), 0);
  const counts = [...ends, PayoutStatus.PROCESSING, PayoutStatus.PENDING]
    .filter((status) => countOf(status) > 0)
    .map((status) => `${wordOf(PayoutStatusSchema, status)} ${countOf(status)}`);
  return `${done} of ${itemCount} done: ${counts.join(", ")}`;
}

export function cancelledText({ cancelled, requested, tooLate }: CancelPayoutBatchResponse): string {
  const lines = [
    `cancelled ${cancelled.length}, may have been sent ${requested.length}, too late ${tooLate.length}`,
    ...requested.map((payoutId) => `may have been sent: ${payoutId}`),
    ...tooLate.map((payoutId) => `too late: ${payoutId}`),
  ];
  return lines.join("\n");
}

export function queueText(queue: GetPayoutQueueResponse): string {
  const counts = Object.entries(queue.byPhase).map(([phase, count]) => [
    phase.replace("PAYOUT_PHASE_", "").toLowerCase(),
    `${count}`,
  ]);
  const { paused, pausedReason, pausedBy, pausedAt } = queue;
  const state = fieldsOf({
    oldest: timeOf(queue.oldestWaiting),
    paused: paused ? `${pausedReason} (${pausedBy}, ${timeOf(pausedAt)})` : "",
    ...Object.fromEntries(
      queue.holds.map(({ currency, code, message }) => [
        `${wordOf(CurrencySchema, currency)} waits`,
        `${message} (${code})`,
      ]),
    ),
  });
  const parts = [tableOf(["PHASE", "PAYOUTS"], counts), state, unknownText(queue.unknownTransfers)];
  return parts.filter((part) => part !== "").join("\n\n");
}

function unknownText(transfers: readonly UnknownTransfer[]): string {
  if (transfers.length === 0) return "";
  const rows = transfers.map((transfer) => [
    ...[
      wordOf(UnknownKindSchema, transfer.kind),
      `${transfer.amount} ${wordOf(CurrencySchema, transfer.currency)}`,
      transfer.recipient,
    ],
    ...[`${transfer.blockNumber}`, transfer.transactionHash, transfer.openPayouts.join(" ")],
  ]);
  const table = tableOf(["UNKNOWN", "AMOUNT", "TO", "BLOCK", "TRANSACTION", "OPEN PAYOUTS"], rows);
  return `Nothing is sent before a person accepts these transfers:\n${table}`;
}

export function reconciledText({ currencies, report }: ReconcilePayoutsResponse): string {
  const table = tableOf(
    ["CURRENCY", "MATCHED", "MISSING", "ORPHAN", "WRONG", "UP TO BLOCK", "PROBLEM"],
    currencies.map(({ currency, matched, missing, orphan, wrong, upToBlock, problem }) => [
      ...[wordOf(CurrencySchema, currency), `${matched}`, `${missing}`, `${orphan}`, `${wrong}`],
      ...[upToBlock === undefined ? "" : `${upToBlock}`, problem],
    ]),
  );
  return [table, unknownText(report?.transfers ?? [])].filter((part) => part !== "").join("\n\n");
}

// Payouts as the contract tells them: every field, amounts as decimals, and no recipient in clear.
import { create, type DescMessage, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  GetPayoutQueueResponseSchema,
  PayoutBatchSchema,
  PayoutEventSchema,
  PayoutSchema,
  ReconcilePayoutsResponseSchema,
} from "../../gen/lucid/node/v1/payout_service_pb.js";
import type { BatchDocument, PayoutDocument } from "../../src/payouts/document.js";
import {
  batchToWire,
  eventToWire,
  payoutToWire,
  queueToWire,
  reconciledToWire,
  type UnknownView,
} from "../../src/payouts/wire.js";

const at = (second: number) => new Date(Date.UTC(2026, 2, 1, 12, 0, second));
const told = (second: number) => `2026-03-01T12:00:${String(second).padStart(2, "0")}Z`;
const block = { number: 1234, id: "b", timeMs: at(9).getTime() };

const json = <Desc extends DescMessage>(schema: Desc, value: MessageInitShape<Desc>) =>
  toJson(schema, create(schema, value), { useProtoFieldName: true });

const queued: PayoutDocument = {
  _id: "payout_one",
  node_id: "node_one",
  currency: "USDT",
  amount_minor: "12500000",
  recipient: "sealed-recipient",
  recipient_fingerprint: "fingerprint",
  recipient_masked: "TR7N…Lj6t",
  status: "pending",
  phase: "queued",
  open: true,
  place: "queued:2",
  wake_at: at(5),
  claim_token: 0,
  attempts: [],
  priority: "normal",
  created_by: "payer",
  retry_count: 0,
  max_retries: 3,
  waits: 0,
  created_at: at(1),
  updated_at: at(1),
  version: 1,
  entries: [],
};

const paid: PayoutDocument = {
  ...queued,
  status: "completed",
  phase: "done",
  attempts: [
    {
      n: 1,
      gateway: "sandbox",
      txid: "sandbox:aa",
      raw: "sealed-raw",
      signature: "secret-signature",
      ref_block: block,
      expires_at_ms: at(30).getTime(),
      built_at: at(6),
      sends: 2,
      first_sent_at: at(7),
      outcome: "landed",
      block,
      fee: "13000000",
    },
  ],
  txid: "sandbox:aa",
  batch_id: "batch_one",
  batch_index: 3,
  retry_of: "payout_zero",
  reason: { code: "paid", message: "It is paid" },
  scheduled_at: at(2),
  cancel_requested: true,
  error_message: "the former one was dead",
  retry_count: 1,
  processed_at: at(4),
  completed_at: at(9),
  version: 8,
};

describe("a payout", () => {
  test("that waits says since when and until when", () => {
    expect(json(PayoutSchema, payoutToWire(queued))).toEqual({
      payout_id: "payout_one",
      node_id: "node_one",
      money: { currency: "CURRENCY_USDT", amount: "12.5" },
      wallet_address: "TR7N…Lj6t",
      status: "PAYOUT_STATUS_PENDING",
      phase: "PAYOUT_PHASE_QUEUED",
      priority: "PAYOUT_PRIORITY_NORMAL",
      max_retries: 3,
      next_step_at: told(5),
      created_at: told(1),
      version: "1",
      created_by: "payer",
    });
  });

  test("that is paid says by what", () => {
    expect(json(PayoutSchema, payoutToWire(paid, true))).toMatchObject({
      status: "PAYOUT_STATUS_COMPLETED",
      phase: "PAYOUT_PHASE_DONE",
      state_reason: { code: "paid", message: "It is paid" },
      cancel_requested: true,
      transaction_hash: "sandbox:aa",
      attempts: [
        {
          number: 1,
          gateway: "sandbox",
          transaction_hash: "sandbox:aa",
          outcome: "PAYOUT_ATTEMPT_OUTCOME_LANDED",
          sends: 2,
          built_at: told(6),
          first_sent_at: told(7),
          expires_at: told(30),
          block_number: "1234",
          fee: "13000000",
        },
      ],
      batch_id: "batch_one",
      retry_of: "payout_zero",
      scheduled_at: told(2),
      error_message: "the former one was dead",
      retry_count: 1,
      processed_at: told(4),
      completed_at: told(9),
      version: "8",
      replayed: true,
    });
  });

  test("names neither what is sealed nor what signs", () => {
    const text = JSON.stringify(json(PayoutSchema, payoutToWire(paid)));
    for (const hidden of ["sealed", "secret", "fingerprint"]) expect(text).not.toContain(hidden);
  });

  test("has no next step while a worker holds it: the end of a claim is none", () => {
    const { wake_at: _, ...forever } = queued;
    const held: PayoutDocument = { ...queued, claim_owner: "replica", status: "processing", phase: "building" };
    expect(payoutToWire(held).nextStepAt).toBeUndefined();
    expect(payoutToWire(forever).nextStepAt).toBeUndefined();
  });
});

describe("a batch", () => {
  const item = {
    node_id: "node_one",
    recipient: "sealed-recipient",
    recipient_fingerprint: "f",
    recipient_masked: "m",
  };
  const batch: BatchDocument = {
    _id: "batch_one",
    idempotency_meaning: "1:x",
    items: [
      { ...item, currency: "USDT", amount_minor: "1500000" },
      { ...item, currency: "USDT", amount_minor: "2000000" },
      { ...item, currency: "LUCID", amount_minor: "1" },
    ],
    priority: "high",
    scheduled_at: at(2),
    notification_url: "https://ledger.example",
    created_by: "payer",
    created_at: at(1),
    updated_at: at(3),
    max_retries: 3,
    version: 2,
    entries: [],
  };

  test("adds up its payouts, also those that are still to come", () => {
    const tally = [{ currency: "USDT", status: "completed", count: 1, minor: 1_500_000n } as const];
    expect(json(PayoutBatchSchema, batchToWire({ batch, tally }))).toEqual({
      batch_id: "batch_one",
      status: "BATCH_STATUS_PROCESSING",
      totals: [
        { currency: "CURRENCY_USDT", status: "PAYOUT_STATUS_COMPLETED", count: "1", amount: "1.5" },
        { currency: "CURRENCY_USDT", status: "PAYOUT_STATUS_PENDING", count: "1", amount: "2" },
        { currency: "CURRENCY_LUCID", status: "PAYOUT_STATUS_PENDING", count: "1", amount: "0.00000001" },
      ],
      item_count: 3,
      by_status: {
        PAYOUT_STATUS_PENDING: 2,
        PAYOUT_STATUS_PROCESSING: 0,
        PAYOUT_STATUS_COMPLETED: 1,
        PAYOUT_STATUS_FAILED: 0,
        PAYOUT_STATUS_CANCELLED: 0,
      },
      priority: "PAYOUT_PRIORITY_HIGH",
      scheduled_at: told(2),
      notification_url: "https://ledger.example",
      created_by: "payer",
      created_at: told(1),
      updated_at: told(3),
      version: "2",
    });
  });

  test("says that it waits for a person, until it is rejected", () => {
    const waiting: BatchDocument = { ...batch, approval: "needed" };
    expect(batchToWire({ batch: waiting, tally: [] })).toMatchObject({
      approvalNeeded: true,
      stateReason: { code: "APPROVAL_NEEDED" },
    });
    const rejected = json(PayoutBatchSchema, batchToWire({ batch: { ...waiting, cancelled: true }, tally: [] }, true));
    expect(rejected).toMatchObject({ status: "BATCH_STATUS_CANCELLED", replayed: true });
    expect(rejected).not.toHaveProperty("approval_needed");
    expect(rejected).not.toHaveProperty("state_reason");
  });
});

test("a step tells what it changed; an act changes no phase", () => {
  const step = { _id: "e", payout_id: "payout_one", version: 4, at: at(8), step: "T5", actor: "worker:a" };
  expect(
    json(PayoutEventSchema, eventToWire({ ...step, from: "sending", to: "settling", txid: "sandbox:aa", reason: "r" })),
  ).toEqual({
    event_id: "e",
    payout_id: "payout_one",
    from: "PAYOUT_PHASE_SENDING",
    to: "PAYOUT_PHASE_SETTLING",
    actor: "worker:a",
    reason: "r",
    transaction_hash: "sandbox:aa",
    occurred_at: told(8),
    version: "4",
    step: "T5",
  });
  expect(json(PayoutEventSchema, eventToWire(step))).not.toHaveProperty("to");
});

const unknown: UnknownView = {
  transfer: {
    txid: "sandbox:bb",
    currency: "LUCID",
    amount_minor: "150000000",
    recipient_masked: "0x5a…aed0",
    recipient_fingerprint: "fingerprint",
    block,
    kind: "orphan",
  },
  openPayouts: Array.from({ length: 12 }, (_, index) => `payout_${index}`),
};

test("the queue tells its depth, what holds it, and what a person has to look at", () => {
  const view = {
    byStatus: { pending: 3, processing: 1 },
    byPhase: { held: 1, queued: 2, building: 0, sending: 1, settling: 0 },
    oldest: at(1),
    sending: {
      paused: { reason: "looks odd", by: "anna", at: at(6) },
      holds: { USDT: { code: "daily_limit", message: "The daily limit is reached" } },
    },
    unknown: [unknown],
  };
  expect(json(GetPayoutQueueResponseSchema, queueToWire(view))).toEqual({
    by_status: { PAYOUT_STATUS_PENDING: 3, PAYOUT_STATUS_PROCESSING: 1 },
    by_phase: {
      PAYOUT_PHASE_HELD: 1,
      PAYOUT_PHASE_QUEUED: 2,
      PAYOUT_PHASE_BUILDING: 0,
      PAYOUT_PHASE_SENDING: 1,
      PAYOUT_PHASE_SETTLING: 0,
    },
    oldest_waiting: told(1),
    paused: true,
    paused_reason: "looks odd",
    paused_by: "anna",
    paused_at: told(6),
    holds: [{ currency: "CURRENCY_USDT", code: "daily_limit", message: "The daily limit is reached" }],
    unknown_transfers: [
      {
        transaction_hash: "sandbox:bb",
        currency: "CURRENCY_LUCID",
        amount: "1.5",
        recipient: "0x5a…aed0",
        block_number: "1234",
        kind: "KIND_ORPHAN",
        open_payouts: unknown.openPayouts.slice(0, 10),
      },
    ],
  });
});

test("a reconciliation adds up the currencies and goes as far as the currency that is furthest behind", () => {
  const none = { matched: 0, missing: 0, orphan: 0, wrong: 0 };
  const report = reconciledToWire(
    [
      { ...none, currency: "USDT", matched: 5, orphan: 1, upTo: { number: 70 } },
      { ...none, currency: "LUCID", matched: 2, missing: 1, wrong: 1, upTo: { number: 60 } },
    ],
    [unknown],
  );
  expect(json(ReconcilePayoutsResponseSchema, report)).toMatchObject({
    report: {
      ...{ matched: "7", missing: "1", orphan: "1", wrong: "1", up_to_block: "60" },
      transfers: [{ transaction_hash: "sandbox:bb" }],
    },
    currencies: [
      { currency: "CURRENCY_USDT", matched: "5", orphan: "1", up_to_block: "70" },
      { currency: "CURRENCY_LUCID", matched: "2", missing: "1", wrong: "1", up_to_block: "60" },
    ],
  });
  const away = reconciledToWire([{ ...none, currency: "USDT", problem: "no answer" }], []);
  expect(away.report?.upToBlock).toBeUndefined();
  expect(away.currencies).toMatchObject([{ problem: "no answer" }]);
});

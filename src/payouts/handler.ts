// PayoutService: each RPC reads its request, asks the desk, and shapes the answer.
import { durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type {
  ApprovePayoutRequest,
  ListPayoutEventsRequest,
  ListPayoutsRequest,
  PayoutService,
  RejectPayoutRequest,
} from "../../gen/lucid/node/v1/payout_service_pb.js";
import type { Policy } from "../access/permission.js";
import type { Clock } from "../clock.js";
import type { Paging, Window } from "../conventions/paging.js";
import { notAllowed } from "../failure.js";
import type { NodeDocument } from "../nodes/node.js";
import { callerOf, callOf } from "../rpc/context.js";
import type { Page } from "../storage/collection.js";
import type { PayoutDocument } from "./document.js";
import { type Currency, formatAmount } from "./money.js";
import type { Asker } from "./orders.js";
import {
  type BatchOrder,
  batchOrder,
  type Key,
  type PayoutFilter,
  type PayoutOrder,
  type Present,
  payoutFilter,
  payoutOrder,
  retryKey,
} from "./requests.js";
import type { Total } from "./tally.js";
import {
  type BatchView,
  batchStatusOf,
  batchToWire,
  type Cancellation,
  cancellationToWire,
  currencyToWire,
  eventToWire,
  type LoggedEntry,
  payoutToWire,
  type QueueView,
  queueToWire,
  type Reconciled,
  reconciledToWire,
  totalToWire,
  type UnknownView,
} from "./wire.js";

export const payoutPolicies: Readonly<Record<keyof typeof PayoutService.method, Policy>> = {
  createPayout: { permission: "payout:process", tier: "payout" },
  createBatchPayout: { permission: "payout:batch", tier: "payout" },
  // Every service role has payout:read; a node has its own payouts without it.
  getPayout: { permission: "token", nodeToken: "handler" },
  listPayouts: { permission: "token", nodeToken: "self" },
  listPayoutEvents: { permission: "token", nodeToken: "handler" },
  getNodeEarnings: { permission: "token", nodeToken: "self" },
  // A batch holds payouts of other nodes.
  getPayoutBatch: { permission: "payout:read" },
  listPayoutBatches: { permission: "payout:read" },
  getPayoutStatistics: { permission: "payout:read" },
  getPayoutQueue: { permission: "payout:read" },
  cancelPayout: { permission: "payout:process", tier: "payout" },
  cancelPayoutBatch: { permission: "payout:process", tier: "payout" },
  retryPayout: { permission: "payout:process", tier: "payout" },
  approvePayout: { permission: "payout:approve", tier: "payout" },
  rejectPayout: { permission: "payout:approve", tier: "payout" },
  // An admin who has just paid a lot must still be able to stop it, so these two have the caller's own limit.
  pausePayouts: { permission: "payout:admin" },
  resumePayouts: { permission: "payout:admin" },
  reconcilePayouts: { permission: "payout:admin", tier: "payout" },
  acceptTransfer: { permission: "payout:admin", tier: "payout" },
};

/** What a person decides about: one payout or one batch. */
export type Matter = { readonly payoutId: string } | { readonly batchId: string };
/** The same in its present state. */
export type Decided = { readonly payout: PayoutDocument } | BatchView;

export interface Made {
  readonly payout: PayoutDocument;
  /** The key was used before with the same meaning. */
  readonly replayed: boolean;
}

/**
 * What the RPCs need of the payout machine. `problemsIfNew` of an order are thrown as Failure 4001 unless the order is a
 * replay.
 */
export interface Desk {
  /** @throws Failure 4001, 5001, 5006, 5007 */
  create(order: PayoutOrder, key: Key, by: Asker): Promise<Made>;
  /** @throws Failure 4001, 5001, 5006, 5007, 5010 */
  createBatch(
    order: BatchOrder,
    meaning: string,
    by: Asker,
  ): Promise<BatchView & { readonly replayed: boolean; readonly estimatedCompletion?: Date }>;
  /** @throws Failure 5011 */
  find(payoutId: string): Promise<PayoutDocument>;
  /** The newest first. */
  list(filter: PayoutFilter, window: Window): Promise<Page<PayoutDocument>>;
  /** Undefined beyond 10,000. */
  countOf(filter: PayoutFilter): Promise<number | undefined>;
  /** @throws Failure 5011 */
  findBatch(batchId: string): Promise<BatchView>;
  /** The newest first. */
  listBatches(window: Window): Promise<Page<BatchView>>;
  /** Undefined beyond 10,000. */
  countOfBatches(): Promise<number | undefined>;
  /** @throws Failure 5011 */
  cancel(payoutId: string, by: Asker): Promise<{ readonly payout: PayoutDocument; readonly outcome: Cancellation }>;
  /** Ids of payouts by what became of them. @throws Failure 5011 */
  cancelBatch(
    batchId: string,
    by: Asker,
  ): Promise<{
    readonly cancelled: readonly string[];
    readonly requested: readonly string[];
    readonly tooLate: readonly string[];
  }>;
  /** @throws Failure 5001, 5006, 5007, 5011 */
  retry(payoutId: string, key: Key, by: Asker): Promise<Made>;
  /** @throws Failure 4031 for the creator, 5006, 5011 */
  approve(matter: Matter, note: string, by: Asker): Promise<Decided>;
  /** @throws Failure 4031 for the creator, 5006, 5011 */
  reject(matter: Matter, reason: string, by: Asker): Promise<Decided>;
  /** The oldest first. */
  events(payoutId: string, window: Window): Promise<Page<LoggedEntry>>;
  /** Undefined beyond 10,000. */
  countOfEvents(payoutId: string): Promise<number | undefined>;
  /** Payouts that were created then or later. */
  statistics(since: Date): Promise<readonly Total[]>;
  queue(): Promise<QueueView>;
  /** In minor units; a currency in which the node has no payout is left out. */
  earnings(nodeId: string): Promise<
    readonly {
      readonly currency: Currency;
      readonly paid: bigint;
      readonly inFlight: bigint;
      readonly failed: bigint;
    }[]
  >;
  /** Answers when sending was paused, which may have been before. */
  pause(reason: string, by: Asker): Promise<Date>;
  /** Answers how many unknown transfers still hold sending. @throws Failure 5006 while there are any */
  resume(by: Asker): Promise<number>;
  reconcile(
    by: Asker,
  ): Promise<{ readonly reconciled: readonly Reconciled[]; readonly unknown: readonly UnknownView[] }>;
  /** Answers how many unknown transfers still hold sending. @throws Failure 5011 */
  accept(txid: string, note: string, by: Asker): Promise<number>;
}

export interface PayoutHandlerParts {
  readonly desk: Desk;
  readonly paging: Paging;
  readonly clock: Pick<Clock, "now">;
  readonly gatewayProblem: Present["gatewayProblem"];
  /** @throws Failure 5001 */
  readonly getNode: (nodeId: string) => Promise<NodeDocument>;
}

const dayMs = 24 * 3_600_000;

export const createPayoutHandler = (parts: PayoutHandlerParts): ServiceImpl<typeof PayoutService> => ({
  ...askingHandlers(parts),
  ...payoutReaders(parts),
  ...reportReaders(parts),
  ...decidingHandlers(parts),
});

type Handlers<Names extends keyof ServiceImpl<typeof PayoutService>> = Pick<ServiceImpl<typeof PayoutService>, Names>;

/** The RPCs that ask for money, or that it stays. */
function askingHandlers({
  desk,
  clock,
  gatewayProblem,
}: PayoutHandlerParts): Handlers<
  "createPayout" | "createBatchPayout" | "cancelPayout" | "cancelPayoutBatch" | "retryPayout"
> {
  return {
    createPayout: async (request, context) => {
      const { order, key } = payoutOrder(request, { now: clock.now(), gatewayProblem });
      const { payout, replayed } = await desk.create(order, key, askerOf(context));
      return { payout: payoutToWire(payout, replayed) };
    },
    createBatchPayout: async (request, context) => {
      const { order, meaning } = batchOrder(request, { now: clock.now(), gatewayProblem });
      const { replayed, estimatedCompletion, ...view } = await desk.createBatch(order, meaning, askerOf(context));
      return {
        batchId: view.batch._id,
        status: batchStatusOf(view),
        batch: batchToWire(view, replayed),
        ...(estimatedCompletion === undefined ? {} : { estimatedCompletion: timestampFromDate(estimatedCompletion) }),
      };
    },
    cancelPayout: async ({ payoutId }, context) => {
      const { payout, outcome } = await desk.cancel(payoutId, askerOf(context));
      return { payout: payoutToWire(payout), outcome: cancellationToWire[outcome] };
    },
    cancelPayoutBatch: async ({ batchId }, context) => {
      const { cancelled, requested, tooLate } = await desk.cancelBatch(batchId, askerOf(context));
      return { cancelled: [...cancelled], requested: [...requested], tooLate: [...tooLate] };
    },
    retryPayout: async (request, context) => {
      const { payout, replayed } = await desk.retry(request.payoutId, retryKey(request), askerOf(context));
      return { payout: payoutToWire(payout, replayed) };
    },
  };
}

/** The RPCs that read payouts and batches. */
function payoutReaders({
  desk,
  paging,
}: PayoutHandlerParts): Handlers<
  "getPayout" | "listPayouts" | "getPayoutBatch" | "listPayoutBatches" | "listPayoutEvents"
> {
  const findFor = async (payoutId: string, context: HandlerContext): Promise<PayoutDocument> => {
    const { nodeId } = callerOf(context);
    const payout = await desk.find(payoutId);
    if (nodeId !== undefined && nodeId !== payout.node_id) throw notAllowed("A node reads its own payouts only");
    return payout;
  };

  const listPayouts = async (request: ListPayoutsRequest) => {
    const filter = payoutFilter(request);
    const binding = JSON.stringify(["payouts", filter]);
    const window = paging.window(request, binding);
    const page = await desk.list(filter, window);
    return {
      payouts: page.items.map((payout) => payoutToWire(payout)),
      pagination: await paging.pagination(window, binding, page.next, () => desk.countOf(filter)),
    };
  };

  const listPayoutEvents = async (request: ListPayoutEventsRequest, context: HandlerContext) => {
    const { payoutId } = request;
    await findFor(payoutId, context);
    const binding = `payout events\n${payoutId}`;
    const window = paging.window(request, binding);
    const page = await desk.events(payoutId, window);
    return {
      events: page.items.map(eventToWire),
      pagination: await paging.pagination(window, binding, page.next, () => desk.countOfEvents(payoutId)),
    };
  };

  return {
    getPayout: async ({ payoutId }, context) => ({ payout: payoutToWire(await findFor(payoutId, context)) }),
    listPayouts,
    getPayoutBatch: async ({ batchId }) => ({ batch: batchToWire(await desk.findBatch(batchId)) }),
    listPayoutBatches: async (request) => {
      const window = paging.window(request, "payout batches");
      const page = await desk.listBatches(window);
      return {
        batches: page.items.map((view) => batchToWire(view)),
        pagination: await paging.pagination(window, "payout batches", page.next, desk.countOfBatches),
      };
    },
    listPayoutEvents,
  };
}

/** The RPCs that add up. */
function reportReaders({
  desk,
  clock,
  getNode,
}: PayoutHandlerParts): Handlers<"getPayoutStatistics" | "getPayoutQueue" | "getNodeEarnings"> {
  return {
    getPayoutStatistics: async ({ window }) => {
      const windowMs = window === undefined ? dayMs : durationMs(window);
      const since = new Date(clock.now().getTime() - windowMs);
      return { totals: (await desk.statistics(since)).map(totalToWire), since: timestampFromDate(since) };
    },
    getPayoutQueue: async () => queueToWire(await desk.queue()),
    getNodeEarnings: async ({ nodeId }) => {
      const earnings = await desk.earnings(nodeId);
      // A deleted node keeps what it earned; a node without any payout must exist.
      if (earnings.length === 0) await getNode(nodeId);
      return {
        nodeId,
        earnings: earnings.map(({ currency, paid, inFlight, failed }) => ({
          currency: currencyToWire[currency],
          paid: formatAmount({ currency, minor: paid }),
          inFlight: formatAmount({ currency, minor: inFlight }),
          failed: formatAmount({ currency, minor: failed }),
        })),
      };
    },
  };
}

/** The RPCs by which a person lets money go, holds it, or settles a doubt. */
function decidingHandlers({
  desk,
}: PayoutHandlerParts): Handlers<
  "approvePayout" | "rejectPayout" | "pausePayouts" | "resumePayouts" | "reconcilePayouts" | "acceptTransfer"
> {
  return {
    approvePayout: async (request, context) =>
      decidedToWire(await desk.approve(matterOf(request), request.note, askerOf(context))),
    rejectPayout: async (request, context) =>
      decidedToWire(await desk.reject(matterOf(request), request.reason, askerOf(context))),
    pausePayouts: async ({ reason }, context) => ({
      pausedAt: timestampFromDate(await desk.pause(reason, askerOf(context))),
    }),
    resumePayouts: async (_, context) => ({ unknownTransfers: await desk.resume(askerOf(context)) }),
    reconcilePayouts: async (_, context) => {
      const { reconciled, unknown } = await desk.reconcile(askerOf(context));
      return reconciledToWire(reconciled, unknown);
    },
    acceptTransfer: async ({ transactionHash, note }, context) => ({
      unknownTransfers: await desk.accept(transactionHash, note, askerOf(context)),
    }),
  };
}

const askerOf = (context: HandlerContext): Asker => ({
  subject: callerOf(context).subject,
  requestId: callOf(context).requestId,
});

/** The contract's rules let exactly one of them through. */
const matterOf = ({ payoutId, batchId }: ApprovePayoutRequest | RejectPayoutRequest): Matter =>
  payoutId === "" ? { batchId } : { payoutId };

const decidedToWire = (decided: Decided) =>
  "payout" in decided ? { payout: payoutToWire(decided.payout) } : { batch: batchToWire(decided) };

// Puts payouts together: from the parts of the service that they need come the RPCs and the long-lived tasks.
import type { Clock } from "../clock.js";
import type { Paging } from "../conventions/paging.js";
import { type Coordination, isCoordinationAway } from "../coordination/coordination.js";
import type { Vault } from "../crypto.js";
import type { NodeRepository } from "../nodes/repository.js";
import type { Store } from "../storage/collection.js";
import { outage, type Task, turns, unless } from "../task.js";
import type { Log } from "../telemetry/log.js";
import type { Metrics } from "../telemetry/metrics.js";
import { createBatches } from "./batches.js";
import { createChanges } from "./changes.js";
import { createDesk } from "./desk.js";
import type { PayoutDocument, StateReason } from "./document.js";
import { createFigures } from "./figures.js";
import { createFront } from "./front.js";
import type { Gateway } from "./gateway/gateway.js";
import { createPayoutHandler } from "./handler.js";
import { createLimitKeeper } from "./limits.js";
import { createMatching } from "./matching.js";
import { type Currency, decimalsOf } from "./money.js";
import { createOrders } from "./orders.js";
import { pollMs } from "./pace.js";
import { createPayees } from "./payee.js";
import { createReconciliation } from "./reconcile.js";
import type { PayoutRepository } from "./repository.js";
import { createSending } from "./sending.js";
import { createSteps } from "./steps.js";
import { type Act, createStory } from "./story.js";
import type { QueueView } from "./wire.js";
import { createWorker } from "./worker.js";

export type Payouts = Awaited<ReturnType<typeof createPayouts>>;

/** Replicas tell each other on this channel that the queue has grown. It may be lost: workers look each second anyway. */
const channel = "payouts";
const gaugesEveryMs = 15_000;

/** Amounts in minor units; undefined: no limit. */
type ByCurrency = Readonly<Record<Currency, bigint | undefined>>;

export interface PayoutSettings {
  readonly batchSize: number;
  readonly maxRetries: number;
  readonly claimMs: number;
  readonly approvalThreshold: ByCurrency;
  readonly dailyLimit: ByCurrency;
  readonly walletFloor: ByCurrency;
}

export async function createPayouts(parts: {
  readonly store: Store;
  readonly repository: PayoutRepository;
  readonly coordination: Coordination;
  readonly nodes: Pick<NodeRepository, "get" | "findMany">;
  readonly gateways: ReadonlyMap<Currency, Gateway>;
  readonly vault: Vault;
  readonly paging: Paging;
  /** Records what people do with money. */
  readonly record: (acts: readonly Act[]) => Promise<void>;
  /** Unique to this process. */
  readonly replicaId: string;
  readonly settings: PayoutSettings;
  readonly clock: Clock;
  readonly random: () => number;
  readonly metrics: Metrics;
  readonly log: Log;
}) {
  const { store, repository, coordination, nodes, gateways, vault, replicaId, settings, clock, random } = parts;
  const log = parts.log.module("payouts");
  const sending = createSending({ repository, clock });
  const limits = createLimitKeeper({ repository, ...settings });
  const witness = createWitness(parts.metrics, log);

  const stepParts = { repository, gateways, sending, limits, vault, owner: replicaId, random, witness };
  const worker = createWorker({
    ...{ ...stepParts, clock, log, batchSize: settings.batchSize, claimMs: settings.claimMs, done: witness.done },
    steps: createSteps({ ...stepParts, nodeProblem: (nodeId) => nodeProblem(nodes, nodeId) }),
    everyMs: Math.min(1_000, ...[...gateways.values()].map(({ solidAfterMs }) => pollMs(solidAfterMs))),
    away: outage({ log, began: "Payouts wait for the store", ended: "Payouts go on" }),
  });
  /** The queue has grown: this worker and the others need not wait for their next look. */
  const wake = () => {
    worker.wake();
    void coordination.publish(channel, "").catch(unless(isCoordinationAway));
  };
  const matching = createMatching({
    ...{ repository, gateways, sending, vault, clock, log },
    away: outage({
      log,
      began: "The wallets' transfers cannot be compared: the store is away",
      ended: "The wallets' transfers are compared again",
    }),
  });
  const story = await createStory({
    ...{ store, repository, record: parts.record, clock },
    away: outage({ log, began: "Payout events wait for the store", ended: "Payout events are moved again" }),
  });
  const ordered = (payouts: readonly PayoutDocument[]) => {
    witness.ordered(payouts);
    wake();
  };
  const batches = createBatches({
    ...{ repository, clock, added: ordered },
    away: outage({ log, began: "Batches wait for the store", ended: "Batches go on" }),
  });
  const changes = createChanges({ repository, done: witness.done });
  const orders = createOrders({
    ...{ repository, batches, changes, vault, settings, ordered, getNode: nodes.get, findNodes: nodes.findMany },
    payees: createPayees({ gateways, vault }),
  });
  const decisions = createDesk({ repository, batches, changes });
  const figures = createFigures({ repository, look: sending.look });
  const desk = createFront({
    ...{
      repository,
      orders,
      decisions,
      changes,
      batches,
      figures,
      story,
      sending,
      compare: matching.now,
      batchSize: settings.batchSize,
    },
    reconcile: createReconciliation({ repository, gateways, vault, look: sending.look }),
    solidAfterMs: Math.max(0, ...[...gateways.values()].map(({ solidAfterMs }) => solidAfterMs)),
  });
  const handler = createPayoutHandler({
    ...{ desk, paging: parts.paging, clock, getNode: nodes.get },
    gatewayProblem: (currency, recipient) => gateways.get(currency)?.recipientProblem(recipient),
  });

  const measure = turns({
    ...{ clock, everyMs: gaugesEveryMs, turn: async () => witness.measured(await figures.queue(), clock.now()) },
    away: outage({ log, began: "The queue cannot be measured", ended: "The queue is measured again" }),
  });
  const listening: Task = (signal) => coordination.subscribe(channel, worker.wake, signal);

  return {
    handler,
    tasks: {
      ...{ payouts: worker.task, payoutWakeups: listening, payoutMatching: matching.task },
      ...{ payoutBatches: batches.task, payoutEvents: story.task, payoutGauges: measure.task },
    },
  };
}

/** Why a node is not paid any more. */
async function nodeProblem(nodes: Pick<NodeRepository, "findMany">, nodeId: string): Promise<StateReason | undefined> {
  const node = (await nodes.findMany([nodeId])).get(nodeId);
  if (node === undefined) return { code: "NODE_DELETED", message: "The node was deleted" };
  return node.banned ? { code: "NODE_BANNED", message: "The node is banned" } : undefined;
}

function createWitness(metrics: Metrics, log: Log) {
  const count = ({ currency }: PayoutDocument, status: string) => metrics.payouts.inc({ currency, status });
  /** For a histogram only: the figure is not used to pay. */
  const tokensOf = ({ currency, amount_minor: minor }: PayoutDocument) =>
    Number(minor) / 10 ** Number(decimalsOf[currency]);
  return {
    ordered: (payouts: readonly PayoutDocument[]) => {
      for (const payout of payouts) count(payout, "pending");
    },
    done: (payout: PayoutDocument) => {
      count(payout, payout.status);
      if (payout.status === "completed") metrics.payoutAmounts.observe({ currency: payout.currency }, tokensOf(payout));
      const { _id, node_id, status, currency, txid, error_message: problem } = payout;
      const context = { payout_id: _id, node_id, status, currency, transaction_hash: txid };
      if (status === "failed") log.warn("A payout has failed; no money moved", { ...context, problem });
      else log.info("A payout is done", context);
    },
    answered: (currency: Currency, answer: { readonly class: string; readonly code: string }) => {
      metrics.payoutGatewayAnswers.inc({ currency, class: answer.class });
      if (answer.class !== "accepted")
        log.info("The network did not simply take a transaction", { currency, ...answer });
    },
    wrong: (payout: PayoutDocument, txid: string, message: string) =>
      log.error("A transaction succeeded and does not pay what its payout wants; a person has to look", {
        ...{ payout_id: payout._id, transaction_hash: txid, problem: message },
      }),
    measured: ({ byPhase, oldest, sending: { paused, holds }, unknown }: QueueView, now: Date) => {
      for (const [phase, depth] of Object.entries(byPhase)) metrics.payoutQueueDepth.set({ phase }, depth);
      const waitedMs = oldest === undefined ? 0 : now.getTime() - oldest.getTime();
      metrics.payoutOldestWaiting.set(Math.max(0, waitedMs) / 1000);
      metrics.payoutQueueHeld.reset();
      const held = (currency: string, reason: string) => metrics.payoutQueueHeld.set({ currency, reason }, 1);
      for (const [currency, { code }] of Object.entries(holds)) held(currency, code);
      if (paused !== undefined) held("all", "PAUSED");
      for (const { transfer } of unknown) held(transfer.currency, "UNKNOWN_TRANSFER");
    },
  };
}

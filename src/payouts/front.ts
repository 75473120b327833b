// What the RPCs ask for, answered by the parts of this folder.
import type { Batches } from "./batches.js";
import type { Changes } from "./changes.js";
import type { Desk as Decisions } from "./desk.js";
import type { BatchDocument, SendingDocument } from "./document.js";
import type { Figures } from "./figures.js";
import type { Desk, Matter } from "./handler.js";
import { actOf, type Orders } from "./orders.js";
import { isUnread, type Report, type Unread } from "./reconcile.js";
import type { PayoutRepository } from "./repository.js";
import type { Sending } from "./sending.js";
import type { EventDocument, Story } from "./story.js";
import type { BatchView, LoggedEntry } from "./wire.js";

/** Milliseconds that a worker needs for a batch of its own size beside the time of the chain; a rough figure. */
const workMs = 2_000;

export function createFront(parts: {
  readonly repository: PayoutRepository;
  readonly orders: Orders;
  readonly decisions: Decisions;
  readonly changes: Changes;
  readonly batches: Batches;
  readonly figures: Figures;
  readonly story: Story;
  readonly sending: Sending;
  readonly reconcile: () => Promise<(Report | Unread)[]>;
  /** Compares the latest transfers now. */
  readonly compare: () => Promise<void>;
  readonly batchSize: number;
  /** Milliseconds until a transaction is solid, on the slowest chain. */
  readonly solidAfterMs: number;
}): Desk {
  const { repository, orders, decisions, changes, batches, figures, story, sending } = parts;

  const unknownIn = ({ unknown }: SendingDocument): number => unknown.length;
  const viewOf = (batch: BatchDocument): Promise<BatchView> => batches.view(batch);

  const estimate = ({ batch, completedAt }: BatchView): Date | undefined => {
    if (completedAt !== undefined || batch.approval === "needed") return completedAt;
    const beganMs = Math.max(batch.created_at.getTime(), batch.scheduled_at?.getTime() ?? 0);
    const rounds = Math.ceil(batch.items.length / parts.batchSize);
    return new Date(beganMs + rounds * workMs + 2 * parts.solidAfterMs);
  };

  const decide = async (
    matter: Matter,
    ofPayout: (payoutId: string) => ReturnType<Decisions["approve"]>,
    ofBatch: (batchId: string) => Promise<BatchDocument>,
  ) => ("payoutId" in matter ? { payout: await ofPayout(matter.payoutId) } : viewOf(await ofBatch(matter.batchId)));

  return {
    create: orders.create,
    createBatch: async (order, meaning, by) => {
      const { batch, replayed } = await orders.createBatch(order, meaning, by);
      const view = replayed ? await viewOf(batch) : { batch, tally: [] };
      const estimatedCompletion = estimate(view);
      return { ...view, replayed, ...(estimatedCompletion === undefined ? {} : { estimatedCompletion }) };
    },
    find: changes.find,
    list: repository.list,
    countOf: repository.countOf,
    findBatch: async (batchId) => viewOf(await changes.findBatch(batchId)),
    listBatches: async (window) => {
      const page = await repository.batches.list(window);
      return { ...page, items: await Promise.all(page.items.map(viewOf)) };
    },
    countOfBatches: repository.batches.countOf,
    cancel: decisions.cancel,
    cancelBatch: decisions.cancelBatch,
    retry: orders.retry,
    approve: (matter, note, by) =>
      decide(
        matter,
        (payoutId) => decisions.approve(payoutId, note, by),
        (batchId) => decisions.approveBatch(batchId, note, by),
      ),
    reject: (matter, reason, by) =>
      decide(
        matter,
        (payoutId) => decisions.reject(payoutId, reason, by),
        (batchId) => decisions.rejectBatch(batchId, reason, by),
      ),
    events: async (payoutId, window) => {
      const page = await story.list(await changes.find(payoutId), window);
      return { ...page, items: page.items.map(loggedOf) };
    },
    countOfEvents: story.countOf,
    statistics: figures.statistics,
    queue: figures.queue,
    earnings: figures.earnings,
    pause: async (reason, by) => {
      const act = await actOf(repository, by);
      return (await sending.pause(reason, act)).paused?.at ?? act.at;
    },
    resume: async (by) => unknownIn(await sending.resume(await actOf(repository, by))),
    reconcile: async (by) => {
      await parts.compare();
      const reports = await parts.reconcile();
      const unknown = reports.flatMap((report) => (isUnread(report) ? [] : report.unknown));
      await sending.reconciled(unknown, summaryOf(reports), await actOf(repository, by));
      return { reconciled: reports, unknown: await Promise.all(unknown.map(figures.suspected)) };
    },
    accept: async (txid, note, by) => unknownIn(await sending.accept(txid, note, await actOf(repository, by))),
  };
}

const loggedOf = ({ subject, ...entry }: EventDocument): LoggedEntry => ({ ...entry, payout_id: subject });

const summaryOf = (reports: readonly (Report | Unread)[]): string =>
  reports
    .map((report) => {
      if (isUnread(report)) return `${report.currency}: not read`;
      const { currency, matched, missing, orphan, wrong, accepted, upTo } = report;
      const found = `${matched} matched, ${missing} missing, ${orphan} orphan, ${wrong} wrong, ${accepted} accepted`;
      return `${currency}: ${found} up to block ${upTo.number}`;
    })
    .join("; ");

// The stored payouts, batches and days, and what is known of sending as a whole. Each document is changed by
// compare-and-set on its version; no two documents are ever changed together.

import { present } from "../present.js";
import type { Collection, CollectionDefinition, Cursor, Filter, Page, Store } from "../storage/collection.js";
import { insertUnlessThere } from "../storage/insert.js";
import { type Marked, updateMarked } from "../storage/marked.js";
import { pages } from "../storage/pages.js";
import type { BatchDocument, PayoutDocument, Phase, SendingDocument, Status } from "./document.js";
import type { Currency } from "./money.js";

const dated = ["created_at", "updated_at", "scheduled_at", "entries.at"];

export const payoutsCollection: CollectionDefinition = {
  name: "payouts",
  durability: "durable",
  dates: [
    ...dated,
    "wake_at",
    "usable_at",
    "processed_at",
    "completed_at",
    "attempts.built_at",
    "attempts.first_sent_at",
  ],
  indexes: [
    // The referees: one payout a key, a batch's item, a retried payout, a transaction.
    {
      name: "idx_idempotency_id",
      key: ["idempotency_id"],
      unique: true,
      partial: { idempotency_id: { $exists: true } },
    },
    {
      name: "idx_batch_item",
      key: ["batch_id", "batch_index"],
      unique: true,
      partial: { batch_id: { $exists: true } },
    },
    { name: "idx_retry_of", key: ["retry_of"], unique: true, partial: { retry_of: { $exists: true } } },
    { name: "idx_txid", key: ["txid"], unique: true, partial: { txid: { $exists: true } } },
    // What workers look for, and in which order.
    { name: "idx_due", key: ["currency", "place", "wake_at"], partial: { open: true } },
    { name: "idx_open_phase", key: ["phase", "created_at"], partial: { open: true } },
    { name: "idx_open_node", key: ["node_id", "created_at"], partial: { open: true } },
    {
      name: "idx_open_transfer",
      key: ["recipient_fingerprint", "currency", "amount_minor"],
      partial: { open: true },
    },
    { name: "idx_recipient", key: ["recipient_fingerprint", "created_at"] },
    { name: "idx_unmoved", key: ["updated_at"], partial: { unmoved: true } },
    { name: "idx_created_at", key: ["created_at"] },
    { name: "idx_node_id", key: ["node_id", "created_at"] },
    { name: "idx_status", key: ["status", "created_at"] },
    { name: "idx_currency", key: ["currency", "created_at"] },
  ],
};

export const payoutBatchesCollection: CollectionDefinition = {
  name: "payout_batches",
  durability: "durable",
  dates: [...dated, "items.usable_at"],
  indexes: [
    { name: "idx_created_at", key: ["created_at"] },
    { name: "idx_expanding", key: ["created_at"], partial: { expanding: true } },
    { name: "idx_unmoved", key: ["updated_at"], partial: { unmoved: true } },
  ],
};

export const payoutSendingCollection: CollectionDefinition = {
  name: "payout_sending",
  durability: "durable",
  dates: ["paused.at", "accepted.at", "entries.at"],
  indexes: [],
};

/**
 * What one UTC day has spent and reserved of one currency; its _id is `{currency}:{day}`. The document
 * `{currency}:wallet` holds what payouts under way may take out of the wallet.
 */
export interface DayDocument extends Marked {
  readonly version: number;
  readonly sum_minor: string;
  /** By payout: the part of the sum that is given back if its payout moves no money. */
  readonly reserved: Readonly<Record<string, string>>;
}

export const payoutDaysCollection: CollectionDefinition = {
  name: "payout_days",
  durability: "durable",
  dates: [],
  indexes: [],
};

/** `since` is inclusive, `until` exclusive; both by the time of creation. */
export interface PayoutFilter {
  readonly nodeId?: string | undefined;
  readonly status?: Status | undefined;
  readonly currency?: Currency | undefined;
  readonly batchId?: string | undefined;
  readonly since?: Date | undefined;
  readonly until?: Date | undefined;
}

export interface Query {
  readonly limit: number;
  readonly skip: number;
  readonly after?: Cursor | undefined;
}

const countMax = 10_000;
const sendingId = "sending";

export type PayoutRepository = Awaited<ReturnType<typeof createPayoutRepository>>;

export async function createPayoutRepository(store: Store) {
  const payouts = await store.collection<PayoutDocument>(payoutsCollection);
  const batches = await store.collection<BatchDocument>(payoutBatchesCollection);
  const sendings = await store.collection<SendingDocument>(payoutSendingCollection);
  const days = await store.collection<DayDocument>(payoutDaysCollection);

  return {
    /** By the store's clock, which is the same for all workers. */
    now: store.now,

    /** @throws DuplicateKeyError when the key, the batch's item or the retried payout already has its payout */
    insert: (payout: PayoutDocument): Promise<void> => payouts.insertOne(payout),
    /** Takes at most 1000. A payout whose unique key is taken is skipped. Returns the positions of those. */
    insertMany: async (made: readonly PayoutDocument[]): Promise<number[]> =>
      (await payouts.insertMany(made)).duplicates,
    find: (payoutId: string): Promise<PayoutDocument | null> => payouts.findOne({ _id: payoutId }),
    findByKey: (id: string): Promise<PayoutDocument | null> =>
      payouts.findOne({ idempotency_id: id }, { index: "idx_idempotency_id" }),
    findByTxid: byTxid(payouts),
    findRetryOf: (payoutId: string): Promise<PayoutDocument | null> =>
      payouts.findOne({ retry_of: payoutId }, { index: "idx_retry_of" }),

    /**
     * Writes the next version if the stored version is still the former one. Returns whether it did; false: somebody
     * else has written. A lost answer is resolved by a second look.
     * @throws StoreUnavailableError when the outcome is unknown; DuplicateKeyError when the txid belongs to another
     */
    replace: (former: PayoutDocument, next: PayoutDocument): Promise<boolean> => replaceIn(payouts, former, next),

    /** Payouts at that place that may be taken at that time, the longest waiting first. */
    due: async (currency: Currency, place: string, now: Date, limit: number): Promise<PayoutDocument[]> => {
      const filter = { open: true, currency, place, wake_at: { $lte: now } };
      return (await payouts.page(filter, { index: "idx_due", limit })).items;
    },

    /** All payouts of the currency that a worker has begun with, page by page. */
    moving: (currency: Currency): AsyncGenerator<PayoutDocument[], void> =>
      pages((after) =>
        payouts.page({ open: true, currency, place: "moving" }, { index: "idx_due", limit: 500, after }),
      ),

    /** Newest first; the payouts of a batch in their order. */
    list: (filter: PayoutFilter, { limit, skip, after }: Query): Promise<Page<PayoutDocument>> =>
      payouts.page(toFilter(filter), {
        index: indexFor(filter),
        descending: filter.batchId === undefined,
        ...{ limit, skip, after },
      }),
    /** Undefined: more than 10,000. */
    countOf: async (filter: PayoutFilter): Promise<number | undefined> => {
      const count = await payouts.count(toFilter(filter), { index: indexFor(filter), max: countMax + 1 });
      return count > countMax ? undefined : count;
    },
    /** Every payout that the filter finds, page by page. */
    all: (filter: PayoutFilter): AsyncGenerator<PayoutDocument[], void> =>
      pages((after) => payouts.page(toFilter(filter), { index: indexFor(filter), limit: 500, after })),

    /** Open payouts of a phase, counted, and since when the oldest exists. */
    depth: async (phase: Phase): Promise<{ readonly count: number; readonly oldest: Date | undefined }> => {
      const filter = { open: true, phase };
      const oldest = await payouts.page(filter, { index: "idx_open_phase", limit: 1 });
      const count = oldest.items.length === 0 ? 0 : await payouts.count(filter, { index: "idx_open_phase" });
      return { count, oldest: oldest.items[0]?.created_at };
    },
    /** Whether a payout of the currency is at that place. */
    hasAt: async (currency: Currency, place: string): Promise<boolean> =>
      (await payouts.count({ open: true, currency, place }, { index: "idx_due", max: 1 })) > 0,
    hasOpen: async (nodeId: string): Promise<boolean> =>
      (await payouts.count({ open: true, node_id: nodeId }, { index: "idx_open_node", max: 1 })) > 0,
    /** Open payouts of that amount to that recipient, the oldest 20. */
    openLike: async (transfer: {
      readonly recipientFingerprint: string;
      readonly currency: Currency;
      readonly amountMinor: string;
    }): Promise<PayoutDocument[]> => {
      const { recipientFingerprint: recipient_fingerprint, currency, amountMinor: amount_minor } = transfer;
      const filter = { open: true, recipient_fingerprint, currency, amount_minor };
      return (await payouts.page(filter, { index: "idx_open_transfer", limit: 20 })).items;
    },

    batches: batchesOf(batches),
    sending: sendingOf(sendings),
    days: daysOf(days),

    ...entriesOf({ payouts, batches, sendings }),
  };
}

/**
 * Finds the payout of which a transaction is an attempt. The index knows the last attempt of each payout; an earlier one
 * is looked for among all payouts of its recipient.
 */
const byTxid =
  (payouts: Collection<PayoutDocument>) =>
  async (txid: string, recipientFingerprint: string): Promise<PayoutDocument | null> => {
    const found = await payouts.findOne({ txid }, { index: "idx_txid" });
    if (found !== null) return found;
    const filter = { recipient_fingerprint: recipientFingerprint };
    const paged = pages((after: Cursor | undefined) =>
      payouts.page(filter, { index: "idx_recipient", limit: 500, after }),
    );
    for await (const page of paged) {
      const tried = page.find(({ attempts }) => attempts.some((attempt) => attempt.txid === txid));
      if (tried !== undefined) return tried;
    }
    return null;
  };

const batchesOf = (batches: Collection<BatchDocument>) => ({
  /** Accepts the batch. @throws DuplicateKeyError when the id is taken */
  insert: (batch: BatchDocument): Promise<void> => batches.insertOne(batch),
  find: (batchId: string): Promise<BatchDocument | null> => batches.findOne({ _id: batchId }),
  replace: (former: BatchDocument, next: BatchDocument): Promise<boolean> => replaceIn(batches, former, next),
  /** Accepted batches whose items are not all payouts yet, the oldest first. */
  expanding: async (limit: number): Promise<BatchDocument[]> =>
    (await batches.page({ expanding: true }, { index: "idx_expanding", limit })).items,
  list: ({ limit, skip, after }: Query): Promise<Page<BatchDocument>> =>
    batches.page({}, { index: "idx_created_at", descending: true, limit, skip, after }),
  countOf: async (): Promise<number | undefined> => {
    const count = await batches.count({}, { index: "idx_created_at", max: countMax + 1 });
    return count > countMax ? undefined : count;
  },
});

const sendingOf = (sendings: Collection<SendingDocument>) => ({
  /** The one document about sending; it is made when it is first asked for. */
  get: async (): Promise<SendingDocument> => {
    const found = await sendings.findOne({ _id: sendingId });
    if (found !== null) return found;
    const fresh: SendingDocument = {
      ...{ _id: sendingId, version: 1, entries: [], matched: {}, unknown: [], accepted: [], holds: {} },
    };
    await insertUnlessThere(sendings, fresh);
    return (await sendings.findOne({ _id: sendingId })) ?? fresh;
  },
  replace: (former: SendingDocument, next: SendingDocument): Promise<boolean> => replaceIn(sendings, former, next),
});

const daysOf = (days: Collection<DayDocument>) => ({
  get: (currency: Currency, day: string): Promise<DayDocument | null> => days.findOne({ _id: `${currency}:${day}` }),
  /** Writes the day if it is unchanged since it was read; `former` null: it did not exist. */
  replace: (former: DayDocument | null, next: DayDocument): Promise<boolean> =>
    former === null ? insertUnlessThere(days, next) : replaceIn(days, former, next),
});

/** The entries that documents still hold. */
const entriesOf = ({
  payouts,
  batches,
  sendings,
}: {
  readonly payouts: Collection<PayoutDocument>;
  readonly batches: Collection<BatchDocument>;
  readonly sendings: Collection<SendingDocument>;
}) => ({
  /** Documents with entries that are not in the log yet, those changed longest ago first. */
  unmoved: async (limit: number): Promise<(PayoutDocument | BatchDocument | SendingDocument)[]> => {
    const options = { index: "idx_unmoved", limit };
    const sending = await sendings.findOne({ _id: sendingId, unmoved: true });
    return [
      ...(await payouts.page({ unmoved: true }, options)).items,
      ...(await batches.page({ unmoved: true }, options)).items,
      ...(sending === null ? [] : [sending]),
    ];
  },
  /**
   * Takes the entries out of documents that are unchanged since they were read; the others keep theirs. This makes no
   * version, and leaves the mark of the last writer, who may still look for it.
   */
  forgetEntries: async (moved: readonly (PayoutDocument | BatchDocument | SendingDocument)[]): Promise<void> => {
    const update = { $set: { entries: [] }, $unset: { unmoved: true as const } };
    const pick = (kind: (id: string) => boolean) =>
      moved.filter(({ _id }) => kind(_id)).map(({ _id, version }) => ({ filter: { _id, version }, update }));
    const [ofPayouts, ofBatches] = [pick((id) => id.startsWith("payout_")), pick((id) => id.startsWith("batch_"))];
    if (ofPayouts.length > 0) await payouts.bulkUpdate(ofPayouts);
    if (ofBatches.length > 0) await batches.bulkUpdate(ofBatches);
    for (const { filter } of pick((id) => id === sendingId)) await sendings.updateOne(filter, update);
  },
});

/** Compare-and-set of a whole document: only the fields that differ are written. */
async function replaceIn<T extends Marked & { readonly version: number }>(
  collection: Parameters<typeof updateMarked<T>>[0],
  former: T,
  next: T,
): Promise<boolean> {
  const before = former as unknown as Readonly<Record<string, unknown>>;
  const after = next as unknown as Readonly<Record<string, unknown>>;
  const kept = new Set(["_id", "write_id"]);
  const set: Record<string, unknown> = {};
  const unset: Record<string, true> = {};
  for (const field of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (kept.has(field) || before[field] === after[field]) continue;
    if (after[field] === undefined) unset[field] = true;
    else set[field] = after[field];
  }
  const update = { $set: set, ...(Object.keys(unset).length === 0 ? {} : { $unset: unset }) };
  return (await updateMarked(collection, { _id: former._id, version: former.version }, update)) !== null;
}

function toFilter({ nodeId, status, currency, batchId, since, until }: PayoutFilter): Filter {
  const span = since === undefined && until === undefined ? undefined : present({ $gte: since, $lt: until });
  return present({ node_id: nodeId, status, currency, batch_id: batchId, created_at: span });
}

/** The index that narrows most and gives the order; the rest of the filter is checked on what it finds. */
function indexFor({ nodeId, batchId, status, currency }: PayoutFilter): string {
  if (batchId !== undefined) return "idx_batch_item";
  if (nodeId !== undefined) return "idx_node_id";
  if (status !== undefined) return "idx_status";
  return currency === undefined ? "idx_created_at" : "idx_currency";
}

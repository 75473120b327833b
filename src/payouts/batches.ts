// Batches: one document accepts all items, and each item becomes a payout with an id of its own. The ids follow from the
// batch's, so that the work can be repeated after a crash and makes each payout once.

import type { Clock } from "../clock.js";
import { sha256Hex } from "../crypto.js";
import { payoutIdAt } from "../ids.js";
import { present } from "../present.js";
import { type Next, type Outage, turns } from "../task.js";
import type { BatchDocument, BatchItem, Entry, PayoutDocument, StateReason } from "./document.js";
import { created, type Holds, type Order } from "./payout.js";
import type { PayoutRepository } from "./repository.js";
import { added, type Total, totalsOf } from "./tally.js";
import type { BatchView } from "./wire.js";

export type Batches = ReturnType<typeof createBatches>;

const everyMs = 1_000;
/** Batches that are expanded in one turn: 1000 payouts each. */
const pageMax = 5;

const scheduledReason = (at: Date): StateReason => ({
  code: "SCHEDULED",
  message: `It is scheduled for ${at.toISOString()}`,
});
const cooldownReason = (at: Date): StateReason => ({
  code: "ADDRESS_COOLDOWN",
  message: `The payout address was changed; it may be paid from ${at.toISOString()}`,
});

/** What a payout waits for: its own time or its address, whichever is later. */
export function holdsOf(scheduledAt: Date | undefined, usableAt: Date | undefined): Holds {
  if (usableAt !== undefined && (scheduledAt === undefined || usableAt > scheduledAt)) {
    return { until: usableAt, reason: cooldownReason(usableAt) };
  }
  return scheduledAt === undefined ? {} : { until: scheduledAt, reason: scheduledReason(scheduledAt) };
}

/** The next version of a batch, with the entry that tells of it. */
export function changedBatch(
  batch: BatchDocument,
  changes: { readonly [Field in keyof BatchDocument]?: BatchDocument[Field] | undefined },
  told: Omit<Entry, "version">,
): BatchDocument {
  const version = batch.version + 1;
  const entries = [...batch.entries, { ...told, version }];
  return present({ ...batch, ...changes, entries, unmoved: true, version, updated_at: told.at }) as BatchDocument;
}

/** The payout of an item. It does not depend on when it is made, or by whom. */
export function payoutOfItem(batch: BatchDocument, item: BatchItem, index: number): PayoutDocument {
  const digest = Buffer.from(sha256Hex(`${batch._id}:${index}`), "hex");
  const order: Order = {
    ...{
      ...item,
      _id: payoutIdAt(batch.created_at, digest.subarray(0, 10)),
      batch_id: batch._id,
      batch_index: index,
    },
    ...{ priority: batch.priority, created_by: batch.created_by, max_retries: batch.max_retries },
    ...(batch.scheduled_at === undefined ? {} : { scheduled_at: batch.scheduled_at }),
  };
  return created(order, holdsOf(batch.scheduled_at, item.usable_at), { at: batch.created_at, actor: batch.created_by });
}

export function createBatches(parts: {
  readonly repository: PayoutRepository;
  readonly clock: Clock;
  readonly away: Outage;
  /** Payouts were added to the queue. */
  readonly added: (payouts: readonly PayoutDocument[]) => void;
}) {
  const { repository } = parts;

  /** Makes the payouts that are missing, and says so in the batch. */
  const expand = async (batch: BatchDocument): Promise<void> => {
    const payouts = batch.items.map((item, index) => payoutOfItem(batch, item, index));
    const there = new Set(await repository.insertMany(payouts));
    parts.added(payouts.filter((_, position) => !there.has(position)));
    const { expanding: _, ...expanded } = batch;
    // Lost to another writer: the next turn finds it again, unless that writer was done with it.
    await repository.batches.replace(batch, { ...expanded, version: batch.version + 1 });
  };

  const turn = async (): Promise<Next> => {
    const waiting = await repository.batches.expanding(pageMax);
    for (const batch of waiting) await expand(batch);
    return waiting.length === pageMax ? "at once" : undefined;
  };
  const loop = turns({ clock: parts.clock, everyMs, turn, away: parts.away });

  return {
    task: loop.task,
    wake: loop.wake,
    expand,
    /** The payouts that were made of the batch, added up, and when the last of them was done. */
    view: async (batch: BatchDocument): Promise<BatchView> => {
      let tally: Total[] = [];
      let last = batch.cancelled === true ? batch.updated_at : undefined;
      let isOpen = batch.expanding === true || (batch.approval === "needed" && batch.cancelled !== true);
      for await (const page of repository.all({ batchId: batch._id })) {
        tally = added([...tally, ...totalsOf(page)]);
        isOpen ||= page.some(({ open }) => open === true);
        for (const { completed_at: at } of page) if (at !== undefined && (last === undefined || at > last)) last = at;
      }
      return { batch, tally, ...(isOpen || last === undefined ? {} : { completedAt: last }) };
    },
  };
}

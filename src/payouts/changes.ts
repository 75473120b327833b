// Changes of a payout or a batch that people ask for: by compare-and-set, again and again until no worker was faster.
import { Failure, payoutBatchNotFound, payoutNotFound } from "../failure.js";
import type { BatchDocument, PayoutDocument } from "./document.js";
import { type Act, cancelled } from "./payout.js";
import type { PayoutRepository } from "./repository.js";

export type Changes = ReturnType<typeof createChanges>;

/** Each try that fails means that somebody else has succeeded. */
const triesMax = 50;

export function createChanges(parts: {
  readonly repository: PayoutRepository;
  readonly done: (payout: PayoutDocument) => void;
}) {
  const { repository } = parts;

  /** @throws Failure 5011 */
  const find = async (payoutId: string): Promise<PayoutDocument> => {
    const payout = await repository.find(payoutId);
    if (payout === null) throw payoutNotFound(payoutId);
    return payout;
  };

  /** @throws Failure 5011 */
  const findBatch = async (batchId: string): Promise<BatchDocument> => {
    const batch = await repository.batches.find(batchId);
    if (batch === null) throw payoutBatchNotFound(batchId);
    return batch;
  };

  const tooBusy = () =>
    new Failure("LUCID_ERR_5031", "The payout changes too often now; try again", { retryAfterMs: 1_000 });

  /** Changes a payout by compare-and-set; `change` answers undefined to leave it as it is. */
  const change = async (
    payoutId: string,
    next: (payout: PayoutDocument) => PayoutDocument | undefined,
  ): Promise<PayoutDocument> => {
    for (let tries = 0; tries < triesMax; tries++) {
      const found = await find(payoutId);
      const changed = next(found);
      if (changed === undefined) return found;
      if (await repository.replace(found, changed)) {
        if (changed.phase === "done") parts.done(changed);
        return changed;
      }
    }
    throw tooBusy();
  };

  /** The same for a batch. */
  const changeBatch = async (
    batchId: string,
    next: (batch: BatchDocument) => BatchDocument | undefined,
  ): Promise<BatchDocument> => {
    for (let tries = 0; tries < triesMax; tries++) {
      const found = await findBatch(batchId);
      const changed = next(found);
      if (changed === undefined) return found;
      if (await repository.batches.replace(found, changed)) return changed;
    }
    throw tooBusy();
  };

  /** Cancels a payout that no worker has begun with; leaves any other as it is. */
  const endPending = (payoutId: string, reason: string, act: Act): Promise<PayoutDocument> =>
    change(payoutId, (payout) => (payout.status === "pending" ? cancelled(payout, reason, act) : undefined));

  return { find, findBatch, change, changeBatch, endPending };
}

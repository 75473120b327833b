import { notAllowed, payoutRefused } from "../failure.js";
import { eachOf } from "../task.js";
import { type Batches, changedBatch, holdsOf } from "./batches.js";
import type { Changes } from "./changes.js";
import type { BatchDocument, PayoutDocument } from "./document.js";
import { type Asker, actOf as actAt } from "./orders.js";
import { type Act, approved, cancelAsked, cancelled, rejected } from "./payout.js";
import type { PayoutRepository } from "./repository.js";
import type { Cancellation } from "./wire.js";

export type Desk = ReturnType<typeof createDesk>;

const cancelsAtOnce = 20;

export function createDesk(parts: {
  readonly repository: PayoutRepository;
  readonly batches: Batches;
  readonly changes: Changes;
}) {
  const { repository, batches } = parts;
  const { change, changeBatch } = parts.changes;
  const actOf = (by: Asker): Promise<Act> => actAt(repository, by);

  const cancel = async (payoutId: string, by: Asker): Promise<{ payout: PayoutDocument; outcome: Cancellation }> => {
    const act = await actOf(by);
    const payout = await change(payoutId, (found) => {
      if (found.status === "pending") return cancelled(found, `Cancelled by ${by.subject}`, act);
      const isAsked = found.phase === "done" || found.cancel_requested === true;
      return isAsked ? undefined : cancelAsked(found, `Cancellation requested by ${by.subject}`, act);
    });
    if (payout.phase !== "done") return { payout, outcome: "requested" };
    return { payout, outcome: payout.status === "cancelled" ? "cancelled" : "too late" };
  };

  const cancelBatch = async (batchId: string, by: Asker) => {
    const act = await actOf(by);
    const batch = await changeBatch(batchId, (found) =>
      found.approval === "needed" && found.cancelled === undefined
        ? changedBatch(found, { cancelled: true }, toldOf(act, "cancel", `Cancelled by ${by.subject}`))
        : undefined,
    );
    const ids: Record<Cancellation, string[]> = { cancelled: [], requested: [], "too late": [] };
    if (batch.cancelled !== true) {
      // Every item becomes a payout first, so that each has an end and a story.
      if (batch.expanding === true) await batches.expand(batch);
      for await (const page of repository.all({ batchId })) {
        await eachOf(page, cancelsAtOnce, async ({ _id }) => {
          const { outcome } = await cancel(_id, by);
          ids[outcome].push(_id);
        });
      }
    }
    return { cancelled: ids.cancelled.sort(), requested: ids.requested.sort(), tooLate: ids["too late"].sort() };
  };

  /** @throws Failure 4031 for the subject that created it, 5006 when it needs no approval */
  const checkApprover = (
    made: { readonly approval?: string; readonly created_by: string },
    by: Asker,
    isOver: boolean,
  ) => {
    if (made.created_by === by.subject) throw notAllowed("A second person has to approve or reject, not the creator");
    if (made.approval === undefined) throw payoutRefused("It needs no approval");
    if (isOver) throw payoutRefused("It is done already");
  };

  const approve = async (payoutId: string, note: string, by: Asker): Promise<PayoutDocument> => {
    const act = await actOf(by);
    return change(payoutId, (payout) => {
      checkApprover(payout, by, payout.approval === "needed" && payout.phase === "done");
      if (payout.approval === "given") return undefined;
      return approved(payout, holdsOf(payout.scheduled_at, payout.usable_at), note, act);
    });
  };

  const reject = async (payoutId: string, reason: string, by: Asker): Promise<PayoutDocument> => {
    const act = await actOf(by);
    return change(payoutId, (payout) => {
      checkApprover(payout, by, payout.approval === "given");
      return payout.status === "cancelled" ? undefined : rejected(payout, reason, act);
    });
  };

  const approveBatch = async (batchId: string, note: string, by: Asker): Promise<BatchDocument> => {
    const act = await actOf(by);
    const batch = await changeBatch(batchId, (found) => {
      checkApprover(found, by, found.cancelled === true);
      if (found.approval === "given") return undefined;
      return changedBatch(found, { approval: "given", expanding: true }, toldOf(act, "approve", note));
    });
    batches.wake();
    return batch;
  };

  const rejectBatch = async (batchId: string, reason: string, by: Asker): Promise<BatchDocument> => {
    const act = await actOf(by);
    return changeBatch(batchId, (found) => {
      checkApprover(found, by, found.approval === "given");
      if (found.cancelled === true) return undefined;
      return changedBatch(found, { cancelled: true }, toldOf(act, "reject", reason));
    });
  };

  return { cancel, cancelBatch, approve, reject, approveBatch, rejectBatch };
}

const toldOf = ({ at, actor, requestId }: Act, step: string, reason: string) => ({
  ...{ at, step, actor, reason },
  ...(requestId === undefined ? {} : { request_id: requestId }),
});

// lucid-node payouts approve, reject, cancel, pause, resume and accept: by these a person lets money go, holds it, or
// settles a doubt.
import {
  CancelOutcome,
  CancelPayoutBatchResponseSchema,
  CancelPayoutResponseSchema,
  type Payout,
  type PayoutBatch,
  PayoutBatchSchema,
  PayoutSchema,
} from "../../../gen/lucid/node/v1/payout_service_pb.js";
import { needed } from "../usage.js";
import { type AskingOptions, asking, jsonOf, type Means, matterNamed, shown, systemMeans } from "./asking.js";
import { batchText, cancelledText, payoutLine, timeOf } from "./text.js";

/** Returns the exit code. @throws UsageError */
export async function approve(
  id: string,
  options: AskingOptions & { readonly note?: string | undefined },
  means: Means = systemMeans(),
): Promise<number> {
  const matter = matterNamed(id);
  return asking(options, means, async (payouts) =>
    shownDecided(await payouts.approvePayout({ ...matter, note: options.note ?? "" }), options, means),
  );
}

/** Returns the exit code. @throws UsageError */
export async function reject(
  id: string,
  options: AskingOptions & { readonly reason?: string | undefined },
  means: Means = systemMeans(),
): Promise<number> {
  const matter = matterNamed(id);
  const reason = needed("--reason", options.reason);
  return asking(options, means, async (payouts) =>
    shownDecided(await payouts.rejectPayout({ ...matter, reason }), options, means),
  );
}

function shownDecided(
  { payout, batch }: { readonly payout?: Payout | undefined; readonly batch?: PayoutBatch | undefined },
  { json }: AskingOptions,
  means: Means,
): number {
  const document = () => ({
    ...(payout === undefined ? {} : { payout: jsonOf(PayoutSchema, payout) }),
    ...(batch === undefined ? {} : { batch: jsonOf(PayoutBatchSchema, batch) }),
  });
  return shown(means, json, document, () => (batch === undefined ? payoutLine(payout as Payout) : batchText(batch)));
}

const cancelWords: Readonly<Record<CancelOutcome, string>> = {
  [CancelOutcome.UNSPECIFIED]: "",
  [CancelOutcome.CANCELLED]: "cancelled",
  [CancelOutcome.REQUESTED]: "asked for: a transaction may have left the service, and decides by itself",
  [CancelOutcome.TOO_LATE]: "too late",
};

/** Returns the exit code: 1 as well for what was done already. @throws UsageError */
export async function cancel(id: string, options: AskingOptions, means: Means = systemMeans()): Promise<number> {
  const matter = matterNamed(id);
  return asking(options, means, async (payouts) => {
    if ("batchId" in matter) {
      // Up to 1000 payouts, each with a write of its own.
      const answer = await payouts.cancelPayoutBatch(matter, { timeoutMs: 120_000 });
      const code = shown(
        means,
        options.json,
        () => jsonOf(CancelPayoutBatchResponseSchema, answer),
        () => cancelledText(answer),
      );
      return answer.tooLate.length > 0 ? 1 : code;
    }
    const answer = await payouts.cancelPayout(matter);
    const code = shown(
      means,
      options.json,
      () => jsonOf(CancelPayoutResponseSchema, answer),
      () => `${payoutLine(answer.payout as Payout)}  ${cancelWords[answer.outcome]}`,
    );
    return answer.outcome === CancelOutcome.TOO_LATE ? 1 : code;
  });
}

/** Returns the exit code. @throws UsageError */
export async function pause(
  options: AskingOptions & { readonly reason?: string | undefined },
  means: Means = systemMeans(),
): Promise<number> {
  const reason = needed("--reason", options.reason);
  return asking(options, means, async (payouts) => {
    const { pausedAt } = await payouts.pausePayouts({ reason });
    return shown(
      means,
      options.json,
      () => ({ paused_at: timeOf(pausedAt) }),
      () => `sending is paused since ${timeOf(pausedAt)}; what was sent is still watched`,
    );
  });
}

/** Returns the exit code. @throws UsageError */
export async function resume(options: AskingOptions, means: Means = systemMeans()): Promise<number> {
  return asking(options, means, async (payouts) => {
    const { unknownTransfers } = await payouts.resumePayouts({});
    return shownUnknown(unknownTransfers, "the pause is over", options, means);
  });
}

/** Returns the exit code. @throws UsageError */
export async function accept(
  transactionHash: string,
  options: AskingOptions & { readonly note?: string | undefined },
  means: Means = systemMeans(),
): Promise<number> {
  const note = needed("--note", options.note);
  return asking(options, means, async (payouts) => {
    const { unknownTransfers } = await payouts.acceptTransfer({ transactionHash, note });
    return shownUnknown(unknownTransfers, "the transfer is accepted", options, means);
  });
}

/** Unknown transfers hold sending, whatever else was done. */
const shownUnknown = (count: number, done: string, { json }: AskingOptions, means: Means): number =>
  shown(
    means,
    json,
    () => ({ unknown_transfers: count }),
    () => (count === 0 ? done : `${done}; ${count} unknown transfers still hold sending`),
  );

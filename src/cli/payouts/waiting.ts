// Waits until payouts are done, and says on the way how far they are.
import {
  BatchStatus,
  type Payout,
  type PayoutBatch,
  PayoutPhase,
} from "../../../gen/lucid/node/v1/payout_service_pb.js";
import type { LucidClient } from "../../client/client.js";
import { refusalOf } from "../connection.js";
import type { Means } from "./asking.js";
import { countsText, payoutLine } from "./text.js";

type Payouts = LucidClient["payouts"];

/** A payout takes the time of some 20 blocks at least. */
const lookEveryMs = 2_000;

/**
 * Looks again and again until it is done, and returns the last state. Also returns, with what it has, when the signal
 * aborts; waiting has no other end, since a payout may wait for a person. A service that is away is asked again.
 * @throws ConnectError for a refusal that waiting does not mend
 */
async function untilDone<State>(
  first: State,
  { terminal, clock, untilSignalled }: Pick<Means, "terminal" | "clock" | "untilSignalled">,
  rules: {
    readonly look: (signal: AbortSignal) => Promise<State>;
    readonly isDone: (state: State) => boolean;
    readonly told: (state: State) => string;
  },
): Promise<State> {
  const signal = untilSignalled();
  let state = first;
  for (;;) {
    terminal.progress(rules.told(state));
    if (rules.isDone(state)) return state;
    await clock.sleep(lookEveryMs, signal);
    if (signal.aborted) break;
    try {
      state = await rules.look(signal);
    } catch (error) {
      if (signal.aborted) break;
      const { isPassing, message } = refusalOf(error);
      if (!isPassing) throw error;
      terminal.progress(`asking again: ${message}`);
    }
  }
  terminal.tell("Waiting has ended; what was ordered goes on. Wait again with the same command.");
  return state;
}

const openStates: readonly BatchStatus[] = [BatchStatus.QUEUED, BatchStatus.PROCESSING];

export const isBatchDone = ({ status }: PayoutBatch): boolean => !openStates.includes(status);

export const untilBatchDone = (payouts: Payouts, first: PayoutBatch, means: Means): Promise<PayoutBatch> =>
  untilDone(first, means, {
    look: async (signal) => {
      const { batch } = await payouts.getPayoutBatch({ batchId: first.batchId }, { signal });
      return batch as PayoutBatch;
    },
    isDone: isBatchDone,
    told: (batch) =>
      batch.stateReason === undefined ? countsText(batch) : `${countsText(batch)}; ${batch.stateReason.message}`,
  });

export const untilPayoutDone = (payouts: Payouts, first: Payout, means: Means): Promise<Payout> =>
  untilDone(first, means, {
    look: async (signal) => {
      const { payout } = await payouts.getPayout({ payoutId: first.payoutId }, { signal });
      return payout as Payout;
    },
    isDone: ({ phase }) => phase === PayoutPhase.DONE,
    told: payoutLine,
  });

// Figures about many payouts: sums of a time, the queue, what a node has earned. All are derived from the payouts.
import type { PayoutDocument, Phase, SendingDocument, StateReason, UnknownTransfer } from "./document.js";
import { phases } from "./document.js";
import { type Currency, currencies } from "./money.js";
import { type Tally, tallyOf } from "./plan.js";
import type { PayoutRepository } from "./repository.js";

export type Figures = ReturnType<typeof createFigures>;

export interface Queue {
  /** Open payouts by phase. */
  readonly depth: Readonly<Record<Exclude<Phase, "done">, number>>;
  /** Since when the oldest open payout exists. */
  readonly oldestWaiting: Date | undefined;
  readonly paused: SendingDocument["paused"];
  readonly holds: Readonly<Record<string, StateReason>>;
  readonly unknown: readonly (UnknownTransfer & { readonly openPayouts: readonly string[] })[];
}

/** By currency, in minor units. */
export interface Earnings {
  readonly currency: Currency;
  readonly paid: bigint;
  readonly inFlight: bigint;
  readonly failed: bigint;
}

const openPhases = phases.filter((phase) => phase !== "done");

export function createFigures(parts: {
  readonly repository: PayoutRepository;
  readonly look: () => Promise<SendingDocument>;
}) {
  const { repository } = parts;

  /** Open payouts that a transfer may have paid: the same recipient and amount. */
  const suspects = async (transfer: UnknownTransfer): Promise<string[]> => {
    const open = await repository.openTo(transfer.recipient_fingerprint);
    const isSame = ({ currency, amount_minor: minor }: PayoutDocument) =>
      currency === transfer.currency && minor === transfer.amount_minor;
    return open.filter(isSame).map(({ _id }) => _id);
  };

  return {
    /** Payouts created since then. It reads each of them. */
    statistics: async (since: Date): Promise<Tally> => {
      let tally: Tally = [];
      for await (const page of repository.all({ since })) tally = merged(tally, tallyOf(page));
      return tally;
    },

    queue: async (): Promise<Queue> => {
      const found = await Promise.all(openPhases.map((phase) => repository.depth(phase)));
      const depth = Object.fromEntries(openPhases.map((phase, place) => [phase, found[place]?.count ?? 0]));
      const oldest = found.flatMap(({ oldest: at }) => (at === undefined ? [] : [at.getTime()]));
      const { paused, holds, unknown } = await parts.look();
      return {
        depth: depth as Queue["depth"],
        oldestWaiting: oldest.length === 0 ? undefined : new Date(Math.min(...oldest)),
        ...{ paused, holds },
        unknown: await Promise.all(unknown.map(async (one) => ({ ...one, openPayouts: await suspects(one) }))),
      };
    },

    /** All payouts of the node that ever were. */
    earnings: async (nodeId: string): Promise<Earnings[]> => {
      let tally: Tally = [];
      for await (const page of repository.all({ nodeId })) tally = merged(tally, tallyOf(page));
      return currencies.map((currency) => {
        const sum = (...of: readonly string[]) =>
          tally
            .filter((one) => one.currency === currency && of.includes(one.status))
            .reduce((total, { minor }) => total + minor, 0n);
        return { currency, paid: sum("completed"), inFlight: sum("pending", "processing"), failed: sum("failed") };
      });
    },
  };
}

/** The sums of both. */
function merged(one: Tally, other: Tally): Tally {
  const sums = new Map(one.map((sum) => [`${sum.currency} ${sum.status}`, sum]));
  for (const sum of other) {
    const before = sums.get(`${sum.currency} ${sum.status}`);
    const added = before && { ...sum, count: before.count + sum.count, minor: before.minor + sum.minor };
    sums.set(`${sum.currency} ${sum.status}`, added ?? sum);
  }
  return [...sums.values()];
}

// Figures about many payouts: sums of a time, the queue, what a node has earned. All are derived from the payouts.
import type { SendingDocument, UnknownTransfer } from "./document.js";
import { phases } from "./document.js";
import { type Currency, currencies } from "./money.js";
import { queuePlaces } from "./payout.js";
import type { PayoutRepository } from "./repository.js";
import { added, type Total, totalsOf } from "./tally.js";
import type { QueueView, UnknownView } from "./wire.js";

export type Figures = ReturnType<typeof createFigures>;

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
    const { recipient_fingerprint: recipientFingerprint, currency, amount_minor: amountMinor } = transfer;
    return (await repository.openLike({ recipientFingerprint, currency, amountMinor })).map(({ _id }) => _id);
  };

  const totalsOfAll = async (filter: { readonly since: Date } | { readonly nodeId: string }): Promise<Total[]> => {
    let tally: Total[] = [];
    for await (const page of repository.all(filter)) tally = added([...tally, ...totalsOf(page)]);
    return tally;
  };

  const suspected = async (transfer: UnknownTransfer): Promise<UnknownView> => ({
    ...{ transfer, openPayouts: await suspects(transfer) },
  });

  /** Why queues wait. A reason outlives its queue when the last payout in it is cancelled; nobody waits then. */
  const holdsOfQueues = async (holds: SendingDocument["holds"]): Promise<SendingDocument["holds"]> => {
    const kept = [];
    for (const [currency, reason] of Object.entries(holds)) {
      const waiting = await Promise.all(queuePlaces.map((place) => repository.hasAt(currency as Currency, place)));
      if (waiting.includes(true)) kept.push([currency, reason] as const);
    }
    return Object.fromEntries(kept);
  };

  return {
    suspected,
    /** Payouts created since then. It reads each of them. */
    statistics: (since: Date): Promise<Total[]> => totalsOfAll({ since }),

    queue: async (): Promise<QueueView> => {
      const found = await Promise.all(openPhases.map((phase) => repository.depth(phase)));
      const byPhase = Object.fromEntries(openPhases.map((phase, place) => [phase, found[place]?.count ?? 0]));
      const { held = 0, queued = 0, building = 0, sending = 0, settling = 0 } = byPhase;
      const oldest = found.flatMap(({ oldest: at }) => (at === undefined ? [] : [at.getTime()]));
      const known = await parts.look();
      return {
        byPhase: { held, queued, building, sending, settling },
        byStatus: { pending: held + queued, processing: building + sending + settling },
        ...(oldest.length === 0 ? {} : { oldest: new Date(Math.min(...oldest)) }),
        sending: { ...known, holds: await holdsOfQueues(known.holds) },
        unknown: await Promise.all(known.unknown.map(suspected)),
      };
    },

    /** All payouts of the node that ever were; currencies without one are left out. */
    earnings: async (nodeId: string): Promise<Earnings[]> => {
      const tally = await totalsOfAll({ nodeId });
      const known = currencies.filter((currency) => tally.some((one) => one.currency === currency));
      return known.map((currency) => {
        const sum = (...of: readonly string[]) =>
          tally
            .filter((one) => one.currency === currency && of.includes(one.status))
            .reduce((total, { minor }) => total + minor, 0n);
        return { currency, paid: sum("completed"), inFlight: sum("pending", "processing"), failed: sum("failed") };
      });
    },
  };
}

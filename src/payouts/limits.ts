// The limits that hold the queue: what a currency may spend in a UTC day, and what its wallet must keep. They fail no
// payout; what they refuse waits.
import type { PayoutDocument, StateReason } from "./document.js";
import type { Gateway } from "./gateway/gateway.js";
import { type Currency, formatAmount, sumOf } from "./money.js";
import type { DayDocument, PayoutRepository } from "./repository.js";
import { createReservations } from "./reservations.js";

/** The UTC day of a time, such as "2026-01-31". */
export const dayOf = (at: Date): string => at.toISOString().slice(0, 10);

export type LimitKeeper = ReturnType<typeof createLimitKeeper>;

/** What payouts under way may take out of the wallet is kept like a day. */
const wallet = "wallet";

export function createLimitKeeper(parts: {
  readonly repository: PayoutRepository;
  /** In minor units; undefined: no limit. */
  readonly dailyLimit: Readonly<Record<Currency, bigint | undefined>>;
  readonly walletFloor: Readonly<Record<Currency, bigint | undefined>>;
}) {
  const { repository } = parts;
  const { take, settle } = createReservations(repository);

  /** What other payouts may take out of the wallet, in minor units. */
  const underWay = async (payout: PayoutDocument, { reserved }: DayDocument): Promise<bigint> => {
    const amounts = new Map(Object.entries(reserved));
    // Some may have begun before there was a floor.
    for await (const page of repository.moving(payout.currency)) {
      for (const one of page) if (one.live_txid !== undefined) amounts.set(one._id, one.amount_minor);
    }
    amounts.delete(payout._id);
    return sumOf([...amounts.values()].map(BigInt));
  };

  return {
    /**
     * Reserves the payout's amount in its day's limit. Asked again on the same day, it reserves nothing more. Answers the
     * day, or why the payout has to wait; undefined: there is no limit. The payout has no live transaction.
     */
    reserve: async (payout: PayoutDocument, now: Date): Promise<string | StateReason | undefined> => {
      const { currency, reserved_on: former } = payout;
      const dailyMax = parts.dailyLimit[currency];
      if (dailyMax === undefined) return undefined;
      const day = dayOf(now);
      const isTaken = await take(payout, day, ({ sum_minor: sum, reserved }) => {
        return reserved[payout._id] !== undefined || BigInt(sum) + BigInt(payout.amount_minor) <= dailyMax;
      });
      if (isTaken) {
        // An attempt of an earlier day has moved no money.
        if (former !== undefined && former !== day) await settle(payout, former);
        return day;
      }
      return {
        code: "DAILY_LIMIT",
        message: `The daily limit of ${formatAmount({ currency, minor: dailyMax })} ${currency} is reached for ${day}`,
      };
    },

    /** The payout is done: what it reserved is spent or given back. A call that is lost is made up by the next sweep. */
    settle: async (payout: PayoutDocument): Promise<void> => {
      if (payout.reserved_on !== undefined) await settle(payout, payout.reserved_on);
      if (parts.walletFloor[payout.currency] !== undefined) await settle(payout, wallet);
    },

    /**
     * Reserves the payout's amount in the wallet, or answers why the wallet must keep what it has. The reservation ends
     * with the payout: two payouts that begin at the same time cannot both take what is enough for one.
     */
    belowFloor: async (payout: PayoutDocument, gateway: Gateway): Promise<StateReason | undefined> => {
      const { currency } = payout;
      const walletFloor = parts.walletFloor[currency];
      if (walletFloor === undefined) return undefined;
      const isTaken = await take(payout, wallet, async (found) => {
        // The balance is read after the reservations: what was settled between the two is counted twice, never left out.
        const others = await underWay(payout, found);
        return (await gateway.balance()) - others - BigInt(payout.amount_minor) >= walletFloor;
      });
      if (isTaken) return undefined;
      const floor = formatAmount({ currency, minor: walletFloor });
      return { code: "WALLET_FLOOR", message: `The wallet must keep ${floor} ${currency}` };
    },
  };
}

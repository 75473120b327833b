// The limits that hold the queue: what a currency may spend in a UTC day, and what its wallet must keep. They fail no
// payout; what they refuse waits.
import { Failure } from "../failure.js";
import type { PayoutDocument, StateReason } from "./document.js";
import type { Gateway } from "./gateway/gateway.js";
import { type Currency, formatAmount, sumOf } from "./money.js";
import type { DayDocument, PayoutRepository } from "./repository.js";

/** The UTC day of a time, such as "2026-01-31". */
export const dayOf = (at: Date): string => at.toISOString().slice(0, 10);

export type LimitKeeper = ReturnType<typeof createLimitKeeper>;

/** Tries of a compare-and-set against other replicas. Each try that fails means that another has succeeded. */
const triesMax = 50;
/** What payouts under way may take out of the wallet is kept like a day. */
const wallet = "wallet";

export function createLimitKeeper(parts: {
  readonly repository: PayoutRepository;
  /** In minor units; undefined: no limit. */
  readonly dailyLimit: Readonly<Record<Currency, bigint | undefined>>;
  readonly walletFloor: Readonly<Record<Currency, bigint | undefined>>;
}) {
  const { repository } = parts;
  const { take, settleDay } = createReservations(repository);

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
        if (former !== undefined && former !== day) await settleDay(payout, former);
        return day;
      }
      return {
        code: "DAILY_LIMIT",
        message: `The daily limit of ${formatAmount({ currency, minor: dailyMax })} ${currency} is reached for ${day}`,
      };
    },

    /** The payout is done: what it reserved is spent or given back. A call that is lost is made up by the next sweep. */
    settle: async (payout: PayoutDocument): Promise<void> => {
      if (payout.reserved_on !== undefined) await settleDay(payout, payout.reserved_on);
      if (parts.walletFloor[payout.currency] !== undefined) await settleDay(payout, wallet);
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

/** The documents of days, and of what payouts under way may take out of the wallet. */
function createReservations(repository: PayoutRepository) {
  const inTurn = createTurns();

  /**
   * Changes the day by compare-and-set, the payouts of this process one after another: a hundred of them would otherwise
   * lose against each other. `change` returns undefined to leave it as it is.
   */
  const changeDay = (
    currency: Currency,
    day: string,
    change: (found: DayDocument) => DayDocument | undefined | Promise<DayDocument | undefined>,
  ): Promise<boolean> =>
    inTurn(`${currency}:${day}`, async () => {
      for (let tries = 0; tries < triesMax; tries++) {
        const found = await repository.days.get(currency, day);
        const known = found ?? { _id: `${currency}:${day}`, version: 0, sum_minor: "0", reserved: {} };
        const next = await change(known);
        if (next === undefined) return false;
        if (await repository.days.replace(found, { ...next, version: known.version + 1 })) return true;
      }
      throw new Failure("LUCID_ERR_5031", "Too many replicas reserve at once", { retryAfterMs: 1_000 });
    });

  /** Gives back what payouts have reserved that are done and moved no money. */
  const sweep = async (currency: Currency, day: string): Promise<void> => {
    const found = await repository.days.get(currency, day);
    for (const payoutId of Object.keys(found?.reserved ?? {})) {
      const payout = await repository.find(payoutId);
      if (payout?.phase === "done") await settleDay(payout, day);
    }
  };

  const settleDay = async (payout: PayoutDocument, day: string): Promise<void> => {
    await changeDay(payout.currency, day, (found) => {
      const { [payout._id]: amount, ...reserved } = found.reserved;
      if (amount === undefined) return undefined;
      const spent = payout.status === "completed" && payout.reserved_on === day;
      const sum = spent ? found.sum_minor : `${BigInt(found.sum_minor) - BigInt(amount)}`;
      return { ...found, sum_minor: sum, reserved };
    });
  };

  /** Adds the payout's amount if the sum allows it. Answers whether it is reserved, now or before. */
  const take = async (
    payout: PayoutDocument,
    day: string,
    allows: (found: DayDocument) => boolean | Promise<boolean>,
  ): Promise<boolean> => {
    let isTaken = false;
    const attempt = async () => {
      await changeDay(payout.currency, day, async (found) => {
        isTaken = await allows(found);
        if (!isTaken || found.reserved[payout._id] !== undefined) return undefined;
        const sum = BigInt(found.sum_minor) + BigInt(payout.amount_minor);
        return { ...found, sum_minor: `${sum}`, reserved: { ...found.reserved, [payout._id]: payout.amount_minor } };
      });
      return isTaken;
    };
    if (await attempt()) return true;
    await sweep(payout.currency, day);
    return attempt();
  };

  return { take, settleDay };
}

/** Runs work of the same name one after another. Work that fails holds up no other. */
function createTurns() {
  const last = new Map<string, Promise<unknown>>();
  return async <Result>(name: string, work: () => Promise<Result>): Promise<Result> => {
    const mine = Promise.allSettled([last.get(name)]).then(work);
    last.set(name, mine);
    try {
      return await mine;
    } finally {
      if (last.get(name) === mine) last.delete(name);
    }
  };
}

// The limits that hold the queue: what a currency may spend in a UTC day, and what its wallet must keep. They fail no
// payout; what they refuse waits.
import type { PayoutDocument, StateReason } from "./document.js";
import type { Gateway } from "./gateway/gateway.js";
import { type Currency, formatAmount, sumOf } from "./money.js";
import type { DayDocument, PayoutRepository } from "./repository.js";

/** The UTC day of a time, such as "2026-01-31". */
export const dayOf = (at: Date): string => at.toISOString().slice(0, 10);

export type LimitKeeper = ReturnType<typeof createLimitKeeper>;

/** Tries of a compare-and-set against other workers. Each try that fails means that another has succeeded. */
const triesMax = 50;

export function createLimitKeeper(parts: {
  readonly repository: PayoutRepository;
  /** In minor units; undefined: no limit. */
  readonly dailyLimit: Readonly<Record<Currency, bigint | undefined>>;
  readonly walletFloor: Readonly<Record<Currency, bigint | undefined>>;
}) {
  const { repository } = parts;

  /** Changes the day by compare-and-set. `change` returns undefined to leave it as it is. */
  const changeDay = async (
    currency: Currency,
    day: string,
    change: (found: DayDocument) => DayDocument | undefined,
  ): Promise<boolean> => {
    for (let tries = 0; tries < triesMax; tries++) {
      const found = await repository.days.get(currency, day);
      const known = found ?? { _id: `${currency}:${day}`, version: 0, sum_minor: "0", reserved: {} };
      const next = change(known);
      if (next === undefined) return false;
      if (await repository.days.replace(found, { ...next, version: known.version + 1 })) return true;
    }
    return false;
  };

  /** Gives back what payouts have reserved that are done and moved no money. */
  const sweep = async (currency: Currency, day: string): Promise<void> => {
    const found = await repository.days.get(currency, day);
    for (const payoutId of Object.keys(found?.reserved ?? {})) {
      const payout = await repository.find(payoutId);
      if (payout?.phase === "done") await settle(payout, day);
    }
  };

  const settle = async (payout: PayoutDocument, day = payout.reserved_on): Promise<void> => {
    if (day === undefined) return;
    await changeDay(payout.currency, day, (found) => {
      const { [payout._id]: amount, ...reserved } = found.reserved;
      if (amount === undefined) return undefined;
      const spent = payout.status === "completed" && payout.reserved_on === day;
      const sum = spent ? found.sum_minor : `${BigInt(found.sum_minor) - BigInt(amount)}`;
      return { ...found, sum_minor: sum, reserved };
    });
  };

  return {
    /**
     * Reserves the payout's amount in its day's limit. Asked again on the same day, it reserves nothing more. Answers the
     * day, or why the payout has to wait; undefined: there is no limit.
     */
    reserve: async (payout: PayoutDocument, now: Date): Promise<string | StateReason | undefined> => {
      const { currency } = payout;
      const dailyMax = parts.dailyLimit[currency];
      if (dailyMax === undefined) return undefined;
      // A payout that had an attempt before keeps the day of the first.
      if (payout.reserved_on !== undefined) return payout.reserved_on;
      const day = dayOf(now);
      let reserved = false;
      const attempt = () =>
        changeDay(currency, day, (found) => {
          reserved = found.reserved[payout._id] !== undefined;
          const sum = BigInt(found.sum_minor) + BigInt(payout.amount_minor);
          if (reserved || sum > dailyMax) return undefined;
          return { ...found, sum_minor: `${sum}`, reserved: { ...found.reserved, [payout._id]: payout.amount_minor } };
        });
      if ((await attempt()) || reserved) return day;
      await sweep(currency, day);
      if ((await attempt()) || reserved) return day;
      return {
        code: "DAILY_LIMIT",
        message: `The daily limit of ${formatAmount({ currency, minor: dailyMax })} ${currency} is reached for ${day}`,
      };
    },

    /** The payout is done: what it reserved is spent or given back. A call that is lost is made up by the next sweep. */
    settle,

    /** Why the wallet must keep what it has; undefined when the amount may leave. */
    belowFloor: async (payout: PayoutDocument, gateway: Gateway): Promise<StateReason | undefined> => {
      const { currency } = payout;
      const walletFloor = parts.walletFloor[currency];
      if (walletFloor === undefined) return undefined;
      // Transfers under way may or may not be in the balance yet. All are taken off, so that none is forgotten.
      let underWay = 0n;
      for await (const page of repository.moving(currency)) {
        const others = page.filter(({ _id, live_txid }) => live_txid !== undefined && _id !== payout._id);
        underWay += sumOf(others.map(({ amount_minor }) => BigInt(amount_minor)));
      }
      const left = (await gateway.balance()) - underWay - BigInt(payout.amount_minor);
      if (left >= walletFloor) return undefined;
      const floor = formatAmount({ currency, minor: walletFloor });
      return { code: "WALLET_FLOOR", message: `The wallet must keep ${floor} ${currency}` };
    },
  };
}

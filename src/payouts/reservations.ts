// Amounts that payouts have reserved in a limit: one document a limit, changed by compare-and-set with the payout's id in
// it, so that two payouts cannot both take the last of it.
import { Failure } from "../failure.js";
import type { PayoutDocument } from "./document.js";
import type { Currency } from "./money.js";
import type { DayDocument, PayoutRepository } from "./repository.js";

export type Reservations = ReturnType<typeof createReservations>;

/** Tries of a compare-and-set against other replicas. Each try that fails means that another has succeeded. */
const triesMax = 50;

export function createReservations(repository: Pick<PayoutRepository, "days" | "find">) {
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
      if (payout?.phase === "done") await settle(payout, day);
    }
  };

  /**
   * The payout is done: its amount stays in the sum if it was spent on that day, and is given back otherwise. It also
   * gives back what a payout without a live transaction has reserved on an earlier day.
   */
  const settle = async (payout: PayoutDocument, day: string): Promise<void> => {
    await changeDay(payout.currency, day, (found) => {
      const { [payout._id]: amount, ...reserved } = found.reserved;
      if (amount === undefined) return undefined;
      const spent = payout.status === "completed" && payout.reserved_on === day;
      const sum = spent ? found.sum_minor : `${BigInt(found.sum_minor) - BigInt(amount)}`;
      return { ...found, sum_minor: sum, reserved };
    });
  };

  /**
   * Adds the payout's amount if `allows` says so, which is asked again after others were given back. Answers whether the
   * amount is reserved, now or before.
   */
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

  return { take, settle };
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

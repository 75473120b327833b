// Takes payouts from the queue and moves them on. Any number of workers may run: each takes what it works on by
// compare-and-set, for a time by the store's clock.
import type { Clock } from "../clock.js";
import { eachOf, isOutage, type Next, type Outage, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";
import type { PayoutDocument } from "./document.js";
import type { Gateway } from "./gateway/gateway.js";
import type { LimitKeeper } from "./limits.js";
import type { Currency } from "./money.js";
import { type Act, type Claim, queuePlaces, released, taken } from "./payout.js";
import type { PayoutRepository } from "./repository.js";
import type { Sending } from "./sending.js";
import type { Steps } from "./steps.js";

export type Worker = ReturnType<typeof createWorker>;

/** How long the queue of a currency rests after the limits have held it. */
const heldMs = 5_000;

export function createWorker(parts: {
  readonly repository: PayoutRepository;
  readonly steps: Steps;
  readonly gateways: ReadonlyMap<Currency, Gateway>;
  readonly sending: Sending;
  readonly limits: LimitKeeper;
  readonly owner: string;
  /** Payouts that are worked on at the same time, shared by the currencies. */
  readonly batchSize: number;
  /** How long a claim lasts by the store's clock. */
  readonly claimMs: number;
  readonly everyMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly away: Outage;
  readonly done: (payout: PayoutDocument) => void;
}) {
  const { repository, steps, gateways, sending, owner, claimMs, clock } = parts;
  /** By currency, on the monotonic clock. */
  const restsUntilMs = new Map<Currency, number>();

  const release = async (currency: Currency, now: Date, share: number): Promise<number> => {
    const act: Act = { at: now, actor: `worker:${owner}` };
    const due = await repository.due(currency, "held", now, share);
    // A lost race means that another worker released it, or that a person cancelled it.
    for (const payout of due) await repository.replace(payout, released(payout, act));
    return due.length;
  };

  /** Due payouts of a currency: first those that have begun, then the most urgent and oldest of the queue. */
  const choose = async (currency: Currency, now: Date, share: number): Promise<PayoutDocument[]> => {
    const chosen = await repository.due(currency, "moving", now, share);
    const rests = (restsUntilMs.get(currency) ?? 0) > clock.monotonicMs();
    if (rests || (await sending.stopped(currency)) !== undefined) return chosen;
    for (const place of queuePlaces) {
      const room = share - chosen.length;
      if (room > 0) chosen.push(...(await repository.due(currency, place, now, room)));
    }
    return chosen;
  };

  const work = async (payout: PayoutDocument): Promise<void> => {
    const now = await repository.now();
    // The page is as old as the turn: another worker may have taken it since.
    if (payout.wake_at === undefined || payout.wake_at > now) return;
    const until = new Date(now.getTime() + claimMs);
    const mine = taken(payout, owner, until, { at: now, actor: `worker:${owner}` });
    if (!(await repository.replace(payout, mine))) return;
    const claim: Claim = { owner, token: mine.claim_token };
    const last = await steps.advance(mine, claim);
    if (last?.phase === "done") {
      parts.done(last);
      await parts.limits.settle(last);
    } else if (last?.phase === "queued" && last.reason !== undefined) {
      restsUntilMs.set(last.currency, clock.monotonicMs() + heldMs);
    }
  };

  /** One payout's outage is no reason to leave the others: their claims would have to end first. */
  const workOn = async (chosen: readonly PayoutDocument[], signal: AbortSignal): Promise<void> => {
    let outage: unknown;
    await eachOf(chosen, parts.batchSize, async (payout) => {
      if (signal.aborted) return;
      try {
        await work(payout);
      } catch (error) {
        if (!isOutage(error)) throw error;
        outage ??= error;
      }
    });
    if (outage !== undefined) throw outage;
  };

  const turn = async (signal: AbortSignal): Promise<Next> => {
    const now = await repository.now();
    const share = Math.max(1, Math.floor(parts.batchSize / gateways.size));
    const byCurrency: PayoutDocument[][] = [];
    let isFull = false;
    for (const currency of gateways.keys()) {
      const held = await release(currency, now, share);
      const chosen = await choose(currency, now, share);
      isFull ||= held === share || chosen.length === share;
      byCurrency.push(chosen);
    }
    await workOn(byCurrency.flat(), signal);
    return isFull ? "at once" : undefined;
  };

  return turns({ clock, everyMs: parts.everyMs, turn, away: parts.away });
}

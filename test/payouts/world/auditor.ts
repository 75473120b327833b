// Knows the truth of the simulated world, and holds the service to its promises at every write, every send and every
// block:
//
// - I1 a payout has at most one transfer; exactly one when it is completed, none when it failed or was cancelled
// - I2 by currency, the transfers are the completed payouts, to the minor unit
// - I3 every transfer belongs to one recorded attempt, with its recipient and its amount
// - I6 only legal steps; a version grows by one, a token never becomes smaller, and only the holder of the claim works
// - I7 a new transaction exists only once the former can never be in a block
// - I8 one payout a key, and none that was accepted is lost
// - I9 once the faults have stopped, every payout comes to its end
// - I10 nothing leaves that was not recorded before: each send has its own write
import type { Attempt, PayoutDocument, Phase } from "../../../src/payouts/document.js";
import type { Signed } from "../../../src/payouts/gateway/gateway.js";
import { isLegal, type Step, transitions } from "../../../src/payouts/payout.js";
import type { Block, Chain } from "./chain.js";

export interface Auditor {
  /** A payout was written. `writer` is the owner that a worker uses in claims; undefined: a caller of the service. */
  wrote(before: PayoutDocument | null, after: PayoutDocument, writer: string | undefined, storeNow: Date): void;
  /** A transaction is about to be signed. */
  signs(txid: string): void;
  /** Bytes leave a process. */
  leaves(signed: Signed): void;
  mined(block: Block): void;
  solidified(block: Block): void;
  /** The store goes back to an older time: what was recorded since is unknown to it. */
  restored(payouts: ReadonlyMap<string, PayoutDocument>): void;
  /** Checks what holds at the end. `keys` are those that callers were told are accepted. */
  finish(payouts: Iterable<PayoutDocument>, keys: ReadonlySet<string>): void;
  /** Broken promises, the first first. */
  readonly broken: readonly string[];
  /** Adds a broken promise that somebody else has found. */
  accuse(promise: string, payoutId: string, what: string): void;
  /** Payouts that broken promises are about. */
  readonly accused: ReadonlySet<string>;
  /** How often each step was taken. */
  readonly taken: ReadonlyMap<string, number>;
}

interface Known {
  readonly payoutId: string;
  readonly attempt: Attempt;
  /** Sends that have left. */
  left: number;
}

/** Steps without an entry in the story. */
const silentSteps: readonly Step[] = ["claim", "take", "defer", "wait"];
/** Steps that anybody may take; each other one belongs to the holder of the claim. */
const unclaimedSteps: readonly Step[] = ["create", "approve", "reject", "release", "cancel", "claim", "take", "ask"];

export function createAuditor(parts: {
  readonly chain: () => Chain;
  readonly openRaw: (sealed: string) => string;
  readonly openRecipient: (sealed: string) => string;
  /** What a UTC day may spend, by currency. */
  readonly dailyMax: (currency: string) => bigint | undefined;
  readonly floor: (currency: string) => bigint | undefined;
}): Auditor {
  const broken: string[] = [];
  const accused = new Set<string>();
  const taken = new Map<string, number>();
  const attempts = new Map<string, Known>();
  const payouts = new Map<string, PayoutDocument>();
  /** Sent in a time that the store no longer knows. */
  const foreign = new Set<string>();
  /** By payout: the successful transactions in blocks that are not given up, solid or not. */
  const paid = new Map<string, Set<string>>();
  const solidSums = new Map<string, bigint>();
  const solidPaid = new Map<string, string[]>();
  const days = new Map<string, Map<string, bigint>>();
  /** By payout: the day that counts it. */
  const dayOf = new Map<string, string>();
  let latest = 0;

  const accuse = (promise: string, payoutId: string, what: string): void => {
    if (broken.length < 20) broken.push(`${promise}: ${payoutId}: ${what}`);
    accused.add(payoutId);
  };

  /** Whether the transaction moved no money and never will, whatever anybody believes. */
  const isHarmless = ({ txid, expires_at_ms: expiresAtMs, outcome }: Attempt): boolean => {
    if (foreign.has(txid)) return true;
    if (outcome === "never_sent" && (attempts.get(txid)?.left ?? 0) === 0) return true;
    const chain = parts.chain();
    const place = chain.find(txid);
    if (place !== undefined && place.revert === undefined) return false;
    return !chain.canLand(txid, expiresAtMs);
  };

  const isPaidBy = (payout: PayoutDocument, { txid }: Attempt): boolean => {
    const chain = parts.chain();
    const place = chain.find(txid);
    return (
      place !== undefined &&
      place.revert === undefined &&
      place.block <= chain.solid().number &&
      place.wanted.amountMinor === payout.amount_minor &&
      place.wanted.recipient === parts.openRecipient(payout.recipient)
    );
  };

  const stepOf = (before: PayoutDocument | null, after: PayoutDocument): Step | undefined => {
    const from: Phase | "none" = before?.phase ?? "none";
    const last = after.entries.at(-1);
    if (last?.version === after.version) {
      const named = last.step as Step;
      const fits = named in transitions && isLegal(named, from, after.phase);
      return fits && last.to === after.phase && (last.from ?? "none") === from ? named : undefined;
    }
    return silentSteps.find((step) => {
      const takes = before !== null && after.claim_token === before.claim_token + 1;
      return isLegal(step, from, after.phase) && (step === "claim" || step === "take") === takes;
    });
  };

  const checkClaim = (
    before: PayoutDocument,
    after: PayoutDocument,
    step: Step,
    writer: string | undefined,
    now: Date,
  ): void => {
    latest = Math.max(latest, now.getTime());
    const grows = after.claim_token - before.claim_token;
    const begins = step === "claim" || step === "take";
    if (grows !== (begins ? 1 : 0)) accuse("I6", after._id, `${step} changes the token by ${grows}`);
    if (begins && (before.wake_at?.getTime() ?? Number.POSITIVE_INFINITY) > latest) {
      accuse("I6", after._id, `${writer} takes it while ${before.claim_owner} holds it`);
    }
    if (!unclaimedSteps.includes(step) && before.claim_owner !== writer) {
      accuse("I6", after._id, `${writer} takes the step ${step}, but ${before.claim_owner} holds it`);
    }
  };

  const checkAttempts = (before: PayoutDocument | null, after: PayoutDocument): void => {
    const former = before?.attempts ?? [];
    for (const [at, old] of former.entries()) {
      const now = after.attempts[at];
      if (now?.txid !== old.txid) accuse("I6", after._id, "an attempt has vanished");
      if (old.outcome !== "live" && now?.outcome !== old.outcome) accuse("I6", after._id, "an attempt's end changes");
      if (now !== undefined && now.sends < old.sends) accuse("I10", after._id, "a recorded send vanishes");
    }
    for (const attempt of after.attempts.slice(former.length)) {
      for (const other of former) {
        if (!isHarmless(other)) accuse("I7", after._id, `${attempt.txid} is built while ${other.txid} may still pay`);
      }
      const owner = attempts.get(attempt.txid);
      if (owner !== undefined && owner.left > 0) {
        accuse("I3", after._id, `${attempt.txid} was sent for ${owner.payoutId} before`);
      }
      attempts.set(attempt.txid, { payoutId: after._id, attempt, left: 0 });
    }
    if (after.phase === "done" && after.status === "completed") {
      const landed = after.attempts.filter((attempt) => attempt.outcome === "landed");
      if (landed.length !== 1 || landed.some((attempt) => !isPaidBy(after, attempt))) {
        accuse("I1", after._id, "it is completed, and no solid block holds its transfer");
      }
    }
    const isFree = ["held", "queued"].includes(after.phase) || ["failed", "cancelled"].includes(after.status);
    if (isFree) {
      const alive = after.attempts.find((attempt) => !isHarmless(attempt));
      if (alive) accuse("I1", after._id, `it is ${after.status} (${after.phase}), and ${alive.txid} may still pay`);
      if (after.live_txid !== undefined) accuse("I6", after._id, `it is ${after.phase} with a live transaction`);
    }
  };

  /**
   * A day spends what was paid or may be paid by a live transaction. A payout without one may be counted in another day
   * at its next attempt.
   */
  const checkDay = (after: PayoutDocument): void => {
    const max = parts.dailyMax(after.currency);
    const { reserved_on: day } = after;
    if (max === undefined || after.attempts.length === 0) return;
    if (day === undefined) {
      accuse("daily limit", after._id, "a transaction was built without a reservation");
      return;
    }
    const name = `${after.currency}:${day}`;
    const sums = days.get(name) ?? new Map<string, bigint>();
    days.set(name, sums);
    // A payout whose attempt of an earlier day moved no money is counted in the day of the next one.
    const former = dayOf.get(after._id);
    if (former !== undefined && former !== name) days.get(former)?.delete(after._id);
    dayOf.set(after._id, name);
    const counts = after.live_txid !== undefined || after.status === "completed";
    sums.set(after._id, counts ? BigInt(after.amount_minor) : 0n);
    if (counts && after.phase === "building") {
      let sum = 0n;
      for (const amount of sums.values()) sum += amount;
      if (sum > max) accuse("daily limit", after._id, `${name} spends ${sum} of ${max}`);
    }
  };

  const checkPaid = (block: Block): void => {
    for (const { txid, wanted, revert } of block.included) {
      if (revert !== undefined || foreign.has(txid)) continue;
      const known = attempts.get(txid);
      const payout = known === undefined ? undefined : payouts.get(known.payoutId);
      if (known === undefined || payout === undefined) {
        accuse("I3", "none", `the transfer ${txid} belongs to no attempt`);
        continue;
      }
      const isWanted = wanted.amountMinor === payout.amount_minor && wanted.currency === payout.currency;
      if (!isWanted || wanted.recipient !== parts.openRecipient(payout.recipient)) {
        accuse("I3", payout._id, `${txid} pays another amount or recipient`);
      }
      if (payout.status === "failed" || payout.status === "cancelled") {
        accuse("I1", payout._id, `it is ${payout.status}, and ${txid} pays it`);
      }
      const chain = parts.chain();
      const all = paid.get(payout._id) ?? new Set<string>();
      const others = [...all].filter((other) => other !== txid && chain.find(other)?.revert === undefined);
      if (others.some((other) => chain.find(other) !== undefined)) accuse("I1", payout._id, "it is paid twice");
      paid.set(payout._id, all.add(txid));
      const floor = parts.floor(payout.currency);
      if (floor !== undefined && chain.balance(payout.currency) < floor) {
        accuse("wallet floor", payout._id, `${txid} takes the wallet below ${floor}`);
      }
    }
  };

  return {
    broken,
    accuse,
    accused,
    taken,
    wrote: (before, after, writer, now) => {
      payouts.set(after._id, after);
      if (before !== null && before.version === after.version) {
        const { entries: _a, unmoved: _b, ...former } = before;
        const { entries: _c, unmoved: _d, ...next } = after;
        if (JSON.stringify(former) !== JSON.stringify(next)) accuse("I6", after._id, "it changes without a version");
        return;
      }
      if (after.version !== (before?.version ?? 0) + 1) accuse("I6", after._id, "its version jumps");
      const step = stepOf(before, after);
      if (step === undefined) {
        accuse("I6", after._id, `no step leads from ${before?.phase} to ${after.phase}`);
        return;
      }
      const name = `${step} ${before?.phase ?? "none"} > ${after.phase}`;
      taken.set(name, (taken.get(name) ?? 0) + 1);
      if (before !== null) checkClaim(before, after, step, writer, now);
      checkAttempts(before, after);
      checkDay(after);
    },
    signs: (txid) => {
      if (!attempts.has(txid) && !foreign.has(txid)) accuse("I10", "none", `${txid} is signed and was never recorded`);
    },
    leaves: ({ txid, raw, signature }) => {
      const known = attempts.get(txid);
      const payout = known === undefined ? undefined : payouts.get(known.payoutId);
      const recorded = payout?.attempts.findLast((attempt) => attempt.txid === txid);
      if (known === undefined || payout === undefined || recorded === undefined) {
        accuse("I10", "none", `${txid} leaves and was never recorded`);
        return;
      }
      known.left++;
      if (recorded.sends < known.left) {
        accuse("I10", payout._id, `send ${known.left} of ${txid} leaves, and ${recorded.sends} are recorded`);
      }
      if (recorded.outcome === "never_sent") accuse("I7", payout._id, `${txid} was given up unsent, and leaves`);
      if (recorded.signature !== signature || parts.openRaw(recorded.raw) !== raw) {
        accuse("I10", payout._id, `other bytes leave than were recorded for ${txid}`);
      }
    },
    mined: checkPaid,
    solidified: (block) => {
      for (const { txid, wanted, revert } of block.included) {
        if (revert !== undefined || foreign.has(txid)) continue;
        const sum = (solidSums.get(wanted.currency) ?? 0n) + BigInt(wanted.amountMinor);
        solidSums.set(wanted.currency, sum);
        const payoutId = attempts.get(txid)?.payoutId ?? "none";
        const transfers = [...(solidPaid.get(payoutId) ?? []), txid];
        solidPaid.set(payoutId, transfers);
        if (transfers.length > 1) accuse("I1", payoutId, `solid blocks pay it ${transfers.length} times`);
      }
    },
    restored: (kept) => {
      const sends = new Map([...kept.values()].flatMap(({ attempts: all }) => all.map((one) => [one.txid, one.sends])));
      for (const [txid, { left }] of attempts) {
        // What the store no longer knows to be sent is not the service's to answer for, only to notice.
        if (left > (sends.get(txid) ?? 0)) foreign.add(txid);
        if (!sends.has(txid)) attempts.delete(txid);
      }
      payouts.clear();
      for (const [payoutId, payout] of kept) payouts.set(payoutId, payout);
    },
    finish: (all, keys) => {
      const byKey = new Map<string, string>();
      const sums = new Map<string, bigint>();
      for (const payout of all) {
        if (payout.phase !== "done") accuse("I9", payout._id, `it ends in ${payout.phase} (${payout.reason?.code})`);
        const key = payout.idempotency_id;
        if (key !== undefined && byKey.has(key)) accuse("I8", payout._id, `${byKey.get(key)} has the same key`);
        if (key !== undefined) byKey.set(key, payout._id);
        const transfers = solidPaid.get(payout._id)?.length ?? 0;
        const due = payout.status === "completed" ? 1 : 0;
        if (transfers !== due) accuse("I1", payout._id, `it is ${payout.status} and has ${transfers} transfers`);
        if (due === 1) sums.set(payout.currency, (sums.get(payout.currency) ?? 0n) + BigInt(payout.amount_minor));
      }
      for (const key of keys) if (!byKey.has(key)) accuse("I8", "none", `the payout of the key ${key} is lost`);
      for (const currency of new Set([...sums.keys(), ...solidSums.keys()])) {
        const [owed = 0n, moved = 0n] = [sums.get(currency), solidSums.get(currency)];
        if (owed !== moved) accuse("I2", "none", `${moved} ${currency} moved for completed payouts of ${owed}`);
      }
    },
  };
}

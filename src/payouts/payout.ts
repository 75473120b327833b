// The life of a payout: which steps lead from which phase to which, and what each step changes. Each step makes a new
// document with the next version; the repository writes it by compare-and-set. Pure.
import assert from "node:assert/strict";
import { present } from "../present.js";
import type { Attempt, Entry, PayoutDocument, Phase, Priority, StateReason, Status } from "./document.js";
import { priorities } from "./document.js";
import type { Answer, DeathProof, Verdict } from "./gateway/gateway.js";

/** The legal steps. The code takes no other, and the tests walk this table. */
export const transitions = {
  /** A payout was accepted. It waits for its time, its address or its approval, or it goes to the queue at once. */
  create: { from: ["none"], to: ["held", "queued"] },
  /** A second person allowed it. It may still wait for its time or its address. */
  approve: { from: ["held"], to: ["held", "queued"] },
  /** The time or the address that it waited for has come. */
  release: { from: ["held"], to: ["queued"] },
  /** Nobody had begun with it. */
  cancel: { from: ["held", "queued"], to: ["done"] },
  /** A second person forbids it. */
  reject: { from: ["held"], to: ["done"] },
  /** A worker begins. */
  claim: { from: ["queued"], to: ["building"] },
  /** A worker goes on after a wait, or takes over from another whose claim has ended. */
  take: { from: ["building", "sending", "settling"], to: ["building", "sending", "settling"] },
  /** It cannot be paid now; no transaction exists. */
  defer: { from: ["building"], to: ["queued"] },
  /** It can never be paid; no transaction exists. */
  refuse: { from: ["building"], to: ["done"] },
  /** A transaction was built. It is written before it is signed. */
  draft: { from: ["building"], to: ["building"] },
  /** A transaction that was never sent is given up: another follows, or the payout is cancelled. */
  drop: { from: ["building"], to: ["building", "done"] },
  /** Money may move from here on. It is written before the first byte leaves. */
  send: { from: ["building"], to: ["sending"] },
  /** The network has answered, or has not. Either way only the chain decides. */
  answer: { from: ["sending"], to: ["settling"] },
  /** The same bytes are sent again. It is written before they leave. */
  resend: { from: ["settling"], to: ["settling"] },
  /** The chain has not decided yet. */
  wait: { from: ["settling"], to: ["settling"] },
  /** A solid block holds the transfer. */
  complete: { from: ["settling"], to: ["done"] },
  /** A solid block holds the transaction, and it moved no money. */
  revert: { from: ["settling"], to: ["building", "done"] },
  /** It is proven that no block can hold the transaction. */
  bury: { from: ["settling"], to: ["building", "queued", "done"] },
  /** Somebody wants it cancelled while a transaction may be under way. */
  ask: { from: ["building", "sending", "settling"], to: ["building", "sending", "settling"] },
} as const satisfies Readonly<
  Record<string, { readonly from: readonly (Phase | "none")[]; readonly to: readonly Phase[] }>
>;
export type Step = keyof typeof transitions;

/** Steps that keep the phase, whatever it is. */
const keepsPhase: ReadonlySet<Step> = new Set(["take", "ask"]);

/** Whether the table allows this step from that phase to the other. */
export function isLegal(step: Step, from: Phase | "none", to: Phase): boolean {
  const rule: { readonly from: readonly string[]; readonly to: readonly string[] } = transitions[step];
  return rule.from.includes(from) && rule.to.includes(to) && (!keepsPhase.has(step) || from === to);
}

/** Who acts and when, by the store's clock. */
export interface Act {
  readonly at: Date;
  /** The subject of a caller, or `worker:{replica}`. */
  readonly actor: string;
  readonly requestId?: string | undefined;
}

/** A worker's right to write the next step. It ends with the next larger token. */
export interface Claim {
  readonly owner: string;
  readonly token: PayoutDocument["claim_token"];
}

export const holdsClaim = (payout: PayoutDocument, { owner, token }: Claim): boolean =>
  payout.claim_token === token && payout.claim_owner === owner;

const statusOf: Readonly<Record<Exclude<Phase, "done">, Status>> = {
  held: "pending",
  queued: "pending",
  building: "processing",
  sending: "processing",
  settling: "processing",
};

/** Where a worker looks for a payout of this phase. */
export const placeOf = (phase: Exclude<Phase, "done">, priority: Priority): string => {
  if (phase === "queued") return `queued:${priorities.indexOf(priority)}`;
  return phase === "held" ? "held" : "moving";
};

/** The places of the queue in the order in which a worker empties them: the most urgent first, each by age. */
export const queuePlaces: readonly string[] = priorities.map((priority) => placeOf("queued", priority));

type Changes = { readonly [Field in keyof PayoutDocument]?: PayoutDocument[Field] | undefined };
interface Told {
  readonly reason?: string | undefined;
  readonly txid?: string | undefined;
  /** Not worth an entry: nothing but the next look has changed. */
  readonly silent?: boolean;
}

function step(payout: PayoutDocument, name: Step, to: Phase, act: Act, changes: Changes, told: Told = {}) {
  assert(isLegal(name, payout.phase, to), `${name} from ${payout.phase} to ${to} is no step of a payout`);
  const version = payout.version + 1;
  const entry: Entry = present({
    version,
    at: act.at,
    step: name,
    from: payout.phase,
    to,
    actor: act.actor,
    reason: told.reason,
    txid: told.txid,
    request_id: act.requestId,
  });
  const placed: Changes =
    to === "done"
      ? {
          ...{ open: undefined, place: undefined, wake_at: undefined, claim_owner: undefined, live_txid: undefined },
          completed_at: act.at,
        }
      : { status: statusOf[to], place: placeOf(to, payout.priority) };
  const claimed: Entry[] = payout.untold === true ? [claimEntry(payout)] : [];
  const entries: Changes =
    told.silent === true ? {} : { entries: [...payout.entries, ...claimed, entry], unmoved: true };
  return present({
    ...payout,
    untold: undefined,
    ...changes,
    ...placed,
    ...entries,
    phase: to,
    version,
    updated_at: act.at,
  }) as PayoutDocument;
}

/** The claim that was not told when it was made. Its version is that of the payout, since nothing has followed it. */
const claimEntry = ({ version, updated_at: at, claim_owner: owner }: PayoutDocument): Entry => ({
  ...{ version, at, step: "claim", from: "queued", to: "building", actor: `worker:${owner}` },
});

/** A payout before its first step: what was asked for. */
export type Order = Pick<
  PayoutDocument,
  | ("_id" | "node_id" | "currency" | "amount_minor" | "priority" | "created_by" | "max_retries")
  | ("recipient" | "recipient_fingerprint" | "recipient_masked")
  | (
      | "idempotency_id"
      | "idempotency_meaning"
      | "batch_id"
      | "batch_index"
      | "retry_of"
      | "scheduled_at"
      | "usable_at"
      | "approval"
    )
>;

export const approvalReason: StateReason = {
  code: "APPROVAL_NEEDED",
  message: "It waits for the approval of a second person",
};

/** What a payout waits for before it may be queued; undefined when for nothing. */
export interface Holds {
  /** When both the time and the address allow it. */
  readonly until?: Date | undefined;
  readonly reason?: StateReason | undefined;
}

/** A new payout: held while it waits for approval or for a time ahead, else queued. */
export function created(order: Order, holds: Holds, act: Act): PayoutDocument {
  const waits = order.approval === "needed" || (holds.until !== undefined && holds.until > act.at);
  const phase: "held" | "queued" = waits ? "held" : "queued";
  const entry: Entry = present({
    version: 1,
    at: act.at,
    step: "create",
    to: phase,
    actor: act.actor,
    request_id: act.requestId,
  });
  return present({
    ...order,
    version: 1,
    entries: [entry],
    unmoved: true,
    status: statusOf[phase],
    phase,
    open: true,
    place: placeOf(phase, order.priority),
    wake_at: order.approval === "needed" ? undefined : waits ? holds.until : act.at,
    reason: order.approval === "needed" ? approvalReason : waits ? holds.reason : undefined,
    claim_token: 0,
    attempts: [],
    retry_count: 0,
    waits: 0,
    created_at: act.at,
    updated_at: act.at,
  }) as PayoutDocument;
}

/** A second person allows it. */
export function approved(payout: PayoutDocument, holds: Holds, note: string, act: Act): PayoutDocument {
  assert(payout.approval === "needed" && payout.created_by !== act.actor, "approved by another, and once");
  const waits = holds.until !== undefined && holds.until > act.at;
  const changes: Changes = {
    approval: "given",
    wake_at: waits ? holds.until : act.at,
    reason: waits ? holds.reason : undefined,
  };
  return step(payout, "approve", waits ? "held" : "queued", act, changes, { reason: note });
}

/** Its time has come. */
export function released(payout: PayoutDocument, act: Act): PayoutDocument {
  assert(payout.approval !== "needed", "nothing is released before its approval");
  return step(payout, "release", "queued", act, { wake_at: act.at, reason: undefined });
}

/** Ends a payout that no worker has begun with, or gave back before a transaction existed. */
export function cancelled(payout: PayoutDocument, reason: string, act: Act): PayoutDocument {
  assert(payout.live_txid === undefined, "a live transaction forbids to cancel");
  return step(payout, "cancel", "done", act, { status: "cancelled", reason: undefined }, { reason });
}

/** A second person forbids it. */
export function rejected(payout: PayoutDocument, reason: string, act: Act): PayoutDocument {
  assert(payout.approval === "needed" && payout.created_by !== act.actor, "rejected by another, before its approval");
  return step(payout, "reject", "done", act, { status: "cancelled", reason: undefined }, { reason });
}

/** Asks the worker to cancel; it does as soon as it is certain that no money moves. */
export function cancelAsked(payout: PayoutDocument, reason: string, act: Act): PayoutDocument {
  return step(payout, "ask", payout.phase, act, { cancel_requested: true }, { reason });
}

/** A worker takes the payout until that time by the store's clock. */
export function taken(payout: PayoutDocument, owner: string, until: Date, act: Act): PayoutDocument {
  const claim: Changes = { claim_owner: owner, claim_token: payout.claim_token + 1, wake_at: until };
  if (payout.phase === "queued") {
    // A payout that comes back from a wait may only wait again; a story of days would repeat the same two lines.
    const silent = payout.reason !== undefined;
    const changes: Changes = {
      ...claim,
      processed_at: payout.processed_at ?? act.at,
      untold: silent ? true : undefined,
    };
    return step(payout, "claim", "building", act, changes, { silent });
  }
  const tookOver = payout.claim_owner !== undefined;
  return step(payout, "take", payout.phase, act, claim, {
    silent: !tookOver,
    reason: tookOver ? `The claim of ${payout.claim_owner} has ended` : undefined,
  });
}

/** Gives the payout back to the queue until that time. */
export function deferred(payout: PayoutDocument, reason: StateReason, until: Date, act: Act): PayoutDocument {
  assert(payout.live_txid === undefined, "a live transaction forbids to go back to the queue");
  const changes: Changes = { claim_owner: undefined, wake_at: until, reason, waits: payout.waits + 1 };
  const silent = payout.untold === true && payout.reason?.code === reason.code;
  return step(payout, "defer", "queued", act, changes, { reason: reason.message, silent });
}

/** It fails before any transaction existed. */
export function refused(payout: PayoutDocument, reason: StateReason, act: Act): PayoutDocument {
  assert(payout.live_txid === undefined, "a live transaction forbids to fail");
  return failed(payout, "refuse", reason, act, {});
}

const failed = (payout: PayoutDocument, name: Step, reason: StateReason, act: Act, changes: Changes, txid?: string) =>
  step(
    payout,
    name,
    "done",
    act,
    { ...changes, status: "failed", reason, error_message: reason.message },
    { reason: reason.message, txid },
  );

/** Records a transaction that was built and is neither signed nor sent. */
export function drafted(
  payout: PayoutDocument,
  attempt: Omit<Attempt, "n" | "outcome" | "sends">,
  reservedOn: string | undefined,
  act: Act,
): PayoutDocument {
  assert(payout.live_txid === undefined && payout.cancel_requested === undefined, "one live transaction at a time");
  const n = payout.attempts.length + 1;
  const attempts: Attempt[] = [...payout.attempts, { ...attempt, n, sends: 0, outcome: "live" }];
  const changes: Changes = {
    attempts,
    live_txid: attempt.txid,
    txid: attempt.txid,
    waits: 0,
    reason: undefined,
    reserved_on: reservedOn,
  };
  return step(payout, "draft", "building", act, changes, { txid: attempt.txid });
}

/** The one attempt whose fate is not known. */
export function liveAttempt(payout: PayoutDocument): Attempt {
  const attempt = payout.attempts.find(({ txid, outcome }) => txid === payout.live_txid && outcome === "live");
  assert(attempt, `payout ${payout._id} has no live transaction`);
  return attempt;
}

const withLive = (payout: PayoutDocument, changes: Partial<Attempt>): readonly Attempt[] => {
  const live = liveAttempt(payout);
  return payout.attempts.map((attempt) => (attempt === live ? { ...attempt, ...changes } : attempt));
};

/** Gives up a transaction that was never sent, if there is one. A payout that shall be cancelled is cancelled now. */
export function dropped(payout: PayoutDocument, reason: string, act: Act): PayoutDocument {
  const { live_txid: txid } = payout;
  if (txid !== undefined) assert(liveAttempt(payout).sends === 0, "a sent transaction cannot be dropped");
  const changes: Changes = {
    attempts: txid === undefined ? payout.attempts : withLive(payout, { outcome: "never_sent" }),
    live_txid: undefined,
  };
  if (payout.cancel_requested !== true) return step(payout, "drop", "building", act, changes, { reason, txid });
  return step(payout, "drop", "done", act, { ...changes, status: "cancelled", reason: undefined }, { reason, txid });
}

/** Records the first send of the live transaction before it happens. */
export function sent(payout: PayoutDocument, signature: string, act: Act): PayoutDocument {
  assert(payout.cancel_requested === undefined, "a payout that shall be cancelled is not sent");
  assert(liveAttempt(payout).sends === 0, "the first send");
  const attempts = withLive(payout, { signature, sends: 1, first_sent_at: act.at });
  return step(payout, "send", "sending", act, { attempts }, { txid: payout.live_txid });
}

/** Records what the network said, and gives the payout back until the chain may have decided. */
export function answered(payout: PayoutDocument, answer: Answer, until: Date, act: Act): PayoutDocument {
  const changes: Changes = {
    attempts: withLive(payout, { last_answer: answer }),
    claim_owner: undefined,
    wake_at: until,
  };
  return step(payout, "answer", "settling", act, changes, { reason: answer.code, txid: payout.live_txid });
}

/** Records another send of the same bytes before it happens, and gives the payout back until then. */
export function resent(payout: PayoutDocument, until: Date, act: Act): PayoutDocument {
  const { sends } = liveAttempt(payout);
  assert(sends > 0, "only what was sent is sent again");
  const changes: Changes = {
    attempts: withLive(payout, { sends: sends + 1 }),
    claim_owner: undefined,
    wake_at: until,
    waits: payout.waits + 1,
  };
  return step(payout, "resend", "settling", act, changes, { txid: payout.live_txid });
}

/** Looks again at that time; a reason tells people why it takes so long. */
export function waited(payout: PayoutDocument, reason: StateReason | undefined, until: Date, act: Act): PayoutDocument {
  const changes: Changes = { claim_owner: undefined, wake_at: until, waits: payout.waits + 1, reason };
  const silent = reason === undefined || reason.code === payout.reason?.code;
  return step(payout, "wait", "settling", act, changes, { silent, reason: reason?.message, txid: payout.live_txid });
}

/** A solid block holds exactly the transfer that was wanted. */
export function completed(
  payout: PayoutDocument,
  { block, fee }: Extract<Verdict, { kind: "landed" }>,
  act: Act,
): PayoutDocument {
  const attempts = withLive(payout, { outcome: "landed", block, fee });
  const told = { txid: payout.live_txid };
  return step(payout, "complete", "done", act, { attempts, status: "completed", reason: undefined }, told);
}

/** The transaction is final and moved nothing: another attempt follows if one is left and may succeed. */
export function reverted(
  payout: PayoutDocument,
  { block, fee, code, retryable }: Extract<Verdict, { kind: "reverted" }>,
  act: Act,
): PayoutDocument {
  const changes = { attempts: withLive(payout, { outcome: "reverted", block, fee }), live_txid: undefined };
  const reason = { code: "REVERTED", message: `The chain reverted the transfer: ${code}` };
  return ended(payout, "revert", changes, { reason, again: retryable }, act);
}

/**
 * The live transaction can never be in a block. Another attempt follows if one is left. Undefined `dryUntil`: at once;
 * else the wallet could not pay, which is no fault of the payout, so that it waits in the queue and loses no attempt.
 */
export function buried(
  payout: PayoutDocument,
  proof: DeathProof,
  dryUntil: Date | undefined,
  act: Act,
): PayoutDocument {
  const { last_answer: answer } = liveAttempt(payout);
  const changes = { attempts: withLive(payout, { outcome: "dead", proof }), live_txid: undefined };
  if (dryUntil !== undefined && payout.cancel_requested !== true) {
    const reason = { code: "WALLET_DRY", message: "The wallet could not pay for the transaction" };
    const back: Changes = { ...changes, claim_owner: undefined, wake_at: dryUntil, reason };
    return step(payout, "bury", "queued", act, back, { reason: reason.message, txid: payout.live_txid });
  }
  const reason = {
    code: "EXPIRED",
    message: `No block has taken the transaction, and none can any more (last answer: ${answer?.code ?? "none"})`,
  };
  return ended(payout, "bury", changes, { reason, again: answer?.class !== "refused" }, act);
}

/** After an attempt that moved no money: cancelled if that is wanted, else the next attempt or the end. */
function ended(
  payout: PayoutDocument,
  name: "revert" | "bury",
  changes: Changes,
  { reason, again }: { readonly reason: StateReason; readonly again: boolean },
  act: Act,
): PayoutDocument {
  const told = { reason: reason.message, txid: payout.live_txid };
  if (payout.cancel_requested === true) {
    return step(payout, name, "done", act, { ...changes, status: "cancelled", reason: undefined }, told);
  }
  if (!again || payout.retry_count >= payout.max_retries) {
    return failed(payout, name, reason, act, changes, payout.live_txid);
  }
  const next: Changes = { ...changes, retry_count: payout.retry_count + 1, waits: 0, reason: undefined };
  return step(payout, name, "building", act, next, told);
}

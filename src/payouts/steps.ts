// What a worker does with a payout that it holds, phase by phase. Each step is one write, and at most one effect after
// it. Nothing leaves this process that a successful write has not recorded, and a new transaction is built only when the
// former one has not been sent, is final without a transfer, or is proven dead. So a worker may crash or fall asleep
// anywhere: another one enters the phase that is written.
import { randomInt } from "node:crypto";
import type { Vault } from "../crypto.js";
import { DuplicateKeyError } from "../storage/collection.js";
import type { PayoutDocument, StateReason } from "./document.js";
import { type Answer, type Draft, type Gateway, GatewayAwayError, type Sought } from "./gateway/gateway.js";
import type { LimitKeeper } from "./limits.js";
import type { Currency } from "./money.js";
import { backoffMs, pollMs } from "./pace.js";
import {
  type Act,
  answered,
  buried,
  type Claim,
  completed,
  deferred,
  drafted,
  dropped,
  holdsClaim,
  liveAttempt,
  refused,
  resent,
  reverted,
  sent,
  waited,
} from "./payout.js";
import type { PayoutRepository } from "./repository.js";
import type { Sending } from "./sending.js";

export interface StepWitness {
  answered(currency: Currency, answer: Answer): void;
  /** A successful transaction does not pay what was wanted. */
  wrong(payout: PayoutDocument, txid: string, message: string): void;
}

type Move = (payout: PayoutDocument) => Promise<PayoutDocument | null>;

export type Steps = ReturnType<typeof createSteps>;

/** More steps than any payout takes at a stretch. The rest follows after the next claim. */
const stepsMax = 20;
/** Transactions that are built in turn when others have the same txid. */
const stampsMax = 20;
const deferLeastMs = 2_000;
const deferMostMs = 60_000;

/** The named error counts as "cannot be asked now"; any other is our mistake. */
const isAway = (error: unknown): error is GatewayAwayError => error instanceof GatewayAwayError;
const away: StateReason = { code: "GATEWAY_AWAY", message: "The chain cannot be asked now" };

export interface StepParts {
  readonly repository: PayoutRepository;
  readonly gateways: ReadonlyMap<Currency, Gateway>;
  readonly sending: Sending;
  readonly limits: LimitKeeper;
  readonly vault: Pick<Vault, "seal" | "open">;
  /** Why this node is not paid any more; undefined when it is. */
  readonly nodeProblem: (nodeId: string) => Promise<StateReason | undefined>;
  /** Unique to this process. */
  readonly owner: string;
  /** In [0, 1), for backoff. */
  readonly random: () => number;
  /** Whole, from 0 to below the bound; tells transactions of the same content apart. */
  readonly stamp?: (bound: number) => number;
  readonly witness: StepWitness;
}

/** What the phases have in common. */
function createTools({ repository, gateways, sending, owner, random }: StepParts) {
  const act = async (): Promise<Act> => ({ at: await repository.now(), actor: `worker:${owner}` });
  const after = ({ at }: Act, ms: number): Date => new Date(at.getTime() + ms);

  /** Writes the next version, or reads who was faster. */
  const put = async (former: PayoutDocument, next: PayoutDocument): Promise<PayoutDocument | null> =>
    (await repository.replace(former, next)) ? next : repository.find(former._id);

  const gatewayOf = (payout: PayoutDocument): Gateway | undefined => gateways.get(payout.currency);

  const putOff = async (payout: PayoutDocument, reason: StateReason) => {
    const now = await act();
    const untilMs = backoffMs(payout.waits, deferLeastMs, deferMostMs, random());
    return put(payout, deferred(payout, reason, after(now, untilMs), now));
  };

  /** Puts the payout off, and with it the queue of its currency. */
  const holdAll = async (payout: PayoutDocument, reason: StateReason) => {
    await sending.hold(payout.currency, reason);
    return putOff(payout, reason);
  };

  const settleLater = async (payout: PayoutDocument, answer: Answer, afterMs: number) => {
    const now = await act();
    return put(payout, answered(payout, answer, after(now, afterMs), now));
  };

  return { act, after, put, gatewayOf, putOff, holdAll, settleLater };
}
type Tools = ReturnType<typeof createTools>;

/** From the queue to the first send. */
function createBuilding(parts: StepParts, { act, put, gatewayOf, putOff, holdAll, settleLater }: Tools): Move {
  const { repository, sending, limits, vault, witness } = parts;
  const stamp = parts.stamp ?? ((bound) => randomInt(bound));

  /** Why the payout cannot be begun now or ever, by all that can be known before a transaction exists. */
  const examine = async (payout: PayoutDocument, gateway: Gateway) => {
    const recipient = vault.open(payout.recipient);
    const nodeReason = await parts.nodeProblem(payout.node_id);
    if (nodeReason !== undefined) return { never: nodeReason };
    const problem = gateway.recipientProblem(recipient);
    if (problem !== undefined) return { never: { code: "RECIPIENT", message: `The recipient is refused: ${problem}` } };
    const ready = await gateway.preflight({ recipient, amountMinor: BigInt(payout.amount_minor) });
    if (ready.kind === "refused") return { never: { code: ready.code, message: ready.message } };
    if (ready.kind === "waits") return { all: { code: ready.code, message: ready.message } };
    const floor = await limits.belowFloor(payout, gateway);
    if (floor !== undefined) return { all: floor };
    const reserved = await limits.reserve(payout, await repository.now());
    if (typeof reserved === "object") return { all: reserved };
    return { recipient, reservedOn: reserved };
  };

  /** Builds a transaction that no other payout has, and records it. */
  const draft = async (
    payout: PayoutDocument,
    gateway: Gateway,
    recipient: string,
    reservedOn: string | undefined,
  ): Promise<
    { readonly written: PayoutDocument; readonly draft: Draft } | { readonly current: PayoutDocument | null }
  > => {
    for (let tries = 0; tries < stampsMax; tries++) {
      const made = await gateway.draft({ recipient, amountMinor: BigInt(payout.amount_minor) }, stamp(1_000_000));
      // Nor one that it has given up itself: a txid has one end.
      if (payout.attempts.some(({ txid }) => txid === made.txid)) continue;
      const now = await act();
      const attempt = {
        ...{ gateway: gateway.name, txid: made.txid, raw: vault.seal(made.raw), ref_block: made.refBlock },
        ...{ expires_at_ms: made.expiresAtMs, built_at: now.at },
      };
      const next = drafted(payout, attempt, reservedOn, now);
      try {
        if (await repository.replace(payout, next)) return { written: next, draft: made };
        return { current: await repository.find(payout._id) };
      } catch (error) {
        if (!(error instanceof DuplicateKeyError)) throw error;
      }
    }
    throw new Error(`${stampsMax} transactions in turn had the txid of another payout`);
  };

  /** Gives up a transaction that was not sent. */
  const drop = async (payout: PayoutDocument, reason: string) => put(payout, dropped(payout, reason, await act()));

  const building = async (payout: PayoutDocument): Promise<PayoutDocument | null> => {
    if (payout.live_txid !== undefined) return drop(payout, "The worker ended before it sent the transaction");
    if (payout.cancel_requested === true) return drop(payout, "Cancelled before a transaction was sent");
    const gateway = gatewayOf(payout);
    if (gateway === undefined) return putOff(payout, { code: "NO_GATEWAY", message: "No gateway pays this currency" });
    const stopped = await sending.stopped(payout.currency);
    if (stopped !== undefined) return putOff(payout, stopped);
    try {
      const found = await examine(payout, gateway);
      if (found.never !== undefined) return put(payout, refused(payout, found.never, await act()));
      if (found.all !== undefined) return holdAll(payout, found.all);
      await sending.hold(payout.currency, undefined);
      const built = await draft(payout, gateway, found.recipient, found.reservedOn);
      return "current" in built ? built.current : signAndSend(built.written, gateway, built.draft);
    } catch (error) {
      if (!isAway(error)) throw error;
      return holdAll(payout, away);
    }
  };

  const signAndSend = async (payout: PayoutDocument, gateway: Gateway, made: Draft): Promise<PayoutDocument | null> => {
    let signature: string;
    try {
      signature = await gateway.sign(made);
    } catch (error) {
      if (!isAway(error)) throw error;
      return drop(payout, "The transaction could not be signed");
    }
    // Somebody may have stopped sending meanwhile.
    const stopped = await sending.stopped(payout.currency);
    if (stopped !== undefined) return drop(payout, stopped.message);
    const next = sent(payout, signature, await act());
    // From here on money may move: the write comes first, and without it nothing is sent.
    if (!(await repository.replace(payout, next))) return repository.find(payout._id);
    const answer = await gateway.send({ txid: made.txid, raw: made.raw, signature });
    witness.answered(payout.currency, answer);
    // What no node says that it has taken is looked at soon, so that it is sent again while it can still reach a block.
    const isTaken = answer.class === "accepted";
    return settleLater(next, answer, isTaken ? gateway.solidAfterMs : pollMs(gateway.solidAfterMs));
  };

  return building;
}

/** From the first send to the end. */
function createSettling(parts: StepParts, { act, after, put, gatewayOf }: Tools): Move {
  const { repository, sending, vault, random, witness } = parts;

  const soughtOf = (payout: PayoutDocument): Sought => {
    const { txid, ref_block: refBlock, expires_at_ms: expiresAtMs } = liveAttempt(payout);
    const transfer = { recipient: vault.open(payout.recipient), amountMinor: BigInt(payout.amount_minor) };
    return { txid, refBlock, expiresAtMs, ...transfer };
  };

  const lookAgain = async (payout: PayoutDocument, reason: StateReason | undefined, ms: number) => {
    const now = await act();
    return put(payout, waited(payout, reason, after(now, ms), now));
  };

  const settling = async (payout: PayoutDocument): Promise<PayoutDocument | null> => {
    const gateway = gatewayOf(payout);
    if (gateway === undefined) {
      return lookAgain(payout, { code: "NO_GATEWAY", message: "No gateway can ask for the transaction" }, deferMostMs);
    }
    const awayMs = backoffMs(payout.waits, deferLeastMs, deferMostMs, random());
    try {
      const verdict = await gateway.judge(soughtOf(payout));
      switch (verdict.kind) {
        case "landed":
          return await put(payout, completed(payout, verdict, await act()));
        case "reverted":
          return await put(payout, reverted(payout, verdict, await act()));
        case "dead":
          return await bury(payout, verdict.proof);
        case "wrong": {
          witness.wrong(payout, liveAttempt(payout).txid, verdict.message);
          return await lookAgain(payout, { code: "WRONG_TRANSFER", message: verdict.message }, deferMostMs);
        }
        case "open":
          // What shall be cancelled is not sent again: if the first send was lost, its transaction dies.
          return await (verdict.seen || payout.cancel_requested === true
            ? lookAgain(payout, undefined, pollMs(gateway.solidAfterMs))
            : sendAgain(payout, gateway));
      }
    } catch (error) {
      if (!isAway(error)) throw error;
      return lookAgain(payout, away, awayMs);
    }
  };

  const bury = async (payout: PayoutDocument, proof: Parameters<typeof buried>[1]) => {
    const now = await act();
    const dry = liveAttempt(payout).last_answer?.class === "dry";
    if (dry) await sending.hold(payout.currency, { code: "WALLET_DRY", message: "The wallet cannot pay" });
    const untilMs = backoffMs(payout.waits, deferLeastMs, deferMostMs, random());
    return put(payout, buried(payout, proof, dry ? after(now, untilMs) : undefined, now));
  };

  /** Sends the same bytes again, at a bounded rate: a node that takes them twice counts them once. */
  const sendAgain = async (payout: PayoutDocument, gateway: Gateway): Promise<PayoutDocument | null> => {
    const stopped = await sending.stopped(payout.currency);
    if (stopped !== undefined) return lookAgain(payout, stopped, pollMs(gateway.solidAfterMs));
    const { txid, raw, signature } = liveAttempt(payout);
    if (signature === undefined) throw new Error(`${payout._id} was sent and has no signature`);
    const now = await act();
    const next = resent(payout, after(now, pollMs(gateway.solidAfterMs)), now);
    if (!(await repository.replace(payout, next))) return repository.find(payout._id);
    witness.answered(payout.currency, await gateway.send({ txid, raw: vault.open(raw), signature }));
    return next;
  };

  return settling;
}

export function createSteps(parts: StepParts) {
  const tools = createTools(parts);

  /** A worker ended after it recorded the send. Whether the bytes left is unknown, so only the chain decides. */
  const sendingPhase = (payout: PayoutDocument): Promise<PayoutDocument | null> =>
    tools.settleLater(payout, { class: "unanswered", code: "INTERRUPTED" }, 0);

  const byPhase: Readonly<Record<string, Move>> = {
    building: createBuilding(parts, tools),
    sending: sendingPhase,
    settling: createSettling(parts, tools),
  };

  return {
    /**
     * Takes step after step while the claim holds, until the payout is done or given back. Answers the last state that
     * this worker knows; null: it is gone.
     * @throws StoreUnavailableError: the payout stays claimed until the claim ends, and is then taken by any worker
     */
    advance: async (taken: PayoutDocument, claim: Claim): Promise<PayoutDocument | null> => {
      let current: PayoutDocument | null = taken;
      for (let steps = 0; steps < stepsMax && current !== null && holdsClaim(current, claim); steps++) {
        const next: Move | undefined = byPhase[current.phase];
        if (next === undefined) break;
        current = await next(current);
      }
      return current;
    },
  };
}

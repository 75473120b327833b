// Whether payouts may be sent: nobody has paused it, no transfer out of a wallet is unexplained, and since the start of
// this process the chain has been compared with what is recorded.
import type { Clock } from "../clock.js";
import { Failure, payoutRefused, transferNotFound } from "../failure.js";
import { present } from "../present.js";
import type { Entry, SendingDocument, StateReason, UnknownTransfer } from "./document.js";
import type { Currency } from "./money.js";
import type { Act } from "./payout.js";
import type { PayoutRepository } from "./repository.js";

type Changes = { readonly [Field in keyof SendingDocument]?: SendingDocument[Field] | undefined };

export type Sending = ReturnType<typeof createSending>;

/** How long a look at the document holds: so much later than the pause a worker may still send. */
const lookMs = 250;
const triesMax = 50;
/** Unknown transfers that are kept. Sending has stopped at the first; the rest is for people. */
export const unknownMax = 100;

/** Those that the document tells nothing of yet. */
export function untold(
  found: readonly UnknownTransfer[],
  ...told: readonly (readonly { readonly txid: string }[])[]
): UnknownTransfer[] {
  const known = new Set(told.flat().map(({ txid }) => txid));
  return found.filter(({ txid }) => !known.has(txid));
}

export function createSending(parts: { readonly repository: PayoutRepository; readonly clock: Clock }) {
  const { repository, clock } = parts;
  /** Currencies whose transfers have been compared since this process started. */
  const compared = new Set<Currency>();
  let seen: { readonly document: SendingDocument; readonly atMs: number } | undefined;

  const look = async (): Promise<SendingDocument> => {
    if (seen === undefined || clock.monotonicMs() - seen.atMs >= lookMs) {
      const atMs = clock.monotonicMs();
      seen = { document: await repository.sending.get(), atMs };
    }
    return seen.document;
  };

  /** Changes the document by compare-and-set. `change` returns undefined to leave it as it is. */
  const change = async (
    next: (found: SendingDocument) => Changes | undefined,
    told?: { readonly act: Act; readonly step: string; readonly reason?: string; readonly txid?: string },
  ): Promise<SendingDocument> => {
    for (let tries = 0; tries < triesMax; tries++) {
      const found = await repository.sending.get();
      const changes = next(found);
      if (changes === undefined) return found;
      const version = found.version + 1;
      const entry = told === undefined ? undefined : entryOf(told, version);
      const entries = entry === undefined ? {} : { entries: [...found.entries, entry], unmoved: true as const };
      const changed = present({ ...found, ...changes, ...entries, version }) as SendingDocument;
      if (await repository.sending.replace(found, changed)) {
        seen = undefined;
        return changed;
      }
    }
    throw new Failure("LUCID_ERR_5031", "Too many changes at once; try again", { retryAfterMs: 1_000 });
  };

  return {
    look,
    change,
    /** The transfers of this currency up to now have been compared. */
    markCompared: (currency: Currency): void => void compared.add(currency),
    isCompared: (currency: Currency): boolean => compared.has(currency),

    /**
     * A person has had everything compared. What was found holds sending, as far as the list of unknown transfers has room.
     */
    reconciled: (found: readonly UnknownTransfer[], summary: string, act: Act): Promise<SendingDocument> =>
      change(
        ({ unknown, accepted }) => ({
          unknown: [...unknown, ...untold(found, unknown, accepted)].slice(0, unknownMax),
        }),
        { act, step: "reconcile", reason: summary },
      ),

    /** Why nothing of this currency may be sent now; undefined when it may. */
    stopped: async (currency: Currency): Promise<StateReason | undefined> =>
      stopOf(await look(), compared.has(currency)),

    /** Tells why the queue of a currency waits, or that it does no longer. */
    hold: async (currency: Currency, reason: StateReason | undefined): Promise<void> => {
      const isSame = (found: SendingDocument) => found.holds[currency]?.code === reason?.code;
      if (isSame(await look())) return;
      await change((found) => {
        if (isSame(found)) return undefined;
        const { [currency]: _, ...others } = found.holds;
        return { holds: reason === undefined ? others : { ...others, [currency]: reason } };
      });
    },

    /** Pauses all sending, on all replicas within a second. Asked again, it keeps the first reason. */
    pause: (reason: string, act: Act): Promise<SendingDocument> =>
      change(({ paused }) => (paused === undefined ? { paused: { reason, by: act.actor, at: act.at } } : undefined), {
        act,
        step: "pause",
        reason,
      }),

    /** @throws Failure 5006 while a transfer is unexplained */
    resume: (act: Act): Promise<SendingDocument> =>
      change(
        ({ paused, unknown }) => {
          const [orphan] = unknown;
          if (orphan !== undefined) throw payoutRefused(`Accept the unknown transfer ${orphan.txid} first`);
          return paused === undefined ? undefined : { paused: undefined };
        },
        { act, step: "resume" },
      ),

    /**
     * A person has looked at an unknown transfer. Asked again, it keeps the first note. @throws Failure 5011 for a
     * transfer that is not unknown
     */
    accept: (txid: string, note: string, act: Act): Promise<SendingDocument> =>
      change((found) => acceptance(found, { txid, note, by: act.actor, at: act.at }), {
        act,
        step: "accept transfer",
        reason: note,
        txid,
      }),
  };
}

function stopOf({ paused, unknown: [orphan] }: SendingDocument, isCompared: boolean): StateReason | undefined {
  if (paused !== undefined) return { code: "PAUSED", message: `Sending is paused: ${paused.reason}` };
  if (orphan !== undefined) {
    return {
      code: "UNKNOWN_TRANSFER",
      message: `The transfer ${orphan.txid} belongs to no recorded attempt; a person has to accept it`,
    };
  }
  if (isCompared) return undefined;
  return {
    code: "COMPARING",
    message: "The wallet's transfers are being compared with the recorded attempts since the start",
  };
}

/** @throws Failure 5011 */
function acceptance(
  { unknown, accepted }: SendingDocument,
  transfer: SendingDocument["accepted"][number],
): Changes | undefined {
  const isIt = ({ txid }: { readonly txid: string }): boolean => txid === transfer.txid;
  if (accepted.some(isIt)) return undefined;
  if (!unknown.some(isIt)) {
    throw transferNotFound(transfer.txid);
  }
  return { unknown: unknown.filter((one) => !isIt(one)), accepted: [...accepted, transfer] };
}

function entryOf(
  {
    act,
    step,
    reason,
    txid,
  }: { readonly act: Act; readonly step: string; readonly reason?: string; readonly txid?: string },
  version: number,
): Entry {
  return {
    ...{ version, at: act.at, step, actor: act.actor },
    ...(reason === undefined ? {} : { reason }),
    ...(txid === undefined ? {} : { txid }),
    ...(act.requestId === undefined ? {} : { request_id: act.requestId }),
  };
}

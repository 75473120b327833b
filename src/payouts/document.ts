// What is stored of a payout, a batch and the service's sending. Amounts are decimal text of whole minor units. Pure.
import type { Marked } from "../storage/marked.js";
import type { Answer, BlockRef, DeathProof } from "./gateway/gateway.js";
import type { Currency } from "./money.js";

export const statuses = ["pending", "processing", "completed", "failed", "cancelled"] as const;
export type Status = (typeof statuses)[number];
export const phases = ["held", "queued", "building", "sending", "settling", "done"] as const;
export type Phase = (typeof phases)[number];
/** The most urgent first. */
export const priorities = ["urgent", "high", "normal", "low"] as const;
export type Priority = (typeof priorities)[number];

/** Why a payout is where it is: a word for programs, a sentence for people. */
export interface StateReason {
  readonly code: string;
  readonly message: string;
}

/** One transaction that was built for a payout. */
export interface Attempt {
  /** From 1. */
  readonly n: number;
  readonly gateway: string;
  readonly txid: string;
  /** Sealed: it holds the recipient. */
  readonly raw: string;
  /** Written together with the first send. */
  readonly signature?: string;
  readonly ref_block: BlockRef;
  /** Chain time. */
  readonly expires_at_ms: number;
  readonly built_at: Date;
  /** Sends that were written before they happened; 0: it never left this service. */
  readonly sends: number;
  readonly first_sent_at?: Date;
  readonly last_answer?: Answer;
  readonly outcome: "live" | "landed" | "reverted" | "dead" | "never_sent";
  /** Of a dead attempt that was sent. */
  readonly proof?: DeathProof;
  /** Of an attempt in a solid block. */
  readonly block?: BlockRef;
  /** In the smallest unit of the chain's own coin. */
  readonly fee?: string;
}

/** One step in the story of a payout or a batch, or an act of a person on the service's sending. */
export interface Entry {
  /** The version that the step made. */
  readonly version: number;
  readonly at: Date;
  /** The step's name in the table of transitions, or the act. */
  readonly step: string;
  readonly from?: Phase;
  readonly to?: Phase;
  /** The subject of the caller; of a worker `worker:{replica}`. */
  readonly actor: string;
  readonly reason?: string;
  readonly txid?: string;
  readonly request_id?: string;
}

/** A document whose entries wait to be moved into the log of payout events. */
export interface WithEntries extends Marked {
  readonly version: number;
  readonly entries: readonly Entry[];
  readonly unmoved?: true;
}

export interface PayoutDocument extends WithEntries {
  readonly idempotency_id?: string;
  readonly idempotency_meaning?: string;
  readonly node_id: string;
  readonly currency: Currency;
  readonly amount_minor: string;
  /** Sealed. */
  readonly recipient: string;
  readonly recipient_fingerprint: string;
  readonly recipient_masked: string;
  readonly status: Status;
  readonly phase: Phase;
  /** Absent when done. */
  readonly open?: true;
  /** Where a worker looks for it: `held`, `queued:{rank of priority}`, `moving`; absent when done. */
  readonly place?: string;
  /**
   * By the store's clock: when a worker may take it. Absent: it waits for a person, or is done. While a worker holds it,
   * the end of that claim.
   */
  readonly wake_at?: Date;
  readonly reason?: StateReason;
  readonly cancel_requested?: true;
  /** Who may write its next step. The token only grows; it stays when the claim is given back. */
  readonly claim_token: number;
  readonly claim_owner?: string;
  /** Its last claim is not told yet: it follows a wait, and only what comes of it tells whether there is news. */
  readonly untold?: true;
  readonly attempts: readonly Attempt[];
  /** The one attempt whose fate is not known. */
  readonly live_txid?: string;
  /** The last attempt's. No two payouts have the same. */
  readonly txid?: string;
  /** The day of the daily limit that it is counted in ("2026-01-31"). */
  readonly reserved_on?: string;
  readonly batch_id?: string;
  readonly batch_index?: number;
  readonly retry_of?: string;
  readonly priority: Priority;
  readonly scheduled_at?: Date;
  /** The recipient was changed shortly before the order: it may be paid from then on. */
  readonly usable_at?: Date;
  /** Needs a second person, who is not `created_by`. */
  readonly approval?: "needed" | "given";
  readonly created_by: string;
  /** Attempts after the first that were begun because the former one died or was reverted. */
  readonly retry_count: number;
  readonly max_retries: number;
  /** Consecutive turns that could not go on; for the backoff. */
  readonly waits: number;
  readonly error_message?: string;
  readonly created_at: Date;
  readonly updated_at: Date;
  /** First taken by a worker. */
  readonly processed_at?: Date;
  /** Became done. */
  readonly completed_at?: Date;
}

export interface BatchItem {
  readonly node_id: string;
  readonly currency: Currency;
  readonly amount_minor: string;
  /** Sealed. */
  readonly recipient: string;
  readonly recipient_fingerprint: string;
  readonly recipient_masked: string;
  /** The recipient was changed lately: it may be paid from then on. */
  readonly usable_at?: Date;
}

export interface BatchDocument extends WithEntries {
  readonly idempotency_meaning: string;
  readonly items: readonly BatchItem[];
  readonly priority: Priority;
  readonly scheduled_at?: Date;
  readonly notification_url?: string;
  readonly created_by: string;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly max_retries: number;
  readonly approval?: "needed" | "given";
  /** No item becomes a payout before its approval; a batch that is cancelled until then has none. */
  readonly cancelled?: true;
  /** Its items must still become payouts. Absent: all have, or none will. */
  readonly expanding?: true;
}

/** The one document about sending as a whole. Its _id is `sending`. */
export interface SendingDocument extends WithEntries {
  /** A person has paused sending. */
  readonly paused?: { readonly reason: string; readonly by: string; readonly at: Date };
  /** By currency: the last solid block up to which the wallet's transfers are known to match. */
  readonly matched: { readonly [currency: string]: BlockRef };
  /** Transfers out of a wallet that no attempt explains and that nobody has accepted, at most 100. */
  readonly unknown: readonly UnknownTransfer[];
  /** The accepted ones, by txid. */
  readonly accepted: readonly {
    readonly txid: string;
    readonly note: string;
    readonly by: string;
    readonly at: Date;
  }[];
  /** By currency: why its whole queue waits. */
  readonly holds: { readonly [currency: string]: StateReason };
}

export interface UnknownTransfer {
  readonly txid: string;
  readonly currency: Currency;
  readonly amount_minor: string;
  readonly recipient_masked: string;
  readonly recipient_fingerprint: string;
  readonly block: BlockRef;
  /** `orphan`: no attempt has this txid. `wrong`: its payout wants another amount or recipient, or counts it as dead. */
  readonly kind: "orphan" | "wrong";
}

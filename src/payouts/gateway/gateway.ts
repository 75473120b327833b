// The port to a chain that pays: what the payout machine asks of it, and what the answers mean. A gateway serves one
// currency from one wallet. Pure.
import type { Currency } from "../money.js";

/** A block of the chain. Its time is the chain's, in milliseconds since 1970. */
export interface BlockRef {
  readonly number: number;
  readonly id: string;
  readonly timeMs: number;
}

/** A payment that is wanted: the address in clear, the amount in minor units. */
export interface Transfer {
  readonly recipient: string;
  readonly amountMinor: bigint;
}

/** A transaction that was built and not signed. The txid is fixed by `raw` and does not depend on the signature. */
export interface Draft {
  readonly txid: string;
  /** The exact bytes that will be signed, as text of the gateway's choice. They hold the recipient in clear. */
  readonly raw: string;
  /** A solid block that the transaction builds on: it cannot be in this block or an earlier one. */
  readonly refBlock: BlockRef;
  /** Chain time. No block whose parent has this time or a later one can include the transaction. */
  readonly expiresAtMs: number;
}

export interface Signed {
  readonly txid: string;
  readonly raw: string;
  readonly signature: string;
}

/** Whether a transfer can be tried. Nothing is spent or reserved by asking. */
export type Preflight =
  | { readonly kind: "ready" }
  /** Not now. */
  | { readonly kind: "waits"; readonly code: string; readonly message: string }
  /** Never: the chain would refuse this recipient whenever it is asked. */
  | { readonly kind: "refused"; readonly code: string; readonly message: string };

/**
 * What a node said to a broadcast. No answer is evidence that a transaction lives or is dead: the class guides metrics
 * and what is done after its death is proven, nothing else.
 *
 * - `accepted`: the node took it. `known`: the node says it has seen it.
 * - `busy`: not taken now. `refused`: the node says it can never be taken. `dry`: the wallet cannot pay for it.
 * - `unanswered`: a timeout, a broken connection, an answer that cannot be read.
 */
export interface Answer {
  readonly class: "accepted" | "known" | "busy" | "refused" | "dry" | "unanswered";
  /** The chain's own word, at most 64 characters. */
  readonly code: string;
}

/** An attempt whose fate is asked for. */
export interface Sought {
  readonly txid: string;
  readonly recipient: string;
  readonly amountMinor: bigint;
  readonly refBlock: BlockRef;
  readonly expiresAtMs: number;
}

/**
 * Why a transaction that was in no block can never be in one: every solid block after the reference block, up to and
 * including the first whose time is at or after the expiration, was read, linked to its parent, and holds no such txid.
 * java-tron compares the expiration with the time of the parent block (Manager.validateCommon), so that last block may
 * still hold the transaction and must be read, too.
 */
export interface DeathProof {
  readonly from: BlockRef;
  readonly to: BlockRef;
  /** Blocks that were read: `to.number - from.number`. */
  readonly blocks: number;
  /** Nodes that agreed on the blocks and on the txids in them; at least 1. */
  readonly nodes: number;
}

/** The fate of an attempt by solid blocks only. */
export type Verdict =
  /** In no solid block yet, and it can still be in one. `seen`: it is in a block that is not solid, or waits for one. */
  | { readonly kind: "open"; readonly seen: boolean; readonly solid: BlockRef }
  /** It is in a solid block with a receipt of success and exactly the transfer that was wanted. */
  | { readonly kind: "landed"; readonly block: BlockRef; readonly fee: string }
  /** It is in a solid block and moved no money. `retryable`: another transaction may succeed. */
  | {
      readonly kind: "reverted";
      readonly block: BlockRef;
      readonly fee: string;
      readonly code: string;
      readonly retryable: boolean;
    }
  /** It is in a solid block with success, but its transfer is not the wanted one. A person has to look. */
  | { readonly kind: "wrong"; readonly block: BlockRef; readonly message: string }
  | { readonly kind: "dead"; readonly proof: DeathProof };

/** A transfer out of the wallet, as solid blocks tell it. */
export interface SeenTransfer {
  readonly txid: string;
  readonly recipient: string;
  readonly amountMinor: bigint;
  readonly block: BlockRef;
}

export interface Gateway {
  readonly name: "sandbox" | "tron" | "http";
  readonly currency: Currency;
  /** The address that pays. */
  readonly wallet: string;
  /**
   * How long after it was built a transaction of this gateway may still reach a block. After a start that long a wait
   * shows transactions that a restored store does not know. 0 when the chain is kept in the same store.
   */
  readonly unknownForMs: number;
  /** Milliseconds until a transaction that is accepted now is in a solid block, for the time of the next look. */
  readonly solidAfterMs: number;
  /** What is wrong with a recipient on this chain (own wallet, token contract, zero address); undefined when fine. */
  recipientProblem(recipient: string): string | undefined;
  /** @throws GatewayAwayError */
  preflight(transfer: Transfer): Promise<Preflight>;
  /**
   * Builds a transaction. The same transfer with another `stamp` (0 to 999,999) has another txid; the same stamp may
   * give the same txid. @throws GatewayAwayError
   */
  draft(transfer: Transfer, stamp: number): Promise<Draft>;
  /** Signs; sends nothing. Signing the same draft again is harmless. @throws GatewayAwayError */
  sign(draft: Pick<Draft, "txid" | "raw">): Promise<string>;
  /** Sends once. Whatever goes wrong is an answer; this never rejects. */
  send(signed: Signed): Promise<Answer>;
  /** @throws GatewayAwayError when the solid chain cannot be read, or its nodes disagree */
  judge(attempt: Sought): Promise<Verdict>;
  /** The last solid block. @throws GatewayAwayError */
  solid(): Promise<BlockRef>;
  /** What the wallet holds by the newest block, in minor units. @throws GatewayAwayError */
  balance(): Promise<bigint>;
  /**
   * Transfers out of the wallet in solid blocks after that block, oldest first, and the block up to which all are told:
   * a caller goes on from there until `to` is the last solid block. At most 1000 transfers a call.
   * @throws GatewayAwayError
   */
  transfersAfter(block: number): Promise<{ readonly transfers: readonly SeenTransfer[]; readonly to: BlockRef }>;
}

/** The chain cannot be asked now, or its nodes disagree. Nothing is known from it. */
export class GatewayAwayError extends Error {
  override readonly name = "GatewayAwayError";
}

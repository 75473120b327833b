// What solid blocks say of an attempt. A payment that is called dead too early is paid twice, so whatever is missing or
// does not fit keeps the attempt open. Shared by all gateways that read blocks. Pure.
import type { Block } from "./chain.js";
import type { BlockRef, DeathProof, Sought, Verdict } from "./gateway.js";

/** A transaction that was found in a block. */
export interface Receipt {
  readonly block: BlockRef;
  /** The chain's word; only SUCCESS may have moved money. */
  readonly result: string;
  /** If it moved nothing: another transaction may succeed. */
  readonly isRetryable: boolean;
  readonly fee: string;
  /** What it moved out of the wallet, by its logs. What the contract returned does not count: USDT answers false. */
  readonly transfers: readonly { readonly recipient: string; readonly amountMinor: bigint }[];
}

/** What was read from the chain, all of it by nodes that agree. */
export interface Reading {
  /** The last block that all of them call solid. */
  readonly solid: BlockRef;
  readonly receipt?: Receipt | undefined;
  /** A node knows it: it waits, or is in a block that is not solid. */
  readonly isSeen: boolean;
  /** The blocks after the reference block, in order. They may be left out while the attempt has not expired. */
  readonly blocks: readonly Block[];
  /** How many agreed. */
  readonly nodes: number;
}

/** The fate of an attempt. Without proof of death or a receipt in a solid block it is open. */
export function judge(attempt: Sought, reading: Reading): Verdict {
  const { solid, receipt } = reading;
  if (receipt !== undefined && receipt.block.number <= solid.number) return judgeReceipt(attempt, receipt);
  // A node that saw it in a block and blocks that do not hold it cannot both be right.
  const proof = receipt === undefined ? deathProof(attempt, reading) : undefined;
  if (proof !== undefined) return { kind: "dead", proof };
  return { kind: "open", seen: reading.isSeen || receipt !== undefined, solid: refOf(solid) };
}

function judgeReceipt({ recipient, amountMinor }: Sought, receipt: Receipt): Verdict {
  const { result, fee, transfers } = receipt;
  const block = refOf(receipt.block);
  if (result !== "SUCCESS") {
    if (transfers.length === 0) return { kind: "reverted", block, fee, code: result, retryable: receipt.isRetryable };
    return { kind: "wrong", block, message: `The transaction ended with ${result}, yet it moved money` };
  }
  const [only] = transfers;
  if (transfers.length !== 1 || only === undefined) {
    return { kind: "wrong", block, message: `The transaction made ${transfers.length} transfers instead of one` };
  }
  if (only.recipient !== recipient) return { kind: "wrong", block, message: "The transfer went to another address" };
  if (only.amountMinor !== amountMinor) {
    return { kind: "wrong", block, message: `The transfer moved ${only.amountMinor} minor units, not ${amountMinor}` };
  }
  return { kind: "landed", block, fee };
}

/**
 * The proof that no block can hold the transaction any more, or undefined if anything is missing: each block from the
 * reference block's child up to the first with the expiration's time or a later one is solid, links to the one before
 * it, and does not hold the transaction. That last block counts: only its parent's time had to be before the
 * expiration.
 */
export function deathProof(
  { txid, refBlock, expiresAtMs }: Pick<Sought, "txid" | "refBlock" | "expiresAtMs">,
  { blocks, solid, nodes }: Pick<Reading, "blocks" | "solid" | "nodes">,
): DeathProof | undefined {
  if (nodes < 1) return undefined;
  let parent: BlockRef = refBlock;
  for (const block of blocks) {
    const follows = block.number === parent.number + 1 && block.parentId === parent.id && block.timeMs > parent.timeMs;
    const isSolid = block.number < solid.number || (block.number === solid.number && block.id === solid.id);
    if (!follows || !isSolid || block.txids.includes(txid)) return undefined;
    if (block.timeMs >= expiresAtMs) {
      return { from: refOf(refBlock), to: refOf(block), blocks: block.number - refBlock.number, nodes };
    }
    parent = block;
  }
  return undefined;
}

const refOf = ({ number, id, timeMs }: BlockRef): BlockRef => ({ number, id, timeMs });

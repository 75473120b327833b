// Whether solid blocks prove that a transaction can never be in one. Every gateway that reads blocks decides by this. Pure.
import type { BlockRef, DeathProof, Sought } from "./gateway.js";

/** A solid block as it was read: what links it to its parent, and the txids in it. */
export interface SolidBlock extends BlockRef {
  readonly parentId: string;
  readonly txids: readonly string[];
}

/**
 * The proof, if these blocks are one: they follow each other from the reference block on without a gap, end with the
 * first whose time is at or after the expiration, and none holds the transaction. Undefined otherwise: then nothing is
 * known. `nodes` is how many nodes gave the same blocks.
 */
export function proveDeath(
  attempt: Pick<Sought, "txid" | "refBlock" | "expiresAtMs">,
  blocks: readonly SolidBlock[],
  nodes: number,
): DeathProof | undefined {
  let parent: BlockRef = attempt.refBlock;
  for (const block of blocks) {
    if (block.number !== parent.number + 1 || block.parentId !== parent.id) return undefined;
    if (block.txids.includes(attempt.txid)) return undefined;
    // A transaction is admitted while the time of the *parent* is before its expiration, so the first block at or after
    // the expiration is the last that could hold it.
    if (block.timeMs >= attempt.expiresAtMs) {
      const { number, id, timeMs } = block;
      return { from: attempt.refBlock, to: { number, id, timeMs }, blocks: number - attempt.refBlock.number, nodes };
    }
    parent = block;
  }
  return undefined;
}

// Reads the blocks of the sandbox chain. Empty blocks are nowhere stored; they are told by their number and by the last
// block before them.
import type { Collection, Filter } from "../../storage/collection.js";
import { type Block, blockTime } from "./chain.js";
import type { BlockRef } from "./gateway.js";
import { type Anchor, genesisOf, idAfter, type SandboxTransaction, type View } from "./sandbox-head.js";

export type SandboxBlocks = ReturnType<typeof createSandboxBlocks>;

/** More than a block holds. */
const pageMax = 1000;

/** All methods answer for blocks up to the view's height only. @throws StoreUnavailableError */
export function createSandboxBlocks(transactions: Pick<Collection<SandboxTransaction>, "page">, chain: string) {
  const byBlock = { index: "idx_chain_block" };
  const inBlocks = (block: { readonly $gt?: number; readonly $lte: number }): Filter => ({
    ...{ chain, state: "included", block },
  });

  const anchorAt = async ({ last, eras }: View, number: number): Promise<Anchor> => {
    if (last.number <= number) return last;
    const page = { ...byBlock, descending: true, limit: 1 };
    const [found] = (await transactions.page(inBlocks({ $lte: number }), page)).items;
    return found === undefined ? genesisOf(chain, eras) : blockOf(found);
  };

  const transactionsAfter = async (after: number, upTo: number) => {
    const { items, next } = await transactions.page(inBlocks({ $gt: after, $lte: upTo }), {
      ...{ ...byBlock, limit: pageMax },
    });
    const [last] = items.slice(-1);
    if (next === undefined || last === undefined) return { items, upTo };
    // The last block of the page may go on. A page is longer than a block, so it has at least one whole block.
    const { number: torn } = blockOf(last);
    return { items: items.filter(({ block }) => block !== torn), upTo: torn - 1 };
  };

  return {
    ref: async (view: View, number: number): Promise<BlockRef> => ({
      ...{ number, id: idAfter(await anchorAt(view, number), number), timeMs: blockTime(view.eras, number) },
    }),

    /** At most 1000 transactions in whole blocks, oldest first, and the block up to which these are all. */
    transactionsAfter,

    /** The blocks after one, up to and including another. */
    after: async (view: View, after: number, upTo: number): Promise<Block[]> => {
      const byNumber = new Map<number, SandboxTransaction[]>();
      for (let from = after; from < upTo; ) {
        const page = await transactionsAfter(from, upTo);
        for (const one of page.items) {
          const { number } = blockOf(one);
          byNumber.set(number, [...(byNumber.get(number) ?? []), one]);
        }
        from = page.upTo;
      }
      let anchor = await anchorAt(view, after);
      return Array.from({ length: Math.max(0, upTo - after) }, (_, place) => {
        const number = after + 1 + place;
        const parentId = idAfter(anchor, number - 1);
        const inside = byNumber.get(number) ?? [];
        const [first] = inside;
        if (first !== undefined) anchor = blockOf(first);
        const txids = inside.map(({ _id }) => _id);
        return { number, id: idAfter(anchor, number), parentId, timeMs: blockTime(view.eras, number), txids };
      });
    },
  };
}

/** The block of an included transaction. */
export const blockRefOf = ({ eras }: View, included: SandboxTransaction): BlockRef => {
  const block = blockOf(included);
  return { ...block, timeMs: blockTime(eras, block.number) };
};

function blockOf({ _id, block, block_id }: SandboxTransaction): Anchor {
  if (block === undefined || block_id === undefined) throw new Error(`${_id} is in a block and does not say in which`);
  return { number: block, id: block_id };
}

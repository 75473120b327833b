// The chain of the sandbox, kept in the store: a crash loses nothing, and all replicas of one store share one chain.
//
// Its time is the store's. No block is written for an empty slot: the head document holds the height up to which all
// slots are closed, and its newest block. A block is made, and slots are closed, by a compare-and-set on the height. So
// a producer that stood still can never put a transaction into a slot that somebody has already read as past.
//
// The order of writes makes a crash between any two harmless. 1. The head takes the new block with its transactions;
// from here on it is decided. 2. Each transaction is marked with its block; every look at this head does so again.
// 3. The height moves on. Only a transaction that still waits after step 2 is taken into a block or dropped.
import type { Collection, Store } from "../../storage/collection.js";
import { insertUnlessThere } from "../../storage/insert.js";
import { isOutage, unless } from "../../task.js";
import { admission, lastBlockFor, slotAt, solidAfter } from "./chain.js";
import { type BlockRef, GatewayAwayError } from "./gateway.js";
import { createSandboxBlocks } from "./sandbox-blocks.js";
import {
  erasOf,
  type Fate,
  type HeadDocument,
  newHead,
  nextEras,
  nextHead,
  overAfter,
  type SandboxTransaction,
  sandboxChainCollection,
  sandboxTransactionsCollection,
  type View,
  viewOf,
} from "./sandbox-head.js";

/** A transaction as it reaches a node. */
export interface Offered {
  readonly txid: string;
  readonly isSigned: boolean;
  readonly refBlock: Pick<BlockRef, "number" | "id">;
  readonly expiresAtMs: number;
  readonly recipient: string;
  readonly amountMinor: bigint;
  readonly feeLimitSun: bigint;
  readonly fate: Fate | undefined;
}

export type SandboxChain = Awaited<ReturnType<typeof openSandboxChain>>;

/** Waiting transactions that are read at once, more than a block holds. */
const waitingMax = 1000;
/** Blocks that one look makes. More wait only if thousands were sent while nobody looked. */
const blocksPerLookMax = 2000;

/** Blocks come every `blockMs` from now on. Its methods throw StoreUnavailableError. */
export async function openSandboxChain(parts: {
  readonly store: Store;
  /** Its name; each has a wallet of its own. */
  readonly chain: string;
  readonly blockMs: number;
  /** What the wallet held at first, in minor units. */
  readonly startMinor: bigint;
}) {
  const { store, chain, startMinor } = parts;
  const heads = await store.collection<HeadDocument>(sandboxChainCollection);
  const transactions = await store.collection<SandboxTransaction>(sandboxTransactionsCollection);
  const ready = beginning(async () => {
    const now = await store.now();
    await begin(heads, newHead(chain, parts.blockMs, now), parts.blockMs, now);
  });
  // The store may be away while the service starts. The chain then begins when it is first asked for.
  await ready().catch(unless(isOutage));
  const blocks = createSandboxBlocks(transactions, chain);

  const headNow = async (): Promise<HeadDocument> => {
    const head = await heads.findOne({ _id: chain });
    if (head === null) throw new GatewayAwayError("The sandbox chain is not in the store any more");
    return head;
  };

  const waiting = async (limit: number): Promise<SandboxTransaction[]> =>
    (await transactions.page({ chain, state: "pending" }, { index: "idx_chain_due", limit })).items;

  /** Changes transactions that still wait. Again is harmless. */
  const settle = async (changes: readonly { readonly _id: string; readonly set: object }[]): Promise<void> => {
    if (changes.length === 0) return;
    await transactions.bulkUpdate(
      changes.map(({ _id, set }) => ({ filter: { _id, state: "pending" }, update: { $set: { ...set } } })),
    );
  };

  /** Nothing waits, and the newest block is solid: the next slots are of no interest to anybody. */
  const isAtRest = async ({ block, height, last }: HeadDocument): Promise<boolean> =>
    block.length === 0 && (last.number === 0 || height >= last.number + solidAfter) && (await waiting(1)).length === 0;

  /** Tells the transactions of the head's block that they are in it. */
  const mark = (head: HeadDocument): Promise<void> => settle(includedIn(head));

  /**
   * Makes the blocks that are due and closes all slots up to now. A chain at rest stands still unless `wakes`: so a
   * service that pays nothing writes nothing.
   */
  const look = async (wakes: boolean): Promise<View> => {
    await ready();
    let head = await headNow();
    if (!wakes && (await isAtRest(head))) return viewOf(head);
    const nowMs = (await store.now()).getTime();
    for (let made = 0; made < blocksPerLookMax; made++) {
      await mark(head);
      // By this head's block time, which another replica may just have changed.
      const slot = slotAt(erasOf(head), nowMs);
      // A clock that stepped back changes nothing: what is closed stays closed.
      if (head.height >= slot) return viewOf(head);
      const found = await waiting(waitingMax);
      await settle(overAfter(head, found).map((_id) => ({ _id, set: { state: "dropped" } })));
      const next = nextHead(head, found, slot, startMinor);
      const asRead = { _id: chain, height: head.height, era: head.era };
      // Null: another replica was faster.
      head = (await heads.findOneAndUpdate(asRead, { $set: next })) ?? (await headNow());
    }
    throw new GatewayAwayError("The sandbox chain is behind and catches up");
  };

  return {
    look,
    blocks,
    find: (txid: string): Promise<SandboxTransaction | null> => transactions.findOne({ _id: txid }),

    /** What a node answers to a broadcast. With SUCCESS, the transaction waits for its block. */
    accept: async (offered: Offered): Promise<string> => {
      const { txid, refBlock, expiresAtMs, recipient, fate } = offered;
      const view = await look(true);
      const isThere = refBlock.number <= view.height;
      const code = admission(
        {
          ...{ isSigned: offered.isSigned, expiresAtMs, refNumber: refBlock.number },
          isKnown: (await transactions.findOne({ _id: txid })) !== null,
          isRefKnown: isThere && (await blocks.ref(view, refBlock.number)).id === refBlock.id,
        },
        { number: view.height, timeMs: view.headTimeMs },
        { solidNumber: view.solidNumber, isBusy: false },
      );
      if (code !== "SUCCESS") return code;
      const byRecipient = { index: "idx_chain_recipient" };
      const paid = await transactions.findOne({ chain, recipient, result: "SUCCESS" }, byRecipient);
      const inserted = await insertUnlessThere(transactions, {
        ...{ _id: txid, chain, state: fate === "lost" ? "dropped" : "pending", recipient, holds_token: paid !== null },
        due: fate === "late" ? lastBlockFor(view.eras, expiresAtMs) : view.height + 1,
        ...{ expires_at_ms: expiresAtMs, amount_minor: `${offered.amountMinor}`, fee_limit: `${offered.feeLimitSun}` },
        ...(fate !== undefined && { fate }),
      });
      return inserted ? "SUCCESS" : "DUP_TRANSACTION_ERROR";
    },
  };
}

const includedIn = ({ block, last }: HeadDocument) =>
  block.map(({ txid, ...outcome }) => ({
    _id: txid,
    set: { state: "included", block: last.number, block_id: last.id, ...outcome },
  }));

/** Does the work once; work that has failed is done again at the next call. */
function beginning(work: () => Promise<void>): () => Promise<void> {
  let begun: Promise<void> | undefined;
  return async () => {
    begun ??= work();
    try {
      await begun;
    } catch (error) {
      begun = undefined;
      throw error;
    }
  };
}

/** Makes the chain, or goes on with it in another block time. */
async function begin(heads: Collection<HeadDocument>, made: HeadDocument, blockMs: number, now: Date): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const head = await heads.findOne({ _id: made._id });
    if (head === null) {
      if (await insertUnlessThere(heads, made)) return;
      continue;
    }
    const next = nextEras(head, blockMs, now);
    if (next === undefined) return;
    const asRead = { _id: head._id, height: head.height, era: head.era };
    if ((await heads.updateOne(asRead, { $set: next })).matched === 1) return;
  }
  throw new Error("Other replicas change the sandbox chain too fast for a start");
}

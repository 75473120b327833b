// A chain of our own that moves no money, kept in the store: it pays, settles, expires and fails as a real one does, so
// that a fresh service shows payouts from end to end. It survives crashes, and all replicas on one store share it.
//
// The head is one document. A block is made by compare-and-set of the head, its txids in it; the transactions are marked
// before the next block is made. To read the chain is to close all slots up to the present first: whatever arrives later
// can only be in a later block. So no block changes that somebody has read.
import { hmac, sha256Hex } from "../../crypto.js";
import { present } from "../../present.js";
import {
  type Collection,
  type CollectionDefinition,
  DuplicateKeyError,
  type Store,
  StoreUnavailableError,
} from "../../storage/collection.js";
import { insertUnlessThere } from "../../storage/insert.js";
import { type Marked, updateMarked } from "../../storage/marked.js";
import { pages } from "../../storage/pages.js";
import type { Log } from "../../telemetry/log.js";
import type { Currency } from "../money.js";
import { blockAt, blocksBehind, lastBlockFor, mayHold, type Slots, timeOf } from "./chain.js";
import type { Fault, Faults } from "./faults.js";
import {
  type Answer,
  type BlockRef,
  type Draft,
  type Gateway,
  GatewayAwayError,
  type Signed,
  type Sought,
  type Verdict,
} from "./gateway.js";
import { proveDeath, type SolidBlock } from "./settlement.js";

interface ChainDocument extends Marked {
  readonly base_number: number;
  readonly base_ms: number;
  readonly block_ms: number;
  /** The last block. All up to it are final in content; those that hold nothing were never written. */
  readonly height: number;
  readonly txids: readonly string[];
  /** Minor units that have left the wallet in blocks up to the last. */
  readonly spent_minor: string;
}

interface TransactionDocument {
  readonly _id: string;
  readonly currency: Currency;
  readonly recipient: string;
  readonly amount_minor: string;
  /** Chain time. */
  readonly accepted_ms: number;
  readonly expires_ms: number;
  /** Not in an earlier block. */
  readonly from_block: number;
  /** Waits for a block. Absent: it is in one, or can never be. */
  readonly pending?: true;
  readonly block?: number;
  readonly result: "SUCCESS" | "OUT_OF_ENERGY";
}

export const sandboxChainCollection: CollectionDefinition = {
  name: "sandbox_chain",
  durability: "durable",
  dates: [],
  indexes: [],
};

export const sandboxTransactionsCollection: CollectionDefinition = {
  name: "sandbox_transactions",
  durability: "durable",
  dates: [],
  indexes: [
    { name: "idx_pending", key: ["currency", "accepted_ms"], partial: { pending: true } },
    { name: "idx_block", key: ["currency", "block"], partial: { block: { $exists: true } } },
  ],
};

/** Addresses that nobody has the key of: the first 20 bytes of SHA-256 of "lucid sandbox wallet". */
const wallets: Readonly<Record<Currency, string>> = {
  USDT: "TB4wzBshMw72QhmA4E45j6kKmZQPS5t14Y",
  LUCID: "0x0c0e1670785978625a773041cff9f84d34338c8a",
};
const forbidden: Readonly<Record<Currency, Readonly<Record<string, string>>>> = {
  USDT: {
    TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t: "it is the token's contract",
    T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb: "it is the zero address",
  },
  LUCID: { "0x0000000000000000000000000000000000000000": "it is the zero address" },
};

const startBalance = 10n ** 18n;
const blockMax = 500;
const expiryBlocks = 20;
const expiryLeastMs = 10_000;
const fee = "13000000";
const signingKey = Buffer.from("the sandbox moves no money");

export async function createSandboxGateway(parts: {
  readonly store: Store;
  readonly currency: Currency;
  readonly blockMs: number;
  readonly faults: Faults;
  /** In [0, 1). */
  readonly random: () => number;
  readonly log: Pick<Log, "info">;
}): Promise<Gateway> {
  const { store, currency, blockMs, faults, random, log } = parts;
  const chains = await store.collection<ChainDocument>(sandboxChainCollection);
  const transactions = await store.collection<TransactionDocument>(sandboxTransactionsCollection);
  const wallet = wallets[currency];
  const happens = (fault: Fault): boolean => random() < (faults[fault] ?? 0);

  const begin = async (): Promise<ChainDocument> => {
    const found = await chains.findOne({ _id: currency });
    if (found !== null) return found;
    const nowMs = (await store.now()).getTime();
    // It begins with solid blocks, so that a transaction can refer to one.
    const height = 2 * blocksBehind;
    const fresh = { _id: currency, base_number: height, base_ms: nowMs, block_ms: blockMs, height, txids: [] };
    await insertUnlessThere(chains, { ...fresh, spent_minor: "0" });
    return (await chains.findOne({ _id: currency })) ?? { ...fresh, spent_minor: "0" };
  };

  const head = createHead({ chains, transactions, begin, blockMs, currency, now: store.now });

  const refOf = (chain: ChainDocument, number: number): BlockRef => ({
    ...{ number, id: idOf(currency, number), timeMs: timeOf(slotsOf(chain), number) },
  });
  const solidOf = (chain: ChainDocument): BlockRef => refOf(chain, chain.height - blocksBehind);

  /** The chain up to now, for a question. */
  const asked = async (): Promise<ChainDocument> => {
    if (happens("away")) throw new GatewayAwayError("The sandbox does not answer, as its faults want");
    return head.advance();
  };

  const accept = async (signed: Signed): Promise<Answer> => {
    const chain = await head.advance();
    const { recipient, amount, expiresAtMs } = JSON.parse(signed.raw) as RawTransaction;
    if (signed.txid !== txidOf(signed.raw) || signed.signature !== signatureOf(signed.raw)) {
      return { class: "refused", code: "SIGERROR" };
    }
    if (happens("busy")) return { class: "busy", code: "SERVER_BUSY" };
    const slots = slotsOf(chain);
    if (expiresAtMs <= timeOf(slots, chain.height)) return { class: "busy", code: "TRANSACTION_EXPIRATION_ERROR" };
    const isLost = happens("lost");
    const transaction = present({
      ...{ _id: signed.txid, currency, recipient, amount_minor: amount, expires_ms: expiresAtMs },
      accepted_ms: timeOf(slots, chain.height),
      from_block: happens("late") ? lastBlockFor(slots, expiresAtMs) : chain.height + 1,
      pending: isLost ? undefined : (true as const),
      result: happens("revert") ? ("OUT_OF_ENERGY" as const) : ("SUCCESS" as const),
    }) as TransactionDocument;
    try {
      await transactions.insertOne(transaction);
    } catch (error) {
      if (error instanceof DuplicateKeyError) return { class: "known", code: "DUP_TRANSACTION_ERROR" };
      throw error;
    }
    log.info("SANDBOX: a transaction was taken", { transaction_hash: signed.txid, currency });
    if (happens("unanswered")) return { class: "unanswered", code: "TIMEOUT" };
    return happens("lying")
      ? { class: "busy", code: "TRANSACTION_EXPIRATION_ERROR" }
      : { class: "accepted", code: "SUCCESS" };
  };

  /** The solid blocks after the reference block, as far as a proof needs them. */
  const blocksFor = async (chain: ChainDocument, { refBlock, expiresAtMs }: Sought): Promise<SolidBlock[]> => {
    const solid = chain.height - blocksBehind;
    const last = Math.min(solid, blockAt(slotsOf(chain), expiresAtMs) + 1);
    const txids = new Map<number, string[]>();
    const filter = { currency, block: { $exists: true, $gt: refBlock.number, $lte: last } };
    for await (const page of pages((after) => transactions.page(filter, { index: "idx_block", limit: 1000, after }))) {
      for (const { _id, block = 0 } of page) txids.set(block, [...(txids.get(block) ?? []), _id]);
    }
    return Array.from({ length: Math.max(0, last - refBlock.number) }, (_, place) => {
      const number = refBlock.number + 1 + place;
      return { ...refOf(chain, number), parentId: idOf(currency, number - 1), txids: txids.get(number) ?? [] };
    });
  };

  const judge = async (attempt: Sought): Promise<Verdict> => {
    const chain = await asked();
    const solid = solidOf(chain);
    const found = await transactions.findOne({ _id: attempt.txid });
    if (found?.block !== undefined && found.block <= solid.number) {
      const block = refOf(chain, found.block);
      if (found.result !== "SUCCESS") return { kind: "reverted", block, fee, code: found.result, retryable: true };
      const isWanted = found.recipient === attempt.recipient && found.amount_minor === `${attempt.amountMinor}`;
      if (isWanted) return { kind: "landed", block, fee };
      return { kind: "wrong", block, message: "The transaction pays another recipient or amount" };
    }
    const isIn = found?.block !== undefined || chain.txids.includes(attempt.txid);
    if (isIn) return { kind: "open", seen: true, solid };
    if (solid.timeMs >= attempt.expiresAtMs) {
      const proof = proveDeath(attempt, await blocksFor(chain, attempt), 1);
      if (proof !== undefined) return { kind: "dead", proof };
    }
    return { kind: "open", seen: found?.pending === true, solid };
  };

  const draft = async (
    { recipient, amountMinor }: { recipient: string; amountMinor: bigint },
    stamp: number,
  ): Promise<Draft> => {
    const chain = await asked();
    const refBlock = solidOf(chain);
    const expiresAtMs = timeOf(slotsOf(chain), chain.height) + Math.max(expiryBlocks * chain.block_ms, expiryLeastMs);
    const fields: RawTransaction = {
      wallet,
      recipient,
      amount: `${amountMinor}`,
      currency,
      stamp,
      expiresAtMs,
      ref: refBlock.id,
    };
    const raw = JSON.stringify(fields);
    return { txid: txidOf(raw), raw, refBlock, expiresAtMs };
  };

  return {
    ...{ name: "sandbox", currency, wallet, unknownForMs: 0, solidAfterMs: (blocksBehind + 1) * blockMs },
    recipientProblem: (recipient) => {
      if (recipient.toLowerCase() === wallet.toLowerCase()) return "it is the wallet that pays";
      const known = currency === "LUCID" ? recipient.toLowerCase() : recipient;
      return forbidden[currency][known];
    },
    preflight: async ({ amountMinor }) => {
      const { spent_minor: spent } = await asked();
      if (startBalance - BigInt(spent) >= amountMinor) return { kind: "ready" };
      return { kind: "waits", code: "WALLET_DRY", message: "The sandbox wallet has not enough left" };
    },
    draft,
    sign: async ({ raw }) => signatureOf(raw),
    send: async (signed) => {
      try {
        return await accept(signed);
      } catch (error) {
        if (error instanceof StoreUnavailableError) return { class: "unanswered", code: "STORE_UNAVAILABLE" };
        throw error;
      }
    },
    judge,
    solid: async () => solidOf(await asked()),
    balance: async () => startBalance - BigInt((await asked()).spent_minor),
    transfersAfter: async (block) => {
      const chain = await asked();
      const solid = solidOf(chain);
      const filter = { currency, block: { $exists: true, $gt: block, $lte: solid.number } };
      const { items, next } = await transactions.page(filter, { index: "idx_block", limit: 1000 });
      // A page may end within a block, which holds fewer than a page: that block is told by the next call.
      const cut = next === undefined ? solid.number : (items.at(-1)?.block ?? block) - 1;
      const whole = items.filter(({ block: of = 0, result }) => of <= cut && result === "SUCCESS");
      return {
        to: refOf(chain, cut),
        transfers: whole.map(({ _id: txid, recipient, amount_minor: minor, block: of = 0 }) => ({
          ...{ txid, recipient, amountMinor: BigInt(minor), block: refOf(chain, of) },
        })),
      };
    },
  };
}

interface RawTransaction {
  readonly wallet: string;
  readonly recipient: string;
  readonly amount: string;
  readonly currency: Currency;
  readonly stamp: number;
  readonly expiresAtMs: number;
  readonly ref: string;
}

const txidOf = (raw: string): string => `sandbox:${sha256Hex(raw)}`;
const signatureOf = (raw: string): string => hmac(signingKey, raw).toString("hex");
const idOf = (currency: Currency, number: number): string => sha256Hex(`sandbox:${currency}:${number}`);
const slotsOf = ({ base_number: number, base_ms: timeMs, block_ms: blockMs }: ChainDocument): Slots => ({
  ...{ number, timeMs, blockMs },
});

/** Makes the blocks. */
function createHead(parts: {
  readonly chains: Collection<ChainDocument>;
  readonly transactions: Collection<TransactionDocument>;
  readonly begin: () => Promise<ChainDocument>;
  readonly blockMs: number;
  readonly currency: Currency;
  readonly now: () => Promise<Date>;
}) {
  const { chains, transactions, currency, blockMs } = parts;

  /** Marks the transactions of the last block as included. Repeating it changes nothing. */
  const mark = async ({ height, txids }: ChainDocument): Promise<void> => {
    if (txids.length === 0) return;
    await transactions.bulkUpdate(
      txids.map((_id) => ({
        filter: { _id, pending: true },
        update: { $set: { block: height }, $unset: { pending: true as const } },
      })),
    );
  };

  /** Makes one block, the next that holds something, or the present one. Null: another maker was faster. */
  const make = async (chain: ChainDocument, present: number): Promise<ChainDocument | null> => {
    await mark(chain);
    const slots = slotsOf(chain);
    const waiting = (await transactions.page({ currency, pending: true }, { index: "idx_pending", limit: blockMax }))
      .items;
    const due = waiting.map(({ from_block: from }) => Math.max(from, chain.height + 1));
    const number = Math.min(present, ...due);
    const holds = waiting.filter(
      ({ from_block: from, expires_ms: expiresMs }) => from <= number && mayHold(slots, number, expiresMs),
    );
    const spent = holds
      .filter(({ result }) => result === "SUCCESS")
      .reduce((sum, { amount_minor: minor }) => sum + BigInt(minor), BigInt(chain.spent_minor));
    const rebased =
      chain.block_ms === blockMs ? {} : { base_number: number, base_ms: timeOf(slots, number), block_ms: blockMs };
    const next = { height: number, txids: holds.map(({ _id }) => _id), spent_minor: `${spent}`, ...rebased };
    const made = await updateMarked(chains, { _id: currency, height: chain.height }, { $set: next });
    if (made === null) return null;
    // These can be in no later block either. Marking them spares the next makers the look.
    const held = new Set(next.txids);
    const dead = waiting.filter(({ _id, expires_ms: at }) => !held.has(_id) && !mayHold(slots, number + 1, at));
    if (dead.length > 0) {
      await transactions.bulkUpdate(
        dead.map(({ _id }) => ({ filter: { _id, pending: true }, update: { $unset: { pending: true as const } } })),
      );
    }
    return made;
  };

  return {
    /** The chain with all blocks up to the present; a store's clock that steps back leaves it as it is. */
    advance: async (): Promise<ChainDocument> => {
      const nowMs = (await parts.now()).getTime();
      let chain = await parts.begin();
      while (blockAt(slotsOf(chain), nowMs) > chain.height) {
        chain = (await make(chain, blockAt(slotsOf(chain), nowMs))) ?? (await parts.begin());
      }
      return chain;
    },
  };
}

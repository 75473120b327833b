// What is stored of the sandbox chain, and how the next block follows from it and from what waits. Pure.

import type { CollectionDefinition } from "../../storage/collection.js";
import {
  blockFor,
  blockIdOf,
  blockTime,
  type Eras,
  energyPriceSun,
  execute,
  isOver,
  slotAt,
  solidAfter,
} from "./chain.js";

/** What becomes of a transaction by a fault. */
export type Fate = "lost" | "late" | "revert" | "reject";

/** A block that is not empty, or block 0, which is. All ids of the empty blocks after it follow from it. */
export interface Anchor {
  readonly number: number;
  readonly id: string;
}

/** A transaction whose block is decided. */
export interface Decided {
  readonly txid: string;
  readonly result: string;
  readonly retryable: boolean;
  readonly fee: string;
}

/** One for each chain; _id is the currency. */
export interface HeadDocument {
  readonly _id: string;
  /** The length of `eras`, for compare-and-set. */
  readonly era: number;
  readonly eras: readonly { readonly number: number; readonly time_ms: number; readonly block_ms: number }[];
  /** Every slot up to here is closed. */
  readonly height: number;
  /** The newest block that is not empty. */
  readonly last: Anchor;
  /** What is in block `height`. */
  readonly block: readonly Decided[];
  /** Minor units that have left the wallet. */
  readonly spent: string;
}

/** A chain is public, so recipients are in clear here. */
export interface SandboxTransaction {
  readonly _id: string;
  readonly chain: string;
  readonly state: "pending" | "included" | "dropped";
  /** The first block that can hold it. */
  readonly due: number;
  readonly expires_at_ms: number;
  readonly recipient: string;
  readonly amount_minor: string;
  readonly fee_limit: string;
  /** The recipient had tokens when it was sent. */
  readonly holds_token: boolean;
  readonly fate?: Fate;
  /** Once included. */
  readonly block?: number;
  readonly block_id?: string;
  readonly result?: string;
  readonly retryable?: boolean;
  readonly fee?: string;
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
    { name: "idx_chain_due", key: ["chain", "due"], partial: { state: "pending" } },
    { name: "idx_chain_block", key: ["chain", "block"], partial: { state: "included" } },
    { name: "idx_chain_recipient", key: ["chain", "recipient"], partial: { result: "SUCCESS" } },
  ],
};

/** The chain as it was when it was looked at: every slot up to `height` is closed, every transaction in it is marked. */
export interface View {
  readonly eras: Eras;
  readonly height: number;
  readonly headTimeMs: number;
  readonly solidNumber: number;
  readonly spentMinor: bigint;
  readonly last: Anchor;
}

export const blockTransactionsMax = 500;
/** Changes of the block time that are remembered. */
const erasMax = 1000;

export function erasOf({ eras }: Pick<HeadDocument, "eras">): Eras {
  const [first, ...rest] = eras.map(({ number, time_ms, block_ms }) => ({
    ...{ number, timeMs: time_ms, blockMs: block_ms },
  }));
  if (first === undefined) throw new Error("The sandbox chain has no block time");
  return [first, ...rest];
}

export function viewOf(head: HeadDocument): View {
  const eras = erasOf(head);
  return {
    ...{ eras, height: head.height, last: head.last, spentMinor: BigInt(head.spent) },
    headTimeMs: blockTime(eras, head.height),
    solidNumber: Math.max(0, head.height - solidAfter),
  };
}

/** The id of a block from its anchor, the newest block up to that number which is not empty. */
export const idAfter = (anchor: Anchor, number: number): string =>
  number === anchor.number ? anchor.id : blockIdOf(number, anchor.id, "");

export const genesisOf = (chain: string, [{ timeMs }]: Eras): Anchor => ({
  number: 0,
  id: blockIdOf(0, chain, `${timeMs}`),
});

/** A chain whose block 0 has that time, in full seconds. */
export function newHead(chain: string, blockMs: number, now: Date): HeadDocument {
  const time_ms = Math.floor(now.getTime() / 1000) * 1000;
  const eras = [{ number: 0, time_ms, block_ms: blockMs }];
  return { _id: chain, era: 1, eras, height: 0, last: genesisOf(chain, erasOf({ eras })), block: [], spent: "0" };
}

/** The eras when blocks come every `blockMs` from now on; undefined when they already do. Times that were stay. */
export function nextEras(
  head: HeadDocument,
  blockMs: number,
  now: Date,
): Pick<HeadDocument, "era" | "eras"> | undefined {
  if (head.eras.at(-1)?.block_ms === blockMs) return undefined;
  const eras = erasOf(head);
  const number = Math.max(head.height, slotAt(eras, now.getTime()));
  if (head.era >= erasMax) throw new Error("The block time of the sandbox chain has changed too often");
  const era = { number, time_ms: blockTime(eras, number), block_ms: blockMs };
  return { era: head.era + 1, eras: [...head.eras, era] };
}

/** Waiting transactions that no block after the head can hold. */
export function overAfter(head: HeadDocument, waiting: readonly SandboxTransaction[]): string[] {
  const eras = erasOf(head);
  return waiting.filter((one) => isOver({ expiresAtMs: one.expires_at_ms }, head.height, eras)).map(({ _id }) => _id);
}

/**
 * The next slot up to `slot` that has transactions as a block, or else `slot` itself without any: the slots before it
 * are closed with it. `startMinor` is what the wallet held at first.
 */
export function nextHead(
  head: Pick<HeadDocument, "eras" | "height" | "last" | "spent">,
  waiting: readonly SandboxTransaction[],
  slot: number,
  startMinor: bigint,
): Pick<HeadDocument, "height" | "last" | "block" | "spent"> {
  const eras = erasOf(head);
  const placed = waiting.flatMap((one) => {
    const number = blockFor({ due: one.due, expiresAtMs: one.expires_at_ms }, head.height, eras);
    return number === undefined || number > slot ? [] : [{ one, number }];
  });
  const number = placed.reduce((least, { number: at }) => Math.min(least, at), Number.POSITIVE_INFINITY);
  if (placed.length === 0) return { height: slot, last: head.last, block: [], spent: head.spent };
  const taken = placed.filter((placement) => placement.number === number).slice(0, blockTransactionsMax);
  let spentMinor = BigInt(head.spent);
  const block = taken.map(({ one }): Decided => {
    const { decided, movedMinor } = decide(one, startMinor - spentMinor);
    spentMinor += movedMinor;
    return decided;
  });
  const content = block.map(({ txid }) => txid).join(" ");
  const last = { number, id: blockIdOf(number, idAfter(head.last, number - 1), content) };
  return { height: number, last, block, spent: `${spentMinor}` };
}

function decide(one: SandboxTransaction, balanceMinor: bigint): { decided: Decided; movedMinor: bigint } {
  const [amountMinor, feeLimitSun] = [BigInt(one.amount_minor), BigInt(one.fee_limit)];
  const { result, isRetryable, feeSun } = execute(
    { amountMinor, feeLimitSun },
    {
      ...{ balanceMinor, holdsToken: one.holds_token, isBlacklisted: one.fate === "reject" },
      // A price that has risen is how a transfer runs out of energy.
      energyPriceSun: one.fate === "revert" ? feeLimitSun : energyPriceSun,
    },
  );
  return {
    decided: { txid: one._id, result, retryable: isRetryable, fee: `${feeSun}` },
    movedMinor: result === "SUCCESS" ? amountMinor : 0n,
  };
}

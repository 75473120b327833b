// A chain of the simulated world. The rules of java-tron are the service's own (gateway/chain.ts); to them come slots
// without a block, branches that are given up, and nodes that forget what waits. It knows the truth, where the sandbox
// tells no more than a node would.
import { sha256Hex } from "../../../src/crypto.js";
import { admission, type Block as LinkedBlock, solidAfter } from "../../../src/payouts/gateway/chain.js";

export const blockMs = 3_000;

/** What a transaction says. Its text is what is signed and hashed. */
export interface Wanted {
  readonly currency: string;
  readonly recipient: string;
  readonly amountMinor: string;
  readonly refBlock: number;
  readonly expiresAtMs: number;
  readonly stamp: number;
}

export const rawOf = (wanted: Wanted): string => JSON.stringify(wanted);
export const txidOf = (raw: string): string => sha256Hex(raw);

export interface Included {
  readonly txid: string;
  readonly wanted: Wanted;
  readonly block: number;
  /** Undefined: it paid. */
  readonly revert: { readonly code: string; readonly retryable: boolean } | undefined;
}

export interface Block extends LinkedBlock {
  readonly included: readonly Included[];
}

export interface Chain {
  /** The newest block, after all blocks that are due by now. */
  head(): Block;
  solid(): Block;
  block(number: number): Block | undefined;
  /** Takes the bytes into the pool. Answers the word of an honest node. */
  accept(raw: string, isSigned: boolean): string;
  /** Where the transaction is now, in a block that is solid or not. */
  find(txid: string): Included | undefined;
  /** The truth: whether any block to come, on any branch that is still possible, can hold it. */
  canLand(txid: string, expiresAtMs: number): boolean;
  /** Gives up so many of the newest blocks, never a solid one. Their transactions return to the pool, or are lost. */
  fork(depth: number, keepPool: boolean): void;
  /** Forgets what waits in the pool, as a node does that restarts. */
  forgetPool(): void;
  balance(currency: string): bigint;
}

export function createChain(parts: {
  readonly nowMs: () => number;
  /** The time of the first block. */
  readonly startMs: number;
  readonly wallet: ReadonlyMap<string, bigint>;
  /** What a transaction that is about to be in a block does instead of paying. */
  readonly reverts: (wanted: Wanted, txid: string) => { code: string; retryable: boolean } | undefined;
  /** Whether the producer of this slot misses it. */
  readonly misses: () => boolean;
  readonly mined: (block: Block) => void;
  readonly solidified: (block: Block) => void;
}): Chain {
  let forks = 0;
  let slotMs = parts.startMs;
  let pool = new Map<string, string>();
  const blocks: Block[] = [];
  const places = new Map<string, Included>();
  const balances = new Map(parts.wallet);
  let solidNumber = -1;

  const put = (timeMs: number, included: readonly Included[]): Block => {
    const number = blocks.length;
    const ids = { id: `${number}.${forks}`, parentId: blocks.at(-1)?.id ?? "none" };
    const block = { number, ...ids, timeMs, included, txids: included.map(({ txid }) => txid) };
    blocks.push(block);
    return block;
  };

  const move = ({ wanted, revert }: Included, sign: bigint): void => {
    if (revert !== undefined) return;
    balances.set(wanted.currency, (balances.get(wanted.currency) ?? 0n) + sign * BigInt(wanted.amountMinor));
  };

  const mine = (timeMs: number): void => {
    const parent = blocks.at(-1) as Block;
    const number = blocks.length;
    const included: Included[] = [];
    for (const [txid, raw] of pool) {
      pool.delete(txid);
      const wanted = JSON.parse(raw) as Wanted;
      if (places.has(txid) || wanted.expiresAtMs <= parent.timeMs) continue;
      const poor = (balances.get(wanted.currency) ?? 0n) < BigInt(wanted.amountMinor);
      const revert = poor ? { code: "BALANCE", retryable: true } : parts.reverts(wanted, txid);
      const one = { txid, wanted, block: number, revert };
      move(one, -1n);
      places.set(txid, one);
      included.push(one);
    }
    parts.mined(put(timeMs, included));
    while (blocks.length - 1 - solidAfter > solidNumber) parts.solidified(blocks[++solidNumber] as Block);
  };

  let isMining = false;
  const catchUp = (): void => {
    // Who hears of a block asks about the chain: it is as it was when the block was made.
    if (isMining) return;
    isMining = true;
    for (; slotMs <= parts.nowMs(); slotMs += blockMs) if (!parts.misses()) mine(slotMs);
    isMining = false;
  };

  for (let back = solidAfter + 1; back > 0; back--) put(slotMs - back * blockMs, []);
  solidNumber = blocks.length - 1 - solidAfter;

  const head = (): Block => {
    catchUp();
    return blocks.at(-1) as Block;
  };
  const solid = (): Block => {
    catchUp();
    return blocks[solidNumber] as Block;
  };

  return {
    head,
    solid,
    block: (number) => blocks[number],
    accept: (raw, isSigned) => {
      const txid = txidOf(raw);
      const { refBlock: refNumber, expiresAtMs } = JSON.parse(raw) as Wanted;
      const isKnown = pool.has(txid) || places.has(txid);
      const offer = { isSigned, isKnown, refNumber, isRefKnown: true, expiresAtMs };
      // Slots without a block leave more blocks unsolid for a while; the tests of the rules show what a node says then.
      const code = admission(offer, head(), { solidNumber, isBusy: false });
      if (code === "SUCCESS") pool.set(txid, raw);
      return code;
    },
    find: (txid) => {
      catchUp();
      return places.get(txid);
    },
    canLand: (txid, expiresAtMs) => {
      const { timeMs, number } = solid();
      const place = places.get(txid);
      return place === undefined ? timeMs < expiresAtMs : place.block > number;
    },
    fork: (depth, keepPool) => {
      const newest = head().number;
      const from = Math.max(solidNumber + 1, newest + 1 - depth);
      forks++;
      for (const { included } of blocks.splice(from)) {
        for (const one of included) {
          places.delete(one.txid);
          move(one, 1n);
          if (keepPool) pool.set(one.txid, rawOf(one.wanted));
        }
      }
    },
    forgetPool: () => {
      catchUp();
      pool = new Map();
    },
    balance: (currency) => {
      catchUp();
      return balances.get(currency) ?? 0n;
    },
  };
}

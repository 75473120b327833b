// A chain in memory, for simulated worlds and doubles of nodes: the rules of src/payouts/gateway/chain.ts, with time that
// the test moves, forks, a memory pool that forgets, and blocks that stay unsolid.
import {
  admission,
  type Block,
  blockFor,
  blockIdOf,
  blockTime,
  type Eras,
  energyPriceSun,
  execute,
  isOver,
  lastBlockFor,
  type Outcome,
  slotAt,
  solidAfter,
} from "../../../src/payouts/gateway/chain.js";
import type { BlockRef } from "../../../src/payouts/gateway/gateway.js";

export interface ChainTransaction {
  readonly txid: string;
  readonly recipient: string;
  readonly amountMinor: bigint;
  readonly refBlock: BlockRef;
  readonly expiresAtMs: number;
  readonly feeLimitSun: bigint;
  readonly isSigned: boolean;
}

/** What became of a transaction that a node took. */
export interface ChainInfo {
  readonly transaction: ChainTransaction;
  readonly block: Block;
  readonly outcome: Outcome;
}

interface Pooled {
  readonly transaction: ChainTransaction;
  readonly due: number;
  readonly expiresAtMs: number;
}

export type Chain = ReturnType<typeof createChain>;

export function createChain(parts: {
  readonly genesisMs: number;
  readonly blockMs: number;
  readonly balanceMinor: bigint;
  readonly isBlacklisted?: (recipient: string) => boolean;
  readonly blockTransactionsMax?: number;
  /** The node remembers a txid before it has checked the transaction, as with `node.rpc.trxCacheEnable`. */
  readonly remembersUnchecked?: boolean;
}) {
  const { isBlacklisted = () => false, blockTransactionsMax = 500 } = parts;
  const eras: Eras = [{ number: 0, timeMs: parts.genesisMs, blockMs: parts.blockMs }];
  const blocks: Block[] = [
    { number: 0, id: blockIdOf(0, "genesis", ""), parentId: "", timeMs: parts.genesisMs, txids: [] },
  ];
  const pool = new Map<string, Pooled>();
  const remembered = new Set<string>();
  const included = new Map<string, ChainInfo>();
  let balanceMinor = parts.balanceMinor;
  const tokensOf = new Map<string, number>();
  let priceSun = energyPriceSun;
  let isBusy = false;
  let branch = 0;
  /** The solid block stays below this. */
  let solidMax = Number.POSITIVE_INFINITY;
  let solidNumber = 0;

  const head = (): Block => {
    const newest = blocks.at(-1);
    if (newest === undefined) throw new Error("A chain has a first block");
    return newest;
  };
  const block = (number: number): Block | undefined => blocks[number];

  const move = ({ recipient, amountMinor }: ChainTransaction, sign: 1n | -1n): void => {
    balanceMinor -= sign * amountMinor;
    tokensOf.set(recipient, (tokensOf.get(recipient) ?? 0) + Number(sign));
  };

  const append = (txids: readonly string[]): Block => {
    const parent = head();
    const number = parent.number + 1;
    const id = blockIdOf(number, parent.id, `${branch} ${txids.join(" ")}`);
    const made: Block = { number, id, parentId: parent.id, timeMs: blockTime(eras, number), txids };
    blocks.push(made);
    for (const txid of txids) {
      const pooled = pool.get(txid);
      if (pooled === undefined) continue;
      const { transaction } = pooled;
      const outcome = execute(transaction, {
        ...{ balanceMinor, isBlacklisted: isBlacklisted(transaction.recipient), energyPriceSun: priceSun },
        holdsToken: (tokensOf.get(transaction.recipient) ?? 0) > 0,
      });
      if (outcome.result === "SUCCESS") move(transaction, 1n);
      included.set(txid, { transaction, block: made, outcome });
      pool.delete(txid);
    }
    solidNumber = Math.max(solidNumber, Math.min(number - solidAfter, solidMax));
    return made;
  };

  const produce = (): void => {
    const { number } = head();
    for (const [txid, one] of pool) if (isOver(one, number, eras)) pool.delete(txid);
    const ready = [...pool.values()].filter((one) => blockFor(one, number, eras) === number + 1);
    append(ready.slice(0, blockTransactionsMax).map(({ transaction }) => transaction.txid));
  };

  const advanceTo = (nowMs: number): void => {
    for (const slot = slotAt(eras, nowMs); head().number < slot; ) produce();
  };

  return {
    head,
    /** The last solid block. */
    solid: (): Block => block(Math.max(0, solidNumber)) ?? head(),
    block,
    /** A transaction in a block, solid or not. */
    info: (txid: string): ChainInfo | undefined => included.get(txid),
    isPooled: (txid: string): boolean => pool.has(txid),
    balanceMinor: (): bigint => balanceMinor,
    /** All that moved money, in order. */
    transfers: (): ChainInfo[] =>
      [...included.values()]
        .filter(({ outcome }) => outcome.result === "SUCCESS")
        .sort((a, b) => a.block.number - b.block.number),

    /** Makes the blocks of all slots up to now. */
    advanceTo,

    /** What the node answers to a broadcast at that time. `late`: it comes into the last block that can hold it. */
    accept: (transaction: ChainTransaction, nowMs: number, { late = false } = {}): string => {
      advanceTo(nowMs);
      const { txid, refBlock, expiresAtMs, isSigned } = transaction;
      const code = admission(
        {
          ...{ isSigned, expiresAtMs, refNumber: refBlock.number },
          isKnown: pool.has(txid) || included.has(txid) || remembered.has(txid),
          isRefKnown: block(refBlock.number)?.id === refBlock.id,
        },
        head(),
        { solidNumber, isBusy },
      );
      if (parts.remembersUnchecked === true && !["SERVER_BUSY", "BLOCK_UNSOLIDIFIED"].includes(code)) {
        remembered.add(txid);
      }
      if (code !== "SUCCESS") return code;
      const due = late ? lastBlockFor(eras, expiresAtMs) : head().number + 1;
      pool.set(txid, { transaction, due, expiresAtMs });
      return code;
    },

    /** The memory pool loses a transaction that it has taken. */
    forget: (txid: string): boolean => pool.delete(txid),

    /**
     * Another branch wins: the newest blocks, at most those that are not solid, are replaced by empty ones of the same
     * slots. Their transactions wait again, or are forgotten. Returns how many blocks were replaced.
     */
    fork: (depth: number, { forgets = false } = {}): number => {
      const replaced = Math.min(depth, head().number - Math.max(0, solidNumber));
      for (const { txids } of blocks.splice(blocks.length - replaced).reverse()) {
        for (const txid of txids) {
          const info = included.get(txid);
          if (info === undefined) continue;
          included.delete(txid);
          if (info.outcome.result === "SUCCESS") move(info.transaction, -1n);
          const { transaction } = info;
          const { expiresAtMs } = transaction;
          if (!forgets) pool.set(txid, { transaction, due: head().number + replaced + 1, expiresAtMs });
        }
      }
      branch++;
      for (let slot = 0; slot < replaced; slot++) append([]);
      return replaced;
    },

    /** From now on no further block becomes solid, or they do again with the next block. */
    holdSolid: (held: boolean): void => {
      solidMax = held ? solidNumber : Number.POSITIVE_INFINITY;
    },
    setBusy: (busy: boolean): void => {
      isBusy = busy;
    },
    setEnergyPrice: (sun: bigint): void => {
      priceSun = sun;
    },

    /** Whether the transaction is in a block or may still come into one, whatever forks and nodes do from now on. */
    mayLand: ({ txid, expiresAtMs }: Pick<ChainTransaction, "txid" | "expiresAtMs">): boolean =>
      included.has(txid) || !isOver({ expiresAtMs }, Math.max(0, solidNumber), eras),
  };
}

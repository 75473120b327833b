// What a chain like TRON does with transactions: slots, admission, inclusion, execution and block ids. The sandbox, the
// simulated world of the tests and doubles of nodes all stand on these rules. They are java-tron's, with a block in
// every slot. Pure.
import { hash } from "node:crypto";
import type { Answer, BlockRef } from "./gateway.js";

/** A block with the link to its parent and the transactions in it. */
export interface Block extends BlockRef {
  readonly parentId: string;
  readonly txids: readonly string[];
}

/** A block is solid when this many blocks follow it: 19 of 27 producers have built on it. */
export const solidAfter = 19;
/** A node takes no transactions while more blocks than this are not solid. */
export const unsolidMax = 54;
/** A reference block is one of the last 65,536. */
export const referenceMax = 65_536;
/** An expiration is at most this long after the head block's time. */
export const expirationMaxMs = 86_400_000;

/** From block `number` on, which has the time `timeMs`, a block comes every `blockMs`. */
export interface Era {
  readonly number: number;
  readonly timeMs: number;
  readonly blockMs: number;
}
/** The oldest first. Each begins in the slot of a block of the former one. */
export type Eras = readonly [Era, ...Era[]];

const eraOf = (eras: Eras, holds: (era: Era) => boolean): Era => eras.findLast(holds) ?? eras[0];

/** The time of a block, in milliseconds since 1970. */
export function blockTime(eras: Eras, number: number): number {
  const era = eraOf(eras, (one) => one.number <= number);
  return era.timeMs + (number - era.number) * era.blockMs;
}

/** The newest block whose time is at or before `nowMs`; never before the first block. */
export function slotAt(eras: Eras, nowMs: number): number {
  const era = eraOf(eras, (one) => one.timeMs <= nowMs);
  return era.number + Math.max(0, Math.floor((nowMs - era.timeMs) / era.blockMs));
}

/** The first block whose time is at or after the expiration. It is the last that can hold the transaction. */
export const lastBlockFor = (eras: Eras, expiresAtMs: number): number => slotAt(eras, expiresAtMs - 1) + 1;

/** The number in 16 hex digits, then 48 digits of a hash over the number, the parent and the content. */
export const blockIdOf = (number: number, parentId: string, content: string): string =>
  number.toString(16).padStart(16, "0") + hash("sha256", `${number} ${parentId} ${content}`).slice(0, 48);

/** What a node looks at before it takes a transaction. */
export interface Offer {
  readonly isSigned: boolean;
  /** It is in a block, waits for one, or was only seen: a node may remember it before it has checked it. */
  readonly isKnown: boolean;
  readonly refNumber: number;
  /** The reference block's id is the id of that block on this chain. */
  readonly isRefKnown: boolean;
  readonly expiresAtMs: number;
}

/** What the node answers to a broadcast, in java-tron's words (Wallet.broadcastTransaction, Manager.validateCommon). */
export function admission(
  offer: Offer,
  head: Pick<BlockRef, "number" | "timeMs">,
  node: { readonly solidNumber: number; readonly isBusy: boolean },
): string {
  if (head.number - node.solidNumber > unsolidMax) return "BLOCK_UNSOLIDIFIED";
  if (node.isBusy) return "SERVER_BUSY";
  if (offer.isKnown) return "DUP_TRANSACTION_ERROR";
  if (!offer.isSigned) return "SIGERROR";
  const isRecent = offer.refNumber <= head.number && head.number - offer.refNumber < referenceMax;
  if (!isRecent || !offer.isRefKnown) return "TAPOS_ERROR";
  const isValid = offer.expiresAtMs > head.timeMs && offer.expiresAtMs <= head.timeMs + expirationMaxMs;
  return isValid ? "SUCCESS" : "TRANSACTION_EXPIRATION_ERROR";
}

const classes: ReadonlyMap<string, Answer["class"]> = new Map([
  ["SUCCESS", "accepted"],
  ["DUP_TRANSACTION_ERROR", "known"],
  ["SERVER_BUSY", "busy"],
  ["NO_CONNECTION", "busy"],
  ["BLOCK_UNSOLIDIFIED", "busy"],
  ["SIGERROR", "refused"],
  ["TAPOS_ERROR", "refused"],
  ["TRANSACTION_EXPIRATION_ERROR", "refused"],
  ["TOO_BIG_TRANSACTION_ERROR", "refused"],
  ["CONTRACT_VALIDATE_ERROR", "refused"],
  ["CONTRACT_EXE_ERROR", "refused"],
  // java-tron's spelling.
  ["BANDWITH_ERROR", "dry"],
]);

/** A code that is not known here says nothing: NOT_ENOUGH_EFFECTIVE_CONNECTION comes after the node took it. */
export const answerOf = (code: string): Answer => ({
  class: classes.get(code) ?? "unanswered",
  code: code.slice(0, 64),
});

/** A transaction that a node has taken. `due`: the first block that can hold it. */
export interface Waiting {
  readonly due: number;
  readonly expiresAtMs: number;
}

/**
 * The block that takes a waiting transaction once all blocks up to `height` exist; undefined: none ever will. The time
 * of the *parent* must be before the expiration, so the block's own time may be at or after it.
 */
export function blockFor({ due, expiresAtMs }: Waiting, height: number, eras: Eras): number | undefined {
  const number = Math.max(due, height + 1);
  return blockTime(eras, number - 1) < expiresAtMs ? number : undefined;
}

/** Whether no block after `height` can hold it. */
export const isOver = ({ expiresAtMs }: Pick<Waiting, "expiresAtMs">, height: number, eras: Eras): boolean =>
  blockTime(eras, height) >= expiresAtMs;

/** A transfer of a TRC-20 token takes this much energy. The first to a recipient writes a new entry of the contract. */
export const energyOf = (holdsToken: boolean): bigint => (holdsToken ? 65_000n : 130_000n);
/** What a refused transfer takes, about. */
const revertEnergy = 10_000n;
/** Sun for a unit of energy, where a caller has no price of its own. */
export const energyPriceSun = 100n;

export interface Execution {
  readonly amountMinor: bigint;
  /** The most that may be burned for energy. */
  readonly feeLimitSun: bigint;
}
export interface Circumstances {
  readonly balanceMinor: bigint;
  /** The recipient has had the token before. */
  readonly holdsToken: boolean;
  readonly isBlacklisted: boolean;
  readonly energyPriceSun: bigint;
}
export interface Outcome {
  readonly result: "SUCCESS" | "OUT_OF_ENERGY" | "REVERT";
  /** Another transaction may succeed. */
  readonly isRetryable: boolean;
  /** Burned whatever the result is. */
  readonly feeSun: bigint;
}

/** What happens to a transaction in its block. Only SUCCESS moves the amount. */
export function execute({ amountMinor, feeLimitSun }: Execution, at: Circumstances): Outcome {
  const isDry = at.balanceMinor < amountMinor;
  const isReverted = at.isBlacklisted || isDry;
  const feeSun = (isReverted ? revertEnergy : energyOf(at.holdsToken)) * at.energyPriceSun;
  if (feeSun > feeLimitSun) return { result: "OUT_OF_ENERGY", isRetryable: true, feeSun: feeLimitSun };
  if (isReverted) return { result: "REVERT", isRetryable: !at.isBlacklisted, feeSun };
  return { result: "SUCCESS", isRetryable: false, feeSun };
}

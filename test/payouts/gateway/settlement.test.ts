// The fate of an attempt by what was read: above all, that nothing is called dead too early.
import { describe, expect, test } from "vitest";
import type { Block } from "../../../src/payouts/gateway/chain.js";
import type { Sought } from "../../../src/payouts/gateway/gateway.js";
import { deathProof, judge, type Reading, type Receipt } from "../../../src/payouts/gateway/settlement.js";

/** Blocks every second; block n has the time n seconds. Block 14 is the first at or after the expiration. */
const attempt: Sought = {
  ...{ txid: "tx", recipient: "A", amountMinor: 5n, refBlock: { number: 10, id: "b10", timeMs: 10_000 } },
  expiresAtMs: 13_500,
};
const blockAt = (number: number, ...txids: string[]): Block => ({
  ...{ number, id: `b${number}`, parentId: `b${number - 1}`, timeMs: number * 1000, txids },
});
const blocks = (from: number, to: number): Block[] =>
  Array.from({ length: to - from + 1 }, (_, place) => blockAt(from + place));
const solid = { number: 40, id: "b40", timeMs: 40_000 };
const aReading = (given: Partial<Reading>): Reading => ({ solid, isSeen: false, blocks: [], nodes: 1, ...given });
const replaced = (all: readonly Block[], number: number, change: Partial<Block>): Block[] =>
  all.map((block) => (block.number === number ? { ...block, ...change } : block));

describe("the proof of death", () => {
  test("holds for all blocks up to the first at or after the expiration", () => {
    const proof = { from: attempt.refBlock, to: { number: 14, id: "b14", timeMs: 14_000 }, blocks: 4, nodes: 1 };
    expect(deathProof(attempt, aReading({ blocks: blocks(11, 14) }))).toEqual(proof);
    // Further blocks change nothing.
    expect(deathProof(attempt, aReading({ blocks: blocks(11, 30), nodes: 2 }))).toEqual({ ...proof, nodes: 2 });
  });

  test("counts a block whose time is exactly the expiration", () => {
    const exactly = { ...attempt, expiresAtMs: 14_000 };
    expect(deathProof(exactly, aReading({ blocks: blocks(11, 13) }))).toBeUndefined();
    expect(deathProof(exactly, aReading({ blocks: blocks(11, 14) }))?.to.number).toBe(14);
    // A millisecond later, block 14 is a parent that lets block 15 hold the transaction.
    const later = { ...attempt, expiresAtMs: 14_001 };
    expect(deathProof(later, aReading({ blocks: blocks(11, 14) }))).toBeUndefined();
    expect(deathProof(later, aReading({ blocks: blocks(11, 15) }))?.to.number).toBe(15);
  });

  const all = blocks(11, 14);
  test.each<[string, Partial<Reading>]>([
    ["no blocks were read", { blocks: [] }],
    ["the boundary block is missing", { blocks: blocks(11, 13) }],
    ["the first block is missing", { blocks: blocks(12, 14) }],
    ["a block in the middle is missing", { blocks: all.filter(({ number }) => number !== 12) }],
    ["a block is there twice", { blocks: [...blocks(11, 12), ...blocks(12, 14)] }],
    ["the blocks are in another order", { blocks: all.toReversed() }],
    ["the first block is not the child of the reference block", { blocks: replaced(all, 11, { parentId: "x10" }) }],
    ["a link in the middle is broken", { blocks: replaced(all, 13, { parentId: "x12" }) }],
    ["a block of another branch is among them", { blocks: replaced(all, 13, { id: "x13" }) }],
    ["time does not grow", { blocks: replaced(all, 12, { timeMs: 11_000 }) }],
    ["the boundary block is not solid", { blocks: all, solid: { number: 13, id: "b13", timeMs: 13_000 } }],
    ["the solid block of that number is another", { blocks: all, solid: { number: 14, id: "x14", timeMs: 14_000 } }],
    ["the transaction is in the first block", { blocks: replaced(all, 11, { txids: ["a", "tx"] }) }],
    ["the transaction is in the boundary block", { blocks: replaced(all, 14, { txids: ["tx"] }) }],
    ["nobody has read them", { blocks: all, nodes: 0 }],
  ])("does not hold when %s", (_, given) => {
    expect(deathProof(attempt, aReading(given))).toBeUndefined();
    expect(judge(attempt, aReading(given)).kind).toBe("open");
  });

  test("needs a block even when the reference block is already past the expiration", () => {
    const past = { ...attempt, expiresAtMs: 9_000 };
    expect(deathProof(past, aReading({ blocks: [] }))).toBeUndefined();
    expect(deathProof(past, aReading({ blocks: blocks(11, 11) }))?.blocks).toBe(1);
  });
});

describe("the verdict", () => {
  const receipt: Receipt = {
    ...{ block: blockAt(14), result: "SUCCESS", isRetryable: false, fee: "7" },
    transfers: [{ recipient: "A", amountMinor: 5n }],
  };
  const block = { number: 14, id: "b14", timeMs: 14_000 };

  test("a transaction that a node knows is open and seen", () => {
    expect(judge(attempt, aReading({ isSeen: true }))).toEqual({ kind: "open", seen: true, solid });
    expect(judge(attempt, aReading({}))).toEqual({ kind: "open", seen: false, solid });
  });

  test("the wanted transfer in a solid block has landed", () => {
    expect(judge(attempt, aReading({ receipt }))).toEqual({ kind: "landed", block, fee: "7" });
  });

  test("a receipt in a block that is not solid leaves it open, whatever the blocks say", () => {
    const early = { number: 13, id: "b13", timeMs: 13_000 };
    expect(judge(attempt, aReading({ receipt, solid: early }))).toEqual({ kind: "open", seen: true, solid: early });
    const beyond = { ...receipt, block: blockAt(50) };
    expect(judge(attempt, aReading({ receipt: beyond, blocks: blocks(11, 14) })).kind).toBe("open");
  });

  test.each([
    ["OUT_OF_ENERGY", true],
    ["REVERT", false],
  ])("%s moved nothing", (result, isRetryable) => {
    const given = { ...receipt, result, isRetryable, transfers: [] };
    const verdict = { kind: "reverted", block, fee: "7", code: result, retryable: isRetryable };
    expect(judge(attempt, aReading({ receipt: given }))).toEqual(verdict);
  });

  test.each<[string, Partial<Receipt>]>([
    ["no transfer", { transfers: [] }],
    ["two transfers", { transfers: [...receipt.transfers, ...receipt.transfers] }],
    ["another recipient", { transfers: [{ recipient: "B", amountMinor: 5n }] }],
    ["a unit less", { transfers: [{ recipient: "A", amountMinor: 4n }] }],
    ["a unit more", { transfers: [{ recipient: "A", amountMinor: 6n }] }],
    ["a revert that moved money", { result: "REVERT" }],
  ])("%s is wrong, and a person has to look", (_, given) => {
    expect(judge(attempt, aReading({ receipt: { ...receipt, ...given } })).kind).toBe("wrong");
  });

  test("a pool that still knows a dead transaction does not keep it alive", () => {
    expect(judge(attempt, aReading({ isSeen: true, blocks: blocks(11, 14) })).kind).toBe("dead");
  });
});

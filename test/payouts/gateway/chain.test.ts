// What a chain does: slots, admission, inclusion, execution, forks.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  admission,
  answerOf,
  blockFor,
  blockTime,
  type Eras,
  execute,
  lastBlockFor,
  slotAt,
} from "../../../src/payouts/gateway/chain.js";
import { judge } from "../../../src/payouts/gateway/settlement.js";
import { type Chain, type ChainTransaction, createChain } from "../../support/world/chain.js";
import { randomFrom } from "../../support/world/random.js";

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const eras: Eras = [{ number: 0, timeMs: 0, blockMs: 3000 }];

describe(`slots (seed ${seed})`, () => {
  test.each([
    [-1, 0],
    [0, 0],
    [2999, 0],
    [3000, 1],
    [3001, 1],
    [6000, 2],
  ])("at %i ms, block %i is the newest", (nowMs, number) => {
    expect(slotAt(eras, nowMs)).toBe(number);
  });

  test("another block time changes no block that was", () => {
    const changed: Eras = [
      ...eras,
      { number: 10, timeMs: 30_000, blockMs: 10 },
      { number: 12, timeMs: 30_020, blockMs: 500 },
    ];
    expect([9, 10, 11, 12, 13].map((number) => blockTime(changed, number))).toEqual([
      27_000, 30_000, 30_010, 30_020, 30_520,
    ]);
    expect([29_999, 30_000, 30_019, 30_020, 30_519, 30_520].map((nowMs) => slotAt(changed, nowMs))).toEqual([
      ...[9, 10, 11, 12, 12, 13],
    ]);
  });

  test("a block's slot is the block, and the last block for an expiration is the first at or after it", () => {
    const anEra = fc.record({ blocks: fc.integer({ min: 1, max: 50 }), blockMs: fc.integer({ min: 10, max: 60_000 }) });
    const check = (made: readonly { blocks: number; blockMs: number }[], number: number, expiresAtMs: number) => {
      let all: Eras = [{ number: 0, timeMs: 5000, blockMs: 1000 }];
      for (const { blocks, blockMs } of made) {
        const next = (all.at(-1)?.number ?? 0) + blocks;
        all = [...all, { number: next, timeMs: blockTime(all, next), blockMs }];
      }
      expect(slotAt(all, blockTime(all, number))).toBe(number);
      const last = lastBlockFor(all, expiresAtMs);
      expect(blockTime(all, last)).toBeGreaterThanOrEqual(expiresAtMs);
      expect(blockTime(all, last - 1)).toBeLessThan(expiresAtMs);
      expect(blockFor({ due: last, expiresAtMs }, 0, all)).toBe(last);
      expect(blockFor({ due: last + 1, expiresAtMs }, 0, all)).toBeUndefined();
    };
    const times = fc.integer({ min: 5001, max: 5_000_000 });
    fc.assert(fc.property(fc.array(anEra, { maxLength: 5 }), fc.integer({ min: 1, max: 500 }), times, check), { seed });
  });
});

describe("admission", () => {
  const offer = { isSigned: true, isKnown: false, refNumber: 100_000, isRefKnown: true, expiresAtMs: 60_001 };
  const head = { number: 100_019, timeMs: 60_000 };
  const node = { solidNumber: 100_000, isBusy: false };
  const dayMs = 86_400_000;

  test.each<[string, object, object, string]>([
    ["a good one", {}, {}, "SUCCESS"],
    ["one that expires with the head block", { expiresAtMs: 60_000 }, {}, "TRANSACTION_EXPIRATION_ERROR"],
    ["one that expires in a day", { expiresAtMs: 60_000 + dayMs }, {}, "SUCCESS"],
    ["one that expires later", { expiresAtMs: 60_001 + dayMs }, {}, "TRANSACTION_EXPIRATION_ERROR"],
    ["one without our signature", { isSigned: false }, {}, "SIGERROR"],
    ["a known one, expired", { isKnown: true, expiresAtMs: 1 }, {}, "DUP_TRANSACTION_ERROR"],
    ["an unknown reference block", { isRefKnown: false }, {}, "TAPOS_ERROR"],
    ["a reference block to come", { refNumber: 100_020 }, {}, "TAPOS_ERROR"],
    ["the oldest reference block", { refNumber: 100_019 - 65_535 }, {}, "SUCCESS"],
    ["an older reference block", { refNumber: 100_019 - 65_536 }, {}, "TAPOS_ERROR"],
    ["54 blocks not solid", {}, { solidNumber: 100_019 - 54 }, "SUCCESS"],
    ["55 blocks not solid", {}, { solidNumber: 100_019 - 55 }, "BLOCK_UNSOLIDIFIED"],
    ["a busy node", { isKnown: true }, { isBusy: true }, "SERVER_BUSY"],
  ])("%s", (_, ofOffer, ofNode, code) => {
    expect(admission({ ...offer, ...ofOffer }, head, { ...node, ...ofNode })).toBe(code);
  });

  test.each([
    ["SUCCESS", "accepted"],
    ["DUP_TRANSACTION_ERROR", "known"],
    ["SERVER_BUSY", "busy"],
    ["NOT_ENOUGH_EFFECTIVE_CONNECTION", "unanswered"],
    ["TRANSACTION_EXPIRATION_ERROR", "refused"],
    ["BANDWITH_ERROR", "dry"],
    ["OTHER_ERROR", "unanswered"],
    ["toString", "unanswered"],
    ["999", "unanswered"],
  ])("%s is %s", (code, kind) => {
    expect(answerOf(code)).toEqual({ class: kind, code });
    expect(answerOf(code.padEnd(100, "x")).code.length).toBe(64);
  });
});

describe("execution", () => {
  const at = { balanceMinor: 10n, holdsToken: true, isBlacklisted: false, energyPriceSun: 100n };
  const limit = 20_000_000n;
  test.each<[string, object, bigint, object]>([
    ["a recipient with tokens", {}, limit, { result: "SUCCESS", feeSun: 6_500_000n }],
    ["a recipient without", { holdsToken: false }, limit, { result: "SUCCESS", feeSun: 13_000_000n }],
    ["just enough for the fee", {}, 6_500_000n, { result: "SUCCESS", feeSun: 6_500_000n }],
    ["too little for the fee", {}, 6_499_999n, { result: "OUT_OF_ENERGY", isRetryable: true, feeSun: 6_499_999n }],
    ["the whole balance", { balanceMinor: 5n }, limit, { result: "SUCCESS" }],
    ["less than the amount", { balanceMinor: 4n }, limit, { result: "REVERT", isRetryable: true, feeSun: 1_000_000n }],
    ["a blacklisted recipient", { isBlacklisted: true }, limit, { result: "REVERT", isRetryable: false }],
  ])("%s", (_, circumstances, feeLimitSun, outcome) => {
    expect(execute({ amountMinor: 5n, feeLimitSun }, { ...at, ...circumstances })).toMatchObject(outcome);
  });
});

const blockMs = 3000;
const aChain = (given: Partial<Parameters<typeof createChain>[0]> = {}) =>
  createChain({ genesisMs: 0, blockMs, balanceMinor: 1000n, ...given });
const aTransaction = (chain: Chain, given: Partial<ChainTransaction> = {}): ChainTransaction => ({
  ...{ txid: "tx", recipient: "A", amountMinor: 5n, feeLimitSun: 100_000_000n, isSigned: true },
  ...{ refBlock: chain.solid(), expiresAtMs: chain.head().timeMs + 60_000 },
  ...given,
});
const blockOf = (chain: Chain, number: number) => chain.block(number) ?? chain.head();
const atBlock = (chain: Chain, number: number) => chain.advanceTo(number * blockMs);
const reading = (chain: Chain, { refBlock, txid }: ChainTransaction) => {
  const blocks = [];
  for (let n = refBlock.number + 1; n <= chain.solid().number; n++) blocks.push(blockOf(chain, n));
  const info = chain.info(txid);
  const receipt = info && {
    ...{ block: info.block, result: info.outcome.result, isRetryable: info.outcome.isRetryable },
    ...{ fee: `${info.outcome.feeSun}`, transfers: info.outcome.result === "SUCCESS" ? [info.transaction] : [] },
  };
  return { solid: chain.solid(), isSeen: chain.isPooled(txid), blocks, nodes: 1, ...(receipt && { receipt }) };
};

describe("a chain in memory", () => {
  test("takes a transaction into the next block, once, and calls it solid 19 blocks later", () => {
    const chain = aChain();
    atBlock(chain, 30);
    const sent = aTransaction(chain);
    expect(sent.refBlock.number).toBe(11);
    expect(chain.accept(sent, 30 * blockMs + 1)).toBe("SUCCESS");
    expect(chain.accept(sent, 30 * blockMs + 2)).toBe("DUP_TRANSACTION_ERROR");
    atBlock(chain, 31);
    expect(chain.info("tx")?.block).toMatchObject({ number: 31, txids: ["tx"], parentId: blockOf(chain, 30).id });
    expect(chain.accept(sent, 31 * blockMs)).toBe("DUP_TRANSACTION_ERROR");
    expect(chain.balanceMinor()).toBe(995n);
    expect(judge(sent, reading(chain, sent)).kind).toBe("open");
    atBlock(chain, 49);
    expect(judge(sent, reading(chain, sent)).kind).toBe("open");
    atBlock(chain, 50);
    expect(judge(sent, reading(chain, sent)).kind).toBe("landed");
  });

  test("takes a late one into the block whose parent is the last before the expiration, and not after", () => {
    const chain = aChain();
    atBlock(chain, 30);
    const sent = aTransaction(chain, { expiresAtMs: 36 * blockMs - 1 });
    chain.accept(sent, 30 * blockMs, { late: true });
    expect(chain.mayLand(sent)).toBe(true);
    atBlock(chain, 60);
    expect(chain.info("tx")?.block).toMatchObject({ number: 36 });
    expect(chain.info("tx")?.block.timeMs).toBeGreaterThan(sent.expiresAtMs);
    expect(judge(sent, reading(chain, sent)).kind).toBe("landed");
  });

  test("a forgotten one is dead when the first block at or after its expiration is solid, and not before", () => {
    const chain = aChain();
    atBlock(chain, 30);
    const sent = aTransaction(chain);
    chain.accept(sent, 30 * blockMs);
    expect(chain.forget("tx")).toBe(true);
    for (let number = 31; number < 50 + 19; number++) {
      atBlock(chain, number);
      expect(judge(sent, reading(chain, sent)).kind, `${number}`).toBe("open");
      expect(chain.mayLand(sent)).toBe(true);
    }
    atBlock(chain, 69);
    expect(judge(sent, reading(chain, sent))).toMatchObject({ kind: "dead", proof: { to: { number: 50 } } });
    expect(chain.mayLand(sent)).toBe(false);
    expect(chain.accept(sent, 69 * blockMs)).toBe("TRANSACTION_EXPIRATION_ERROR");
  });

  test("a fork takes back what is not solid, and what waits again is included again or expires", () => {
    const chain = aChain();
    atBlock(chain, 30);
    const [one, two] = [aTransaction(chain), aTransaction(chain, { txid: "two", expiresAtMs: 32 * blockMs })];
    chain.accept(one, 30 * blockMs);
    chain.accept(two, 30 * blockMs);
    atBlock(chain, 33);
    const orphaned = blockOf(chain, 31);
    expect([orphaned.txids, chain.balanceMinor()]).toEqual([["tx", "two"], 990n]);
    expect(chain.fork(3)).toBe(3);
    expect([chain.head().number, chain.balanceMinor(), chain.info("tx")]).toEqual([33, 1000n, undefined]);
    expect(blockOf(chain, 31).id).not.toBe(orphaned.id);
    expect(blockOf(chain, 31).parentId).toBe(orphaned.parentId);
    atBlock(chain, 34);
    expect(chain.info("tx")?.block.number).toBe(34);
    expect(chain.info("two")).toBeUndefined();
    expect(chain.balanceMinor()).toBe(995n);
    // Solid blocks stay.
    expect(chain.fork(100)).toBe(19);
  });

  test("takes nothing while too many blocks are not solid", () => {
    const chain = aChain();
    atBlock(chain, 30);
    chain.holdSolid(true);
    const sent = aTransaction(chain, { expiresAtMs: 300 * blockMs });
    expect(chain.accept(sent, 65 * blockMs)).toBe("SUCCESS");
    expect(chain.accept({ ...sent, txid: "two" }, 66 * blockMs)).toBe("BLOCK_UNSOLIDIFIED");
    chain.holdSolid(false);
    expect(chain.accept({ ...sent, txid: "two" }, 67 * blockMs)).toBe("SUCCESS");
  });

  test("a node that remembers what it has not checked calls it a duplicate", () => {
    const chain = aChain({ remembersUnchecked: true });
    const bad = aTransaction(chain, { isSigned: false });
    expect(chain.accept(bad, 0)).toBe("SIGERROR");
    expect(chain.accept(bad, 0)).toBe("DUP_TRANSACTION_ERROR");
    atBlock(chain, 60);
    expect(chain.info("tx")).toBeUndefined();
  });

  test("what fails moves nothing", () => {
    const chain = aChain({ isBlacklisted: (recipient) => recipient === "B" });
    atBlock(chain, 30);
    chain.accept(aTransaction(chain, { txid: "bad", recipient: "B" }), 30 * blockMs);
    chain.accept(aTransaction(chain, { txid: "dear", feeLimitSun: 1n }), 30 * blockMs);
    chain.accept(aTransaction(chain, { txid: "much", amountMinor: 1001n }), 30 * blockMs);
    atBlock(chain, 31);
    const results = ["bad", "dear", "much"].map((txid) => chain.info(txid)?.outcome.result);
    expect(results).toEqual(["REVERT", "OUT_OF_ENERGY", "REVERT"]);
    expect([chain.balanceMinor(), chain.transfers()]).toEqual([1000n, []]);
  });
});

/** Sends, forks, losses and late ones at random: whatever happens, the judge is right. */
function wander(runSeed: number): void {
  const random = randomFrom(runSeed);
  const chain = aChain({ balanceMinor: 10n ** 9n });
  const sent: ChainTransaction[] = [];
  const dead = new Set<string>();
  let nowMs = 30 * blockMs;
  for (let step = 0; step < 150; step++) {
    nowMs += Math.floor(random() * blockMs * 3);
    chain.advanceTo(nowMs);
    if (random() < 0.5) {
      const expiresAtMs = chain.head().timeMs + 1 + Math.floor(random() * 60_000);
      const made = aTransaction(chain, { txid: `t${step}`, expiresAtMs });
      sent.push(made);
      if (random() < 0.8) chain.accept(made, nowMs, { late: random() < 0.3 });
    }
    const again = sent[Math.floor(random() * sent.length)];
    if (again !== undefined && random() < 0.5) chain.accept(again, nowMs);
    if (again !== undefined && random() < 0.2) chain.forget(again.txid);
    if (random() < 0.1) chain.fork(1 + Math.floor(random() * 25), { forgets: random() < 0.5 });
    for (const one of sent) {
      const verdict = judge(one, reading(chain, one));
      if (dead.has(one.txid)) expect(verdict.kind).toBe("dead");
      if (verdict.kind !== "dead") continue;
      dead.add(one.txid);
      expect(chain.mayLand(one), `${one.txid} of seed ${runSeed}`).toBe(false);
    }
  }
  chain.advanceTo(nowMs + 200 * blockMs);
  for (const one of sent) {
    const { kind } = judge(one, reading(chain, one));
    expect(kind).toBe(chain.info(one.txid) === undefined ? "dead" : "landed");
  }
  expect(chain.balanceMinor()).toBe(10n ** 9n - 5n * BigInt(chain.transfers().length));
}

test(`the judge is never wrong about a chain that forks and forgets (seed ${seed})`, () => {
  for (let run = 0; run < 10; run++) wander(seed + run);
});

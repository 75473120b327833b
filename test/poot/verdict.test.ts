// Rules and verdicts of proofs, without a store.
import { describe, expect, test } from "vitest";
import { counted, newStanding, ranked, type StandingDocument, totalsOver } from "../../src/poot/standing.js";
import {
  isSameProof,
  isTimely,
  type Proof,
  reusedVerdict,
  shapeFault,
  signedText,
  type ValidationDocument,
  verdictOf,
} from "../../src/poot/verdict.js";

const now = new Date("2026-01-01T12:30:00Z");
const seconds = now.getTime() / 1000;
const limits = { outputBytesMax: 1_048_576, skewMs: 60_000 };
const aProof = (tweaks: Partial<Proof> = {}): Proof => ({
  nodeId: "node_1",
  outputHash: "ab".repeat(32),
  sizeBytes: 30_000,
  at: { seconds, nanos: 0 },
  nonce: "0123456789abcdef",
  ...tweaks,
});
let ids = 0;
const circumstances = (tweaks: { now?: Date } = {}) => ({ id: `poot_val_${++ids}`, now, tookMs: 1.4, ...tweaks });
const aVerdict = (at = now, tweaks: Partial<ValidationDocument> = {}): ValidationDocument => ({
  ...verdictOf(
    aProof({ at: { seconds: at.getTime() / 1000, nanos: 0 } }),
    { history: [], duplicate: false },
    circumstances({ now: at }),
  ),
  ...tweaks,
});

describe("the rules of a proof", () => {
  test.each([
    [0, "Output data is empty"],
    [1, undefined],
    [1_048_576, undefined],
    [1_048_577, "Output data too large"],
  ])("an output of %d bytes", (size, fault) => expect(shapeFault(size, "x".repeat(8), limits)).toBe(fault));

  test.each([
    ["x".repeat(7), "Invalid nonce"],
    ["x".repeat(8), undefined],
    ["x".repeat(256), undefined],
    ["x".repeat(257), "Invalid nonce"],
    ["with a space", "Invalid nonce"],
    ["umlauts-äöü", "Invalid nonce"],
    ["line\nbreak", "Invalid nonce"],
    ["", "Invalid nonce"],
  ])("the nonce %j", (nonce, fault) => expect(shapeFault(1, nonce, limits)).toBe(fault));

  test.each([
    [-86_400, 0, true],
    [-86_401, 999_999_999, false],
    [60, 0, true],
    [60, 1_000_000, false],
    [61, 0, false],
    [0, -1, false],
    [0, 1_000_000_000, false],
    [Number.MAX_SAFE_INTEGER, 0, false],
  ])("a time %d s and %d ns from now", (away, nanos, timely) => {
    expect(isTimely({ seconds: seconds + away, nanos }, now, limits)).toBe(timely);
  });

  test("no time at all is not timely", () => expect(isTimely(undefined, now, limits)).toBe(false));
});

describe("a verdict", () => {
  test("of a good proof", () => {
    const verdict = verdictOf(aProof(), { history: [], duplicate: false }, circumstances());
    expect(verdict).toMatchObject({ score: 87.5, confidence: 0.5, is_valid: true, outcome: "valid", errors: [] });
    expect(verdict).toMatchObject({ spent_nonce: "0123456789abcdef", uncounted: true, validation_time_ms: 1 });
  });

  test("names every reason, and a duplicate alone makes nothing invalid", () => {
    const weak = aProof({ sizeBytes: 10 });
    const errors = (proof: Proof, duplicate: boolean) =>
      verdictOf(proof, { history: [], duplicate }, circumstances()).errors;
    expect(errors(weak, true)).toEqual(["score_below_threshold", "duplicate_output"]);
    expect(errors(weak, false)).toEqual(["score_below_threshold"]);
    const duplicate = verdictOf(aProof(), { history: [], duplicate: true }, circumstances());
    expect(duplicate).toMatchObject({ is_valid: true, errors: ["duplicate_output"] });
  });

  test("on a spent nonce has no score and never counts", () => {
    const verdict = reusedVerdict(aProof(), circumstances());
    expect(verdict).toMatchObject({ score: 0, is_valid: false, errors: ["nonce_reused"] });
    expect(verdict).not.toHaveProperty("breakdown");
    expect(verdict).not.toHaveProperty("uncounted");
    expect(verdict).not.toHaveProperty("spent_nonce");
  });

  test("two proofs are one when hash, time to the nanosecond and nonce agree", () => {
    expect(isSameProof(aProof(), aProof())).toBe(true);
    expect(isSameProof(aProof(), aProof({ at: { seconds, nanos: 1 } }))).toBe(false);
    expect(isSameProof(aProof(), aProof({ outputHash: "cd".repeat(32) }))).toBe(false);
    expect(isSameProof(aProof(), aProof({ nonce: "fedcba9876543210" }))).toBe(false);
  });

  test("the signed text has five lines", () => {
    const text = signedText(aProof({ at: { seconds, nanos: 7 } }));
    expect(text).toBe(`lucid.poot.v1\nnode_1\n${"ab".repeat(32)}\n${seconds}.000000007\n0123456789abcdef`);
  });
});

describe("a standing", () => {
  test("keeps the last 100 scores, all totals, and the newest verdict even if an older one is counted later", () => {
    const verdicts = Array.from({ length: 150 }, (_, at) => aVerdict(now, { score: at, is_valid: at % 2 === 0 }));
    const standing = counted(newStanding("node_1"), verdicts, 3, now);
    expect(standing.recent).toHaveLength(100);
    expect(standing.recent[0]?.score).toBe(50);
    expect(standing).toMatchObject({ version: 1, valid: 75, invalid: 75, rejected: 3, mean_score: 99.5 });
    const late = aVerdict(new Date(now.getTime() - 5000), { score: 1 });
    expect(counted(standing, [late], 0, now).last?.score).toBe(149);
    expect(counted(standing, [late], 0, now).taken).toEqual([late._id]);
  });

  test("with rejections alone has no score and no rank", () => {
    const standing = counted(newStanding("node_1"), [], 2, now);
    expect(standing.mean_score).toBeUndefined();
    expect(ranked([standing])).toEqual([]);
  });

  test("keeps hours and days within their bounds, and totals are those of the window", () => {
    let standing: StandingDocument = newStanding("node_1");
    for (let hour = 0; hour < 24 * 40; hour++) {
      const at = new Date(now.getTime() - (24 * 40 - 1 - hour) * 3_600_000);
      standing = counted(standing, [aVerdict(at, { score: 80, is_valid: true })], 1, at);
    }
    expect([standing.hours.length, standing.days.length]).toEqual([49, 32]);
    const over = (hours: number) => totalsOver([standing, standing], hours * 3_600_000, now);
    // One verdict per hour in both standings; the running hour counts besides the full one.
    expect(over(1)).toMatchObject({ valid: 4, rejected: 4, invalid: 0, score_sum: 4 * 8000 });
    expect(over(1).start).toEqual(new Date("2026-01-01T11:00:00Z"));
    expect(over(48)).toMatchObject({ valid: 98 });
    // Beyond 48 hours whole days count: 12:30 is in the 13th hour of the running day.
    expect(over(49).start).toEqual(new Date("2025-12-29T00:00:00Z"));
    expect(over(49)).toMatchObject({ valid: 2 * (3 * 24 + 13) });
    expect(over(720)).toMatchObject({ valid: 2 * (30 * 24 + 13) });
  });

  test("ranks by mean score, then by valid proofs, then the newer id", () => {
    const of = (_id: string, mean_score: number, valid: number) => ({ _id, mean_score, valid });
    const order = ranked([of("a", 70, 9), of("b", 80, 1), of("c", 80, 2), of("d", 80, 2)]).map(({ _id }) => _id);
    expect(order).toEqual(["d", "c", "b", "a"]);
  });
});

// The formula of the score: known numbers, and properties that hold for any input.
import { describe, expect, test } from "vitest";
import {
  type Counted,
  confidenceOf,
  entropyBits,
  passScore,
  reliabilityOf,
  roundCents,
  type ScoreInput,
  scoreOf,
} from "../../src/poot/score.js";
import { randomFrom } from "../support/world/random.js";

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
/** 16 different characters have 4 bits of entropy: the full 20 points. */
const sixteen = "0123456789abcdef";
const hex = "9f86d081884c7d659a2feaa0c55ad015";
const base64url = "kX3v_Zq-81LmNwT0aYcR7g";
const constant = "aaaaaaaaaaaaaaaa";
const fresh: ScoreInput = { sizeBytes: 30_000, ageMs: 0, nonce: sixteen, reliability: 0.5 };

describe("golden vectors", () => {
  // By hand: size/1000 capped at 30; 25 - minutes/10; 25 x reliability; 5 x entropy capped at 20.
  const minutes = 60_000;
  test.each([
    ["a new node, 12,494 bytes", { sizeBytes: 12_494 }, [12.494, 25, 12.5, 20], 69.99],
    ["a new node, 12,495 bytes", { sizeBytes: 12_495 }, [12.495, 25, 12.5, 20], 70],
    ["a new node, 30,000 bytes", {}, [30, 25, 12.5, 20], 87.5],
    ["12,494 bytes of 100 minutes ago", { sizeBytes: 12_494, ageMs: 100 * minutes }, [12.494, 15, 12.5, 20], 59.99],
    ["12,495 bytes of 100 minutes ago", { sizeBytes: 12_495, ageMs: 100 * minutes }, [12.495, 15, 12.5, 20], 60],
    ["30,000 bytes of 100 minutes ago", { ageMs: 100 * minutes }, [30, 15, 12.5, 20], 77.5],
    ["250 minutes ago is worth nothing", { ageMs: 250 * minutes }, [30, 0, 12.5, 20], 62.5],
    ["a day ago is worth nothing", { ageMs: 1440 * minutes }, [30, 0, 12.5, 20], 62.5],
    ["a clock that runs ahead counts as now", { ageMs: -60_000 }, [30, 25, 12.5, 20], 87.5],
    ["a constant nonce", { nonce: constant }, [30, 25, 12.5, 0], 67.5],
    ["a nonce of 15 characters", { nonce: sixteen.slice(1) }, [30, 25, 12.5, 0], 67.5],
    ["two characters, equally often", { nonce: "abababababababab" }, [30, 25, 12.5, 5], 72.5],
    ["four characters, equally often", { nonce: "abcdabcdabcdabcd" }, [30, 25, 12.5, 10], 77.5],
    ["a perfect node", { reliability: 1 }, [30, 25, 25, 20], 100],
    ["beyond 30,000 bytes nothing is added", { sizeBytes: 1_048_576 }, [30, 25, 12.5, 20], 87.5],
    ["nothing at all", { sizeBytes: 1, ageMs: 1e9, nonce: "aaaaaaaa", reliability: 0 }, [0.001, 0, 0, 0], 0],
  ] as const)("%s", (_, tweaks, points, score) => {
    const scored = scoreOf({ ...fresh, ...tweaks });
    const [complexity, freshness, reliability, randomness] = points;
    expect(scored.score).toBe(score);
    expect(scored.breakdown.complexity).toBeCloseTo(complexity, 9);
    expect(scored.breakdown.freshness).toBeCloseTo(freshness, 9);
    expect(scored.breakdown.reliability).toBeCloseTo(reliability, 9);
    expect(scored.breakdown.randomness).toBeCloseTo(randomness, 9);
  });

  // The entropy of both texts, by their character counts: the hex of 32 has 4,3,3,3,3,2,2,2,2,2,2,1,1,1,1 characters.
  test("random hex and base64url", () => {
    const counts = (text: string) => [...new Set(text)].map((one) => text.split(one).length - 1);
    const bits = (text: string) =>
      counts(text).reduce((sum, n) => sum + (n / text.length) * Math.log2(text.length / n), 0);
    expect(scoreOf({ ...fresh, nonce: hex }).breakdown.randomness).toBeCloseTo(Math.min(20, 5 * bits(hex)), 9);
    expect(scoreOf({ ...fresh, nonce: hex }).score).toBe(roundCents(67.5 + Math.min(20, 5 * bits(hex))));
    expect(bits(base64url)).toBeGreaterThan(4);
    expect(scoreOf({ ...fresh, nonce: base64url }).score).toBe(87.5);
  });

  test("69.995 is 70", () => {
    expect(roundCents(12.495 + 25 + 12.5 + 20)).toBe(70);
    expect(roundCents(69.995)).toBe(70);
    expect(roundCents(69.9949999)).toBe(69.99);
    expect(roundCents(1.005)).toBe(1.01);
    expect(passScore).toBe(70);
  });
});

test("entropy is that of the counts of characters", () => {
  const random = randomFrom(seed);
  for (let run = 0; run < 500; run++) {
    const length = 1 + Math.floor(random() * 256);
    const alphabet = 1 + Math.floor(random() * 94);
    const text = Array.from({ length }, () => String.fromCharCode(33 + Math.floor(random() * alphabet))).join("");
    // The same entropy in another form: log2(n) - sum(c log2 c)/n.
    const sorted =
      [...text]
        .sort()
        .join("")
        .match(/(.)\1*/g) ?? [];
    const reference = Math.log2(length) - sorted.reduce((sum, { length: c }) => sum + c * Math.log2(c), 0) / length;
    expect(entropyBits(text), `SEED=${seed} ${text}`).toBeCloseTo(reference, 9);
    expect(entropyBits(text)).toBeLessThanOrEqual(Math.log2(new Set(text).size) + 1e-9);
  }
});

describe("whatever comes", () => {
  const random = randomFrom(seed);
  const any = (): ScoreInput => ({
    sizeBytes: 1 + Math.floor(random() * 40_000),
    ageMs: Math.floor((random() - 0.01) * 30_000_000),
    nonce: Array.from({ length: 8 + Math.floor(random() * 40) }, () =>
      String.fromCharCode(33 + Math.floor(random() * 94)),
    ).join(""),
    reliability: random(),
  });

  test("each factor keeps its bounds, and the score is their sum", () => {
    for (let run = 0; run < 2000; run++) {
      const { score, breakdown } = scoreOf(any());
      const { complexity, freshness, reliability, randomness } = breakdown;
      for (const [value, most] of [
        [complexity, 30],
        [freshness, 25],
        [reliability, 25],
        [randomness, 20],
        [score, 100],
      ] as const) {
        expect(value >= 0 && value <= most, `SEED=${seed} ${JSON.stringify(breakdown)}`).toBe(true);
      }
      expect(Math.abs(score - (complexity + freshness + reliability + randomness))).toBeLessThanOrEqual(0.0050001);
      expect(score).toBe(Number(score.toFixed(2)));
    }
  });

  test("more output, more reliability and less age never score less", () => {
    for (let run = 0; run < 2000; run++) {
      const one = any();
      const base = scoreOf(one).score;
      expect(scoreOf({ ...one, sizeBytes: one.sizeBytes + Math.floor(random() * 5000) }).score).toBeGreaterThanOrEqual(
        base,
      );
      expect(scoreOf({ ...one, ageMs: one.ageMs - random() * 1e7 }).score).toBeGreaterThanOrEqual(base);
      const reliability = one.reliability + random() * (1 - one.reliability);
      expect(scoreOf({ ...one, reliability }).score, `SEED=${seed}`).toBeGreaterThanOrEqual(base);
    }
  });

  test("a nonce whose characters are more evenly spread never scores less", () => {
    for (let distinct = 1; distinct < 16; distinct++) {
      const nonce = (count: number) => Array.from({ length: 240 }, (_, at) => sixteen[at % count]).join("");
      expect(scoreOf({ ...fresh, nonce: nonce(distinct + 1) }).score).toBeGreaterThanOrEqual(
        scoreOf({ ...fresh, nonce: nonce(distinct) }).score,
      );
    }
  });
});

describe("reliability and confidence", () => {
  const valid = (score: number): Counted => ({ valid: true, score });
  const invalid = (score: number): Counted => ({ valid: false, score });

  test("reliability is 0.7 of the valid share and 0.3 of the mean score", () => {
    expect(reliabilityOf([])).toBe(0.5);
    expect(reliabilityOf([valid(100)])).toBe(1);
    expect(reliabilityOf([invalid(0)])).toBe(0);
    expect(reliabilityOf([valid(80), invalid(40)])).toBeCloseTo(0.35 + 0.18, 12);
    expect(reliabilityOf([valid(80), valid(90), invalid(40), invalid(10)])).toBeCloseTo(0.35 + 0.3 * 0.55, 12);
  });

  test("confidence falls with the distance from the mean in standard deviations", () => {
    expect(confidenceOf(80, [])).toBe(0.5);
    expect(confidenceOf(80, [valid(80), valid(80)])).toBe(1);
    expect(confidenceOf(80.01, [valid(80), valid(80)])).toBe(0.1);
    // Mean 80, standard deviation 10: one deviation costs a third.
    expect(confidenceOf(90, [valid(70), valid(90)])).toBeCloseTo(2 / 3, 12);
    expect(confidenceOf(95, [valid(70), valid(90)])).toBeCloseTo(0.5, 12);
    expect(confidenceOf(80, [valid(70), valid(90)])).toBe(1);
    expect(confidenceOf(0, [valid(79), valid(81)])).toBe(0.1);
  });
});

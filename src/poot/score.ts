// How many points a proof of output is worth: four factors, 0 to 100. Pure. The formula is the platform's own (node
// management, implementation guide: complexity, freshness, reliability, randomness) and may not drift: a verdict names
// its version.

export const scoreVersion = 1;
/** A score of this or more makes a proof valid. */
export const passScore = 70;

/** Points by factor: complexity 0-30, freshness 0-25, reliability 0-25, randomness 0-20. */
export interface Breakdown {
  readonly complexity: number;
  readonly freshness: number;
  readonly reliability: number;
  readonly randomness: number;
}

export interface Scored {
  /** 0 to 100, two decimals. */
  readonly score: number;
  readonly breakdown: Breakdown;
}

export interface ScoreInput {
  /** Decoded bytes of output. */
  readonly sizeBytes: number;
  /** How old the output is; a negative age, from a clock that runs ahead, counts as 0. */
  readonly ageMs: number;
  readonly nonce: string;
  /** 0 to 1; see `reliabilityOf`. */
  readonly reliability: number;
}

const randomNonceCharsMin = 16;

export function scoreOf({ sizeBytes, ageMs, nonce, reliability }: ScoreInput): Scored {
  const breakdown: Breakdown = {
    complexity: Math.min(30, sizeBytes / 1000),
    freshness: Math.max(0, 25 - Math.max(0, ageMs) / 60_000 / 10),
    reliability: 25 * reliability,
    randomness: nonce.length < randomNonceCharsMin ? 0 : Math.min(20, 5 * entropyBits(nonce)),
  };
  const { complexity, freshness, reliability: trust, randomness } = breakdown;
  return { score: Math.min(100, roundCents(complexity + freshness + trust + randomness)), breakdown };
}

/**
 * Shannon entropy of a text's characters, in bits per character: 0 for one repeated character, log2(n) for n equally
 * frequent ones.
 */
export function entropyBits(text: string): number {
  const counts = new Map<string, number>();
  for (const character of text) counts.set(character, (counts.get(character) ?? 0) + 1);
  const length = [...counts.values()].reduce((sum, count) => sum + count, 0);
  let bits = 0;
  for (const count of counts.values()) bits -= (count / length) * Math.log2(count / length);
  return Math.max(0, bits);
}

/**
 * Rounds to two decimals, half away from zero. The sum of the factors is off by some 1e-14, which must not decide
 * whether a proof reaches 70.00: 12.495 + 25 + 12.5 + 20 is 69.995 and becomes 70.
 */
export const roundCents = (value: number): number => Math.round(Number((value * 100).toFixed(6))) / 100;

/** What is remembered of a counted verdict. */
export interface Counted {
  readonly valid: boolean;
  readonly score: number;
}

/** The number of verdicts from which a node's reliability is computed. */
export const historyMax = 100;

/** 0 to 1: 0.7 x the share of valid proofs + 0.3 x their mean score / 100; 0.5 for a node without history. */
export function reliabilityOf(history: readonly Counted[]): number {
  if (history.length === 0) return 0.5;
  const valid = history.filter((one) => one.valid).length / history.length;
  return Math.min(1, 0.7 * valid + 0.3 * (meanOf(history) / 100));
}

/**
 * 0.1 to 1: how close the score is to the node's other scores, by its distance from their mean in standard deviations.
 */
export function confidenceOf(score: number, history: readonly Counted[]): number {
  if (history.length === 0) return 0.5;
  const mean = meanOf(history);
  const variance = history.reduce((sum, one) => sum + (one.score - mean) ** 2, 0) / history.length;
  const deviation = Math.sqrt(variance);
  // Scores have two decimals, so a smaller difference is no difference.
  if (deviation < 0.005) return Math.abs(score - mean) < 0.005 ? 1 : 0.1;
  return Math.max(0.1, 1 - Math.abs(score - mean) / deviation / 3);
}

const meanOf = (history: readonly Counted[]): number =>
  history.reduce((sum, { score }) => sum + score, 0) / history.length;

// Limits how often something happens per second, by key: a bounded number of token buckets. Pure.

export interface BudgetRate {
  /** Tokens refilled per second. */
  readonly perSecond: number;
  /** The most that can be taken at once after a rest. */
  readonly burst: number;
}

export interface Budget {
  /** Takes one token and returns 0, or returns the milliseconds until there is one. */
  take(key: string, nowMs: number): number;
}

/** The most keys remembered. Beyond them the least recently used key is forgotten, as if it had rested. */
const keysMax = 10_000;

interface Bucket {
  left: number;
  atMs: number;
}

export function createBudget({ perSecond, burst }: BudgetRate): Budget {
  const buckets = new Map<string, Bucket>();
  return {
    take: (key, nowMs) => {
      const bucket = buckets.get(key) ?? { left: burst, atMs: nowMs };
      bucket.left = Math.min(burst, bucket.left + (Math.max(0, nowMs - bucket.atMs) * perSecond) / 1_000);
      bucket.atMs = nowMs;
      // Moved to the end, so that the first key is the least recently used.
      buckets.delete(key);
      buckets.set(key, bucket);
      const [oldest] = buckets.keys();
      if (buckets.size > keysMax && oldest !== undefined) buckets.delete(oldest);
      if (bucket.left < 1) return Math.ceil(((1 - bucket.left) * 1_000) / perSecond);
      bucket.left--;
      return 0;
    },
  };
}

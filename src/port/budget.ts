// So much and no more of something a second, by key: token buckets, in a bounded number. Pure.

export interface BudgetRate {
  /** What comes back, per second. */
  readonly perSecond: number;
  /** What may be taken at once after a rest. */
  readonly burst: number;
}

export interface Budget {
  /** Takes one, or answers in how many milliseconds there will be one; 0 when it was taken. */
  take(key: string, nowMs: number): number;
}

/** Keys that are remembered at most. Beyond them the one that was asked for longest ago is forgotten, as if it had rested. */
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
      // Moved to the end: the first key is the one that was asked for longest ago.
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

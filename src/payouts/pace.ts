// How long a payout waits before the next try. Pure.

/**
 * Doubles with each wait from the least to the greatest time, and takes up to a quarter off so that payouts which wait
 * for the same reason do not all return at once. `chance` is in [0, 1).
 */
export function backoffMs(waits: number, leastMs: number, greatestMs: number, chance: number): number {
  const fullMs = Math.min(greatestMs, leastMs * 2 ** Math.min(waits, 30));
  return Math.round(fullMs * (1 - chance / 4));
}

/** How often a payout is looked at whose transaction is not in a solid block yet: four times in the expected time. */
export const pollMs = (solidAfterMs: number): number => Math.min(15_000, Math.max(50, solidAfterMs / 4));

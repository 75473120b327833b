// How long to wait before a call is tried again. Pure.

/** Longer than this nobody waits at a service's word. */
export const retryAfterMaxMs = 600_000;

/** The share of what the service asks for that is added at random, so that callers told the same do not come back together. */
const jitterShare = 0.25;

/**
 * Milliseconds: what the service asks for, if it does, and up to a quarter more; and no less than the caller's own backoff.
 * `random` is in [0, 1).
 */
export function pauseMs(retryAfterMs: number | undefined, backoffMs: number, random: number): number {
  const askedMs = Math.min(retryAfterMaxMs, Math.max(0, retryAfterMs ?? 0));
  return Math.max(askedMs * (1 + jitterShare * random), backoffMs);
}

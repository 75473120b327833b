// How long to wait before a call is tried again. Pure.

/** The longest wait that a service can ask for. */
export const retryAfterMaxMs = 600_000;

/**
 * The largest random share added to the service's wait, so that callers with the same wait do not come back together.
 */
const jitterShare = 0.25;

/**
 * Milliseconds: the service's wait, if it gives one, plus up to a quarter of it, but at least the caller's own backoff.
 * `random` is in [0, 1).
 */
export function pauseMs(retryAfterMs: number | undefined, backoffMs: number, random: number): number {
  const askedMs = Math.min(retryAfterMaxMs, Math.max(0, retryAfterMs ?? 0));
  return Math.max(askedMs * (1 + jitterShare * random), backoffMs);
}

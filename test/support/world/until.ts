// Waiting for a condition instead of for a time.
import { setTimeout as delay } from "node:timers/promises";

/** Looks until the condition holds. @throws Error naming the condition that did not hold within the limit */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs = 10_000,
): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await delay(3);
  }
}

/** The promise's result, unless it takes longer than the limit. */
export async function within<T>(promise: Promise<T>, what: string, limitMs = 10_000): Promise<T> {
  const over = new AbortController();
  const late = delay(limitMs, undefined, { signal: over.signal }).then(() => {
    throw new Error(`not within ${limitMs} ms: ${what}`);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
  }
}

/** Runs work for each item, at most so many at a time, and answers the results in the items' order. */
export async function inParallel<Item, Result>(
  items: readonly Item[],
  workers: number,
  work: (item: Item, place: number) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const entries = items.entries();
  const run = async () => {
    for (const [place, item] of entries) results[place] = await work(item, place);
  };
  await Promise.all(Array.from({ length: Math.min(workers, items.length) }, run));
  return results;
}

// Reads new documents by their date, which the store's clock gives. Each replica learns so within seconds which tokens are
// revoked and which enrolments were reset.
import type { Clock } from "../clock.js";
import type { Cursor, Page } from "./collection.js";
import { pages } from "./pages.js";

/** A write may land this long after it was dated, and clocks differ a little. */
const marginMs = 60_000;
/** All are read again this often: one dated far from the store's clock hides none, and is not missed for long. */
const wholeMs = 300_000;

/**
 * Answers how to look: each look hands over what has come since the last one, some of it again. Rejects when the store is
 * away; the next look goes on from the last one that came through.
 */
export function createDatedReader<T>(parts: {
  /** The documents dated from then on, a page at a time. */
  readonly page: (since: Date, after?: Cursor) => Promise<Page<T>>;
  readonly take: (document: T) => void;
  /** The store's clock. */
  readonly storeNow: () => Promise<Date>;
  readonly clock: Pick<Clock, "monotonicMs">;
}): () => Promise<void> {
  let readUntil: Date | undefined;
  let wholeAtMs = Number.NEGATIVE_INFINITY;
  return async () => {
    const beganMs = parts.clock.monotonicMs();
    const whole = readUntil === undefined || beganMs - wholeAtMs >= wholeMs;
    // Asked before the documents are read: what is dated later is for the next look. What documents say of themselves
    // counts for nothing here.
    const now = await parts.storeNow();
    const since = new Date(whole ? 0 : (readUntil?.getTime() ?? 0) - marginMs);
    for await (const documents of pages((after) => parts.page(since, after))) {
      for (const document of documents) parts.take(document);
    }
    readUntil = now;
    if (whole) wholeAtMs = beganMs;
  };
}

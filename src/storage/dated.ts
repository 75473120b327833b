// Polls for new documents by their date, which the store's clock gives. Each replica learns this way, within seconds,
// which tokens are revoked and which enrolments were reset.
import type { Clock } from "../clock.js";
import type { Cursor, Page } from "./collection.js";
import { pages } from "./pages.js";

/** A document may be written this long after its date, and clocks differ a little. */
const marginMs = 60_000;
/**
 * All documents are read again this often, so that a document dated far from the store's clock is not missed for long.
 */
const wholeMs = 300_000;

/**
 * Returns a look: each call hands over the documents since the last one, some of them again. It rejects when the store
 * is away; the next look then continues from the last one that succeeded.
 */
export function createDatedReader<T>(parts: {
  /** The documents dated `since` or later, a page at a time. */
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
    // Read the clock before the documents: a document with a later date is for the next look. The documents' own dates
    // do not move the starting point.
    const now = await parts.storeNow();
    const since = new Date(whole ? 0 : (readUntil?.getTime() ?? 0) - marginMs);
    for await (const documents of pages((after) => parts.page(since, after))) {
      for (const document of documents) parts.take(document);
    }
    readUntil = now;
    if (whole) wholeAtMs = beganMs;
  };
}

// All pages of a query, one after the other.
import type { Cursor, Page } from "./collection.js";

/**
 * Reads a page when the one before was worked on, and none once the caller breaks off or `pagesMax` pages were read. What
 * `read` rejects with ends the iteration.
 */
export async function* pages<T>(
  read: (after?: Cursor) => Promise<Page<T>>,
  pagesMax = Number.POSITIVE_INFINITY,
): AsyncGenerator<T[], void> {
  let after: Cursor | undefined;
  for (let count = 0; count < pagesMax; count++) {
    const page = await read(after);
    yield page.items;
    after = page.next;
    if (after === undefined) return;
  }
}

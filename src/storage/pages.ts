// Iterates over all pages of a query.
import type { Cursor, Page } from "./collection.js";

/**
 * Reads the next page once the caller has worked on the last one. Stops when the caller breaks off or after `pagesMax`
 * pages. A rejection of `read` ends the iteration.
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

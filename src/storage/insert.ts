// Inserts with a unique index as the referee.
import { type Collection, DuplicateKeyError, type StoredDocument } from "./collection.js";

/**
 * Inserts the document unless a unique index has one with the same key already; answers whether it did.
 * @throws StoreUnavailableError when nothing can be known
 */
export async function insertUnlessThere<T extends StoredDocument>(
  collection: Pick<Collection<T>, "insertOne">,
  document: T,
): Promise<boolean> {
  try {
    await collection.insertOne(document);
    return true;
  } catch (error) {
    if (error instanceof DuplicateKeyError) return false;
    throw error;
  }
}

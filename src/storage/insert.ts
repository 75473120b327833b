// Inserts that let a unique index decide which writer was first.
import { type Collection, DuplicateKeyError, type StoredDocument } from "./collection.js";

/**
 * Inserts the document unless a unique index already holds its key. Returns whether it was inserted.
 * @throws StoreUnavailableError when this cannot be known
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

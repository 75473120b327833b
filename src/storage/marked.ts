// Compare-and-set that survives a lost answer: each write leaves its own mark in the document, and the writer looks for
// it.
import { randomUUID } from "node:crypto";
import { type Collection, type Filter, type StoredDocument, StoreUnavailableError, type Update } from "./collection.js";

/** Random id of the last write. A writer whose answer was lost compares it to learn whether its write was applied. */
export interface Marked extends StoredDocument {
  readonly write_id?: string;
}

/**
 * Updates the document that matches and returns it after the change; null when none matches. If the store did not
 * answer, reads the document to find out whether the write was applied. The filter names `_id`.
 * @throws DuplicateKeyError; StoreUnavailableError when the outcome cannot be known
 */
export async function updateMarked<T extends Marked>(
  collection: Collection<T>,
  filter: Filter & { readonly _id: string },
  update: Update,
): Promise<T | null> {
  const writeId = randomUUID();
  try {
    return await collection.findOneAndUpdate(filter, { ...update, $set: { ...update.$set, write_id: writeId } });
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error;
    const found = await collection.findOne({ _id: filter._id }).catch((again: unknown) => {
      if (!(again instanceof StoreUnavailableError)) throw again;
      return null;
    });
    if (found?.write_id === writeId) return found;
    throw error;
  }
}

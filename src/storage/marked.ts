// Compare-and-set whose answer may get lost: each write leaves a mark of its own, by which it is found afterwards.
import { randomUUID } from "node:crypto";
import { type Collection, type Filter, type StoredDocument, StoreUnavailableError, type Update } from "./collection.js";

/** Of the last write: whoever does not know whether its write took place finds out by it. */
export interface Marked extends StoredDocument {
  readonly write_id?: string;
}

/**
 * Updates the document that matches and answers it after the change; null when none does. Where the store fell silent over
 * the write, the document itself is asked whether it took place. The filter names `_id`.
 * @throws DuplicateKeyError, StoreUnavailableError when nothing can be known
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

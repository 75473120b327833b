// Positions in an index, the same on both engines: one engine can read the cursor that the other made.
import assert from "node:assert/strict";
import type { CollectionDefinition, Cursor, IndexDefinition, Scalar } from "./collection.js";
import { valueAt } from "./filter.js";

/** The index on `_id`, which every collection has. */
export const idIndex: IndexDefinition = { name: "_id_", key: ["_id"], unique: true };

/** @throws AssertionError when the collection has no such index */
export function indexOf({ name, indexes }: CollectionDefinition, index: string): IndexDefinition {
  const found = index === idIndex.name ? idIndex : indexes.find((one) => one.name === index);
  assert(found, `${name} has no index ${index}`);
  return found;
}

/** The paths whose values make a cursor, in order. */
export const cursorPaths = ({ key }: IndexDefinition): string[] => [...new Set([...key, "_id"])];

/** The position of a document in an index. */
export const cursorOf = (index: IndexDefinition, document: object): Cursor =>
  cursorPaths(index).map((path) => {
    const value = valueAt(document, path) as Scalar | undefined;
    return value instanceof Date ? value.getTime() : (value ?? null);
  });

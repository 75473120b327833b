// What two processes share: the writer that is killed, and the test that looks afterwards.
import type { CollectionDefinition, StoredDocument } from "../../src/storage/collection.js";

export interface Written extends StoredDocument {
  readonly at?: Date;
  readonly body?: string;
  readonly batch?: string;
  readonly version?: number;
  readonly total?: number;
  readonly by?: string;
}

export const crashing: CollectionDefinition = {
  name: "written",
  durability: "durable",
  dates: ["at"],
  indexes: [{ name: "idx_batch", key: ["batch"], partial: { batch: { $exists: true } } }],
};

export const counterIds = ["c-0", "c-1"] as const;

// The collection on which the contract of the document store is tested.
import type { Collection, CollectionDefinition, Store, StoredDocument } from "../../src/storage/collection.js";

export interface OpenStore {
  readonly store: Store;
  /** Closes the store and opens the same data again. */
  reopen(): Promise<Store>;
  close(): Promise<void>;
}

export interface Thing extends StoredDocument {
  readonly kind?: string | null;
  readonly rank?: number;
  readonly seen?: Date | null;
  readonly code?: string;
  readonly live?: boolean;
  readonly version?: number;
  readonly words?: readonly string[];
  readonly inner?: { readonly size?: number; readonly label?: string };
  readonly changes?: readonly { readonly at: Date; readonly to: string }[];
  readonly [field: string]: unknown;
}

export const things: CollectionDefinition = {
  name: "things",
  durability: "durable",
  dates: ["seen", "changes.at"],
  indexes: [
    { name: "idx_kind_rank", key: ["kind", "rank"] },
    { name: "idx_kind_seen_rank", key: ["kind", "seen", "rank"] },
    { name: "idx_rank", key: ["rank"] },
    { name: "idx_code", key: ["code"], unique: true, partial: { code: { $exists: true } } },
    { name: "idx_rank_live", key: ["rank"], partial: { live: true } },
  ],
};

export const day = (number: number) => new Date(Date.UTC(2026, 0, number));
export const ids = (documents: readonly StoredDocument[]) => documents.map(({ _id }) => _id);

/** Each test gets a new one. */
export interface StoreUnderTest {
  readonly opened: OpenStore;
  readonly all: Collection<Thing>;
  get(_id: string): Promise<Thing | null>;
}

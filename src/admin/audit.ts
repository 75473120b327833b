// The audit log: what people and other services did, by whom and when. It is only added to.

import { present } from "../present.js";
import type { CollectionDefinition, Store } from "../storage/collection.js";

export interface AuditDocument {
  /** Follows from the act, so that the act is recorded once however often it is told. */
  readonly _id: string;
  readonly at: Date;
  /** The subject of the caller's token. */
  readonly actor: string;
  /** Such as `payout.cancel`. */
  readonly action: string;
  /** What was acted on. */
  readonly target: string;
  readonly reason?: string;
  readonly request_id?: string;
  readonly transaction_hash?: string;
}

export const auditCollection: CollectionDefinition = {
  name: "audit_logs",
  durability: "durable",
  dates: ["at"],
  indexes: [
    { name: "idx_at", key: ["at"] },
    { name: "idx_actor", key: ["actor", "at"] },
    { name: "idx_action", key: ["action", "at"] },
    { name: "idx_target", key: ["target", "at"] },
  ],
};

export interface Act {
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  readonly action: string;
  readonly target: string;
  readonly reason?: string;
  readonly requestId?: string;
  readonly transactionHash?: string;
}

export async function createAudit(store: Store) {
  const entries = await store.collection<AuditDocument>(auditCollection);
  return {
    /** Adds up to 1000 acts; those that are there already are skipped. @throws StoreUnavailableError */
    record: async (acts: readonly Act[]): Promise<void> => {
      const documents = acts.map(({ id, requestId, transactionHash, ...act }) =>
        present({ ...act, _id: id, request_id: requestId, transaction_hash: transactionHash }),
      );
      await entries.insertMany(documents as AuditDocument[]);
    },
  };
}

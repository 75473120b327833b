// The stored alerts. A unique index allows one active alert per node and resource, whichever replica raises it.
import { present } from "../../present.js";
import type { CollectionDefinition, Cursor, Page, Store } from "../../storage/collection.js";
import { insertUnlessThere } from "../../storage/insert.js";
import type { Severity, Watched } from "./thresholds.js";

export interface AlertDocument {
  readonly _id: string;
  readonly node_id: string;
  readonly resource: Watched;
  readonly severity: Severity;
  readonly value_percent: number;
  readonly threshold_percent: number;
  /** Absent once cleared. */
  readonly active?: true;
  readonly raised_at: Date;
  readonly updated_at: Date;
  readonly cleared_at?: Date;
}

export const resourceAlertsCollection: CollectionDefinition = {
  name: "resource_alerts",
  durability: "durable",
  dates: ["raised_at", "updated_at", "cleared_at"],
  indexes: [
    { name: "idx_active", key: ["node_id", "resource"], unique: true, partial: { active: true } },
    { name: "idx_raised_at", key: ["raised_at"] },
    { name: "idx_node_id", key: ["node_id", "raised_at"] },
    { name: "idx_active_raised_at", key: ["raised_at"], partial: { active: true } },
    { name: "idx_active_node_id", key: ["node_id", "raised_at"], partial: { active: true } },
    { name: "idx_active_severity", key: ["severity"], partial: { active: true } },
    { name: "idx_cleared_at", key: ["cleared_at"], partial: { cleared_at: { $exists: true } } },
  ],
};

export interface AlertFilter {
  readonly nodeId?: string;
  readonly activeOnly: boolean;
}

export type AlertRepository = Awaited<ReturnType<typeof createAlertRepository>>;

export async function createAlertRepository(store: Store) {
  const alerts = await store.collection<AlertDocument>(resourceAlertsCollection);
  const filterOf = ({ nodeId, activeOnly }: AlertFilter) =>
    present({ node_id: nodeId, active: activeOnly ? true : undefined });
  const indexOf = ({ nodeId, activeOnly }: AlertFilter): string =>
    `idx_${activeOnly ? "active_" : ""}${nodeId === undefined ? "raised_at" : "node_id"}`;

  return {
    /** Answers the active alert: this one, or the one that was active before. Null: that one was cleared just now. */
    raise: async (alert: AlertDocument): Promise<AlertDocument | null> => {
      if (await insertUnlessThere(alerts, alert)) return alert;
      const { node_id, resource } = alert;
      return alerts.findOne({ node_id, resource, active: true }, { index: "idx_active" });
    },

    /** Null: the alert is no longer active. */
    change: (
      alertId: string,
      set: Pick<AlertDocument, "severity" | "value_percent" | "threshold_percent" | "updated_at">,
    ): Promise<AlertDocument | null> => alerts.findOneAndUpdate({ _id: alertId, active: true }, { $set: set }),

    clear: async (alertId: string, now: Date): Promise<void> => {
      await alerts.updateOne(
        { _id: alertId, active: true },
        { $set: { cleared_at: now, updated_at: now }, $unset: { active: true } },
      );
    },

    /** Active alerts of all nodes, by node, a page of 1000 at a time. */
    active: (after?: Cursor): Promise<Page<AlertDocument>> =>
      alerts.page({ active: true }, { index: "idx_active", limit: 1000, after }),

    activeOf: async (nodeId: string): Promise<AlertDocument[]> =>
      (await alerts.page({ active: true, node_id: nodeId }, { index: "idx_active_node_id", limit: 10 })).items,

    /** Newest first. */
    list: (filter: AlertFilter, query: { limit: number; skip: number; after?: Cursor }): Promise<Page<AlertDocument>> =>
      alerts.page(filterOf(filter), {
        index: indexOf(filter),
        descending: true,
        limit: query.limit,
        skip: query.skip,
        after: query.after,
      }),
    countOf: (filter: AlertFilter): Promise<number> => alerts.count(filterOf(filter), { index: indexOf(filter) }),
    countActive: (severity: Severity): Promise<number> =>
      alerts.count({ active: true, severity }, { index: "idx_active_severity" }),

    /** Deletes up to 1000 alerts that were cleared before that time; answers how many. */
    deleteCleared: (before: Date): Promise<number> =>
      alerts.deleteMany({ cleared_at: { $exists: true, $lt: before } }, { index: "idx_cleared_at", limit: 1000 }),
  };
}

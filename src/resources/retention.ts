// Deletes what is no longer kept, and counts alerts. Only the leader does so.
import type { Clock } from "../clock.js";
import type { NodeRepository } from "../nodes/repository.js";
import type { Leadership } from "../replicas/lease.js";
import { pages } from "../storage/pages.js";
import { type Next, outage, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";
import type { AlertRepository } from "./alerts/repository.js";
import type { Severity } from "./alerts/thresholds.js";
import type { ResourceRepository } from "./samples/repository.js";
import { dayMs } from "./samples/rollup.js";

const turnMs = 30_000;
/** Pause between two deletions of 1000 documents, so that callers are served in between. */
const pauseMs = 50;
export const hoursKeptDays = 365;
const pagesMax = 100;

export function createRetention(parts: {
  readonly resources: Pick<ResourceRepository, "deletePoints" | "deleteHours">;
  readonly alerts: AlertRepository;
  readonly nodes: Pick<NodeRepository, "findMany">;
  readonly clock: Clock;
  /** The store's time decides what is old: this machine's clock may be years ahead. */
  readonly storeNow: () => Promise<Date>;
  readonly leadership: () => Leadership | undefined;
  readonly retentionDays: number;
  readonly cleanupIntervalMs: number;
  readonly gauge: { set(labels: { severity: Severity }, value: number): void };
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { resources, alerts, nodes, clock, log } = parts;
  let cleanedMs = Number.NEGATIVE_INFINITY;

  const untilNone = async (remove: () => Promise<number>, goesOn: () => boolean, signal: AbortSignal) => {
    while (goesOn() && (await remove()) > 0) await clock.sleep(pauseMs, signal);
  };

  /** Clears alerts of deleted nodes: a replica may have died after the deletion and before it cleared them. */
  const clearOrphans = async (goesOn: () => boolean): Promise<void> => {
    for await (const page of pages(alerts.active, pagesMax)) {
      if (page.length === 0) return;
      const living = await nodes.findMany([...new Set(page.map(({ node_id }) => node_id))]);
      for (const alert of page) if (!living.has(alert.node_id)) await alerts.clear(alert._id, clock.now());
      if (!goesOn()) return;
    }
  };

  const clean = async (leadership: Leadership, signal: AbortSignal): Promise<void> => {
    const goesOn = () => leadership.holds() && !signal.aborted;
    const now = await parts.storeNow();
    const ago = (days: number) => new Date(now.getTime() - days * dayMs);
    await untilNone(() => resources.deletePoints(ago(parts.retentionDays)), goesOn, signal);
    await untilNone(() => resources.deleteHours(ago(hoursKeptDays)), goesOn, signal);
    await untilNone(() => alerts.deleteCleared(ago(parts.retentionDays)), goesOn, signal);
    await clearOrphans(goesOn);
  };

  const count = async (leads: boolean): Promise<void> => {
    for (const severity of ["warn", "critical"] as const) {
      parts.gauge.set({ severity }, leads ? await alerts.countActive(severity) : 0);
    }
  };

  const turn = async (signal: AbortSignal): Promise<Next> => {
    const leadership = parts.leadership();
    await count(leadership !== undefined);
    if (leadership === undefined) return "idle";
    if (clock.monotonicMs() - cleanedMs < parts.cleanupIntervalMs) return undefined;
    await clean(leadership, signal);
    // Set only now, so that a cleaning that failed is tried again at the next turn.
    cleanedMs = clock.monotonicMs();
    return undefined;
  };

  const away = outage({
    log,
    began: "Old samples are not deleted and alerts not counted now",
    ended: "Old samples are deleted and alerts counted again",
  });
  return { task: turns({ clock, everyMs: Math.min(turnMs, parts.cleanupIntervalMs), turn, away }).task };
}

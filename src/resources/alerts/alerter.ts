// Compares the usage of the nodes heard here with their thresholds. The last value of each node is kept in memory,
// alerts are in the store. A replica that takes a node over reads its active alerts and goes on from there, one sample
// later.
import type { Clock } from "../../clock.js";
import { newAlertId } from "../../ids.js";
import type { NodeDocument } from "../../nodes/node.js";
import type { NodeRepository } from "../../nodes/repository.js";
import { pages } from "../../storage/pages.js";
import type { NodePoint } from "../samples/repository.js";
import type { AlertDocument, AlertRepository } from "./repository.js";
import { percentOf, severityAfter, type Thresholds, thresholdsOf, type Watched, watchedNames } from "./thresholds.js";

/** What is known of a node heard here. */
interface Known {
  /** Undefined: must be read again, because the node was changed elsewhere. */
  thresholds: Thresholds | undefined;
  previous: Partial<Record<Watched, number>>;
  /** When the node reported the previous values, by the monotonic clock. */
  heardMs: number;
}

interface Step {
  readonly nodeId: string;
  readonly resource: Watched;
  readonly value: number;
  readonly thresholds: Thresholds;
  readonly raised: AlertDocument | undefined;
  readonly severity: AlertDocument["severity"] | undefined;
}

/** The nodes unheard for longest are forgotten first, and read again when they are heard again. */
const knownMax = 50_000;
/** Alerts that another replica raised or cleared are known here after at most this long. */
const readAgainMs = 60_000;
/** However many nodes are new here, all active alerts are read at most once in this time. */
const readAtOnceMs = 2_000;
/** Pages of active alerts that are read: 60,000 alerts, three for each stream that a replica holds by default. */
const pagesMax = 60;
const writesAtOnce = 50;
const deletedMax = 10_000;

const keyOf = (nodeId: string, resource: Watched): string => `${nodeId}:${resource}`;

export function createAlerter(parts: {
  readonly alerts: AlertRepository;
  readonly nodes: Pick<NodeRepository, "findMany">;
  readonly clock: Clock;
  /** Samples further apart than this do not count as consecutive. */
  readonly memoryMs: number;
}) {
  const { alerts, nodes, clock } = parts;
  const known = new Map<string, Known>();
  const deleted = new Set<string>();
  let active = new Map<string, AlertDocument>();
  let readAtMs = Number.NEGATIVE_INFINITY;

  const readActive = async (): Promise<void> => {
    const read = new Map<string, AlertDocument>();
    for await (const page of pages(alerts.active, pagesMax)) {
      for (const alert of page) read.set(keyOf(alert.node_id, alert.resource), alert);
    }
    active = read;
    readAtMs = clock.monotonicMs();
  };

  /** Reads what is not known yet of these nodes, in two reads however many nodes there are. */
  const learn = async (nodeIds: readonly string[]): Promise<void> => {
    const anyNew = nodeIds.some((nodeId) => !known.has(nodeId));
    if (clock.monotonicMs() - readAtMs > (anyNew ? readAtOnceMs : readAgainMs)) await readActive();
    const unread = nodeIds.filter((nodeId) => known.get(nodeId)?.thresholds === undefined);
    if (unread.length === 0) return;
    const found = await nodes.findMany(unread);
    for (const nodeId of unread) {
      const node = found.get(nodeId);
      if (node === undefined) known.delete(nodeId);
      else
        known.set(nodeId, {
          previous: {},
          heardMs: 0,
          ...known.get(nodeId),
          thresholds: thresholdsOf(node.thresholds),
        });
    }
    for (const nodeId of known.keys()) {
      if (known.size <= knownMax) break;
      known.delete(nodeId);
    }
  };

  const stepsOf = ({ nodeId, point }: NodePoint): Step[] => {
    const one = known.get(nodeId);
    const { thresholds } = one ?? {};
    if (one === undefined || thresholds === undefined) return [];
    // Moved to the end, because it was heard last.
    known.delete(nodeId);
    known.set(nodeId, one);
    const nowMs = clock.monotonicMs();
    // A value from before the node was away, or elsewhere, is not consecutive to this one.
    if (nowMs - one.heardMs > parts.memoryMs) one.previous = {};
    one.heardMs = nowMs;
    return watchedNames.flatMap((resource) => {
      const value = percentOf(resource, point);
      if (value === undefined) return [];
      const raised = active.get(keyOf(nodeId, resource));
      const severity = severityAfter(raised?.severity, one.previous[resource], value, thresholds[resource]);
      one.previous[resource] = value;
      return severity === raised?.severity ? [] : [{ nodeId, resource, value, thresholds, raised, severity }];
    });
  };

  /** Writes a step and keeps the alert that is active afterwards; if the step was too late, the next sample decides. */
  const take = async ({ nodeId, resource, value, thresholds, raised, severity }: Step): Promise<void> => {
    const now = clock.now();
    const key = keyOf(nodeId, resource);
    if (severity === undefined) {
      if (raised !== undefined) await alerts.clear(raised._id, now);
      active.delete(key);
      return;
    }
    const told = { severity, value_percent: value, threshold_percent: thresholds[resource][severity], updated_at: now };
    const made = { _id: newAlertId(now), node_id: nodeId, resource, active: true, raised_at: now, ...told } as const;
    const current = await (raised === undefined ? alerts.raise(made) : alerts.change(raised._id, told));
    if (current === null) active.delete(key);
    else active.set(key, current);
  };

  return {
    /** Takes at most 1000 samples, one per node. @throws StoreUnavailableError: the next samples make up for it */
    judge: async (points: readonly NodePoint[]): Promise<void> => {
      await learn(points.map(({ nodeId }) => nodeId));
      const steps = points.flatMap(stepsOf);
      for (let from = 0; from < steps.length; from += writesAtOnce) {
        await Promise.all(steps.slice(from, from + writesAtOnce).map(take));
      }
    },

    /** A node was changed here. */
    nodeChanged: (node: NodeDocument): void => {
      const one = known.get(node._id);
      if (node.deleted_at !== undefined) {
        known.delete(node._id);
        if (deleted.size < deletedMax) deleted.add(node._id);
      } else if (one !== undefined) one.thresholds = thresholdsOf(node.thresholds);
    },

    /** Nodes were changed, here or elsewhere. */
    heard: (entries: Iterable<{ readonly node_id: string }>): void => {
      for (const { node_id } of entries) {
        const one = known.get(node_id);
        if (one !== undefined) one.thresholds = undefined;
      }
    },

    /** Clears the alerts of nodes deleted here; the leader's cleaning finds alerts that this misses. */
    settleDeleted: async (): Promise<void> => {
      for (const nodeId of deleted) {
        for (const alert of await alerts.activeOf(nodeId)) {
          await alerts.clear(alert._id, clock.now());
          active.delete(keyOf(nodeId, alert.resource));
        }
        deleted.delete(nodeId);
      }
    },
  };
}

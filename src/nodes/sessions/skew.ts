// Nodes whose clocks are off: a node's history says when that begins, doubles and ends, whichever session the node is in. A
// clock decides nothing of its node, but dates what the machine writes, and people look for it long.
import type { Clock } from "../../clock.js";
import { isOutage, unless } from "../../task.js";
import type { NodeDocument, Patch } from "../node.js";
import type { NodeRepository } from "../repository.js";
import { isNodeGone } from "../repository.js";

export interface SkewWatch {
  /** A beat of that session came now; it was sent at that time by the node's own clock. */
  heard(session: { readonly nodeId: string; readonly epoch: number }, sentAtMs: number): void;
}

/** A clock that is further off than this is worth an event. */
const skewMaxMs = 5_000;
/** A clock is right again below this: not at once, or a clock at the limit would come and go with each beat. */
const rightMaxMs = skewMaxMs / 2;
/** The store is asked this far apart, however many nodes have news. */
const spacingMs = 50;
/** Nodes whose last beat is remembered, and for how long. */
const knownMax = 50_000;
const knownForMs = 3_600_000;
/** How often a node's clock may have news within an hour. */
const newsMax = 6;
const newsWindowMs = 3_600_000;
/** With fewer nodes than this, most of them says nothing of our own clock. */
const crowdMin = 10;

/**
 * Whether a node's clock is off: by both of two beats in a row, in the same direction. One alone may have been long on its
 * way, or have waited for us. Milliseconds ahead of our clock, negative behind it.
 */
export const clockIsOff = (formerMs: number, latterMs: number): boolean =>
  Math.min(Math.abs(formerMs), Math.abs(latterMs)) > skewMaxMs && formerMs > 0 === latterMs > 0;

/**
 * What two beats in a row say of a clock that its node's history does not say yet: how far it is off, where that begins,
 * turns or has doubled; 0 where it is right again; undefined where there is nothing new. `toldMs` is what the history says,
 * 0 where it says nothing. Milliseconds ahead of our clock, negative behind it.
 */
export function newsOfClock(toldMs: number, formerMs: number, latterMs: number): number | undefined {
  if (clockIsOff(formerMs, latterMs)) {
    const sameWay = toldMs !== 0 && toldMs > 0 === latterMs > 0;
    const doubled = Math.min(Math.abs(formerMs), Math.abs(latterMs)) >= 2 * Math.abs(toldMs);
    return sameWay && !doubled ? undefined : Math.round(latterMs);
  }
  const right = Math.max(Math.abs(formerMs), Math.abs(latterMs)) <= rightMaxMs;
  return right && toldMs !== 0 ? 0 : undefined;
}

/** Nodes heard lately, by which way the last beat of each was off. */
interface Crowd {
  heard: number;
  ahead: number;
  behind: number;
}

/** Whether it is our clock that is off: most nodes cannot be wrong in one direction. Once it is, a third agree no more. */
export function isOurClock({ heard, ahead, behind }: Readonly<Crowd>, wasOurs: boolean): boolean {
  const oneWay = Math.max(ahead, behind);
  return heard >= crowdMin && (wasOurs ? oneWay * 3 > heard : oneWay * 2 > heard);
}

/** What is remembered of a node that was heard. */
interface Known {
  epoch: number;
  skewMs: number;
  heardMs: number;
  /** What its history says, as far as this replica has read it. */
  toldMs: number | undefined;
  /** The store is being asked. */
  asking: boolean;
  /** Its news in the window that began then. */
  windowMs: number;
  news: number;
}

export function createSkewWatch(parts: {
  readonly repository: Pick<NodeRepository, "change">;
  readonly clock: Clock;
  readonly log: { warn(message: string, context: Record<string, unknown>): void };
}): SkewWatch {
  const { repository, clock } = parts;
  // The node heard last stands behind all others.
  const known = new Map<string, Known>();
  const crowd: Crowd = { heard: 0, ahead: 0, behind: 0 };
  let ours = false;
  let askedMs = Number.NEGATIVE_INFINITY;

  const count = ({ skewMs }: Known, by: 1 | -1): void => {
    crowd.heard += by;
    if (skewMs > skewMaxMs) crowd.ahead += by;
    if (skewMs < -skewMaxMs) crowd.behind += by;
  };

  const remember = (nodeId: string, epoch: number, skewMs: number, heardMs: number): Known => {
    const former = known.get(nodeId);
    if (former !== undefined) {
      count(former, -1);
      known.delete(nodeId);
    }
    const node = former ?? { toldMs: undefined, asking: false, windowMs: heardMs, news: 0, epoch, skewMs, heardMs };
    Object.assign(node, { epoch, skewMs, heardMs });
    known.set(nodeId, node);
    count(node, 1);
    for (const [oldestId, oldest] of known) {
      if (known.size <= knownMax && heardMs - oldest.heardMs <= knownForMs) break;
      count(oldest, -1);
      known.delete(oldestId);
    }
    return node;
  };

  /** Reads what the node's history says, and writes what is new. */
  const tell = async (nodeId: string, node: Known, formerMs: number): Promise<void> => {
    const { epoch, skewMs } = node;
    let saidMs: number | undefined;
    const document = await repository.change(nodeId, clock.now, (current) => {
      saidMs = newsOfClock(current.clock_off_ms ?? 0, formerMs, skewMs);
      // A node that was banned or opened a newer session meanwhile is left alone.
      if (saidMs === undefined || current.session_epoch !== epoch || current.banned) return undefined;
      return patchOf(current, epoch, saidMs);
    });
    node.toldMs = document.clock_off_ms ?? 0;
    if (saidMs === undefined || node.toldMs !== saidMs) return;
    node.news++;
  };

  /** Whether the store is to be asked of the node now. Asks nothing of a node that has had all its news of the hour. */
  const isDue = (node: Known, formerMs: number, nowMs: number): boolean => {
    if (node.asking || nowMs - askedMs < spacingMs) return false;
    if (nowMs - node.windowMs >= newsWindowMs) Object.assign(node, { windowMs: nowMs, news: 0 });
    if (node.news >= newsMax) return false;
    // Where its history is not known yet, it may say of a clock that is right now that it is off.
    return node.toldMs === undefined
      ? clockIsOff(formerMs, node.skewMs) || newsOfClock(skewMaxMs, formerMs, node.skewMs) === 0
      : newsOfClock(node.toldMs, formerMs, node.skewMs) !== undefined;
  };

  return {
    heard: ({ nodeId, epoch }, sentAtMs) => {
      const former = known.get(nodeId);
      const formerMs = former?.epoch === epoch ? former.skewMs : undefined;
      const nowMs = clock.monotonicMs();
      const node = remember(nodeId, epoch, sentAtMs - clock.now().getTime(), nowMs);
      const wasOurs = ours;
      // By one beat of each node: when it is our clock that steps, the first node's second beat must not find the others
      // still right. The log waits for that second beat, for one beat of all may have waited for us.
      const crowded = isOurClock(crowd, wasOurs);
      if (!crowded) ours = false;
      if (formerMs === undefined) return;
      if (crowded) {
        if (wasOurs || !clockIsOff(formerMs, node.skewMs)) return;
        ours = true;
        parts.log.warn("Most nodes' clocks are off in one direction, so this machine's own is: set it (NTP)", {
          nodes: crowd.heard,
          nodes_ahead: crowd.ahead,
          nodes_behind: crowd.behind,
          node_ahead_ms: Math.round(node.skewMs),
        });
        return;
      }
      if (!isDue(node, formerMs, nowMs)) return;
      askedMs = nowMs;
      node.asking = true;
      // What the store does not take now, the next beat says again.
      void tell(nodeId, node, formerMs)
        .catch(unless(isOutage, isNodeGone))
        .finally(() => {
          node.asking = false;
        });
    },
  };
}

function patchOf(node: NodeDocument, epoch: number, offMs: number): Patch {
  const event = (reason: string) => ({ type: "updated" as const, reason, actor: node._id });
  if (offMs === 0) return { unset: ["clock_off_ms"], event: event("the node's clock is right again"), ofEpoch: epoch };
  const seconds = Math.round(Math.abs(offMs) / 1000);
  const reason = `the node's clock is ${seconds} s ${offMs > 0 ? "ahead" : "behind"}`;
  return { set: { clock_off_ms: offMs }, event: event(reason), ofEpoch: epoch };
}

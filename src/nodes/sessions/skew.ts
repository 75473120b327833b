// Finds nodes whose clocks are off. A node's history says when that begins, doubles and ends, whichever session the
// node is in. A clock decides nothing about its node, but it dates what the machine writes, and people search long for
// a wrong clock.
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
/**
 * Below this a clock is right again. Between the two limits nothing changes, or a clock at the limit would come and go
 * with each beat.
 */
const rightMaxMs = skewMaxMs / 2;
/** The shortest time between two questions to the store, however many nodes have news. */
const spacingMs = 50;
/** How many nodes are remembered with their last beat, and for how long. */
const knownMax = 50_000;
const knownForMs = 3_600_000;
/** How often a node's clock may have news in an hour. */
const newsMax = 6;
const newsWindowMs = 3_600_000;
/** With fewer nodes than this, a majority says nothing about our own clock. */
const crowdMin = 10;

/**
 * Whether a node's clock is off: two beats in a row say so, in the same direction. A single beat may have been long on
 * its way, or have waited for us. Milliseconds ahead of our clock, negative behind it.
 */
export const clockIsOff = (formerMs: number, latterMs: number): boolean =>
  Math.min(Math.abs(formerMs), Math.abs(latterMs)) > skewMaxMs && formerMs > 0 === latterMs > 0;

/**
 * What two beats in a row say about a clock that its node's history does not say yet: how far it is off, when that
 * begins, turns or has doubled; 0 when the clock is right again; undefined when there is nothing new. `toldMs` is what
 * the history says, 0 if it says nothing. Milliseconds ahead of our clock, negative behind it.
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

/** Nodes heard lately, and how many of them were ahead or behind at their last beat. */
interface Crowd {
  heard: number;
  ahead: number;
  behind: number;
}

/**
 * Whether our own clock is off: most nodes cannot be wrong in one direction. Once it is off, it counts as right again
 * when at most a third agree.
 */
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
  /** When the current window began, and the node's news in it. */
  windowMs: number;
  news: number;
}

export function createSkewWatch(parts: {
  readonly repository: Pick<NodeRepository, "change">;
  readonly clock: Clock;
  readonly log: { warn(message: string, context: Record<string, unknown>): void };
}): SkewWatch {
  const { repository, clock } = parts;
  // The node heard last is at the end.
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

  /** Whether to ask the store about the node now: not if it has had all its news of the hour. */
  const isDue = (node: Known, formerMs: number, nowMs: number): boolean => {
    if (node.asking || nowMs - askedMs < spacingMs) return false;
    if (nowMs - node.windowMs >= newsWindowMs) Object.assign(node, { windowMs: nowMs, news: 0 });
    if (node.news >= newsMax) return false;
    // While its history is not known, it may call a clock off that is right now.
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
      // One beat of each node decides: when our clock steps, the first node's second beat must not find the others
      // still right. The log line waits for that second beat, because one beat of every node may have waited for us.
      const crowded = isOurClock(crowd, wasOurs);
      if (!crowded) ours = false;
      if (formerMs === undefined) return;
      if (crowded) {
        if (wasOurs || !clockIsOff(formerMs, node.skewMs)) return;
        ours = true;
        parts.log.warn("Most nodes' clocks are off in one direction, so this machine's own is wrong: set it (NTP)", {
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
      // What the store does not take now, the next beat brings again.
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

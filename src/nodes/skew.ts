// Nodes whose clocks are off: each session of one says so once in the node's history. A clock decides nothing of its node,
// but dates what the machine writes, and people look for it long.
import type { Clock } from "../clock.js";
import type { NodeDocument, Patch } from "./node.js";
import type { NodeRepository } from "./repository.js";

export interface SkewWatch {
  /** A beat of that session came now; it was sent at that time by the node's own clock. */
  heard(session: { readonly nodeId: string; readonly epoch: number }, sentAtMs: number): void;
}

/** A clock that is further off than this is worth an event. */
const skewMaxMs = 5_000;
/** When it is our own clock that is off, all nodes' are: events are written this far apart. */
const spacingMs = 50;
/** Nodes whose last beat is remembered. */
const knownMax = 50_000;

/**
 * Whether a node's clock is off: by both of two beats in a row, in the same direction. One alone may have been long on its
 * way, or have waited for us. Milliseconds ahead of our clock, negative behind it.
 */
export const clockIsOff = (formerMs: number, latterMs: number): boolean =>
  Math.min(Math.abs(formerMs), Math.abs(latterMs)) > skewMaxMs && formerMs > 0 === latterMs > 0;

export function createSkewWatch(parts: {
  readonly repository: Pick<NodeRepository, "change">;
  readonly clock: Clock;
  readonly changed: (node: NodeDocument) => void;
}): SkewWatch {
  const { repository, clock } = parts;
  const known = new Map<string, { readonly epoch: number; readonly skewMs: number | "told" }>();
  let writtenMs = Number.NEGATIVE_INFINITY;

  const remember = (nodeId: string, epoch: number, skewMs: number | "told"): void => {
    // Behind all others, as the one heard last.
    known.delete(nodeId);
    known.set(nodeId, { epoch, skewMs });
    if (known.size > knownMax) for (const oldest of known.keys()) return void known.delete(oldest);
  };

  const tell = async (nodeId: string, epoch: number, skewMs: number): Promise<void> => {
    let told = false;
    const node = await repository.change(nodeId, clock.now, (current) => {
      const patch = skewed(current, epoch, skewMs);
      told = patch !== undefined;
      return patch;
    });
    if (told) parts.changed(node);
  };

  return {
    heard: ({ nodeId, epoch }, sentAtMs) => {
      const former = known.get(nodeId);
      const formerMs = former?.epoch === epoch ? former.skewMs : 0;
      if (formerMs === "told") return;
      const skewMs = sentAtMs - clock.now().getTime();
      const nowMs = clock.monotonicMs();
      const isDue = clockIsOff(formerMs, skewMs) && nowMs - writtenMs >= spacingMs;
      remember(nodeId, epoch, isDue ? "told" : skewMs);
      if (!isDue) return;
      writtenMs = nowMs;
      // What the store does not take now, the next beat says again.
      tell(nodeId, epoch, skewMs).catch(() => remember(nodeId, epoch, skewMs));
    },
  };
}

/** Nothing of a node that was banned or opened a newer session meanwhile. */
function skewed(node: NodeDocument, epoch: number, skewMs: number): Patch | undefined {
  if (node.session_epoch !== epoch || node.banned) return undefined;
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  const reason = `the node's clock is ${seconds} s ${skewMs > 0 ? "ahead" : "behind"}`;
  return { event: { type: "updated", reason, actor: node._id }, ofEpoch: epoch };
}

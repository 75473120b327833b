// Once a second: last-seen times go to the store in bulk, and silence is judged. Judged is by this process's monotonic
// clock, written is under a condition (that epoch, not heard later), so a late verdict never beats a fresh beat.
import type { Clock } from "../clock.js";
import { nodeNotFound } from "../failure.js";
import type { Task } from "../task.js";
import { baseIntervalMs, type HeartbeatTiming, nextBeatAfterMs, type Verdict, verdict } from "./heartbeat.js";
import type { NodeDocument, Patch } from "./node.js";
import type { NewestSession, NodeRepository } from "./repository.js";
import type { Session } from "./session.js";
import type { Sessions } from "./sessions.js";

export interface SweeperLog {
  warn(message: string, context: Record<string, unknown>): void;
}

export type Sweeper = ReturnType<typeof createSweeper>;

const tickMs = 1000;
/** A tick this late means that beats may be waiting behind our own stall; sooner where the grace is short. */
const stallMsMax = 2000;
const flushMax = 1000;
const expiriesPerTurn = 50;

export function createSweeper(parts: {
  readonly repository: NodeRepository;
  readonly sessions: Sessions;
  readonly clock: Clock;
  readonly timing: HeartbeatTiming;
  readonly changed: (node: NodeDocument) => void;
  readonly log: SweeperLog;
}) {
  const { repository, sessions, clock, timing, log } = parts;
  let ableSinceMs = clock.monotonicMs();
  let longestIntervalMs = timing.intervalMs;
  let storeAway = false;
  const stallMs = Math.min(stallMsMax, timing.graceMs / 2);

  const presumeLife = () => {
    ableSinceMs = clock.monotonicMs();
  };

  /** Nodes heard before this process began: without them their silence would never be noticed. */
  const load = async (signal: AbortSignal): Promise<void> => {
    let count = 0;
    for (const connectivity of ["connected", "disconnected"]) {
      let after: Parameters<NodeRepository["byConnectivity"]>[1];
      do {
        const page = await repository.byConnectivity(connectivity, after);
        for (const node of page.items) sessions.presume(node);
        count += page.items.length;
        after = page.next;
      } while (after !== undefined && !signal.aborted);
    }
    longestIntervalMs = nextBeatAfterMs(baseIntervalMs(timing, count), 1);
    presumeLife();
  };

  /** A session whose epoch is no longer the node's newest gives way; one of a node that is gone ends. */
  const dropForeign = (session: Session, newest: NewestSession | undefined): void => {
    if (newest === undefined) sessions.endNode(session.nodeId, nodeNotFound(session.nodeId));
    else if (newest.epoch !== session.epoch && sessions.isCurrent(session)) sessions.giveWay(session, newest.bootId);
  };

  const flush = async (): Promise<void> => {
    const dirty = sessions.takeDirty();
    for (let from = 0; from < dirty.length; from += flushMax) {
      const part = dirty.slice(from, from + flushMax);
      try {
        const beats = part.map(({ nodeId, epoch, lastHeardAt }) => ({ nodeId, epoch, at: lastHeardAt }));
        const matched = await repository.flush(beats);
        if (matched === part.length) continue;
        const newest = await repository.newestSessions(part.map(({ nodeId }) => nodeId));
        for (const session of part) dropForeign(session, newest.get(session.nodeId));
      } catch (error) {
        sessions.putBackDirty(dirty.slice(from));
        throw error;
      }
    }
  };

  const judge = (session: Session): Verdict =>
    verdict(session, { nowMs: clock.monotonicMs(), ableSinceMs, longestIntervalMs }, timing);

  const patchFor = (to: "disconnected" | "lost"): Patch => ({
    set: { connectivity: to },
    event: { type: "connectivity", reason: to === "lost" ? "silent for too long" : "silent", actor: "system" },
  });

  /** Writes a verdict, unless the node was heard while it was on its way. */
  const expire = async (session: Session, to: "disconnected" | "lost"): Promise<void> => {
    const node = await repository.find(session.nodeId);
    if (node === null) return dropForeign(session, undefined);
    if (node.session_epoch !== session.epoch) {
      return dropForeign(session, { epoch: node.session_epoch, bootId: node.session_boot_id });
    }
    if (judge(session) === "alive") return;
    const guard = { session_epoch: session.epoch, last_heartbeat: { $lte: session.lastHeardAt } };
    const changed = await repository.compareAndSet(node, patchFor(to), clock.now(), guard);
    if (changed === null) return;
    session.connectivity = to;
    parts.changed(changed);
    if (judge(session) === "alive") await sessions.restore(session);
    else if (to === "lost" && session.link === undefined) sessions.forget(session);
  };

  const sweep = async (): Promise<void> => {
    const due: [Session, "disconnected" | "lost"][] = [];
    for (const session of sessions.all()) {
      const found = judge(session);
      if (session.connectivity === "lost" && session.link === undefined) sessions.forget(session);
      if (found === "alive" || found === session.connectivity || session.connectivity === "lost") continue;
      due.push([session, found]);
    }
    for (let from = 0; from < due.length; from += expiriesPerTurn) {
      await Promise.all(due.slice(from, from + expiriesPerTurn).map(([session, to]) => expire(session, to)));
    }
  };

  /** One turn. When the store is away nothing is judged, and when it is back everyone gets a restart's grace. */
  const turn = async (): Promise<void> => {
    sessions.tend();
    try {
      const beganMs = clock.monotonicMs();
      await flush();
      // A store that took long may have kept this process from reading the beats that are waiting.
      if (storeAway || clock.monotonicMs() - beganMs > stallMs) presumeLife();
      storeAway = false;
      await sweep();
    } catch (error) {
      if (!storeAway) log.warn("Heartbeats cannot be written; nobody is judged until they can", { error });
      storeAway = true;
    }
  };

  const task: Task = async (signal) => {
    await loadUntilDone(signal);
    let lastMs = clock.monotonicMs();
    while (!signal.aborted) {
      await clock.sleep(tickMs, signal);
      if (signal.aborted) break;
      const nowMs = clock.monotonicMs();
      if (nowMs - lastMs > tickMs + stallMs) {
        log.warn("The process stood still; silence is counted anew", { stalled_ms: Math.round(nowMs - lastMs) });
        presumeLife();
      }
      await turn();
      lastMs = clock.monotonicMs();
    }
    await flush().catch(() => undefined);
  };

  const loadUntilDone = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      try {
        return await load(signal);
      } catch (error) {
        log.warn("Nodes cannot be read yet", { error });
        await clock.sleep(tickMs, signal);
      }
    }
  };

  return { task };
}

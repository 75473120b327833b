// Once a second: writes last-seen times to the store in bulk, then this replica's watermark, and judges the silence of
// the nodes whose stream is here. It judges by this process's monotonic clock and writes under a condition.
import type { Clock } from "../../clock.js";
import { nodeNotFound } from "../../failure.js";
import { createStride } from "../../stride.js";
import type { Task } from "../../task.js";
import { outage, turns } from "../../task.js";
import type { Log } from "../../telemetry/log.js";
import { type HeartbeatTiming, type Judgement, judgement, nextBeatAfterMs } from "../heartbeat.js";
import type { NodeDocument } from "../node.js";
import type { NodeRepository } from "../repository.js";
import { isNodeGone } from "../repository.js";
import type { Session } from "../sessions/session.js";
import type { Sessions } from "../sessions/sessions.js";
import type { Expire } from "./expire.js";
import { createStallWatch } from "./stall.js";

const tickMs = 1000;
/** Beats in one bulk write. */
const flushMax = 1000;
const flushMin = 5;
/** Further losses wait for the next turn: a lost fleet is written down step by step. */
const lossesPerTurn = 50;
/** Bounded, because beats must be written and the watermark moved, however many nodes fall silent at once. */
const expiriesPerTurn = 500;
const expiriesAtOnce = 50;

export function createSweeper(parts: {
  readonly repository: NodeRepository;
  readonly sessions: Pick<Sessions, "registry" | "restore" | "tend" | "settleDoubts">;
  readonly expire: Expire;
  readonly replicaId: string;
  readonly storeNow: () => Promise<Date>;
  /** Writes this replica's record: everything that it heard up to the watermark is in the store. */
  readonly report: (watermark: Date, longestIntervalMs: number) => Promise<void>;
  /** Says that nothing more will come from this replica. */
  readonly leave: () => Promise<void>;
  readonly clock: Clock;
  readonly timing: HeartbeatTiming;
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { repository, sessions, clock, timing, log } = parts;
  const { registry } = sessions;
  const stall = createStallWatch(clock, tickMs, timing.graceMs);
  const stride = createStride(flushMax, flushMin);

  /** A session that is no longer the node's newest gives way; the session of a deleted node ends. */
  const dropForeign = (session: Session, node: NodeDocument | undefined): void => {
    if (node === undefined) registry.endNode(session.nodeId, nodeNotFound(session.nodeId));
    else if (!registry.isCurrent(session)) return;
    else if (node.session_epoch !== session.epoch) registry.supersede(session, node);
    // The same session is heard by another replica now.
    else if (session.link === undefined) registry.forget(session);
  };

  const write = async (part: readonly Session[]): Promise<void> => {
    const beats = part.map(({ nodeId, epoch, lastHeardAt }) => ({ nodeId, epoch, at: lastHeardAt }));
    if ((await repository.flush(beats)) === part.length) return;
    const nodes = await repository.findMany(part.map(({ nodeId }) => nodeId));
    for (const session of part) {
      const node = nodes.get(session.nodeId);
      if (node?.session_epoch !== session.epoch) dropForeign(session, node);
    }
  };

  const flush = async (): Promise<void> => {
    // The time is asked before the beats are taken, so that all beats up to that time are among them.
    const watermark = await parts.storeNow();
    const heard = registry.takeHeard();
    for (let from = 0; from < heard.length; ) {
      const part = heard.slice(from, from + stride.size());
      try {
        await stride.attempt(() => write(part));
      } catch (error) {
        registry.putBackHeard(heard.slice(from));
        throw error;
      }
      from += part.length;
    }
    await parts.report(watermark, nextBeatAfterMs(registry.paceMs(), 1));
  };

  const judge = (session: Session): Judgement => {
    const ableSinceMs = Math.max(stall.ableSinceMs(), session.presumedMs);
    const reading = { nowMs: clock.monotonicMs(), ableSinceMs, longestIntervalMs: session.intervalMs };
    return judgement(session, reading, timing);
  };

  /** Restores a node. If it was deleted meanwhile its session ends, as when a write of its beats finds it gone. */
  const restore = async (session: Session): Promise<void> => {
    try {
      await sessions.restore(session);
    } catch (error) {
      if (!isNodeGone(error)) throw error;
      dropForeign(session, undefined);
    }
  };

  const settle = async (session: Session, to: "disconnected" | "lost"): Promise<void> => {
    const { nodeId, epoch, lastHeardAt: heardAt } = session;
    const silent = { nodeId, epoch, replica: parts.replicaId, heardAt };
    const outcome = await parts.expire(silent, to, () => judge(session) !== "alive");
    if (outcome.kind === "foreign") dropForeign(session, outcome.node);
    else if (outcome.kind === "withheld") session.presumedMs = clock.monotonicMs() - outcome.agoMs;
    else if (outcome.kind === "expired") {
      session.connectivity = to;
      if (judge(session) === "alive") await restore(session);
      else if (to === "lost" && session.link === undefined) registry.forget(session);
    }
  };

  const sweep = async (): Promise<void> => {
    const due: [Session, "disconnected" | "lost"][] = [];
    let losses = 0;
    for (const session of registry.all()) {
      const found = judge(session);
      const over = session.unary ? found !== "alive" : session.connectivity === "lost";
      if (over && session.link === undefined) registry.forget(session);
      if (session.unary || found === "alive" || found === session.connectivity || session.connectivity === "lost")
        continue;
      if (found === "lost" && losses++ >= lossesPerTurn) continue;
      due.push([session, found]);
      if (due.length === expiriesPerTurn) break;
    }
    for (let from = 0; from < due.length; from += expiriesAtOnce) {
      await Promise.all(due.slice(from, from + expiriesAtOnce).map(([session, to]) => settle(session, to)));
    }
  };

  /** One turn. While the store is away nothing is judged; after that every node gets the grace of a restart. */
  const turn = async (): Promise<void> => {
    sessions.tend();
    const stalledMs = stall.turnBegins();
    if (stalledMs !== undefined) {
      log.warn("The process stood still; all silence is timed from now", { stalled_ms: Math.round(stalledMs) });
    }
    try {
      await flush();
      await sessions.settleDoubts();
      stall.storeAnswered();
      await sweep();
      stall.turnEnds();
    } catch (error) {
      stall.storeAway();
      throw error;
    }
  };

  const loop = turns({
    ...{ clock, everyMs: tickMs, turn },
    away: outage({
      log,
      began: "Heartbeats cannot be written; nobody is judged until they can",
      ended: "Heartbeats are written again",
    }),
    last: async () => {
      await flush();
      await parts.leave();
    },
  });
  const task: Task = async (signal) => {
    stall.turnEnds();
    await clock.sleep(tickMs, signal);
    await loop.task(signal);
  };

  return { task };
}

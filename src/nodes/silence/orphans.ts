// Judges nodes whose stream no living replica holds: nodes of replicas that died, and nodes that report by unary calls,
// which may come to any replica. Only the leader judges them. It times them from its own first observation, so that
// neither a skewed clock nor a late flush makes a node silent.
import type { Clock } from "../../clock.js";
import type { Leadership } from "../../replicas/lease.js";
import type { Replica } from "../../replicas/roster.js";
import type { Cursor } from "../../storage/collection.js";
import { pages } from "../../storage/pages.js";
import { type Next, outage, turns } from "../../task.js";
import type { Log } from "../../telemetry/log.js";
import { type HeartbeatTiming, type Judgement, judgement } from "../heartbeat.js";
import type { ConnectivityState, NodeDocument } from "../node.js";
import { type NodeRepository, unaryReplica } from "../repository.js";
import type { Expire } from "./expire.js";
import { createStallWatch } from "./stall.js";

/** An orphan as observed. */
interface Orphan {
  readonly nodeId: string;
  readonly replica: string;
  readonly epoch: number;
  readonly heardAt: Date;
  connectivity: ConnectivityState;
  /** When exactly this state was first seen; monotonic. */
  observedMs: number;
}

/** The store's time, and our monotonic clock just before the store was asked. */
interface StoreTime {
  readonly at: Date;
  readonly nowMs: number;
}

const turnMs = 1000;
/** How far a watermark may be ahead: it may have been written after the store was asked for the time. */
const aheadMsMax = 10_000;
const expiriesPerTurn = 50;
const judged = ["connected", "disconnected"] as const;

export function createOrphans(parts: {
  readonly repository: NodeRepository;
  readonly expire: Expire;
  readonly leadership: () => Leadership | undefined;
  readonly look: () => Promise<Replica[]>;
  readonly forgetReplica: (replica: Replica) => Promise<void>;
  readonly storeNow: () => Promise<Date>;
  readonly clock: Clock;
  readonly timing: HeartbeatTiming;
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { repository, clock, timing, log } = parts;
  const orphans = new Map<string, Orphan>();
  /** Dead replicas whose nodes have been taken in. */
  const taken = new Set<string>();
  let unary: { readonly connectivity: (typeof judged)[number]; readonly after: Cursor | undefined } = firstPage;
  let token: number | undefined;
  const stall = createStallWatch(clock, turnMs, timing.graceMs);

  const begin = (leadership: Leadership): void => {
    if (token === leadership.token) return;
    token = leadership.token;
    orphans.clear();
    taken.clear();
    unary = firstPage;
    stall.presumeLife();
  };

  const observe = (node: NodeDocument): void => {
    const known = orphans.get(node._id);
    const back = known?.connectivity === "disconnected" && node.connectivity === "connected";
    const same =
      !back &&
      known?.epoch === node.session_epoch &&
      known.replica === node.session_replica &&
      known.heardAt.getTime() === node.last_heartbeat.getTime();
    if (same) {
      known.connectivity = node.connectivity;
      return;
    }
    orphans.set(node._id, {
      nodeId: node._id,
      replica: node.session_replica ?? "",
      epoch: node.session_epoch,
      heardAt: node.last_heartbeat,
      connectivity: node.connectivity,
      observedMs: clock.monotonicMs(),
    });
  };

  /** Takes in the nodes of replicas that have died, and gives up the nodes of replicas that have returned. */
  const adopt = async (replicas: readonly Replica[]): Promise<void> => {
    for (const replica of replicas) {
      if (replica.alive && taken.has(replica.id)) giveBack(replica);
      if (!replica.alive && !taken.has(replica.id)) await adoptFrom(replica);
    }
    for (const id of taken) if (!replicas.some((replica) => replica.id === id)) taken.delete(id);
  };

  /** Answers how many nodes the replica had. */
  const adoptFrom = async (replica: Replica): Promise<number> => {
    let count = 0;
    for (const connectivity of judged) {
      for await (const nodes of pages((after) => repository.heldBy(replica.id, connectivity, after))) {
        for (const node of nodes) observe(node);
        count += nodes.length;
      }
    }
    taken.add(replica.id);
    // The replica may have taken beats of nodes without a stream and never written them.
    for (const orphan of orphans.values()) if (orphan.replica === unaryReplica) orphan.observedMs = clock.monotonicMs();
    if (count > 0) {
      log.info("A replica is gone; its nodes get a restart's grace", { replica_id: replica.id, nodes: count });
    }
    return count;
  };

  const giveBack = (replica: Replica): void => {
    taken.delete(replica.id);
    for (const orphan of orphans.values()) if (orphan.replica === replica.id) orphans.delete(orphan.nodeId);
    log.info("A replica is back", { replica_id: replica.id });
  };

  /** Reads one page of unary nodes a turn, over and over. */
  const observeUnary = async (): Promise<void> => {
    const page = await repository.heldBy(unaryReplica, unary.connectivity, unary.after);
    for (const node of page.items) observe(node);
    unary =
      page.next === undefined
        ? { connectivity: unary.connectivity === "connected" ? "disconnected" : "connected", after: undefined }
        : { ...unary, after: page.next };
  };

  const judge = (orphan: Orphan, longestIntervalMs: number): Judgement =>
    judgement(
      { lastHeardMs: orphan.observedMs, intervalMs: longestIntervalMs },
      { nowMs: clock.monotonicMs(), ableSinceMs: stall.ableSinceMs(), longestIntervalMs },
      timing,
    );

  /**
   * Whether all beats that the judgement depends on are in the store: any living replica may have taken a unary beat.
   * The end of the silence is computed in the store's time as it is now, because the store's clock may have stepped
   * since the node was observed. A watermark far ahead of that time is from before such a step.
   */
  const isKnown = (
    orphan: Orphan,
    silentMs: number,
    replicas: readonly Replica[],
    { at, nowMs }: StoreTime,
  ): boolean => {
    if (orphan.replica !== unaryReplica) return true;
    const until = at.getTime() - (nowMs - orphan.observedMs) + silentMs;
    const latest = at.getTime() + aheadMsMax;
    return replicas.every(({ alive, watermark }) => !alive || (+watermark >= until && +watermark <= latest));
  };

  const sweep = async (leadership: Leadership, replicas: readonly Replica[], time: StoreTime): Promise<void> => {
    const longestIntervalMs = Math.max(timing.intervalMs, ...replicas.map(({ intervalMs }) => intervalMs));
    const silentMs = longestIntervalMs + timing.graceMs;
    const due = [...orphans.values()].flatMap((orphan) => {
      const found = judge(orphan, longestIntervalMs);
      const news = found !== "alive" && found !== orphan.connectivity && isKnown(orphan, silentMs, replicas, time);
      return news ? [{ orphan, to: found }] : [];
    });
    await Promise.all(
      due.slice(0, expiriesPerTurn).map(({ orphan, to }) => {
        const stillSilent = () => leadership.holds() && judge(orphan, longestIntervalMs) !== "alive";
        return settle(orphan, to, stillSilent, leadership.token);
      }),
    );
  };

  const settle = async (orphan: Orphan, to: "disconnected" | "lost", stillSilent: () => boolean, fence: number) => {
    const outcome = await parts.expire(orphan, to, stillSilent, fence);
    if (orphans.get(orphan.nodeId) !== orphan) return;
    if (outcome.kind === "withheld") orphan.observedMs = clock.monotonicMs() - outcome.agoMs;
    else if (outcome.kind === "foreign" || (outcome.kind === "expired" && to === "lost")) orphans.delete(orphan.nodeId);
    else if (outcome.kind === "expired") orphan.connectivity = to;
    else if (outcome.kind === "moved") await lookAgain(orphan);
  };

  /** Reads a node again that was changed meanwhile, by a beat in the store or by another writer. */
  const lookAgain = async (orphan: Orphan): Promise<void> => {
    const node = await repository.find(orphan.nodeId);
    const own = node?.session_replica === orphan.replica && (judged as readonly string[]).includes(node.connectivity);
    if (node === null || !own) orphans.delete(orphan.nodeId);
    else observe(node);
  };

  /** Removes a dead replica from the roster when none of its nodes is left to be judged. */
  const forgetDone = async (replicas: readonly Replica[]): Promise<void> => {
    const waiting = new Set([...orphans.values()].map(({ replica }) => replica));
    for (const replica of replicas) {
      if (replica.alive || !taken.has(replica.id) || waiting.has(replica.id)) continue;
      // The replica may have opened sessions after its nodes were read and before it died for good.
      taken.delete(replica.id);
      if ((await adoptFrom(replica)) === 0) await parts.forgetReplica(replica);
    }
  };

  const judgeAll = async (leadership: Leadership): Promise<void> => {
    begin(leadership);
    stall.turnBegins();
    const nowMs = clock.monotonicMs();
    const time = { at: await parts.storeNow(), nowMs };
    const replicas = await parts.look();
    await adopt(replicas);
    await observeUnary();
    stall.storeAnswered();
    await sweep(leadership, replicas, time);
    await forgetDone(replicas);
    stall.turnEnds();
  };

  const turn = async (): Promise<Next> => {
    const leadership = parts.leadership();
    if (leadership === undefined) return "idle";
    try {
      await judgeAll(leadership);
    } catch (error) {
      stall.storeAway();
      throw error;
    }
    return undefined;
  };

  const away = outage({ log, began: "Orphans cannot be judged now", ended: "Orphans are judged again" });
  return { task: turns({ clock, everyMs: turnMs, turn, away }).task };
}

const firstPage = { connectivity: "connected", after: undefined } as const;

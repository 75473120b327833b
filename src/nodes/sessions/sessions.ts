// The nodes that this replica hears. A session is push-shaped: messages come in through receive(), answers go out through
// its link, and what carries them is not known here. A beat touches memory only; status and connectivity are durable
// before anyone is told of them.
import { randomUUID } from "node:crypto";
import type { Clock } from "../../clock.js";
import type { Coordination } from "../../coordination/coordination.js";
import { isCoordinationAway } from "../../coordination/coordination.js";
import {
  type Failure,
  nodeNotFound,
  notAllowed,
  sessionSuperseded,
  unauthenticated,
  unavailable,
} from "../../failure.js";
import type { NodeId } from "../../ids.js";
import { isOutage, unless } from "../../task.js";
import { baseIntervalMs, type HeartbeatTiming, nextBeatAfterMs, sequenceStep, sharedIdentity } from "../heartbeat.js";
import { desiredStatus, type NodeDocument, type Patch, pendingCommands, predatesReset } from "../node.js";
import { isNodeGone, type NodeRepository, unaryReplica } from "../repository.js";
import { createAdmission } from "./admission.js";
import { createDoubts } from "./doubts.js";
import { createEnding } from "./ending.js";
import { callerGone, createOpenings, enrollmentReset, superseded } from "./opening.js";
import {
  type AckMessage,
  type Beat,
  heardAgain,
  type Incoming,
  type Link,
  left,
  type Opening,
  ofSample,
  openingPatch,
  presumed,
  type Result,
  resulted,
  type Sample,
  type Session,
  type SessionCommand,
  sampleCommand,
  wasReset,
} from "./session.js";

export interface SessionSettings extends HeartbeatTiming {
  readonly streamsMax: number;
  readonly streamLifetimeMs: number;
  readonly metricsIntervalMs: number;
}

export interface SessionMetrics {
  readonly beats: { inc(): void };
  readonly sequenceGaps: { inc(count: number): void };
  sessionOpened(outcome: "opened" | "takeover" | "refused"): void;
}

export type Sessions = ReturnType<typeof createSessions>;

/** When a node beats next whose time is over although it is being answered. */
const soonestMs = 1_000;
const openedChannel = "node-sessions";

export function createSessions(parts: {
  readonly repository: NodeRepository;
  readonly coordination: Coordination;
  readonly clock: Clock;
  readonly replicaId: string;
  readonly settings: SessionSettings;
  readonly metrics: SessionMetrics;
  /** In [0, 1). */
  readonly random: () => number;
  readonly isRevoked: (jti: string) => boolean;
  /** Whether this replica hears of what others do to nodes: no session is opened before. */
  readonly follows: () => boolean;
  /** Where samples go. */
  readonly onSample: (nodeId: NodeId, sample: Sample, at: Date) => void;
}) {
  const { repository, coordination, clock, settings, metrics, random } = parts;
  const sessions = new Map<string, Session>();
  const dirty = new Set<Session>();
  const admission = createAdmission({ clock, random, streamsMax: settings.streamsMax, hit: coordination.hit });
  /** Counted once a second, and on from there. */
  let connectedCount = 0;

  const pace = () => baseIntervalMs(settings, connectedCount);

  const change = (nodeId: string, decide: (node: NodeDocument) => Patch | undefined): Promise<NodeDocument> =>
    repository.change(nodeId, clock.now, decide);

  /** Ends what carries the session; the session stays, to be judged by its silence. */
  const unlink = (session: Session, end: (link: Link) => void): void => {
    const { link } = session;
    if (link === undefined) return;
    session.link = undefined;
    end(link);
  };

  const forget = (session: Session): void => {
    dirty.delete(session);
    if (sessions.get(session.nodeId) === session) sessions.delete(session.nodeId);
  };

  /** A newer session has come: OK for the same agent that reconnects, else for good. */
  const giveWay = (older: Session, newerBootId: string | undefined): void => {
    unlink(older, (link) => link.end(older.bootId === newerBootId ? undefined : sessionSuperseded()));
    forget(older);
  };

  const doubts = createDoubts({
    repository,
    replicaId: parts.replicaId,
    epochOf: (nodeId) => sessions.get(nodeId)?.epoch,
    adopt: (node) => {
      const older = sessions.get(node._id);
      if (older !== undefined) giveWay(older, node.session_boot_id);
      sessions.set(node._id, presumed(node, pace(), clock.monotonicMs()));
    },
  });

  const remember = (node: NodeDocument, opening: Opening, link: Link | undefined): Session => {
    const nowMs = clock.monotonicMs();
    const lifetimeMs = settings.streamLifetimeMs * (0.8 + 0.4 * random());
    const tokenMs = opening.bearer.expiresAt.getTime() - clock.now().getTime();
    const session: Session = {
      ...presumed(node, pace(), nowMs),
      sessionId: randomUUID(),
      bootId: opening.bootId,
      jti: opening.bearer.jti,
      unary: link === undefined,
      link,
      renewAtMs: nowMs + Math.min(lifetimeMs, Math.max(0, tokenMs)),
    };
    sessions.set(opening.nodeId, session);
    connectedCount++;
    return session;
  };

  /** Why the session's node no longer answers to it: what ended it may not have seen it. */
  const outdated = (node: NodeDocument, { bearer, bootId }: Opening, session: Session): Failure | undefined => {
    if (predatesReset(bearer, node)) return enrollmentReset();
    if (node.session_epoch !== session.epoch) return superseded(bootId, node.session_boot_id);
    // The token is good: its process opens a session under it.
    if (wasReset(node, session)) return unavailable("The node's enrolment was reset meanwhile", 1000);
    if (node.banned) return notAllowed("The node is banned");
    return parts.isRevoked(bearer.jti) ? unauthenticated("The token was revoked") : undefined;
  };

  const openings = createOpenings({
    repository,
    clock,
    replicaId: parts.replicaId,
    standing: (nodeId) => sessions.get(nodeId),
    doubt: doubts.note,
  });

  /**
   * Opens the node's next session; an older one of it, here or on another replica, ends.
   * @throws Failure 4011 revoked, 4031 banned, 4291, 5001, 5013 when a newer one of another process has come meanwhile, 5031
   */
  const open = async (opening: Opening, link: Link | undefined): Promise<{ session: Session; node: NodeDocument }> => {
    if (!parts.follows()) throw unavailable("What other replicas do is not known yet", 1000);
    await admission.admit(opening.nodeId);
    const replica = link === undefined ? unaryReplica : parts.replicaId;
    return openings.run(opening, replica, (opened) => begin(opened, opening, link));
  };

  /** Has the session whose epoch was taken begin: the older one gives way, the node is connected. */
  const begin = async (opened: NodeDocument, opening: Opening, link: Link | undefined) => {
    const older = sessions.get(opening.nodeId);
    if (older !== undefined && older.epoch > opened.session_epoch) throw superseded(opening.bootId, older.bootId);
    if (older !== undefined) giveWay(older, opening.bootId);
    const session = remember(opened, opening, link);
    metrics.sessionOpened(opened.connectivity === "connected" ? "takeover" : "opened");
    // Best effort: a replica that misses it learns of the epoch by its next flush.
    void coordination
      .publish(openedChannel, JSON.stringify([opening.nodeId, session.epoch, opening.bootId]))
      .catch(unless(isCoordinationAway));
    try {
      // The epoch is taken, and the node's silence is judged; but a caller that is gone has not connected it.
      if (opening.isGone()) throw callerGone();
      const duplicate = sharedIdentity(opened.boots ?? []);
      const node = await change(opening.nodeId, (current) => openingPatch(current, opening, session, duplicate));
      session.connectivity = node.connectivity;
      session.desired = desiredStatus(node.status);
      // Banned, revoked, drained or superseded while it opened: whoever ended the sessions then may not have seen this one.
      const late = outdated(node, opening, session) ?? admission.drainRefusal();
      if (late !== undefined) throw late;
      return { session, node };
    } catch (error) {
      unlink(session, () => undefined);
      throw error;
    }
  };

  const commandsFor = (session: Session, node: NodeDocument): SessionCommand[] => {
    const commands: SessionCommand[] = pendingCommands(node);
    if (clock.monotonicMs() - session.lastSampleMs > 2 * settings.metricsIntervalMs) {
      commands.push({ commandId: sampleCommand(session.epoch), kind: "collect_metrics" });
    }
    return commands;
  };

  /** Sends the commands that this stream has not been sent yet. */
  const tell = (session: Session, commands: readonly SessionCommand[]): void => {
    const { told, link } = session;
    if (told === undefined || link === undefined) return;
    for (const command of commands) if (!told.has(command.commandId)) link.send({ kind: "command", command });
    session.told = new Set(commands.map(({ commandId }) => commandId));
  };

  /** A beat brings a node back that was given up. */
  const restore = (session: Session): Promise<unknown> =>
    change(session.nodeId, (node) =>
      wasReset(node, session) ? undefined : heardAgain(node, session.epoch, session.lastHeardAt),
    ).then(() => {
      session.connectivity = "connected";
    });

  /**
   * A new beat proves life, in memory; one that does not come too soon is written, too. A repeated one is only answered.
   * Whoever judges a node without a stream knows what was written alone: a beat of it that is not is told to come again
   * when the one before was.
   */
  const beat = (session: Session, message: Beat): AckMessage => {
    const nowMs = clock.monotonicMs();
    const { fresh, missed } = sequenceStep(session.lastSequence, message.sequence);
    const dueMs = nextBeatAfterMs(pace(), random());
    const counted = fresh && count(session, nowMs);
    const times = session.unary ? counted : fresh;
    if (fresh) {
      metrics.beats.inc();
      if (missed > 0 && session.lastSequence > 0n) metrics.sequenceGaps.inc(missed);
      // A sample is taken from a beat that was asked for out of turn, too.
      if (message.sample !== undefined) {
        session.lastSampleMs = nowMs;
        parts.onSample(session.nodeId, message.sample, session.lastHeardAt);
      }
      session.lastSequence = message.sequence;
    }
    if (times) {
      session.lastHeardMs = nowMs;
      session.intervalMs = dueMs;
    }
    const leftMs = Math.ceil(session.lastCountedMs + session.intervalMs - nowMs);
    const nextAfterMs = session.unary && !times ? Math.max(soonestMs, leftMs) : dueMs;
    return { kind: "ack", sequence: message.sequence, nextAfterMs, desired: session.desired };
  };

  /** Has the beat written with the next flush, unless the last one was less than half an interval ago; answers whether. */
  const count = (session: Session, nowMs: number): boolean => {
    if (nowMs - session.lastCountedMs < session.intervalMs / 2) return false;
    session.lastCountedMs = nowMs;
    session.lastHeardAt = clock.now();
    dirty.add(session);
    if (session.connectivity !== "connected") void restore(session).catch(unless(isOutage, isNodeGone));
    return true;
  };

  /** What a session answers that is no longer the node's newest changes nothing. */
  const result = async ({ nodeId, epoch }: Session, message: Result): Promise<unknown> => {
    if (ofSample(message)) return undefined;
    return change(nodeId, (node) => (node.session_epoch === epoch ? resulted(node, message, clock.now()) : undefined));
  };

  /**
   * Written before the stream ends, so that whoever saw the goodbye answered finds it true. The session stays, without a
   * stream: a node that left is LOST in its time like any other that is not heard.
   */
  const leave = async (session: Session, reason: string): Promise<void> => {
    await change(session.nodeId, (node) => left(node, session.epoch, reason));
    session.connectivity = "disconnected";
    unlink(session, (link) => link.end());
  };

  const isCurrent = (session: Session): boolean => sessions.get(session.nodeId) === session;

  /** Ends the session of a node for good. */
  const endNode = (nodeId: string, failure: Failure): void => {
    const session = sessions.get(nodeId);
    if (session === undefined) return;
    unlink(session, (link) => link.end(failure));
    forget(session);
  };

  const ending = createEnding({ clock, random, unlink });

  return {
    /** Takes a place for a stream of the node; see Admission.enter. */
    enter: admission.enter,

    /** Sends Welcome and what is pending. */
    openStream: async (opening: Opening, link: Link): Promise<Session> => {
      const { session, node } = await open(opening, link).catch((error: unknown) => {
        metrics.sessionOpened("refused");
        throw error;
      });
      link.send({
        kind: "welcome",
        sessionId: session.sessionId,
        epoch: session.epoch,
        intervalMs: session.intervalMs,
        desired: session.desired,
      });
      session.told = new Set();
      tell(session, commandsFor(session, node));
      return session;
    },

    /** Takes a message of the session's stream; one of a session that was superseded is dropped. */
    receive: (session: Session, message: Incoming): Promise<unknown> | undefined => {
      if (!isCurrent(session)) return undefined;
      switch (message.kind) {
        case "beat":
          session.link?.send(beat(session, message));
          return undefined;
        case "leave":
          return leave(session, message.reason);
        case "result":
          return result(session, message);
        default:
          return message satisfies never;
      }
    },

    /** The stream is gone, for whatever reason; that alone says nothing of the node. */
    closed: (session: Session, link: Link): void => {
      if (session.link === link) unlink(session, () => undefined);
    },

    /**
     * One beat without a stream. Without an epoch it opens a session.
     * @throws Failure 4031, 4291, 5001, 5013, 5031
     */
    report: async (
      opening: Opening,
      epoch: number | undefined,
      message: Beat,
      results: readonly Result[],
    ): Promise<{ ack: AckMessage; epoch: number; commands: SessionCommand[] }> => {
      const session = epoch === undefined ? (await open(opening, undefined)).session : await resume(opening, epoch);
      for (const one of results) await result(session, one);
      const node = await repository.get(opening.nodeId);
      const late = outdated(node, opening, session);
      if (late !== undefined) {
        if (wasReset(node, session)) forget(session);
        throw late;
      }
      // The leader judges such a session: this replica may not have heard that it was given up.
      session.connectivity = node.connectivity;
      session.desired = desiredStatus(node.status);
      const ack = beat(session, message);
      return { ack, epoch: session.epoch, commands: commandsFor(session, node) };
    },

    /** A node was changed: its session hears of what it should do now. */
    nodeChanged: (node: NodeDocument): void => {
      if (node.deleted_at !== undefined) endNode(node._id, nodeNotFound(node._id));
      else if (node.banned) endNode(node._id, notAllowed("The node is banned"));
      const session = sessions.get(node._id);
      if (session === undefined) return;
      if (wasReset(node, session)) endNode(node._id, enrollmentReset());
      if (session.epoch !== node.session_epoch) return;
      if (node.version < session.version) return;
      session.version = node.version;
      // A leader may have given it up while this replica stood still; the next beat brings it back.
      session.connectivity = node.connectivity;
      session.desired = desiredStatus(node.status);
      tell(session, pendingCommands(node));
    },

    endNode,
    /** Ends the streams that were opened with this token. */
    endToken: (jti: string, failure: Failure): void => {
      for (const session of sessions.values()) {
        if (session.jti === jti) unlink(session, (link) => link.end(failure));
      }
    },

    /** Another replica has opened a session: an older one here gives way. */
    listen: (signal: AbortSignal): Promise<void> =>
      coordination.subscribe(
        openedChannel,
        (text) => {
          const [nodeId, epoch, bootId] = JSON.parse(text) as [string, number, string];
          const session = sessions.get(nodeId);
          if (session === undefined || session.epoch >= epoch) return;
          giveWay(session, bootId);
        },
        signal,
      ),

    /** Once a second: streams whose time is up, readers that do not read. */
    tend: (): void => {
      const nowMs = clock.monotonicMs();
      connectedCount = 0;
      for (const session of sessions.values()) {
        if (session.connectivity === "connected") connectedCount++;
        ending.tend(session, nowMs);
      }
    },

    /**
     * Ends every stream OK within the window, spread over it and each told to come back at its own time. New ones are
     * refused from now on.
     */
    drain: async (windowMs: number, signal: AbortSignal): Promise<void> => {
      admission.drain(windowMs);
      await ending.drain([...sessions.values()], windowMs, signal);
    },

    settleDoubts: doubts.settle,

    /** What the sweeper works on. */
    all: (): IterableIterator<Session> => sessions.values(),
    forget,
    isCurrent,
    restore,
    /** The session is no longer its node's newest. */
    giveWay: (session: Session, node: NodeDocument): void => {
      if (wasReset(node, session)) endNode(node._id, enrollmentReset());
      else giveWay(session, node.session_boot_id);
    },
    takeDirty: (): Session[] => {
      const taken = [...dirty];
      dirty.clear();
      return taken;
    },
    putBackDirty: (taken: readonly Session[]): void => {
      for (const session of taken) if (isCurrent(session)) dirty.add(session);
    },
    /** Whether a session here has not been told of that version of its node. */
    isBehind: (nodeId: string, version: number): boolean => (sessions.get(nodeId)?.version ?? version) < version,
    /** Base of the time between beats as given now. */
    paceMs: pace,
    counts: () => ({ known: sessions.size, streams: admission.streams() }),
  };

  /** The session a unary beat names: ours, or one that another process held. */
  async function resume(opening: Opening, epoch: number): Promise<Session> {
    const found = await openings.resume(opening, epoch);
    if ("session" in found) return found.session;
    const known = sessions.get(opening.nodeId);
    if (known !== undefined) forget(known);
    return remember(found.node, opening, undefined);
  }
}

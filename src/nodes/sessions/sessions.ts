// The nodes that this replica hears. Messages are pushed in through receive(), answers go out through the session's
// link, and what carries them is not known here. A beat touches memory only; status and connectivity are durable before
// anyone is told of them.
import type { Clock } from "../../clock.js";
import type { Coordination } from "../../coordination/coordination.js";
import { nodeNotFound, notAllowed } from "../../failure.js";
import type { NodeId } from "../../ids.js";
import { isOutage, unless } from "../../task.js";
import { type HeartbeatTiming, nextBeatAfterMs, sequenceStep } from "../heartbeat.js";
import { desiredStatus, type NodeDocument, type Patch, pendingCommands } from "../node.js";
import { isNodeGone, type NodeRepository } from "../repository.js";
import { createAdmission } from "./admission.js";
import { createEnding } from "./ending.js";
import { createOpening, openedChannel } from "./opening.js";
import { enrollmentReset } from "./refusals.js";
import { createRegistry } from "./registry.js";
import {
  type AckMessage,
  type Beat,
  heardAgain,
  type Incoming,
  type Link,
  left,
  type Opening,
  ofSample,
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

/** The least time that a node without a stream is told to wait before its next beat. */
const soonestMs = 1_000;

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
  /** Whether this replica hears what others do to nodes; no session is opened before that. */
  readonly follows: () => boolean;
  /** Takes the samples of beats. */
  readonly onSample: (nodeId: NodeId, sample: Sample, at: Date) => void;
}) {
  const { repository, coordination, clock, settings, metrics, random } = parts;
  const registry = createRegistry({ clock, timing: settings });
  const admission = createAdmission({ clock, random, streamsMax: settings.streamsMax, hit: coordination.hit });
  const opening = createOpening({
    ...{ ...parts, registry, admission },
    ...{ streamLifetimeMs: settings.streamLifetimeMs, sessionOpened: metrics.sessionOpened },
  });
  const ending = createEnding({ clock, random, unlink: registry.unlink });

  const change = (nodeId: string, decide: (node: NodeDocument) => Patch | undefined): Promise<NodeDocument> =>
    repository.change(nodeId, clock.now, decide);

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

  /** Writes that a node which was given up is heard again. */
  const restore = (session: Session): Promise<unknown> =>
    change(session.nodeId, (node) =>
      wasReset(node, session) ? undefined : heardAgain(node, session.epoch, session.lastHeardAt),
    ).then(() => {
      session.connectivity = "connected";
    });

  /**
   * A new beat proves life, in memory; it is also written unless it comes too soon. A repeated beat is only answered.
   * The judge of a node without a stream knows only what was written. So when a beat of such a node is not written, the
   * node is told to beat again when the interval since its last written beat ends.
   */
  const beat = (session: Session, message: Beat): AckMessage => {
    const nowMs = clock.monotonicMs();
    const { fresh, missed } = sequenceStep(session.lastSequence, message.sequence);
    const dueMs = nextBeatAfterMs(registry.paceMs(), random());
    const counted = fresh && count(session, nowMs);
    const times = session.unary ? counted : fresh;
    if (fresh) {
      metrics.beats.inc();
      if (missed > 0 && session.lastSequence > 0n) metrics.sequenceGaps.inc(missed);
      // A beat that was asked for out of turn brings a sample too.
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

  /** Notes the beat for the next flush unless the last is less than half an interval ago; answers whether it did. */
  const count = (session: Session, nowMs: number): boolean => {
    if (nowMs - session.lastCountedMs < session.intervalMs / 2) return false;
    session.lastCountedMs = nowMs;
    session.lastHeardAt = clock.now();
    registry.markHeard(session);
    if (session.connectivity !== "connected") void restore(session).catch(unless(isOutage, isNodeGone));
    return true;
  };

  /** Takes the result of a command. From a session that is no longer the node's newest it changes nothing. */
  const result = async ({ nodeId, epoch }: Session, message: Result): Promise<unknown> => {
    if (ofSample(message)) return undefined;
    return change(nodeId, (node) => (node.session_epoch === epoch ? resulted(node, message, clock.now()) : undefined));
  };

  /**
   * The goodbye is written before the stream ends, so that anyone who saw it answered finds it in the store. The
   * session stays, without a stream: a node that left becomes LOST in time, like any other node that is not heard.
   */
  const leave = async (session: Session, reason: string): Promise<void> => {
    await change(session.nodeId, (node) => left(node, session.epoch, reason));
    session.connectivity = "disconnected";
    registry.unlink(session, (link) => link.end());
  };

  return {
    /** Takes a place for a stream of the node; see Admission.enter. */
    enter: admission.enter,

    /** Opens a session on a stream: sends Welcome and the pending commands. */
    openStream: async (asked: Opening, link: Link): Promise<Session> => {
      const { session, node } = await opening.open(asked, link).catch((error: unknown) => {
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

    /** Takes a message of the session's stream; a message of a superseded session is dropped. */
    receive: (session: Session, message: Incoming): Promise<unknown> | undefined => {
      if (!registry.isCurrent(session)) return undefined;
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

    /** The stream is gone, for whatever reason; that alone says nothing about the node. */
    closed: (session: Session, link: Link): void => {
      if (session.link === link) registry.unlink(session, () => undefined);
    },

    /**
     * Takes one beat without a stream. Without an epoch it opens a session.
     * @throws Failure 4031, 4291, 5001, 5013, 5031
     */
    report: async (
      asked: Opening,
      epoch: number | undefined,
      message: Beat,
      results: readonly Result[],
    ): Promise<{ ack: AckMessage; epoch: number; commands: SessionCommand[] }> => {
      const session =
        epoch === undefined ? (await opening.open(asked, undefined)).session : await opening.resume(asked, epoch);
      for (const one of results) await result(session, one);
      const node = await repository.get(asked.nodeId);
      const late = opening.outdated(node, asked, session);
      if (late !== undefined) {
        if (wasReset(node, session)) registry.forget(session);
        throw late;
      }
      // The leader judges such a session, so this replica may not have heard that the node was given up.
      session.connectivity = node.connectivity;
      session.desired = desiredStatus(node.status);
      const ack = beat(session, message);
      return { ack, epoch: session.epoch, commands: commandsFor(session, node) };
    },

    /** A node was changed: its session is told what the node should do now. */
    nodeChanged: (node: NodeDocument): void => {
      if (node.deleted_at !== undefined) registry.endNode(node._id, nodeNotFound(node._id));
      else if (node.banned) registry.endNode(node._id, notAllowed("The node is banned"));
      const session = registry.get(node._id);
      if (session === undefined) return;
      if (wasReset(node, session)) registry.endNode(node._id, enrollmentReset());
      if (session.epoch !== node.session_epoch) return;
      if (node.version < session.version) return;
      session.version = node.version;
      // A leader may have given the node up while this replica stood still; the next beat brings it back.
      session.connectivity = node.connectivity;
      session.desired = desiredStatus(node.status);
      tell(session, pendingCommands(node));
    },

    endNode: registry.endNode,
    endToken: registry.endToken,
    isBehind: registry.isBehind,

    /** Another replica has opened a session: an older one here gives way. */
    listen: (signal: AbortSignal): Promise<void> =>
      coordination.subscribe(
        openedChannel,
        (text) => {
          const [nodeId, epoch, bootId] = JSON.parse(text) as [string, number, string];
          const session = registry.get(nodeId);
          if (session === undefined || session.epoch >= epoch) return;
          registry.giveWay(session, bootId);
        },
        signal,
      ),

    /** Once a second: renews streams whose time is up, and ends streams that nobody reads. */
    tend: (): void => {
      const nowMs = clock.monotonicMs();
      registry.recount();
      for (const session of registry.all()) ending.tend(session, nowMs);
    },

    /**
     * Ends every stream with OK, spread over the window; each node is told its own time to come back. New streams are
     * refused from now on.
     */
    drain: async (windowMs: number, signal: AbortSignal): Promise<void> => {
      admission.drain(windowMs);
      await ending.drain([...registry.all()], windowMs, signal);
    },

    /** For the judges of silence. */
    registry,
    restore,
    settleDoubts: opening.settleDoubts,

    counts: () => ({ known: registry.size(), streams: admission.streams() }),
  };
}

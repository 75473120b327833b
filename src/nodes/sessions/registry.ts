// The sessions that this replica knows, at most one a node, and the sessions whose beats are not written yet. All of it
// is in memory. The parts that open, judge and end sessions work on it.
import type { Clock } from "../../clock.js";
import { type Failure, sessionSuperseded } from "../../failure.js";
import { baseIntervalMs, type HeartbeatTiming } from "../heartbeat.js";
import type { NodeDocument } from "../node.js";
import { enrollmentReset } from "./refusals.js";
import { type Link, presumed, type Session, wasReset } from "./session.js";

export type Registry = ReturnType<typeof createRegistry>;

export function createRegistry(parts: {
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly timing: Parameters<typeof baseIntervalMs>[0] & HeartbeatTiming;
}) {
  const { clock, timing } = parts;
  const sessions = new Map<string, Session>();
  const unwritten = new Set<Session>();
  /** Counted once a second; sessions added since then are included. */
  let connected = 0;

  const paceMs = () => baseIntervalMs(timing, connected);

  const isCurrent = (session: Session): boolean => sessions.get(session.nodeId) === session;

  const unlink = (session: Session, end: (link: Link) => void): void => {
    const { link } = session;
    if (link === undefined) return;
    session.link = undefined;
    end(link);
  };

  const forget = (session: Session): void => {
    unwritten.delete(session);
    if (isCurrent(session)) sessions.delete(session.nodeId);
  };

  const giveWay = (older: Session, newerBootId: string | undefined): void => {
    unlink(older, (link) => link.end(older.bootId === newerBootId ? undefined : sessionSuperseded()));
    forget(older);
  };

  const endNode = (nodeId: string, failure: Failure): void => {
    const session = sessions.get(nodeId);
    if (session === undefined) return;
    unlink(session, (link) => link.end(failure));
    forget(session);
  };

  return {
    get: (nodeId: string): Session | undefined => sessions.get(nodeId),
    all: (): IterableIterator<Session> => sessions.values(),
    size: (): number => sessions.size,
    isCurrent,
    /** Whether a session here has not been told that version of its node yet. */
    isBehind: (nodeId: string, version: number): boolean => (sessions.get(nodeId)?.version ?? version) < version,

    /** Adds a session of its node; the caller has already made an older session give way. */
    add: (session: Session): void => {
      sessions.set(session.nodeId, session);
      connected++;
    },
    /** Takes in a session that the store knows and nobody here does: its node counts as heard now. */
    adopt: (node: NodeDocument): void => {
      const older = sessions.get(node._id);
      if (older !== undefined) giveWay(older, node.session_boot_id);
      sessions.set(node._id, presumed(node, paceMs(), clock.monotonicMs()));
    },

    /** Ends the session's link; the session stays, to be judged by its silence. */
    unlink,
    /** Forgets the session here; its link, if it has one, is left alone. */
    forget,
    /** A newer session has come: the older one ends with OK if the same agent reconnects, else finally with 5013. */
    giveWay,
    /** The node's document says that the session is no longer its newest. */
    supersede: (session: Session, node: NodeDocument): void => {
      if (wasReset(node, session)) endNode(node._id, enrollmentReset());
      else giveWay(session, node.session_boot_id);
    },
    /** Ends the session of a node for good. */
    endNode,
    /** Ends the streams that were opened with this token. */
    endToken: (jti: string, failure: Failure): void => {
      for (const session of sessions.values()) {
        if (session.jti === jti) unlink(session, (link) => link.end(failure));
      }
    },

    /** Notes that a beat of the session is to be written. */
    markHeard: (session: Session): void => void unwritten.add(session),
    /** Takes the sessions with beats to be written; the caller writes them or puts them back. */
    takeHeard: (): Session[] => {
      const taken = [...unwritten];
      unwritten.clear();
      return taken;
    },
    putBackHeard: (taken: readonly Session[]): void => {
      for (const session of taken) if (isCurrent(session)) unwritten.add(session);
    },

    /** Base of the time between beats as given now, in milliseconds; more nodes beat less often. */
    paceMs,
    /** Counts the connected nodes again, once a second. */
    recount: (): void => {
      connected = 0;
      for (const session of sessions.values()) if (session.connectivity === "connected") connected++;
    },
  };
}

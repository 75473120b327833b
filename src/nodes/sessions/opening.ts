// How a node's next session opens: it is admitted, gets the next epoch, is connected in the store, and is checked once
// more, because whatever ended sessions meanwhile may have missed this one.
import { randomUUID } from "node:crypto";
import type { Clock } from "../../clock.js";
import { type Coordination, isCoordinationAway } from "../../coordination/coordination.js";
import { type Failure, notAllowed, unauthenticated, unavailable } from "../../failure.js";
import { unless } from "../../task.js";
import { sharedIdentity } from "../heartbeat.js";
import { desiredStatus, type NodeDocument, predatesReset } from "../node.js";
import { type NodeRepository, unaryReplica } from "../repository.js";
import type { Admission } from "./admission.js";
import { createDoubts } from "./doubts.js";
import { createEpochs } from "./epochs.js";
import { callerGone, enrollmentReset, superseded } from "./refusals.js";
import type { Registry } from "./registry.js";
import { type Link, type Opening, openingPatch, presumed, type Session, wasReset } from "./session.js";

/** Replicas tell each other of opened sessions: node id, epoch and boot id as a JSON list. */
export const openedChannel = "node-sessions";

export function createOpening(parts: {
  readonly registry: Registry;
  readonly repository: NodeRepository;
  readonly admission: Admission;
  readonly coordination: Pick<Coordination, "publish">;
  readonly clock: Clock;
  readonly replicaId: string;
  readonly streamLifetimeMs: number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly isRevoked: (jti: string) => boolean;
  /** Whether this replica hears what others do to nodes; no session is opened before that. */
  readonly follows: () => boolean;
  readonly sessionOpened: (outcome: "opened" | "takeover") => void;
}) {
  const { registry, repository, admission, coordination, clock, replicaId, random } = parts;
  const doubts = createDoubts({
    ...{ repository, replicaId, adopt: registry.adopt },
    epochOf: (nodeId) => registry.get(nodeId)?.epoch,
  });
  const epochs = createEpochs({ repository, clock, replicaId, known: registry.get, doubt: doubts.note });

  const remember = (node: NodeDocument, opening: Opening, link: Link | undefined): Session => {
    const nowMs = clock.monotonicMs();
    const lifetimeMs = parts.streamLifetimeMs * (0.8 + 0.4 * random());
    const tokenMs = opening.bearer.expiresAt.getTime() - clock.now().getTime();
    const session: Session = {
      ...presumed(node, registry.paceMs(), nowMs),
      sessionId: randomUUID(),
      bootId: opening.bootId,
      jti: opening.bearer.jti,
      unary: link === undefined,
      link,
      renewAtMs: nowMs + Math.min(lifetimeMs, Math.max(0, tokenMs)),
    };
    registry.add(session);
    return session;
  };

  /** Why the session is over by its node's document, if it is: whatever ended it may have missed the session. */
  const outdated = (node: NodeDocument, { bearer, bootId }: Opening, session: Session): Failure | undefined => {
    if (predatesReset(bearer, node)) return enrollmentReset();
    if (node.session_epoch !== session.epoch) return superseded(bootId, node.session_boot_id);
    // The token is still good: its process can open a session with it.
    if (wasReset(node, session)) return unavailable("The node's enrolment was reset meanwhile", 1000);
    if (node.banned) return notAllowed("The node is banned");
    return parts.isRevoked(bearer.jti) ? unauthenticated("The token was revoked") : undefined;
  };

  /** Begins the session whose epoch was taken: the older session gives way, the node is connected. */
  const begin = async (opened: NodeDocument, opening: Opening, link: Link | undefined) => {
    const older = registry.get(opening.nodeId);
    if (older !== undefined && older.epoch > opened.session_epoch) throw superseded(opening.bootId, older.bootId);
    if (older !== undefined) registry.giveWay(older, opening.bootId);
    const session = remember(opened, opening, link);
    parts.sessionOpened(opened.connectivity === "connected" ? "takeover" : "opened");
    // Best effort: a replica that misses the message learns of the epoch by its next flush.
    void coordination
      .publish(openedChannel, JSON.stringify([opening.nodeId, session.epoch, opening.bootId]))
      .catch(unless(isCoordinationAway));
    try {
      // The epoch is taken and silence will be judged, but a caller that is gone does not connect the node.
      if (opening.isGone()) throw callerGone();
      const duplicate = sharedIdentity(opened.boots ?? []);
      const node = await repository.change(opening.nodeId, clock.now, (current) =>
        openingPatch(current, opening, session, duplicate),
      );
      session.connectivity = node.connectivity;
      session.desired = desiredStatus(node.status);
      // What ended sessions while this one opened (ban, revocation, drain, newer session) may have missed it.
      const late = outdated(node, opening, session) ?? admission.drainRefusal();
      if (late !== undefined) throw late;
      return { session, node };
    } catch (error) {
      registry.unlink(session, () => undefined);
      throw error;
    }
  };

  return {
    /**
     * Opens the node's next session; an older session of the node, here or on another replica, ends. Without a link the
     * node reports by unary calls.
     * @throws Failure 4011 revoked, 4031 banned, 4291, 5001, 5013 another process has opened a newer session, 5031
     */
    open: async (opening: Opening, link: Link | undefined): Promise<{ session: Session; node: NodeDocument }> => {
      if (!parts.follows()) throw unavailable("This replica does not follow the others yet", 1000);
      await admission.admit(opening.nodeId);
      const replica = link === undefined ? unaryReplica : replicaId;
      return epochs.take(opening, replica, (opened) => begin(opened, opening, link));
    },

    /** The session that a unary beat names, known here or held by another process before. @throws as `Epochs.resume` */
    resume: async (opening: Opening, epoch: number): Promise<Session> => {
      const found = await epochs.resume(opening, epoch);
      if ("session" in found) return found.session;
      const known = registry.get(opening.nodeId);
      if (known !== undefined) registry.forget(known);
      return remember(found.node, opening, undefined);
    },

    outdated,
    /** To be called when the store answers; see Doubts.settle. */
    settleDoubts: doubts.settle,
  };
}

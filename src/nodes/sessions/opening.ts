// How a node's next session comes to be: admitted, given the next epoch, connected in the store, and looked at once more,
// for what ended sessions meanwhile may not have seen this one.
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
  /** Whether this replica hears of what others do to nodes: no session is opened before. */
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

  /** Why the session's node no longer answers to it: what ended it may not have seen it. */
  const outdated = (node: NodeDocument, { bearer, bootId }: Opening, session: Session): Failure | undefined => {
    if (predatesReset(bearer, node)) return enrollmentReset();
    if (node.session_epoch !== session.epoch) return superseded(bootId, node.session_boot_id);
    // The token is good: its process opens a session under it.
    if (wasReset(node, session)) return unavailable("The node's enrolment was reset meanwhile", 1000);
    if (node.banned) return notAllowed("The node is banned");
    return parts.isRevoked(bearer.jti) ? unauthenticated("The token was revoked") : undefined;
  };

  /** Has the session whose epoch was taken begin: the older one gives way, the node is connected. */
  const begin = async (opened: NodeDocument, opening: Opening, link: Link | undefined) => {
    const older = registry.get(opening.nodeId);
    if (older !== undefined && older.epoch > opened.session_epoch) throw superseded(opening.bootId, older.bootId);
    if (older !== undefined) registry.giveWay(older, opening.bootId);
    const session = remember(opened, opening, link);
    parts.sessionOpened(opened.connectivity === "connected" ? "takeover" : "opened");
    // Best effort: a replica that misses it learns of the epoch by its next flush.
    void coordination
      .publish(openedChannel, JSON.stringify([opening.nodeId, session.epoch, opening.bootId]))
      .catch(unless(isCoordinationAway));
    try {
      // The epoch is taken, and the node's silence is judged; but a caller that is gone has not connected it.
      if (opening.isGone()) throw callerGone();
      const duplicate = sharedIdentity(opened.boots ?? []);
      const node = await repository.change(opening.nodeId, clock.now, (current) =>
        openingPatch(current, opening, session, duplicate),
      );
      session.connectivity = node.connectivity;
      session.desired = desiredStatus(node.status);
      // Banned, revoked, drained or superseded while it opened: whoever ended the sessions then may not have seen this one.
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
     * Opens the node's next session; an older one of it, here or on another replica, ends. Without a link it reports by
     * unary calls.
     * @throws Failure 4011 revoked, 4031 banned, 4291, 5001, 5013 when a newer one of another process has come meanwhile, 5031
     */
    open: async (opening: Opening, link: Link | undefined): Promise<{ session: Session; node: NodeDocument }> => {
      if (!parts.follows()) throw unavailable("What other replicas do is not known yet", 1000);
      await admission.admit(opening.nodeId);
      const replica = link === undefined ? unaryReplica : replicaId;
      return epochs.take(opening, replica, (opened) => begin(opened, opening, link));
    },

    /** The session that a unary beat names: one of this replica, or one that another process held. @throws as `Epochs.resume` */
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

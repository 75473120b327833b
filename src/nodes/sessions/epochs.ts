// Who gets a node's next session epoch when several ask for it. A Hello may be judged or written seconds after it came, of
// a process that is dead by then: it must never supersede the agent that lives.
import type { Clock } from "../../clock.js";
import { type Failure, nodeNotFound, notAllowed, sessionSuperseded, unavailable } from "../../failure.js";
import { type NodeDocument, predatesReset } from "../node.js";
import { type NodeRepository, unaryReplica } from "../repository.js";
import { callerGone, comeAgainMs, enrollmentReset, superseded } from "./refusals.js";
import type { Opening, Session } from "./session.js";

/** Attempts to take an epoch, each lost against an older Hello that came to this replica. */
const attemptsMax = 5;

export type Epochs = ReturnType<typeof createEpochs>;

export function createEpochs(parts: {
  readonly repository: Pick<NodeRepository, "find" | "get" | "openSession" | "makeUnary">;
  readonly clock: Pick<Clock, "now">;
  readonly replicaId: string;
  /** The session of the node that is known here. */
  readonly known: (nodeId: string) => Session | undefined;
  /** Notes that a session may have been opened whose write was not answered. */
  readonly doubt: (nodeId: string) => void;
}) {
  const { repository, clock } = parts;
  /** The newest opening of each node that is under way here, and its end. */
  const newest = new Map<string, { readonly over: Promise<void> }>();

  /**
   * Takes the next epoch where nobody has taken it since it was read. Which of two replicas has heard the newer Hello is
   * not known, so the one that loses asks its caller to come again: only a living caller does. Among the Hellos of this
   * replica the last one wins.
   */
  const takeEpoch = async (opening: Opening, replica: string, isNewest: () => boolean): Promise<NodeDocument> => {
    const { nodeId, bootId } = opening;
    let read: number | undefined;
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const node = await repository.find(nodeId);
      if (node === null) throw nodeNotFound(nodeId);
      if (node.banned) throw notAllowed("The node is banned");
      if (predatesReset(opening.bearer, node)) throw enrollmentReset();
      if (!isNewest()) throw await overtaken(opening);
      const lost = read !== undefined && read !== node.session_epoch;
      if (lost && !isHere(node)) {
        throw unavailable("Another session of this node was opened at the same time", comeAgainMs);
      }
      if (opening.isGone()) throw callerGone();
      read = node.session_epoch;
      const opened = await repository
        .openSession(nodeId, { epoch: read, bootId, replica, at: clock.now() })
        .catch((error: unknown) => {
          if (replica !== unaryReplica) parts.doubt(nodeId);
          throw error;
        });
      if (opened !== null) return opened;
    }
    throw unavailable("Many sessions of this node are opened at once", comeAgainMs);
  };

  /** Whether the node's newest session was opened here; of an opening that is the newest here it is an older one. */
  const isHere = (node: NodeDocument): boolean =>
    node.session_replica === parts.replicaId || parts.known(node._id)?.epoch === node.session_epoch;

  /** Why an opening ends that a newer one here has overtaken: for good only once that one has come through. */
  const overtaken = async ({ nodeId, bootId }: Opening): Promise<Failure> => {
    for (let newer = newest.get(nodeId); newer !== undefined; newer = newest.get(nodeId)) await newer.over;
    const session = parts.known(nodeId);
    const serves = session !== undefined && (session.unary || session.link !== undefined);
    return superseded(bootId, serves ? session.bootId : bootId);
  };

  return {
    /**
     * Takes the node's next epoch, then calls `begin` with the node as that write left it, and answers what `begin` answers.
     * @throws Failure 4011 the enrolment was reset; 4031 the node is banned; 5001 there is no such node; 5013 another
     * process of the node has opened a session meanwhile; 5031 the caller may come again
     */
    take: async <Begun>(
      opening: Opening,
      replica: string,
      begin: (opened: NodeDocument) => Promise<Begun>,
    ): Promise<Begun> => {
      const { nodeId } = opening;
      const { promise: over, resolve: end } = Promise.withResolvers<void>();
      const own = { over };
      newest.set(nodeId, own);
      const isNewest = () => newest.get(nodeId) === own;
      try {
        return await begin(await takeEpoch(opening, replica, isNewest));
      } finally {
        if (isNewest()) newest.delete(nodeId);
        end();
      }
    },

    /**
     * The session a report without a stream names: one that is known here, or the node of one that another process held
     * and nobody has superseded. A report of the very process that has opened the newest session goes on under that one,
     * whatever epoch it names: the process may never have heard of it, as when the Welcome of its stream was lost, and a
     * reset of the enrolment takes an epoch that nobody is told of.
     * @throws Failure 4011 enrolment reset, 4031 banned, 5001, 5013, 5031
     */
    resume: async (opening: Opening, epoch: number): Promise<{ session: Session } | { node: NodeDocument }> => {
      const { nodeId, bootId } = opening;
      const known = parts.known(nodeId);
      const same = known?.epoch === epoch && known.bootId === bootId;
      if (same && (known.unary || known.link !== undefined)) return { session: known };
      const node = await repository.get(nodeId);
      if (node.banned) throw notAllowed("The node is banned");
      if (predatesReset(opening.bearer, node)) throw enrollmentReset();
      if (epoch > node.session_epoch) throw sessionSuperseded("That session is unknown");
      if (node.session_boot_id !== bootId) throw sessionSuperseded();
      const current = known?.epoch === node.session_epoch && known.bootId === bootId ? known : undefined;
      if (current !== undefined && (current.unary || current.link !== undefined)) return { session: current };
      const isUnary = node.session_replica === unaryReplica;
      // A stream that is being opened here has its epoch already and comes through soon, or fails.
      if (!isUnary && epoch < node.session_epoch && newest.has(nodeId)) throw superseded(bootId, bootId);
      const unary = isUnary ? node : await repository.makeUnary(nodeId, node.session_epoch);
      if (unary === null) throw unavailable("A newer session of this node is being opened", comeAgainMs);
      return { node: unary };
    },
  };
}

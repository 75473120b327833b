// Decides who gets a node's next session epoch when several ask for it. A Hello may be judged or written seconds after
// it came, when its process is dead already: it must never supersede the living agent.
import type { Clock } from "../../clock.js";
import { type Failure, nodeNotFound, notAllowed, sessionSuperseded, unavailable } from "../../failure.js";
import { type NodeDocument, predatesReset } from "../node.js";
import { type NodeRepository, unaryReplica } from "../repository.js";
import { callerGone, comeAgainMs, enrollmentReset, superseded } from "./refusals.js";
import type { Opening, Session } from "./session.js";

/** Attempts to take an epoch. Each lost attempt means that an older Hello at this replica took it first. */
const attemptsMax = 5;

export type Epochs = ReturnType<typeof createEpochs>;

export function createEpochs(parts: {
  readonly repository: Pick<NodeRepository, "find" | "get" | "openSession" | "makeUnary">;
  readonly clock: Pick<Clock, "now">;
  readonly replicaId: string;
  /** The session of the node that this replica knows. */
  readonly known: (nodeId: string) => Session | undefined;
  /** Notes that a session may have been opened by a write that was not answered. */
  readonly doubt: (nodeId: string) => void;
}) {
  const { repository, clock } = parts;
  /** The newest opening of each node that is under way here, and when it is over. */
  const newest = new Map<string, { readonly over: Promise<void> }>();

  /**
   * Takes the next epoch unless it was taken since it was read. Nobody knows which of two replicas heard the newer
   * Hello, so the loser asks its caller to come again: only a living caller does. Among the Hellos at this replica the
   * last one wins.
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
    throw unavailable("Too many sessions of this node are being opened at once", comeAgainMs);
  };

  /** Whether the node's newest session was opened here. If so, it is older than the newest opening here. */
  const isHere = (node: NodeDocument): boolean =>
    node.session_replica === parts.replicaId || parts.known(node._id)?.epoch === node.session_epoch;

  /** Why an opening fails that a newer one here has overtaken: for good only once the newer one has succeeded. */
  const overtaken = async ({ nodeId, bootId }: Opening): Promise<Failure> => {
    for (let newer = newest.get(nodeId); newer !== undefined; newer = newest.get(nodeId)) await newer.over;
    const session = parts.known(nodeId);
    const serves = session !== undefined && (session.unary || session.link !== undefined);
    return superseded(bootId, serves ? session.bootId : bootId);
  };

  return {
    /**
     * Takes the node's next epoch, calls `begin` with the node as that write left it, and passes its answer on.
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
     * The session that a report without a stream names: a session that is known here, or the node of a session that
     * another process of the service held and nobody has superseded. A report by the process that opened the newest
     * session goes on under that session, whatever epoch it names. The process may not know the epoch: the Welcome of
     * its stream may be lost, and a reset of the enrolment takes an epoch without telling anybody.
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
      // A stream that is being opened here has its epoch already; it succeeds soon, or fails.
      if (!isUnary && epoch < node.session_epoch && newest.has(nodeId)) throw superseded(bootId, bootId);
      const unary = isUnary ? node : await repository.makeUnary(nodeId, node.session_epoch);
      if (unary === null) throw unavailable("A newer session of this node is being opened", comeAgainMs);
      return { node: unary };
    },
  };
}

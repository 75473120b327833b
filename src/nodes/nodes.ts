// Puts the feature of nodes together: from the log of changes up to the sessions, the judges of silence and the RPCs. A
// part that must hear of a part built earlier listens to what that part announces.
import type { Tokens } from "../access/tokens.js";
import type { Clock } from "../clock.js";
import type { Paging } from "../conventions/paging.js";
import { type Coordination, isCoordinationAway } from "../coordination/coordination.js";
import type { Vault } from "../crypto.js";
import { unauthenticated } from "../failure.js";
import type { NodeId } from "../ids.js";
import type { Leadership } from "../replicas/lease.js";
import type { Roster } from "../replicas/roster.js";
import { bearerToken } from "../rpc/gate.js";
import type { Store } from "../storage/collection.js";
import { type Task, unless } from "../task.js";
import type { Log } from "../telemetry/log.js";
import type { Metrics } from "../telemetry/metrics.js";
import { createEnrollment } from "./enrollment.js";
import { createNodeHandler } from "./handler.js";
import { createFeed } from "./history/feed.js";
import { createNodeLog } from "./history/log.js";
import { createWatch } from "./history/watch.js";
import { createMembership, type OpenForJoining } from "./membership.js";
import { createPayoutAddresses } from "./payout-address.js";
import { createReconciler } from "./reconciler.js";
import type { NodeRepository } from "./repository.js";
import { type Resets, tokenGrant } from "./resets.js";
import { createFollower } from "./sessions/follower.js";
import type { Sample } from "./sessions/session.js";
import { createSessions, type SessionSettings } from "./sessions/sessions.js";
import { createSkewWatch } from "./sessions/skew.js";
import { createExpire } from "./silence/expire.js";
import { createOrphans } from "./silence/orphans.js";
import { createSweeper } from "./silence/sweeper.js";

export type Nodes = Awaited<ReturnType<typeof createNodes>>;

/** The channel on which replicas wake each other when the log has grown. */
const logChannel = "node-log";

export async function createNodes(parts: {
  readonly store: Store;
  readonly repository: NodeRepository;
  readonly resets: Resets;
  readonly tokens: Tokens;
  readonly coordination: Coordination;
  readonly roster: Roster;
  readonly leadership: () => Leadership | undefined;
  readonly replicaId: string;
  readonly openForJoining: OpenForJoining;
  /** See createExpire. */
  readonly withholdsLoss: (poolId: string) => Promise<number | undefined>;
  /** What is wrong with a payout address; undefined when it is fine. */
  readonly addressProblem: (address: string) => string | undefined;
  readonly maskAddress: (address: string) => string;
  /** Whether a payout to the node is not done yet. */
  readonly hasOpenPayouts: (nodeId: string) => Promise<boolean>;
  /** Takes the samples of nodes that are heard here; touches memory only. */
  readonly takeSample: (nodeId: NodeId, sample: Sample, at: Date) => void;
  readonly paging: Paging;
  readonly vault: Vault;
  /** Signs enrolment challenges; every replica must have the same key. */
  readonly challengeKey: Uint8Array;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly settings: SessionSettings & {
    readonly commandTimeoutMs: number;
    readonly payoutAddressCooldownMs: number;
  };
}) {
  const { store, repository, resets, tokens, coordination, roster, leadership, clock, random, metrics, settings } =
    parts;

  // History: all changes, in one order for all replicas.
  const log = await createNodeLog({ store, repository, clock, logger: parts.log.module("history") });
  const feed = createFeed({ log, repository, clock, logger: parts.log.module("history") });
  const watch = createWatch({ repository, log, feed, paging: parts.paging, clock });
  repository.changes.listen(({ _id }) => log.wake(_id));
  log.appended.listen(() => {
    feed.wake();
    void coordination.publish(logChannel, "").catch(unless(isCoordinationAway));
  });
  feed.chunks.listen(({ entries }) => resets.heard(entries));

  // Sessions: the nodes that this replica hears.
  const sessions = createSessions({
    ...{ repository, coordination, clock, random, settings, replicaId: parts.replicaId },
    isRevoked: tokens.isRevoked,
    follows: feed.follows,
    metrics: {
      ...{ beats: metrics.heartbeats, sequenceGaps: metrics.heartbeatSequenceGaps },
      sessionOpened: (outcome) => metrics.heartbeatSessions.inc({ outcome }),
    },
    onSample: parts.takeSample,
  });
  repository.changes.listen((node) => {
    resets.note(node);
    sessions.nodeChanged(node);
  });
  feed.chunks.listen(createFollower(sessions).heard);
  tokens.revocations.listen((jti) => {
    for (const streams of [sessions, watch]) streams.endToken(jti, unauthenticated("The token was revoked"));
  });

  // Silence: which nodes are judged, and by which replica.
  const expire = createExpire({ repository, clock, withholdsLoss: parts.withholdsLoss });
  const judging = { repository, expire, storeNow: store.now, clock, timing: settings };
  const sweeper = createSweeper({
    ...judging,
    ...{ report: roster.report, leave: roster.leave, sessions, replicaId: parts.replicaId },
    log: parts.log.module("sweeper"),
  });
  const orphans = createOrphans({
    ...judging,
    ...{ leadership, look: roster.look, forgetReplica: roster.forget },
    log: parts.log.module("orphans"),
  });

  // Changes that callers make to nodes, and changes that time makes.
  const reconciler = createReconciler({ repository, clock, leadership, log: parts.log.module("reconciler") });
  const membership = createMembership({ repository, openForJoining: parts.openForJoining, now: clock.now, random });
  const enrollment = createEnrollment({ repository, clock, key: parts.challengeKey, spend: tokens.spendChallenge });
  const handler = createNodeHandler({
    ...{ repository, membership, log, watch, sessions, reconciler, enrollment, paging: parts.paging, clock, settings },
    payoutAddresses: createPayoutAddresses({ ...parts, cooldownMs: settings.payoutAddressCooldownMs }),
    ...{ hasOpenPayouts: parts.hasOpenPayouts, storeNow: store.now },
    issueNodeTokens: (node) => tokens.issue(tokenGrant(node)),
    enrollmentToken: async (header) => {
      const token = bearerToken(header);
      return token === undefined ? undefined : tokens.enrollment(token);
    },
    countOperation: (operation, status) => metrics.nodeOperations.inc({ operation, status }),
    unknownMessages: metrics.unknownMessages,
    skew: createSkewWatch({ repository, clock, log: parts.log.module("heartbeats") }),
  });

  /** Messages from other replicas. Each channel has its own subscription: Redis may refuse one and not the other. */
  const listen: Task = async (signal) => {
    await Promise.all([sessions.listen(signal), coordination.subscribe(logChannel, feed.wake, signal)]);
  };

  return {
    handler,
    sessions,
    membership,
    feed,
    tasks: {
      ...{ listen, sweeper: sweeper.task, orphans: orphans.task },
      ...{ reconciler: reconciler.task, log: log.task, feed: feed.task },
    },
    countActive: async () => ({
      active: await repository.countByStatus("active"),
      connected: await repository.countOf({ status: "active", connectivity: "connected" }),
    }),
    /** Ends all streams with OK within the window; nodes are told to reconnect. */
    drain: async (windowMs: number): Promise<void> => {
      watch.drain();
      await sessions.drain(windowMs, new AbortController().signal);
    },
  };
}

// The composition root: what the service consists of, in the order in which it comes to stand, and how it goes down.
import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { createAdminHandler } from "./admin/handler.js";
import { createHealth } from "./admin/health.js";
import { healthReports } from "./admin/reports.js";
import { loadSecrets } from "./admin/secrets.js";
import { createTokens } from "./admin/tokens.js";
import { type Clock, systemClock } from "./clock.js";
import { type Coordination, isCoordinationAway } from "./coordination/coordination.js";
import { createVault } from "./crypto.js";
import { openEngines } from "./engines.js";
import { unauthenticated } from "./failure.js";
import { beatCheck } from "./nodes/beat.js";
import { createEnrollment } from "./nodes/enrollment.js";
import { createExpire } from "./nodes/expire.js";
import { createFeed } from "./nodes/feed.js";
import { createFollower } from "./nodes/follower.js";
import { createNodeHandler } from "./nodes/handler.js";
import { lostAfterMs, nextBeatAfterMs } from "./nodes/heartbeat.js";
import { createNodeLog } from "./nodes/log.js";
import { createMembership } from "./nodes/membership.js";
import type { NodeDocument } from "./nodes/node.js";
import { createOrphans } from "./nodes/orphans.js";
import { createReconciler } from "./nodes/reconciler.js";
import { createNodeRepository } from "./nodes/repository.js";
import { createResets, tokenGrant } from "./nodes/resets.js";
import { createSessions } from "./nodes/sessions.js";
import { createSkewWatch } from "./nodes/skew.js";
import { createSweeper } from "./nodes/sweeper.js";
import { createWatch } from "./nodes/watch.js";
import { addressProblem, maskAddress } from "./payouts/address.js";
import { createDisruption } from "./pools/disruption.js";
import { createOpenForJoining, createPoolHandler } from "./pools/handler.js";
import { createPoolRepository } from "./pools/repository.js";
import { createStrays } from "./pools/strays.js";
import { pootReadMaxBytes } from "./poot/handler.js";
import { createPoot } from "./poot/poot.js";
import { createLease } from "./replicas/lease.js";
import { createRoster } from "./replicas/roster.js";
import { type Collector, systemCollector } from "./resources/collector.js";
import { createResources } from "./resources/resources.js";
import { createRoutes, policies, services } from "./routes.js";
import { createCors } from "./rpc/cors.js";
import { connectionLimits } from "./rpc/descriptors.js";
import { bearerToken, createGate, selfInterceptor } from "./rpc/gate.js";
import { createHealthState } from "./rpc/health.js";
import { createHealthRoutes } from "./rpc/http-routes.js";
import { createListener, type ListenerLimits } from "./rpc/listener.js";
import { createMetricsServer } from "./rpc/metrics-server.js";
import { createObserver } from "./rpc/observe.js";
import { createPaging } from "./rpc/paging.js";
import { assertPolicies, procedureOf } from "./rpc/policies.js";
import { createProxies } from "./rpc/proxies.js";
import { createAdapter } from "./rpc/router.js";
import { createValidation } from "./rpc/validate.js";
import { parseKeyRing, type Settings } from "./settings.js";
import { cannotListen, checkStart } from "./start-check.js";
import type { Store } from "./storage/collection.js";
import { isOutage, outage, type RunningTasks, runTasks, type Task, unless, untilDone } from "./task.js";
import { createLogger, type Log } from "./telemetry/log.js";
import { machineUsage } from "./telemetry/machine.js";
import { createMetrics, type Metrics } from "./telemetry/metrics.js";
import { standardSink } from "./telemetry/sink.js";

/** Parts that a test or a bench may bring instead of the ones that the settings ask for. */
export interface Overrides {
  readonly clock?: Clock;
  readonly store?: Store;
  readonly coordination?: Coordination;
  readonly collector?: Collector;
  readonly log?: Log;
  readonly random?: () => number;
  /** Such as how soon a frozen peer is noticed. */
  readonly listenerLimits?: Partial<ListenerLimits>;
}

export interface RunningServer extends AsyncDisposable {
  readonly port: number;
  readonly metricsPort: number;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly tasks: Pick<RunningTasks, "names" | "running">;
  /** Rejects with a TaskError when a piece of long-lived work fails; the process should end then. Resolves after an orderly stop. */
  readonly failed: Promise<void>;
  /** Ends every stream OK within the drain window, then what still runs, then closes. Asked again it waits for the same end. */
  stop(): Promise<void>;
}

/** Time for calls that run when the streams have ended. */
const callsGraceMs = 2_000;

/** @throws StartError when an operator has something to mend first */
export async function startServer(settings: Settings, overrides: Overrides = {}): Promise<RunningServer> {
  await using undo = new AsyncDisposableStack();
  const { clock = systemClock, random = Math.random, collector = systemCollector } = overrides;
  const { serviceName: service, version, environment, heartbeat, resources } = settings;
  const replicaId = `${settings.replicaName}-${randomUUID().slice(0, 8)}`;
  const startedAt = clock.now();

  const log = overrides.log ?? createLogger({ ...settings.log, service, version });
  const metrics = createMetrics({ service, version, environment, logLinesDropped: () => standardSink(1).dropped });
  undo.defer(() => metrics.close());

  await checkStart(settings);
  const secrets = loadSecrets({ ...settings, parseKeyRing });

  // What is remembered, and what is shared.
  const { store, coordination } = await openEngines({ ...overrides, settings, clock, log, metrics });
  undo.use(store);
  undo.use(coordination);
  const paging = createPaging(secrets.pageTokenKey);

  // Which replicas stand, and which one leads.
  const exclusive = store.engine === "embedded";
  const self = { store, clock, exclusive, log: log.module("replicas") };
  const roster = await createRoster({ ...self, replicaId, coordination: coordination.engine });

  // Nodes and pools.
  const repository = await createNodeRepository(store);
  const pools = await createPoolRepository(store);
  const highestFence = async () => Math.max(await repository.highestFence(), await pools.highestFence());
  const lease = await createLease({ ...self, name: "fleet", owner: replicaId, highestFence });
  const nodeLog = await createNodeLog({
    store,
    repository,
    clock,
    appended: () => {
      feed.wake();
      void coordination.publish(logChannel, "").catch(unless(isCoordinationAway));
    },
    logger: log.module("history"),
  });
  const changed = (node: NodeDocument): void => {
    resets.note(node);
    sessions.nodeChanged(node);
    used.nodeChanged(node);
    nodeLog.wake(node._id);
  };
  let lastSampleAt = startedAt;
  const sessions = createSessions({
    repository,
    coordination,
    clock,
    replicaId,
    random,
    changed,
    isRevoked: (jti) => tokens.isRevoked(jti),
    follows: () => feed.follows(),
    settings: { ...heartbeat, metricsIntervalMs: resources.collectionIntervalMs },
    metrics: {
      ...{ beats: metrics.heartbeats, sequenceGaps: metrics.heartbeatSequenceGaps },
      sessionOpened: (outcome) => metrics.heartbeatSessions.inc({ outcome }),
    },
    onSample: (nodeId, sample, at) => {
      lastSampleAt = at;
      used.take(nodeId, sample);
    },
  });
  const { leadership } = lease;
  const led = { leadership, clock };
  const disruption = createDisruption({
    ...led,
    pools,
    nodes: repository,
    lostAfterMs: lostAfterMs(heartbeat, heartbeat.intervalMs),
    gauge: metrics.poolsDisrupted,
    log: log.module("disruption"),
  });
  const follower = createFollower(sessions);
  const feed = createFeed({
    log: nodeLog,
    repository,
    clock,
    heard: async (chunk) => {
      disruption.heard(chunk);
      used.heard(chunk.entries);
      await Promise.all([follower.heard(chunk), resets.heard(chunk.entries)]);
    },
    logger: log.module("history"),
  });
  const watch = createWatch({ repository, log: nodeLog, feed, paging, clock });
  const expire = createExpire({ repository, clock, changed, withholdsLoss: disruption.withholdsLoss });
  const reconciler = createReconciler({ ...led, repository, changed, log: log.module("reconciler") });
  const judging = { repository, expire, storeNow: store.now, clock, timing: heartbeat };
  const sweeper = createSweeper({ ...judging, ...roster, sessions, replicaId, log: log.module("sweeper") });
  const orphans = createOrphans({
    ...judging,
    leadership,
    look: roster.look,
    forgetReplica: roster.forget,
    log: log.module("orphans"),
  });
  const openForJoining = createOpenForJoining(pools, clock);
  const membership = createMembership({ repository, openForJoining, now: clock.now, random, changed });
  const resets = createResets({ repository, storeNow: store.now, clock });
  const strays = createStrays({ ...led, pools, nodes: repository, membership, log: log.module("pools") });
  const tokens = await createTokens({
    ...{ store, clock, resets, ttlMaxMs: settings.tokenTtlMaxMs, log: log.module("tokens") },
    rings: secrets.rings,
    onRevoked: (jti) => {
      for (const streams of [sessions, watch]) streams.endToken(jti, unauthenticated("The token was revoked"));
    },
  });
  // A store that is away now is waited for: nobody is let in before, and nothing says ready.
  await Promise.all([tokens.load(), feed.begin()]).catch(ifUnavailable);
  const poot = await createPoot({
    store,
    nodes: repository,
    hasPool: async (poolId) => (await openForJoining(poolId)) !== null,
    challengeKey: secrets.pootChallengeKey,
    leadership,
    paging,
    clock,
    metrics,
    log: log.module("poot"),
    settings: { ...settings.poot, signaturesRequired: settings.hardwareValidationEnabled },
  });
  const enrollment = createEnrollment({
    ...{ repository, clock, changed },
    ...{ spend: tokens.spendChallenge, key: secrets.challengeKey },
  });

  // What nodes use.
  const used = await createResources({
    ...led,
    ...{ store, nodes: repository, paging, changed, metrics, settings: resources, log: log.module("resources") },
    pools: { find: pools.find, disrupted: async () => (await pools.disrupted()).map(({ _id }) => _id) },
  });

  // How the service stands.
  const healthState = createHealthState(services.map(({ typeName }) => typeName));
  const setReady = (ready: boolean) => {
    const names = ["", "readiness", ...services.map(({ typeName }) => typeName)];
    for (const name of names) healthState.set(name, ready ? "SERVING" : "NOT_SERVING");
  };
  const health = createHealth({
    store,
    coordination,
    clock,
    fetch,
    countActive: async () => ({
      active: await repository.countByStatus("active"),
      connected: await repository.countOf({ status: "active", connectivity: "connected" }),
    }),
    samples: () => {
      const connected = sessions.counts().streams;
      // Nobody connected, nothing to miss: the wait for a sample begins with the first stream.
      if (connected === 0) lastSampleAt = clock.now();
      return { connected, lastAt: lastSampleAt };
    },
    machine: async () => machineUsage(await collector.sample(), metrics),
    externalUrls: settings.externalHealthUrls,
    metricsIntervalMs: resources.collectionIntervalMs,
    log: log.module("health"),
    onRound: ({ ready, active }) => {
      setReady(ready);
      if (active !== undefined) metrics.activeNodes.set(active);
      metrics.heartbeatStreams.set(sessions.counts().streams);
    },
  });
  const reports = healthReports(health, { service, version }, clock);

  // Between the port and the features.
  assertPolicies(services, policies);
  const validation = createValidation({ plain: new Map([beatCheck]) });
  validation.warmUp(services);
  const shutdown = new AbortController();
  const proxies = createProxies(settings.trustedProxies);
  const gate = createGate({
    policies,
    verify: tokens.verify,
    hit: coordination.hit,
    nowMs: clock.monotonicMs,
    random,
    limits: settings.rateLimit.enabled ? rateLimits(settings) : undefined,
  });
  const adapter = createAdapter({
    routes: createRoutes({
      resources: used.handlers,
      nodes: createNodeHandler({
        repository,
        membership,
        log: nodeLog,
        watch,
        sessions,
        reconciler,
        enrollment,
        paging,
        vault: createVault(secrets.encryptionKey),
        clock,
        changed,
        addressProblem,
        maskAddress,
        issueNodeTokens: (node) => tokens.issue(tokenGrant(node)),
        storeNow: store.now,
        enrollmentToken: async (header) => {
          const token = bearerToken(header);
          return token === undefined ? undefined : tokens.enrollment(token);
        },
        operations: (operation, status) => metrics.nodeOperations.inc({ operation, status }),
        unknownMessages: metrics.unknownMessages,
        skew: createSkewWatch({ repository, clock, changed, log: log.module("heartbeats") }),
        settings: {
          ...heartbeat,
          metricsIntervalMs: resources.collectionIntervalMs,
          payoutAddressCooldownMs: settings.payoutAddressCooldownMs,
        },
      }),
      pools: createPoolHandler({
        ...{ repository: pools, nodes: repository, membership, paging, clock, changed },
        lastSamples: used.lastSamples,
      }),
      poot: poot.handler,
      admin: createAdminHandler({
        ...{ tokens, health, clock, standing: resets.standing, ttlMaxMs: settings.tokenTtlMaxMs },
        facts: {
          ...{ service, version, environment, replicaId, startedAt },
          ...{ storage: store.engine, coordination: coordination.engine },
        },
        countReplicas: roster.countAlive,
      }),
    }),
    gate,
    interceptors: [gate.credentials, validation.interceptor, selfInterceptor(policies)],
    observer: createObserver({ metrics, log, clock, quiet: new Set(quietProcedures()) }),
    health: healthState,
    http: createHealthRoutes(reports, clock),
    cors: createCors(settings.corsAllowedOrigins),
    reflection: settings.reflectionEnabled,
    readMaxBytes: pootReadMaxBytes(settings.maxRequestBytes),
    shutdownSignal: shutdown.signal,
    clock,
    proxies,
  });

  // Long-lived work, then the ports.
  const listen: Task = async (signal) => {
    // Each by itself: Redis may refuse one channel and not the other.
    await Promise.all([sessions.listen(signal), coordination.subscribe(logChannel, feed.wake, signal)]);
  };
  const join = (signal: AbortSignal) => roster.join(nextBeatAfterMs(heartbeat.intervalMs, 1), signal);
  await join(new AbortController().signal).catch(ifUnavailable);
  const joining = untilDone({
    work: join,
    clock,
    away: outage({
      log: log.module("replicas"),
      began: "This replica cannot take its place among the others yet",
      ended: "This replica has taken its place among the others",
    }),
  });
  // Before the work that only a leader does begins, or it would wait a turn.
  await lease.take().catch(ifUnavailable);
  const tasks = runTasks({
    ...{ joining, listen, lease: lease.task, roster: roster.task },
    ...{ sweeper: sweeper.task, orphans: orphans.task, reconciler: reconciler.task },
    ...{ disruption: disruption.task, strays: strays.task, log: nodeLog.task, feed: feed.task },
    ...{ counting: poot.task, tokens: tokens.task, health: health.task, ...used.tasks },
  });
  undo.defer(tasks.stop);
  await health.first();
  const tls = settings.tls && {
    certFile: settings.tls.certFile,
    keyFile: settings.tls.keyFile,
    ...(settings.tls.clientCaFile === undefined ? {} : { clientCaFile: settings.tls.clientCaFile }),
  };
  const { host, port, connectionsPerAddressMax } = settings;
  const listener = undo.use(
    createListener({
      ...{ host, port, handler: adapter, tls, log: log.module("listener") },
      limits: { ...connectionLimits(heartbeat.streamsMax, connectionsPerAddressMax, log), ...overrides.listenerLimits },
      isProxy: proxies.trusts,
      closed: (reason) => metrics.connectionsClosed.inc({ reason }),
    }),
  );
  const probes = undo.use(
    createMetricsServer({
      host: settings.metricsHost,
      port: settings.metricsPort,
      registry: metrics.registry,
      health: healthState,
      reports,
      shutdownSignal: shutdown.signal,
      clock,
      log: log.module("metrics"),
    }),
  );
  await listener.listen().catch(cannotListen({ portName: "PORT", port, hostName: "HOST", host }));
  const { metricsPort, metricsHost } = settings;
  const probing = { portName: "METRICS_PORT", port: metricsPort, hostName: "METRICS_HOST", host: metricsHost };
  await probes.listen().catch(cannotListen(probing));
  log.info("Serving", { port: listener.port, metrics_port: probes.port, storage: store.engine, replica_id: replicaId });

  const standing = undo.move();
  const stopOnce = async (): Promise<void> => {
    log.info("Shutting down", { streams: sessions.counts().streams });
    health.drain();
    setReady(false);
    watch.drain();
    await sessions.drain(settings.drainWindowMs, new AbortController().signal);
    await listener.drain(callsGraceMs);
    shutdown.abort(new ConnectError("The service is shutting down", Code.Unavailable));
    await standing.disposeAsync();
    log.info("Stopped");
  };
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= stopOnce();
    return stopping;
  };
  return {
    port: listener.port,
    metricsPort: probes.port,
    metrics,
    log,
    tasks,
    failed: tasks.ended,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A wake-up call: the log of nodes has grown. */
const logChannel = "node-log";

const ifUnavailable = unless(isOutage);

const rateLimits = ({ rateLimit }: Settings) => ({
  public: rateLimit.publicPerMinute,
  authenticated: rateLimit.authenticatedPerMinute,
  admin: rateLimit.adminPerMinute,
  poot: rateLimit.pootPerMinute,
  payout: rateLimit.payoutPerMinute,
  windowMs: 60_000,
});

const quietProcedures = () =>
  services
    .flatMap(({ methods }) => methods)
    .filter(({ localName }) => localName === "heartbeat" || localName === "reportHeartbeat")
    .map(procedureOf);

// The composition root: what the service consists of, in the order in which it comes to stand, and how it goes down.
import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { createAdminHandler } from "./admin/handler.js";
import { createHealth } from "./admin/health.js";
import { loadSecrets } from "./admin/secrets.js";
import { createTokens } from "./admin/tokens.js";
import { type Clock, systemClock } from "./clock.js";
import type { Coordination } from "./coordination/coordination.js";
import { createLocalCoordination } from "./coordination/local.js";
import { createVault } from "./crypto.js";
import { unauthenticated } from "./failure.js";
import { beatCheck } from "./nodes/beat.js";
import { createEnrollment } from "./nodes/enrollment.js";
import { createNodeHandler } from "./nodes/handler.js";
import { createNodeLog } from "./nodes/log.js";
import { createMembership } from "./nodes/membership.js";
import type { NodeDocument } from "./nodes/node.js";
import { createReconciler } from "./nodes/reconciler.js";
import { createNodeRepository } from "./nodes/repository.js";
import { createSessions } from "./nodes/sessions.js";
import { createSweeper } from "./nodes/sweeper.js";
import { addressProblem, maskAddress } from "./payouts/address.js";
import { createFindPool, createPoolHandler } from "./pools/handler.js";
import { createPoolRepository } from "./pools/repository.js";
import { type Collector, systemCollector } from "./resources/collector.js";
import { createRoutes, policies, services } from "./routes.js";
import { createCors } from "./rpc/cors.js";
import { bearerToken, createGate, selfInterceptor } from "./rpc/gate.js";
import { createHealthState } from "./rpc/health.js";
import { createHealthRoutes, type HealthReports } from "./rpc/http-routes.js";
import { createListener, type ListenerLimits } from "./rpc/listener.js";
import { createMetricsServer } from "./rpc/metrics-server.js";
import { createObserver } from "./rpc/observe.js";
import { createPaging } from "./rpc/paging.js";
import { assertPolicies, procedureOf } from "./rpc/policies.js";
import { createAdapter } from "./rpc/router.js";
import { createValidation } from "./rpc/validate.js";
import { parseKeyRing, type Settings, SettingsError } from "./settings.js";
import { DuplicateKeyError, type Store } from "./storage/collection.js";
import { observeStore } from "./storage/observed.js";
import { openSqliteStore } from "./storage/sqlite.js";
import { runTasks, type Task } from "./task.js";
import { createLogger, type Log } from "./telemetry/log.js";
import { createMetrics, type Metrics } from "./telemetry/metrics.js";

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
  /** Rejects when a piece of long-lived work fails; the process should end then. */
  readonly failed: Promise<void>;
  /** Ends every stream OK within the drain window, then what still runs, then closes. Asked again it waits for the same end. */
  stop(): Promise<void>;
}

/** Time for calls that run when the streams have ended. */
const callsGraceMs = 2_000;

/** @throws SettingsError, StoreLockedError, or the error of a port that is taken */
export async function startServer(settings: Settings, overrides: Overrides = {}): Promise<RunningServer> {
  await using undo = new AsyncDisposableStack();
  const { clock = systemClock, random = Math.random, collector = systemCollector } = overrides;
  const { serviceName: service, version, environment, heartbeat, resources } = settings;
  const replicaId = `${settings.replicaName}-${randomUUID().slice(0, 8)}`;
  const startedAt = clock.now();

  const log = overrides.log ?? createLogger({ ...settings.log, service, version });
  const metrics = createMetrics({ service, version, environment });
  undo.defer(() => metrics.close());

  // What is remembered, and what is shared.
  requireBuiltEngines(settings);
  const opened =
    overrides.store ?? (await openSqliteStore({ dir: settings.dataDir, clock, log: log.module("storage") }));
  const store = undo.use(observeStore(opened, observeDatabase(metrics), isAnswer));
  const coordination = undo.use(overrides.coordination ?? createLocalCoordination({ clock }));
  const secrets = loadSecrets({ ...settings, parseKeyRing });
  const paging = createPaging(secrets.pageTokenKey);

  // Nodes and pools.
  const repository = await createNodeRepository(store);
  const pools = await createPoolRepository(store);
  const nodeLog = await createNodeLog({ store, repository, clock });
  const changed = (node: NodeDocument): void => {
    sessions.nodeChanged(node);
    nodeLog.wake();
    void coordination.publish(changedChannel, JSON.stringify([replicaId, node._id])).catch(() => undefined);
  };
  let lastSampleAt = startedAt;
  const sessions = createSessions({
    repository,
    coordination,
    clock,
    random,
    changed,
    isRevoked: (jti) => tokens.isRevoked(jti),
    settings: { ...heartbeat, metricsIntervalMs: resources.collectionIntervalMs },
    metrics: {
      beats: metrics.heartbeats,
      sequenceGaps: metrics.heartbeatSequenceGaps,
      sessionOpened: (outcome) => metrics.heartbeatSessions.inc({ outcome }),
    },
    onSample: (_nodeId, _sample, at) => {
      lastSampleAt = at;
    },
  });
  const reconciler = createReconciler({ repository, clock, changed, log: log.module("reconciler") });
  const sweeper = createSweeper({
    repository,
    sessions,
    clock,
    timing: heartbeat,
    changed,
    log: log.module("sweeper"),
  });
  const findPool = createFindPool(pools, clock);
  const membership = createMembership({ repository, findPool, now: clock.now, random, changed });
  const enrollment = createEnrollment({ repository, coordination, clock, key: secrets.challengeKey, changed });
  const tokens = await createTokens({
    store,
    clock,
    rings: secrets.rings,
    onRevoked: (jti) => sessions.endToken(jti, unauthenticated("The token was revoked")),
  });
  await tokens.load();

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
    machine: async () => usage(await collector.sample(), metrics),
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
  const adapter = createAdapter({
    routes: createRoutes({
      nodes: createNodeHandler({
        repository,
        membership,
        log: nodeLog,
        sessions,
        reconciler,
        enrollment,
        paging,
        vault: createVault(secrets.encryptionKey),
        clock,
        changed,
        addressProblem,
        maskAddress,
        issueNodeTokens: (nodeId, role) => tokens.issue({ subject: nodeId, role, nodeId }),
        enrollmentToken: async (header) => {
          const token = bearerToken(header);
          return token === undefined ? undefined : tokens.enrollment(token);
        },
        operations: (operation, status) => metrics.nodeOperations.inc({ operation, status }),
        unknownMessages: metrics.unknownMessages,
        settings: {
          commandTimeoutMs: heartbeat.commandTimeoutMs,
          graceMs: heartbeat.graceMs,
          metricsIntervalMs: resources.collectionIntervalMs,
          payoutAddressCooldownMs: settings.payoutAddressCooldownMs,
        },
      }),
      pools: createPoolHandler({ repository: pools, nodes: repository, membership, paging, clock, changed }),
      admin: createAdminHandler({
        tokens,
        health,
        clock,
        standing: async (nodeId) => {
          const node = await repository.find(nodeId);
          return node && { role: node.node_type, banned: node.banned, resetAt: node.enrollment_reset_at };
        },
        facts: {
          service,
          version,
          environment,
          storage: store.engine,
          coordination: coordination.engine,
          replicaId,
          startedAt,
        },
      }),
    }),
    gate: createGate({
      policies,
      verify: tokens.verify,
      hit: coordination.hit,
      limits: settings.rateLimit.enabled ? rateLimits(settings) : undefined,
    }),
    interceptors: [validation.interceptor, selfInterceptor(policies)],
    observer: createObserver({ metrics, log, clock, quiet: new Set(quietProcedures()) }),
    health: healthState,
    http: createHealthRoutes(reports, clock),
    cors: createCors(settings.corsAllowedOrigins),
    reflection: settings.reflectionEnabled,
    shutdownSignal: shutdown.signal,
    clock,
  });

  // Long-lived work, then the ports.
  const listen: Task = async (signal) => {
    await sessions.listen(signal);
    await coordination.subscribe(changedChannel, (text) => void hearChange(text), signal);
  };
  const hearChange = async (text: string): Promise<void> => {
    const [from, nodeId] = JSON.parse(text) as [string, string];
    if (from === replicaId || !sessions.knows(nodeId)) return;
    const node = await repository.find(nodeId).catch(() => null);
    if (node !== null) sessions.nodeChanged(node);
  };
  const tasks = runTasks([listen, sweeper.task, reconciler.task, nodeLog.task, tokens.task, health.task]);
  undo.defer(tasks.stop);
  await health.first();
  const tls = settings.tls && {
    certFile: settings.tls.certFile,
    keyFile: settings.tls.keyFile,
    ...(settings.tls.clientCaFile === undefined ? {} : { clientCaFile: settings.tls.clientCaFile }),
  };
  const limits = { connectionsMax: heartbeat.streamsMax + 5_000, ...overrides.listenerLimits };
  const { host, port } = settings;
  const listener = undo.use(createListener({ host, port, handler: adapter, tls, limits, log: log.module("listener") }));
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
  await listener.listen();
  await probes.listen();
  log.info("Serving", { port: listener.port, metrics_port: probes.port, storage: store.engine, replica_id: replicaId });

  const standing = undo.move();
  const stopOnce = async (): Promise<void> => {
    log.info("Shutting down", { streams: sessions.counts().streams });
    health.drain();
    setReady(false);
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
    failed: tasks.ended,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

export { StoreLockedError } from "./storage/sqlite.js";

const changedChannel = "node-changes";

/** Refuses what the settings ask for and this build does not have; serving something else instead would lose data. */
function requireBuiltEngines(settings: Settings): void {
  const problems: string[] = [];
  if (settings.mongodb.url !== undefined) problems.push("MONGODB_URL: this version has the embedded store only");
  if (settings.redisUrl !== undefined) problems.push("REDIS_URL: this version has in-process coordination only");
  if (problems.length > 0) throw new SettingsError(problems);
}

const isAnswer = (error: unknown): boolean => error instanceof DuplicateKeyError;

const observeDatabase =
  (metrics: Metrics) =>
  (operation: string, collection: string, status: "success" | "error", seconds: number): void => {
    metrics.databaseOperations.inc({ operation, collection, status });
    metrics.databaseDuration.observe({ operation, collection }, seconds);
  };

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

/** This process's machine in percent, and into the metrics as ratios. */
function usage(sample: Awaited<ReturnType<Collector["sample"]>>, metrics: Metrics) {
  const share = (used: number, total: number) => (total > 0 ? used / total : 0);
  const cpu = sample.cpuPercent / 100;
  const memory = share(sample.memoryUsedBytes, sample.memoryTotalBytes);
  const disk = share(sample.diskUsedBytes, sample.diskTotalBytes);
  for (const [type, ratio] of Object.entries({ cpu, memory, disk })) {
    metrics.resourceUsage.set({ resource_type: type, unit: "ratio" }, ratio);
  }
  return { cpuPercent: cpu * 100, memoryPercent: memory * 100, diskPercent: disk * 100 };
}

function healthReports(
  health: ReturnType<typeof createHealth>,
  facts: { service: string; version: string },
  clock: Clock,
): HealthReports {
  const timestamp = () => clock.now().toISOString();
  return {
    report: () => ({
      status: health.status(),
      ...facts,
      timestamp: timestamp(),
      checks: Object.fromEntries([...health.checks()].map(([name, { status }]) => [name, { status }])),
    }),
    ready: () => {
      const state = (ready: boolean) => ({ status: ready ? "ready" : "not_ready" });
      const answers = (name: "database" | "coordination" | "resource_monitoring") =>
        state((health.checks().get(name)?.status ?? "unhealthy") !== "unhealthy");
      return {
        status: health.isReady() ? "ready" : "not_ready",
        timestamp: timestamp(),
        checks: {
          database: answers("database"),
          redis: answers("coordination"),
          resource_monitor: answers("resource_monitoring"),
        },
      };
    },
    live: () => ({ status: "alive", timestamp: timestamp(), version: facts.version }),
  };
}

// The composition root: builds the parts of the service in order, and shuts them down.
import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { loadSecrets } from "./access/secrets.js";
import { createTokens } from "./access/tokens.js";
import { createAdmin } from "./admin/admin.js";
import { createAudit } from "./admin/audit.js";
import { type Clock, systemClock, systemRandom, timeLimit } from "./clock.js";
import { createPaging } from "./conventions/paging.js";
import type { Coordination } from "./coordination/coordination.js";
import { createVault } from "./crypto.js";
import { openEngines, openGateways } from "./engines.js";
import { type Collector, systemCollector } from "./machine/machine.js";
import { machineUsage } from "./machine/usage.js";
import { lostAfterMs, nextBeatAfterMs } from "./nodes/heartbeat.js";
import { createNodes } from "./nodes/nodes.js";
import { createNodeRepository } from "./nodes/repository.js";
import { createResets } from "./nodes/resets.js";
import { beatCheck } from "./nodes/sessions/beat.js";
import { createOutbound } from "./outbound.js";
import { addressProblem, maskAddress } from "./payouts/address.js";
import { createPayouts } from "./payouts/payouts.js";
import { createPayoutRepository } from "./payouts/repository.js";
import { batchCheck } from "./payouts/requests.js";
import { createDisruption } from "./pools/disruption.js";
import { createOpenForJoining } from "./pools/joining.js";
import { createPools } from "./pools/pools.js";
import { createPoolRepository } from "./pools/repository.js";
import { pootReadMaxBytes } from "./poot/handler.js";
import { createPoot } from "./poot/poot.js";
import { createCors } from "./port/cors.js";
import { connectionLimits } from "./port/descriptors.js";
import { createHealthRoutes } from "./port/http-routes.js";
import { createListener, type ListenerLimits } from "./port/listener.js";
import { createProxies } from "./port/proxies.js";
import { createLease } from "./replicas/lease.js";
import { createRoster } from "./replicas/roster.js";
import { createResources } from "./resources/resources.js";
import { createRoutes, policies, services } from "./routes.js";
import { createGate } from "./rpc/gate.js";
import { createHealthState } from "./rpc/health.js";
import { createMetricsServer } from "./rpc/metrics-server.js";
import { createObserver } from "./rpc/observe.js";
import { assertPolicies, procedureOf } from "./rpc/policies.js";
import { createAdapter } from "./rpc/router.js";
import { createValidation } from "./rpc/validate.js";
import type { Settings } from "./settings/settings.js";
import { cannotListen, checkStart } from "./start-check.js";
import type { Store } from "./storage/collection.js";
import { isOutage, outage, type RunningTasks, runTasks, unless, untilDone } from "./task.js";
import { createLogger, type Log } from "./telemetry/log.js";
import { createMetrics, type Metrics } from "./telemetry/metrics.js";
import { standardSink } from "./telemetry/sink.js";

/** Parts that a test or a bench passes in place of those that the settings ask for. */
export interface Overrides {
  readonly clock?: Clock;
  readonly store?: Store;
  readonly coordination?: Coordination;
  readonly collector?: Collector;
  readonly log?: Log;
  readonly random?: () => number;
  /** For example how soon a frozen peer is noticed. */
  readonly listenerLimits?: Partial<ListenerLimits>;
}

export interface RunningServer extends AsyncDisposable {
  readonly port: number;
  readonly metricsPort: number;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly tasks: Pick<RunningTasks, "names" | "running">;
  /**
   * Rejects with a TaskError when a long-lived task fails; the process should then end. Resolves after an orderly stop.
   */
  readonly failed: Promise<void>;
  /**
   * Ends every stream with OK within the drain window, then the remaining calls, then closes. A second call waits for
   * the same end.
   */
  stop(): Promise<void>;
}

/** Time for calls that still run after the streams have ended. */
const callsGraceMs = 2_000;

/** @throws StartError when the operator has to fix something first */
export async function startServer(settings: Settings, overrides: Overrides = {}): Promise<RunningServer> {
  await using undo = new AsyncDisposableStack();
  const { clock = systemClock, random = systemRandom, collector = systemCollector } = overrides;
  const { serviceName: service, version, environment, heartbeat, resources: resourceSettings } = settings;
  const replicaId = `${settings.replicaName}-${randomUUID().slice(0, 8)}`;
  const startedAt = clock.now();
  // A replica that only pays hears no node, so it neither joins the fleet's judges nor leads them.
  const answers = settings.roles.includes("api");

  const log = overrides.log ?? createLogger({ ...settings.log, service, version });
  const metrics = createMetrics({ service, version, environment, logLinesDropped: () => standardSink(1).dropped });
  undo.defer(() => metrics.close());

  await checkStart(settings);
  const secrets = loadSecrets(settings);

  // The store and the coordination.
  const { store, coordination } = await openEngines({ ...overrides, settings, clock, log, metrics });
  undo.use(store);
  undo.use(coordination);
  const nodeRepository = await createNodeRepository(store);
  const poolRepository = await createPoolRepository(store);
  const payoutRepository = await createPayoutRepository(store);

  // The live replicas and their leader.
  const self = { store, clock, exclusive: store.engine === "embedded", log: log.module("replicas") };
  const roster = await createRoster({ ...self, replicaId, coordination: coordination.engine });
  const highestFence = async () => Math.max(await nodeRepository.highestFence(), await poolRepository.highestFence());
  const lease = await createLease({ ...self, name: "fleet", owner: replicaId, highestFence });
  const { leadership } = lease;

  // Callers and their credentials.
  const resets = createResets({ repository: nodeRepository, storeNow: store.now, clock });
  const tokens = await createTokens({
    ...{ store, clock, resets, ttlMaxMs: settings.tokenTtlMaxMs, rings: secrets.rings, log: log.module("tokens") },
  });

  // The features: each is built from those above it.
  const paging = createPaging(secrets.pageTokenKey);
  const vault = createVault(secrets.encryptionKey);
  const shared = { store, clock, paging, leadership, metrics };
  const openForJoining = createOpenForJoining(poolRepository, clock);
  const disruption = createDisruption({
    ...{ pools: poolRepository, nodes: nodeRepository, leadership, clock },
    lostAfterMs: lostAfterMs(heartbeat, heartbeat.intervalMs),
    gauge: metrics.poolsDisrupted,
    log: log.module("disruption"),
  });
  const resources = await createResources({
    ...{ ...shared, nodes: nodeRepository, settings: resourceSettings, log: log.module("resources") },
    pools: {
      find: poolRepository.find,
      disrupted: async () => (await poolRepository.disrupted()).map(({ _id }) => _id),
    },
  });
  const nodes = await createNodes({
    ...{ ...shared, repository: nodeRepository, resets, tokens, coordination, roster, replicaId, random, log },
    ...{ openForJoining, withholdsLoss: disruption.withholdsLoss, takeSample: resources.take },
    ...{ addressProblem, maskAddress, hasOpenPayouts: payoutRepository.hasOpen },
    ...{ vault, challengeKey: secrets.challengeKey },
    settings: {
      ...heartbeat,
      metricsIntervalMs: resourceSettings.collectionIntervalMs,
      payoutAddressCooldownMs: settings.payoutAddressCooldownMs,
    },
  });
  nodes.feed.chunks.listen(({ entries }) => resources.heard(entries));
  const pools = createPools({
    ...{ ...shared, repository: poolRepository, nodes: nodeRepository, disruption, log },
    ...{ membership: nodes.membership, feed: nodes.feed, lastSamples: resources.lastSamples },
  });
  const poot = await createPoot({
    ...{ ...shared, nodes: nodeRepository, challengeKey: secrets.pootChallengeKey, log: log.module("poot") },
    hasPool: async (poolId) => (await openForJoining(poolId)) !== null,
    settings: { ...settings.poot, signaturesRequired: settings.hardwareValidationEnabled },
  });
  const gateways = await openGateways({ settings, store, random, log });
  const payouts = await createPayouts({
    ...{ ...shared, coordination, gateways, vault, replicaId, random, log },
    ...{ repository: payoutRepository, nodes: nodeRepository, record: (await createAudit(store)).record },
    settings: settings.payouts,
  });
  const healthState = createHealthState(services.map(({ typeName }) => typeName));
  const streams = () => nodes.sessions.counts().streams;
  const admin = createAdmin({
    ...{ store, coordination, clock, tokens, ttlMaxMs: settings.tokenTtlMaxMs, log: log.module("health") },
    ...{ tokenHolder: resets.tokenHolder, countReplicas: roster.countAlive, countActive: nodes.countActive },
    ...{ fetch: createOutbound().fetch, externalUrls: settings.externalHealthUrls, timeLimit },
    samples: () => ({ connected: streams(), lastAt: resources.lastSampleAt(streams()) }),
    metricsIntervalMs: resourceSettings.collectionIntervalMs,
    machine: async () => machineUsage(await collector.sample(), metrics),
    onRound: ({ ready, active }) => {
      healthState.setReady(ready);
      if (active !== undefined) metrics.activeNodes.set(active);
      metrics.heartbeatStreams.set(streams());
    },
    facts: {
      ...{ service, version, environment, replicaId, startedAt },
      ...{ storage: store.engine, coordination: coordination.engine, roles: settings.roles },
      gateways: Object.fromEntries([...gateways].map(([currency, { name }]) => [currency, name])),
    },
  });

  // Between the port and the features.
  assertPolicies(services, policies);
  const validation = createValidation({ plain: new Map([beatCheck, batchCheck]) });
  validation.warmUp(services);
  const shutdown = new AbortController();
  const proxies = createProxies(settings.trustedProxies);
  const gate = createGate({
    ...{ policies, verify: tokens.verify, hit: coordination.hit, nowMs: clock.monotonicMs, random },
    limits: settings.rateLimits,
  });
  const routes = createRoutes({
    ...{ nodes: nodes.handler, resources: resources.handlers, pools: pools.handler },
    ...{ poot: poot.handler, admin: admin.handler, payouts: payouts.handler },
  });
  const adapter = createAdapter({
    routes: answers ? routes : () => undefined,
    ...{ gate, validation },
    observer: createObserver({ metrics, log, clock, quiet: new Set(quietProcedures()) }),
    health: healthState,
    http: createHealthRoutes(admin.reports, clock),
    cors: createCors(settings.corsAllowedOrigins),
    reflection: settings.reflectionEnabled,
    readMaxBytes: pootReadMaxBytes(settings.maxRequestBytes),
    shutdownSignal: shutdown.signal,
    ...{ clock, proxies },
  });

  // Long-lived work. If the store is away, wait for it: until then no caller is let in and the service is not ready.
  await Promise.all([tokens.load(), nodes.feed.begin()]).catch(ifUnavailable);
  const join = (signal: AbortSignal) => roster.join(nextBeatAfterMs(heartbeat.intervalMs, 1), signal);
  if (answers) await join(new AbortController().signal).catch(ifUnavailable);
  const joining = untilDone({
    work: join,
    clock,
    away: outage({
      log: log.module("replicas"),
      began: "This replica cannot register in the store yet",
      ended: "This replica is registered in the store",
    }),
  });
  // Before the leader's tasks start; otherwise they would wait a turn.
  if (answers) await lease.take().catch(ifUnavailable);
  const fleetTasks = {
    ...{ joining, lease: lease.task, roster: roster.task },
    ...{ ...nodes.tasks, ...pools.tasks, ...resources.tasks, ...poot.tasks },
  };
  const ownTasks = { ...(answers ? fleetTasks : {}), ...(settings.roles.includes("payouts") ? payouts.tasks : {}) };
  const tasks = runTasks({ tokens: tokens.task, ...admin.tasks, ...ownTasks });
  undo.defer(tasks.stop);
  await admin.health.first();

  const { listener, probes } = await openPorts({
    ...{ settings, clock, log, metrics, proxies, shutdownSignal: shutdown.signal, health: healthState },
    ...{ reports: admin.reports, handler: adapter, limits: overrides.listenerLimits ?? {}, undo },
  });
  log.info("Serving", { port: listener.port, metrics_port: probes.port, storage: store.engine, replica_id: replicaId });

  const built = undo.move();
  const stop = once(async () => {
    log.info("Shutting down", { streams: streams() });
    admin.health.drain();
    healthState.setReady(false);
    await nodes.drain(settings.drainWindowMs);
    await listener.drain(callsGraceMs);
    shutdown.abort(new ConnectError("The service is shutting down", Code.Unavailable));
    await built.disposeAsync();
    log.info("Stopped");
  });
  return {
    ...{ port: listener.port, metricsPort: probes.port, metrics, log },
    ...{ tasks, failed: tasks.ended, stop, [Symbol.asyncDispose]: stop },
  };
}

/** Opens the main port and the port of metrics and probes. @throws StartError when one is taken */
async function openPorts(parts: {
  readonly settings: Settings;
  readonly handler: Parameters<typeof createListener>[0]["handler"];
  readonly limits: Partial<ListenerLimits>;
  readonly proxies: ReturnType<typeof createProxies>;
  readonly health: ReturnType<typeof createHealthState>;
  readonly reports: ReturnType<typeof createAdmin>["reports"];
  readonly shutdownSignal: AbortSignal;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Closes them when the service stops. */
  readonly undo: AsyncDisposableStack;
}) {
  const { settings, handler, health, reports, shutdownSignal, clock, log, metrics, undo } = parts;
  const { host, port, connectionsPerAddressMax, metricsHost, heartbeat } = settings;
  const listener = undo.use(
    createListener({
      ...{ host, port, handler, tls: settings.tls, log: log.module("listener") },
      limits: { ...connectionLimits(heartbeat.streamsMax, connectionsPerAddressMax, log), ...parts.limits },
      isProxy: parts.proxies.trusts,
      closed: (reason) => metrics.connectionsClosed.inc({ reason }),
    }),
  );
  const probes = undo.use(
    createMetricsServer({
      ...{ host: metricsHost, port: settings.metricsPort, registry: metrics.registry, health },
      ...{ reports, shutdownSignal, clock, log: log.module("metrics") },
    }),
  );
  await listener.listen().catch(cannotListen({ portName: "PORT", port, hostName: "HOST", host }));
  const probing = { portName: "METRICS_PORT", port: settings.metricsPort, hostName: "METRICS_HOST", host: metricsHost };
  await probes.listen().catch(cannotListen(probing));
  return { listener, probes };
}

/** Runs the work once, however often it is called. All callers wait for the same end. */
function once(work: () => Promise<void>): () => Promise<void> {
  let working: Promise<void> | undefined;
  return () => {
    working ??= work();
    return working;
  };
}

const ifUnavailable = unless(isOutage);

const quietProcedures = () =>
  services
    .flatMap(({ methods }) => methods)
    .filter(({ localName }) => localName === "heartbeat" || localName === "reportHeartbeat")
    .map(procedureOf);

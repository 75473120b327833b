// All metric families of the service, in their own registry. No label names a node: labels that grow with the fleet
// would overload the collector. The API gives figures per node.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

const prefix = "lucid_node_management_";
/** Buckets in seconds, from a memory read to a slow store. */
const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Buckets of scores. A proof is valid from 70. */
const points = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
/** Buckets in bytes, from a small output to the largest. */
const outputBytes = [100, 1_000, 10_000, 30_000, 100_000, 300_000, 1_048_576];
/** Buckets in whole tokens, from the least payout worth a fee to the largest. */
const tokens = [1, 10, 50, 100, 500, 1_000, 5_000, 10_000, 100_000, 1_000_000];
const delayResolutionMs = 10;

export interface MetricsOptions {
  readonly service: string;
  readonly version: string;
  readonly environment: string;
  /** Lines that the log has dropped since the process began; read at each scrape. */
  readonly logLinesDropped?: () => number;
}

export type Metrics = ReturnType<typeof createMetrics>;

/** The families, each a prom-client metric to bind to its labels once and then count. */
export function createMetrics(options: MetricsOptions) {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const { counter, gauge, histogram } = makersFor(registry);

  gauge("info", "The running build, in labels; always 1", ["version", "service", "environment"])
    .labels(options.version, options.service, options.environment)
    .set(1);
  countFrom(registry, {
    name: `${prefix}log_lines_dropped_total`,
    help: "Log lines dropped because standard output did not take them in time",
    total: options.logLinesDropped ?? (() => 0),
  });
  const loop = measureEventLoop(registry);
  return {
    registry,
    grpcHandled: counter("grpc_server_handled_total", "RPCs ended, by how", [
      "grpc_service",
      "grpc_method",
      "grpc_code",
    ]),
    httpRequests: counter(`${prefix}http_requests_total`, "Finished requests including RPCs, by status", [
      "method",
      "endpoint",
      "status_code",
    ]),
    httpDuration: histogram("http_request_duration_seconds", "Duration of requests; streams are not timed", [
      "method",
      "endpoint",
    ]),
    connectionsClosed: counter(
      `${prefix}connections_closed_total`,
      "Connections refused, or closed before their client wanted, by reason",
      ["reason"],
    ),
    activeNodes: gauge("active_nodes_total", "Nodes whose status is ACTIVE"),
    nodeOperations: counter(`${prefix}node_operations_total`, "Requested changes of nodes, by outcome", [
      "operation",
      "status",
    ]),
    resourceUsage: gauge("resource_usage", "Resource usage of this process's machine, 0 to 1", [
      "resource_type",
      "unit",
    ]),
    resourceSamples: counter(`${prefix}resource_samples_total`, "Samples received from nodes"),
    resourceSamplesDropped: counter(
      `${prefix}resource_samples_dropped_total`,
      "Samples dropped: sent too often, or too many waiting for the store",
    ),
    resourceFlush: histogram("resource_flush_duration_seconds", "Duration of writing the waiting samples", []),
    resourceAlertsActive: gauge("resource_alerts_active", "Active alerts, on the leading replica; 0 on the others", [
      "severity",
    ]),
    databaseOperations: counter(`${prefix}database_operations_total`, "Operations of the document store, by outcome", [
      "operation",
      "collection",
      "status",
    ]),
    databaseDuration: histogram("database_operation_duration_seconds", "Duration of operations of the document store", [
      "operation",
      "collection",
    ]),
    redisOperations: counter(`${prefix}redis_operations_total`, "Operations of the coordination, by outcome", [
      "operation",
      "status",
    ]),
    redisDuration: histogram("redis_operation_duration_seconds", "Duration of operations of the coordination", [
      "operation",
    ]),
    heartbeatStreams: gauge("heartbeat_streams", "Heartbeat streams open on this replica"),
    heartbeats: counter(`${prefix}heartbeats_total`, "Beats taken"),
    heartbeatSequenceGaps: counter(
      `${prefix}heartbeat_sequence_gaps_total`,
      "Beats missing between two received beats",
    ),
    heartbeatSessions: counter(
      `${prefix}heartbeat_sessions_total`,
      "Attempts to open a heartbeat session, by outcome: opened, takeover, refused",
      ["outcome"],
    ),
    poolsDisrupted: gauge(
      "pools_disrupted",
      "Pools whose nodes fell silent together, on the leading replica; 0 on the others",
    ),
    ...proofFamilies({ counter, histogram }),
    ...payoutFamilies({ counter, gauge, histogram }),
    unknownMessages: counter(`${prefix}unknown_messages_total`, "Stream messages of a kind this version does not know"),
    /** Stops measuring; the figures can still be read. */
    close: () => loop.close(),
  };
}

type Make = ReturnType<typeof makersFor>;

function makersFor(registry: Registry) {
  return {
    counter: <Label extends string>(name: string, help: string, labelNames: readonly Label[] = []) =>
      new Counter({ name, help, labelNames, registers: [registry] }),
    gauge: <Label extends string>(name: string, help: string, labelNames: readonly Label[] = []) =>
      new Gauge({ name: prefix + name, help, labelNames, registers: [registry] }),
    histogram: <Label extends string>(
      name: string,
      help: string,
      labelNames: readonly Label[] = [],
      buckets: readonly number[] = seconds,
    ) => new Histogram({ name: prefix + name, help, labelNames, buckets: [...buckets], registers: [registry] }),
  };
}

const proofFamilies = ({ counter, histogram }: Pick<Make, "counter" | "histogram">) => ({
  pootValidations: counter(`${prefix}poot_validations_total`, "Proofs by outcome, without replays", ["status"]),
  pootDuration: histogram("poot_validation_duration_seconds", "Duration of new verdicts; for a batch the mean"),
  pootScores: histogram("poot_scores", "Scores of counted verdicts, 0 to 100", [], points),
  pootProofBytes: histogram("poot_proof_bytes", "Sizes of judged outputs in bytes", [], outputBytes),
  pootSharedOutputs: counter(
    `${prefix}poot_shared_outputs_total`,
    "Outputs that another node had proved within 24 h, where POOT_SHARED_OUTPUT_EVENTS is on",
  ),
});

const payoutFamilies = ({ counter, gauge, histogram }: Make) => ({
  payouts: counter(`${prefix}payouts_total`, "Payouts by currency: ordered (pending), completed, failed, cancelled", [
    "currency",
    "status",
  ]),
  payoutAmounts: histogram("payout_amounts", "Amounts of completed payouts in whole tokens", ["currency"], tokens),
  payoutQueueDepth: gauge("payout_queue_depth", "Payouts that are not done, by phase", ["phase"]),
  payoutOldestWaiting: gauge("payout_oldest_waiting_seconds", "Age of the oldest payout that is not done; 0 for none"),
  payoutQueueHeld: gauge("payout_queue_held", "Why payouts of a currency are not sent now; 1 for each reason", [
    "currency",
    "reason",
  ]),
  payoutGatewayAnswers: counter(`${prefix}payout_gateway_answers_total`, "Answers to sent transactions, by class", [
    "currency",
    "class",
  ]),
});

/** A counter whose total is kept elsewhere. */
function countFrom(registry: Registry, { name, help, total }: { name: string; help: string; total: () => number }) {
  new Counter({
    name,
    help,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(total());
    },
  });
}

/** The 99th percentile, since the last scrape, of the delay of the event loop's timers. */
function measureEventLoop(registry: Registry): { close(): void } {
  const delay = monitorEventLoopDelay({ resolution: delayResolutionMs });
  delay.enable();
  new Gauge({
    name: `${prefix}event_loop_delay_seconds`,
    help: "Delay of the event loop's timers, 99th percentile since the last scrape",
    registers: [registry],
    collect() {
      // The histogram holds the time between two ticks of its own timer. Without delay that is its resolution.
      const lateMs = delay.percentile(99) / 1e6 - delayResolutionMs;
      this.set(Number.isFinite(lateMs) ? Math.max(0, lateMs) / 1000 : 0);
      delay.reset();
    },
  });
  return { close: () => void delay.disable() };
}

// The port for probes and metrics. It uses cleartext even if the main port has TLS, since most probes do not speak TLS.
import type { Registry } from "prom-client";
import type { Clock } from "../clock.js";
import { probesThatFit } from "../port/descriptors.js";
import { createMetricsRoutes, type HealthReports } from "../port/http-routes.js";
import { createListener, type Listener } from "../port/listener.js";
import type { Log } from "../telemetry/log.js";
import type { HealthState } from "./health.js";
import { createProbeAdapter } from "./router.js";

export interface MetricsServerOptions {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
  readonly health: HealthState;
  readonly reports: HealthReports;
  readonly shutdownSignal: AbortSignal;
  readonly clock: Clock;
  readonly log: Log;
}

/** `/metrics`, the health paths and grpc.health.v1. */
export function createMetricsServer(options: MetricsServerOptions): Listener {
  const http = createMetricsRoutes(options.registry, options.reports, options.clock);
  const { host, port, log } = options;
  const connectionsMax = probesThatFit();
  return createListener({
    host,
    port,
    log,
    handler: createProbeAdapter({ ...options, http }),
    limits: { connectionsMax, connectionsPerAddressMax: Math.ceil(connectionsMax / 2) },
  });
}

// Plain HTTP beside the RPCs: probes for any orchestrator, and the metrics.
import type { Registry } from "prom-client";
import type { Clock } from "../clock.js";
import { answer, answerHttpError, answerJson, pathOf, type WireRequest, type WireResponse } from "./exchange.js";

export interface HealthReport {
  readonly status: "healthy" | "degraded" | "unhealthy";
  readonly service: string;
  readonly version: string;
  readonly timestamp: string;
  /** Names and statuses only: any caller may read this, and details may name hosts. */
  readonly checks: Readonly<Record<string, { readonly status: string }>>;
}

export interface ReadyReport {
  readonly status: "ready" | "not_ready";
  readonly timestamp: string;
  readonly checks: Readonly<Record<string, { readonly status: string }>>;
}

export interface LiveReport {
  readonly status: "alive";
  readonly timestamp: string;
  readonly version: string;
}

/** Answers from what is already known: a probe must not wait for a store. */
export interface HealthReports {
  report(): HealthReport;
  ready(): ReadyReport;
  live(): LiveReport;
}

export interface HttpRoutes {
  /** The fixed route of a path, used as its label in metrics; undefined for any other path. */
  match(path: string): string | undefined;
  /** Answers a path that matches. */
  serve(request: WireRequest, response: WireResponse, requestId: string): void;
}

type Route = (request: WireRequest, response: WireResponse) => void;

/** `/health`, `/health/ready` = `/ready`, `/health/live` = `/live`, for GET and HEAD, without redirects. */
export function createHealthRoutes(reports: HealthReports, clock: Clock): HttpRoutes {
  const health: Route = (request, response) => {
    const report = reports.report();
    answerJson(request, response, report.status === "unhealthy" ? 503 : 200, report);
  };
  const ready: Route = (request, response) => {
    const report = reports.ready();
    answerJson(request, response, report.status === "ready" ? 200 : 503, report);
  };
  const live: Route = (request, response) => answerJson(request, response, 200, reports.live());
  const routes = new Map([
    ["/health", health],
    ["/health/ready", ready],
    ["/ready", ready],
    ["/health/live", live],
    ["/live", live],
  ]);
  return httpRoutes(routes, clock);
}

/** The routes of the health reports, and `/metrics`. */
export function createMetricsRoutes(registry: Registry, reports: HealthReports, clock: Clock): HttpRoutes {
  const health = createHealthRoutes(reports, clock);
  const metrics: Route = (request, response) => {
    registry.metrics().then(
      (text) => answer(request, response, 200, { "content-type": registry.contentType }, text),
      () => answer(request, response, 500, {}, ""),
    );
  };
  const own = httpRoutes(new Map([["/metrics", metrics]]), clock);
  return {
    match: (path) => own.match(path) ?? health.match(path),
    serve: (request, response, requestId) =>
      (own.match(pathOf(request)) ? own : health).serve(request, response, requestId),
  };
}

function httpRoutes(routes: ReadonlyMap<string, Route>, clock: Clock): HttpRoutes {
  return {
    match: (path) => (routes.has(path) ? path : undefined),
    serve: (request, response, requestId) => {
      if (request.method !== "GET" && request.method !== "HEAD") {
        response.setHeader("Allow", "GET, HEAD");
        answerHttpError(request, response, 405, "Method not allowed", { requestId, now: clock.now() });
        return;
      }
      response.setHeader("Cache-Control", "no-store");
      routes.get(pathOf(request))?.(request, response);
    },
  };
}

import { createClient } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { systemClock } from "../../src/clock.js";
import type { HealthReport, HealthReports, ReadyReport } from "../../src/port/http-routes.js";
import { createHealthState } from "../../src/rpc/health.js";
import { createMetricsServer } from "../../src/rpc/metrics-server.js";
import { silentLog } from "../../src/telemetry/log.js";
import { createMetrics } from "../../src/telemetry/metrics.js";
import { startTestServer, transportOf } from "../rpc/harness.js";

const report = (status: HealthReport["status"]): HealthReport => ({
  status,
  service: "node-management",
  version: "1.0.0",
  timestamp: "2026-01-01T00:00:00Z",
  checks: { database: { status } },
});
const ready = (status: ReadyReport["status"]): ReadyReport => ({
  status,
  timestamp: "2026-01-01T00:00:00Z",
  checks: {},
});
const live: HealthReports["live"] = () => ({ status: "alive", timestamp: "2026-01-01T00:00:00Z", version: "1.0.0" });

describe("on the main port", () => {
  test.each([
    ["healthy", 200],
    ["degraded", 200],
    ["unhealthy", 503],
  ] as const)("/health says %s with %i", async (status, code) => {
    await using server = await startTestServer({ reports: { report: () => report(status) } });
    const response = await fetch(`http://127.0.0.1:${server.port}/health`, { redirect: "error" });
    expect([response.status, await response.json()]).toEqual([code, report(status)]);
  });

  test.each([
    ["/ready", "ready", 200],
    ["/health/ready", "ready", 200],
    ["/ready", "not_ready", 503],
    ["/health/ready", "not_ready", 503],
  ] as const)("%s says %s with %i", async (path, status, code) => {
    await using server = await startTestServer({ reports: { ready: () => ready(status) } });
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`, { redirect: "error" });
    expect([response.status, await response.json()]).toEqual([code, ready(status)]);
  });

  test("answers HEAD without a body and other verbs with 405", async () => {
    await using server = await startTestServer({ reports: { live } });
    const url = `http://127.0.0.1:${server.port}/health/live`;
    const head = await fetch(url, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    const post = await fetch(url, { method: "POST" });
    expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    expect(await post.json()).toMatchObject({ error: { code: "HTTP_405", path: "/health/live" } });
    expect((await fetch(`http://127.0.0.1:${server.port}/live`)).status).toBe(200);
    expect((await fetch(`http://127.0.0.1:${server.port}/metrics`)).status).toBe(404);
  });
});

test("the metrics port serves metrics, the health paths and health by gRPC, and nothing else", async () => {
  const metrics = createMetrics({ service: "node-management", version: "1.0.0", environment: "test" });
  const health = createHealthState([]);
  await using server = createMetricsServer({
    host: "127.0.0.1",
    port: 0,
    registry: metrics.registry,
    health,
    reports: { report: () => report("healthy"), ready: () => ready("ready"), live },
    shutdownSignal: new AbortController().signal,
    clock: systemClock,
    log: silentLog,
  });
  await server.listen();
  const get = (path: string) => fetch(`http://127.0.0.1:${server.port}${path}`);
  const response = await get("/metrics");
  expect(response.headers.get("content-type")).toContain("text/plain");
  expect(await response.text()).toContain('lucid_node_management_info{version="1.0.0"');
  for (const path of ["/health", "/health/ready", "/ready", "/health/live", "/live"])
    expect((await get(path)).status).toBe(200);
  expect((await get("/other")).status).toBe(404);
  const client = createClient(Health, transportOf(server.port, "grpc", undefined));
  expect((await client.check({ service: "liveness" })).status).toBe(1);
  metrics.close();
});

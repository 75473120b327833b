import { afterEach, beforeEach, expect, test } from "vitest";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.js";

let metrics: Metrics;
beforeEach(() => {
  metrics = createMetrics({ service: "node-management", version: "1.2.3", environment: "test" });
});
afterEach(() => metrics.close());

test("says once which build serves", async () => {
  const text = await metrics.registry.metrics();
  const lines = text.split("\n").filter((line) => /^lucid_node_management_info/.test(line));
  expect(lines).toEqual(['lucid_node_management_info{version="1.2.3",service="node-management",environment="test"} 1']);
});

test("has the families that rules and dashboards name", async () => {
  const names = (await metrics.registry.getMetricsAsJSON()).map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["grpc_server_handled_total", "process_cpu_seconds_total"]));
  const own = ["http_requests_total", "http_request_duration_seconds", "active_nodes_total", "node_operations_total"];
  own.push("resource_usage", "database_operations_total", "database_operation_duration_seconds", "heartbeat_streams");
  own.push("heartbeats_total", "heartbeat_sequence_gaps_total", "heartbeat_sessions_total", "unknown_messages_total");
  own.push("event_loop_delay_seconds", "redis_operations_total", "redis_operation_duration_seconds");
  own.push("poot_validations_total", "poot_validation_duration_seconds", "poot_scores", "poot_proof_bytes");
  own.push("poot_shared_outputs_total");
  own.push("resource_samples_total", "resource_samples_dropped_total", "resource_flush_duration_seconds");
  own.push("resource_alerts_active", "log_lines_dropped_total");
  expect(names).toEqual(expect.arrayContaining(own.map((name) => `lucid_node_management_${name}`)));
});

test("no family is labelled by node", () => {
  for (const metric of metrics.registry.getMetricsAsArray()) {
    expect((metric as unknown as { labelNames: string[] }).labelNames).not.toContain("node_id");
  }
});

test("two registries do not share figures", async () => {
  const other = createMetrics({ service: "other", version: "1", environment: "test" });
  metrics.heartbeats.inc();
  expect((await other.heartbeats.get()).values[0]?.value).toBe(0);
  other.close();
});

test("a blocked event loop shows", async () => {
  const delayOf = async () =>
    (await metrics.registry.getSingleMetric("lucid_node_management_event_loop_delay_seconds")?.get())?.values[0]
      ?.value ?? 0;
  const turn = () => new Promise((resolve) => setTimeout(resolve, 20));
  await turn();
  await delayOf();
  await turn();
  const blockedUntil = performance.now() + 300;
  while (performance.now() < blockedUntil);
  await turn();
  const delay = await delayOf();
  expect(delay).toBeGreaterThan(0.1);
});

// What anybody may read of the service's health: the status of each check, and none of its figures or messages.
import { expect, test } from "vitest";
import type { Health } from "../../src/admin/health.js";
import { healthReports } from "../../src/admin/reports.js";
import { createTestClock } from "../support/world/clock.js";

const timestamp = "2026-01-01T00:00:00.000Z";
const level = (status: "healthy" | "degraded" | "unhealthy") => ({
  status,
  ...{ message: "mongodb://inside:27017 answers", figures: { total_nodes: 7 } },
});
/** The reports of a service with these checks. */
const reportsOf = (checks: Readonly<Record<string, ReturnType<typeof level>>>, isReady: boolean) => {
  const health = { status: () => "degraded", isReady: () => isReady, checks: () => new Map(Object.entries(checks)) };
  return healthReports(health as unknown as Health, { service: "nodes", version: "1.2.3" }, createTestClock());
};

test("the report has the level of each check alone", () => {
  const { report } = reportsOf({ database: level("healthy"), nodes: level("degraded") }, true);
  const checks = { database: { status: "healthy" }, nodes: { status: "degraded" } };
  expect(report()).toEqual({ status: "degraded", service: "nodes", version: "1.2.3", timestamp, checks });
});

test("readiness says for each dependency whether it answers, one that is degraded among them", () => {
  const { ready } = reportsOf({ database: level("healthy"), coordination: level("degraded") }, true);
  expect(ready()).toEqual({
    ...{ status: "ready", timestamp },
    checks: {
      database: { status: "ready" },
      redis: { status: "ready" },
      // Not checked yet.
      resource_monitor: { status: "not_ready" },
    },
  });
});

test("a service that is not ready says so, and lives", () => {
  const { ready, live } = reportsOf({ database: level("unhealthy") }, false);
  expect(ready()).toMatchObject({ status: "not_ready", checks: { database: { status: "not_ready" } } });
  expect(live()).toEqual({ status: "alive", timestamp, version: "1.2.3" });
});

// What the health endpoints tell over HTTP: little, because anybody may ask.
import type { Clock } from "../clock.js";
import type { HealthReports } from "../port/http-routes.js";
import type { Health } from "./health.js";

export function healthReports(
  health: Health,
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

// Puts AdminService together: tokens for callers, and what the service reports about itself.
import type { Tokens } from "../access/tokens.js";
import type { Clock } from "../clock.js";
import { createAdminHandler, type FindTokenHolder, type ServiceFacts } from "./handler.js";
import { createHealth, type HealthParts } from "./health.js";
import { healthReports } from "./reports.js";

export function createAdmin(
  parts: HealthParts & {
    readonly tokens: Tokens;
    readonly tokenHolder: FindTokenHolder;
    readonly facts: ServiceFacts;
    readonly clock: Clock;
    /** The longest lifetime of a token. */
    readonly ttlMaxMs: number;
    /** Living replicas, including this one. */
    readonly countReplicas: () => Promise<number>;
  },
) {
  const { clock, facts } = parts;
  const health = createHealth(parts);
  return {
    handler: createAdminHandler({ ...parts, health }),
    health,
    reports: healthReports(health, { service: facts.service, version: facts.version }, clock),
    tasks: { health: health.task },
  };
}

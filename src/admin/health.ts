// The health of the service. Checks run in the background, each with its own interval and time limit. A caller gets the
// last findings, so that no probe waits for a store and a storm of probes causes no load.
import type { Clock } from "../clock.js";
import type { Coordination } from "../coordination/coordination.js";
import type { Store } from "../storage/collection.js";
import { isOutage, turns } from "../task.js";

export type HealthLevel = "healthy" | "degraded" | "unhealthy";

export interface Check {
  readonly status: HealthLevel;
  /** For people; never holds addresses or secrets. */
  readonly message: string;
  readonly timestamp: Date;
  readonly figures: Readonly<Record<string, number>>;
}

export type CheckName =
  | "database"
  | "coordination"
  | "resource_monitoring"
  | "nodes"
  | "system_resources"
  | "external_dependencies";

type Finding = Omit<Check, "timestamp">;

export interface HealthParts {
  readonly store: Store;
  readonly coordination: Coordination;
  readonly clock: Clock;
  /** Active nodes, and how many of them are connected. */
  readonly countActive: () => Promise<{ readonly active: number; readonly connected: number }>;
  /** Streams held here, and when the last sample came or could first have come. */
  readonly samples: () => { readonly connected: number; readonly lastAt: Date };
  /** A value that could not be read is undefined. */
  readonly machine: () => Promise<{
    cpuPercent: number | undefined;
    memoryPercent: number | undefined;
    diskPercent: number | undefined;
  }>;
  readonly externalUrls: Readonly<Record<string, string>>;
  readonly fetch: typeof fetch;
  /** Aborts after so many milliseconds; other programs are late in real time, whatever `clock` says. */
  readonly timeLimit: (ms: number) => AbortSignal;
  readonly metricsIntervalMs: number;
  /** Called after each round. */
  readonly onRound: (round: { readonly ready: boolean; readonly active: number | undefined }) => void;
  readonly log: {
    info(message: string): void;
    error(message: string, fields?: Readonly<Record<string, unknown>>): void;
  };
}

export type Health = ReturnType<typeof createHealth>;

const limitMs = 3_000;
const roundMs = 2_000;
/** Interval of counting the fleet and sampling the machine, which cost something and change slowly. */
const slowMs = 15_000;
const usagePercentMax = 90;

export function createHealth(parts: HealthParts) {
  const { clock } = parts;
  const checks = new Map<CheckName, Check>();
  const startedMs = clock.monotonicMs();
  const failing = new Set<CheckName>();
  let draining = false;
  let active: number | undefined;

  const run = async (name: CheckName, look: (signal: AbortSignal) => Promise<Finding>): Promise<void> => {
    let finding: Finding;
    try {
      finding = await withLimit(look, parts.timeLimit(limitMs));
      ended(name);
    } catch (error) {
      if (!isOutage(error) && !(error instanceof LateError)) throw error;
      // The cause may name hosts or carry credentials, so it goes only to the log, which redacts it.
      failed(name, error);
      // The loss of coordination slows nothing for long and decides nothing, so it never makes the service unhealthy.
      const status = name === "coordination" ? "degraded" : "unhealthy";
      finding = { status, message: `${label[name]} failed`, figures: {} };
    }
    checks.set(name, { ...finding, timestamp: clock.now() });
  };

  /** Logs an outage once, however long it lasts. */
  const failed = (name: CheckName, error: unknown): void => {
    if (!failing.has(name)) parts.log.error(`Health check failed: ${name}`, { error });
    failing.add(name);
  };
  const ended = (name: CheckName): void => {
    if (failing.delete(name)) parts.log.info(`Health check passes again: ${name}`);
  };

  const database = async (signal: AbortSignal): Promise<Finding> => {
    const beganMs = clock.monotonicMs();
    await parts.store.ping(signal);
    const figures = { response_time_ms: clock.monotonicMs() - beganMs };
    return { status: "healthy", message: "Database connection successful", figures };
  };

  const coordination = async (): Promise<Finding> => {
    const beganMs = clock.monotonicMs();
    await parts.coordination.ping();
    // A server that is read-only or full still answers a ping but no longer counts.
    await parts.coordination.hit("health", 1, roundMs);
    const figures = { response_time_ms: clock.monotonicMs() - beganMs };
    return { status: "healthy", message: "Coordination answers", figures };
  };

  const nodes = async (): Promise<Finding> => {
    const counts = await parts.countActive();
    active = counts.active;
    const ratio = counts.active === 0 ? 1 : counts.connected / counts.active;
    const figures = { healthy_nodes: counts.connected, total_nodes: counts.active, health_ratio: ratio };
    const share = `${counts.connected}/${counts.active} nodes healthy`;
    // The fleet's state is not the service's: a restart of the service would not bring a node back.
    if (ratio >= 0.8) return { status: "healthy", message: share, figures };
    return { status: "degraded", message: `${ratio >= 0.5 ? "Only" : "Critical: Only"} ${share}`, figures };
  };

  const monitoring = async (): Promise<Finding> => {
    const { connected, lastAt } = parts.samples();
    const ageMs = clock.now().getTime() - lastAt.getTime();
    const figures = { connected, last_sample_age_seconds: ageMs / 1000 };
    if (connected === 0 || ageMs <= 3 * parts.metricsIntervalMs) {
      return { status: "healthy", message: "Resource monitoring active", figures };
    }
    return { status: "degraded", message: "Resource monitoring active but no recent data", figures };
  };

  const system = async (): Promise<Finding> => {
    const { cpuPercent, memoryPercent, diskPercent } = await parts.machine();
    const read = (found: Readonly<Record<string, number | undefined>>) =>
      Object.entries(found).filter((entry): entry is [string, number] => entry[1] !== undefined);
    const figures = Object.fromEntries(
      read({ cpu_percent: cpuPercent, memory_percent: memoryPercent, disk_percent: diskPercent }),
    );
    const issues = read({ CPU: cpuPercent, memory: memoryPercent, disk: diskPercent })
      .filter(([, percent]) => percent > usagePercentMax)
      .map(([name, percent]) => `High ${name} usage: ${percent.toFixed(1)}%`);
    if (issues.length === 0) return { status: "healthy", message: "System resources within normal limits", figures };
    return { status: "degraded", message: `Resource issues detected: ${issues.join(", ")}`, figures };
  };

  const external = async (signal: AbortSignal): Promise<Finding> => {
    const answers = await Promise.all(
      Object.entries(parts.externalUrls).map(async ([name, url]) => {
        const headers = { "user-agent": "lucid-node-management/health-check" };
        const status = await parts.fetch(url, { signal, headers }).then((response) => {
          // An unread body keeps its connection open.
          void response.body?.cancel().catch(ifUnreachable);
          return response.status;
        }, ifUnreachable);
        return [name, status] as const;
      }),
    );
    const away = answers.filter(([, status]) => status !== 200).map(([name]) => name);
    const figures = Object.fromEntries(answers.map(([name, status]) => [`${name}_status`, status]));
    if (away.length === 0) return { status: "healthy", message: "External dependencies answer", figures };
    return { status: "degraded", message: `Not healthy: ${away.join(", ")}`, figures };
  };

  const fast = () =>
    Promise.all([run("database", database), run("coordination", coordination), run("resource_monitoring", monitoring)]);
  const slow = () =>
    Promise.all([
      run("nodes", nodes),
      run("system_resources", system),
      ...(Object.keys(parts.externalUrls).length === 0 ? [] : [run("external_dependencies", external)]),
    ]);

  const isReady = (): boolean => !draining && checks.get("database")?.status === "healthy";

  const round = async (withSlow: boolean): Promise<void> => {
    await Promise.all([fast(), ...(withSlow ? [slow()] : [])]);
    parts.onRound({ ready: isReady(), active });
  };

  let slowAtMs = Number.NEGATIVE_INFINITY;
  /** Handles outages itself, because they are findings. */
  const turn = async (): Promise<void> => {
    const withSlow = clock.monotonicMs() - slowAtMs >= slowMs;
    if (withSlow) slowAtMs = clock.monotonicMs();
    await round(withSlow);
  };

  const status = (): HealthLevel => {
    const levels = [...checks.values()].map((check) => check.status);
    if (draining || checks.get("database")?.status !== "healthy") return "unhealthy";
    return levels.every((level) => level === "healthy") ? "healthy" : "degraded";
  };

  return {
    task: turns({ clock, everyMs: roundMs, turn }).task,
    /** Runs the checks that readiness needs, once; after that the task runs them. */
    first: async () => {
      await fast();
      parts.onRound({ ready: isReady(), active });
    },
    status,
    isReady,
    checks: (): ReadonlyMap<CheckName, Check> => checks,
    uptimeMs: () => clock.monotonicMs() - startedMs,
    /** The service is not ready from now on. */
    drain: () => {
      draining = true;
    },
  };
}

const label: Readonly<Record<CheckName, string>> = {
  database: "Database connection",
  coordination: "Coordination",
  resource_monitoring: "Resource monitoring",
  nodes: "Counting nodes",
  system_resources: "Reading system resources",
  external_dependencies: "Asking external dependencies",
};

/** What fetch rejects with when there is no answer: TypeError for the network, DOMException for a timeout. */
const ifUnreachable = (error: unknown): 0 => {
  if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
  return 0;
};

class LateError extends Error {
  override readonly name = "LateError";
}

/** Stops waiting for a check when the signal aborts, which also tells the check to stop. @throws LateError */
async function withLimit<T>(look: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
  const late = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(new LateError(`no answer within ${limitMs} ms`)), { once: true });
  });
  return Promise.race([look(signal), late]);
}

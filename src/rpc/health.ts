// grpc.health.v1: whether the service, or a part of it, is ready for traffic. Open to every caller; the gate limits how
// often an address may ask.
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import { Code, ConnectError } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "../../gen/grpc/health/v1/health_pb.js";

export type HealthStatus = "SERVING" | "NOT_SERVING";

export interface HealthState {
  set(service: string, status: HealthStatus): void;
  /** Whether the process is ready for traffic: sets `""`, `readiness` and all services at once. */
  setReady(ready: boolean): void;
  /** Undefined for an unknown service. */
  get(service: string): HealthStatus | undefined;
  all(): ReadonlyMap<string, HealthStatus>;
  /** Calls `changed` after each change of any service, until the signal aborts. */
  subscribe(changed: () => void, signal: AbortSignal): void;
}

/**
 * The statuses of `""` (readiness), `liveness`, `readiness` and the services. Liveness is SERVING from the start; the
 * rest is NOT_SERVING until set.
 */
export function createHealthState(serviceNames: readonly string[]): HealthState {
  const readyNames = ["", "readiness", ...serviceNames];
  const statuses = new Map(readyNames.map((name): [string, HealthStatus] => [name, "NOT_SERVING"]));
  statuses.set("liveness", "SERVING");
  const watchers = new Set<() => void>();
  const set = (service: string, status: HealthStatus): void => {
    if (statuses.get(service) === status) return;
    statuses.set(service, status);
    for (const changed of watchers) changed();
  };
  return {
    set,
    setReady: (ready) => {
      for (const name of readyNames) set(name, ready ? "SERVING" : "NOT_SERVING");
    },
    get: (service) => statuses.get(service),
    all: () => statuses,
    subscribe: (changed, signal) => {
      if (signal.aborted) return;
      watchers.add(changed);
      signal.addEventListener("abort", () => watchers.delete(changed), { once: true });
    },
  };
}

export function mountHealth(router: ConnectRouter, state: HealthState): void {
  router.service(Health, healthService(state));
}

function healthService(state: HealthState): ServiceImpl<typeof Health> {
  return {
    check: ({ service }) => {
      const status = state.get(service);
      if (status === undefined) throw new ConnectError("Unknown service", Code.NotFound);
      return { status: ServingStatus[status] };
    },
    list: () => ({
      statuses: Object.fromEntries(
        [...state.all()].map(([service, status]) => [service, { status: ServingStatus[status] }]),
      ),
    }),
    watch: async function* ({ service }, { signal }) {
      let wake = () => {};
      state.subscribe(() => wake(), signal);
      signal.addEventListener("abort", () => wake(), { once: true });
      let sent: ServingStatus | undefined;
      while (!signal.aborted) {
        const changed = new Promise<void>((resolve) => (wake = resolve));
        const status = ServingStatus[state.get(service) ?? "SERVICE_UNKNOWN"];
        if (status !== sent) yield { status };
        sent = status;
        await changed;
      }
      throw signal.reason;
    },
  };
}

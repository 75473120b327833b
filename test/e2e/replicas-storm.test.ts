// T5, T33 real: a fleet is cut off all at once, and another fleet is cut off again and again for hours.
// STORM_NODES: how many nodes come back at once. SOAK_MINUTES: how long the churn lasts; without it, none.
// CHURN_NODES: how many nodes take part.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../../gen/grpc/health/v1/health_pb.js";
import { Connectivity } from "../../gen/lucid/node/v1/node_service_pb.js";
import { eventually, openSingle, type ReplicaUnderTest, sizeOf } from "../support/fleet/replicas.js";
import { requireBuilt } from "./built.js";

const stormNodes = sizeOf("STORM_NODES", 300);
const churnNodes = sizeOf("CHURN_NODES", 100);
const soakMinutes = sizeOf("SOAK_MINUTES", 0);
const perConnection = 20;
/** The first attempts are spread over a second and, while nobody listens, the next ones over a span that doubles. */
const shareMax = 0.95;
const loopDelayMaxMs = 2_000;
const metric = (name: string) => `lucid_node_management_${name}`;

let directory: string;
beforeAll(requireBuilt);
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-storm-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("T5 real: a restart storm", () => {
  test(
    `${stormNodes} nodes that lose their replica come back spread, and its health never fails`,
    async () => {
      const intervalMs = Math.max(2, Math.ceil(stormNodes / 500)) * 1000;
      await using service = await openSingle(directory, { NODE_HEARTBEAT_INTERVAL: String(intervalMs / 1000) });
      const { replica } = service;
      service.simulate(stormNodes, "sim", perConnection);
      const joinMs = await eventually(() => streams(service, stormNodes), "all nodes join", 60_000 + stormNodes * 20);

      await replica.kill();
      await replica.start();
      const beganMs = performance.now();
      await using gauges = watchGauges(replica);
      await eventually(async () => gauges.sessions >= stormNodes || `${gauges.sessions}`, "all are back", 120_000);
      const backMs = performance.now() - beganMs;
      await eventually(() => streams(service, stormNodes), "all are CONNECTED", 60_000);
      await gauges.stop();
      const share = gauges.busiestSecond() / stormNodes;
      console.log(
        `restart storm: ${stormNodes} nodes joined in ${(joinMs / 1000).toFixed(1)} s; after SIGKILL and restart all back in ` +
          `${(backMs / 1000).toFixed(1)} s, the busiest second took ${Math.round(share * 100)} % of them; ` +
          `${gauges.probes} probes, ${gauges.failed.length} failed; event loop delay p99 at most ` +
          `${Math.round(gauges.loopDelayMs)} ms, RSS at most ${Math.round(gauges.residentBytes / 2 ** 20)} MiB`,
      );
      expect(gauges.failed).toEqual([]);
      expect(share).toBeLessThan(shareMax);
      expect(gauges.loopDelayMs).toBeLessThan(loopDelayMaxMs);
      await using admin = scoped(service.client());
      const { pagination } = await admin.nodes.listNodes({ connectivity: Connectivity.CONNECTED, limit: 1 });
      expect(pagination?.total).toBe(stormNodes);
    },
    300_000 + stormNodes * 100,
  );
});

describe("T33 real: churn", () => {
  const title = soakMinutes === 0 ? "SKIPPED without SOAK_MINUTES (make soak sets it): " : `${soakMinutes} minutes: `;
  test.skipIf(soakMinutes === 0)(
    `${title}${churnNodes} nodes that are cut off again and again leave nothing behind`,
    async () => {
      const settings = {
        NODE_HEARTBEAT_INTERVAL: "5",
        HEARTBEAT_GRACE: "5",
        // The service gives up sessions of nodes that are gone for good within the test.
        HEARTBEAT_LOST_AFTER: "20",
      };
      await using service = await openSingle(directory, settings, ["--expose-gc", "--import", collectOnSignal]);
      const { replica } = service;
      const simulation = service.simulate(churnNodes, "sim", 5);
      await eventually(() => streams(service, churnNodes), "all nodes join", 60_000 + churnNodes * 60);

      const heaps: { readonly minute: number; readonly bytes: number }[] = [];
      const beganMs = performance.now();
      const minutes = () => (performance.now() - beganMs) / 60_000;
      let cuts = 0;
      while (minutes() < soakMinutes) {
        const measureAt = minutes() + soakMinutes / 30;
        while (minutes() < measureAt) {
          cuts += service.balancer.cut(0.1, Math.random);
          await delay(500);
        }
        heaps.push({ minute: minutes(), bytes: await heapOf(replica) });
      }
      await eventually(() => streams(service, churnNodes), "all nodes are back", 120_000);
      const full = await heapOf(replica);
      simulation.kill("SIGKILL");
      await eventually(() => streams(service, 0), "no stream is left", 60_000);
      await eventually(
        () => allLost(service),
        "all nodes are LOST, and their sessions given up",
        120_000 + churnNodes * 50,
      );
      const empty = await heapOf(replica);
      // At first the heap grows by compiled code and caches.
      const settled = heaps.slice(Math.floor(heaps.length / 3));
      const slope = slopeOf(settled);
      const mean = settled.reduce((sum, { bytes }) => sum + bytes, 0) / settled.length;
      const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(2);
      console.log(
        `churn: ${soakMinutes} min, ${churnNodes} nodes, ${cuts} connections cut, ` +
          `${await replica.metric(metric("heartbeat_sessions_total"))} sessions; heap ${mib(mean)} MiB, slope ` +
          `${mib(slope)} MiB a minute over ${settled.length} measures; ${mib(full)} MiB with all, ${mib(empty)} MiB with ` +
          `none; RSS ${mib(await replica.metric("process_resident_memory_bytes"))} MiB`,
      );
      // Over the whole run, the heap may grow by less than a quarter of its mean size, or by less than 4 MiB.
      expect(slope * soakMinutes).toBeLessThan(Math.max(mean / 4, 4 * 2 ** 20));
      expect(empty).toBeLessThan(full * 1.1);
    },
    soakMinutes * 60_000 + 600_000,
  );
});

type Service = Awaited<ReturnType<typeof openSingle>>;

/** Runs the garbage collector on a signal, so that the heap shows only what is still held. */
const collectOnSignal = `data:text/javascript,${encodeURIComponent(
  'process.on("SIGUSR2", () => { globalThis.gc(); globalThis.gc(); process.stdout.write("collected\\n"); });',
)}`;

async function heapOf(replica: ReplicaUnderTest): Promise<number> {
  const collections = () => replica.output.split("collected\n").length;
  const before = collections();
  process.kill(replica.pid, "SIGUSR2");
  await eventually(async () => collections() > before || "waiting", "the heap is collected", 30_000);
  return replica.metric("nodejs_heap_size_used_bytes");
}

const streams = async ({ replica }: Service, count: number): Promise<true | string> => {
  const found = await replica.metric(metric("heartbeat_streams"));
  return found === count || `${found} streams`;
};

const allLost = async (service: Service): Promise<true | string> => {
  await using admin = scoped(service.client());
  const { pagination } = await admin.nodes.listNodes({ connectivity: Connectivity.LOST, limit: 1 });
  return pagination?.total === churnNodes || `${pagination?.total} LOST`;
};

/** Least squares, in bytes a minute. */
function slopeOf(points: readonly { readonly minute: number; readonly bytes: number }[]): number {
  const mean = (of: (point: (typeof points)[number]) => number) =>
    points.reduce((sum, p) => sum + of(p), 0) / points.length;
  const x = mean(({ minute }) => minute);
  const y = mean(({ bytes }) => bytes);
  const spread = mean(({ minute }) => (minute - x) ** 2);
  return spread === 0 ? 0 : mean(({ minute, bytes }) => (minute - x) * (bytes - y)) / spread;
}

const scoped = (client: ReturnType<Service["client"]>) => ({
  ...client,
  [Symbol.asyncDispose]: async () => client[Symbol.dispose](),
});

/** Asks for health and metrics several times a second until it is stopped. */
function watchGauges(replica: ReplicaUnderTest) {
  const over = new AbortController();
  const baseUrl = `http://127.0.0.1:${replica.metricsPort}`;
  const health = createClient(Health, createGrpcTransport({ baseUrl }));
  const failed: string[] = [];
  const bySecond: number[] = [];
  const beganMs = performance.now();
  const found = { sessions: 0, probes: 0, loopDelayMs: 0, residentBytes: 0 };

  const probe = async (): Promise<void> => {
    while (!over.signal.aborted) {
      found.probes++;
      try {
        const { status } = await health.check({ service: "" }, { timeoutMs: 10_000 });
        if (status !== Serving.SERVING) failed.push(`grpc ${status}`);
        const response = await fetch(`${baseUrl}/live`, { signal: AbortSignal.timeout(10_000) });
        if (response.status !== 200) failed.push(`live ${response.status}`);
      } catch (error) {
        failed.push(String(error));
      }
      await delay(100);
    }
  };
  const read = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const sessions = await replica.metric(metric("heartbeat_sessions_total"));
      const second = Math.floor((performance.now() - beganMs) / 1000);
      bySecond[second] = (bySecond[second] ?? 0) + sessions - found.sessions;
      found.sessions = sessions;
      const delaySeconds = await replica.metric(metric("event_loop_delay_seconds"));
      found.loopDelayMs = Math.max(found.loopDelayMs, delaySeconds * 1000);
      found.residentBytes = Math.max(found.residentBytes, await replica.metric("process_resident_memory_bytes"));
      await delay(100);
    }
  };
  const watching = Promise.all([probe(), read()]);
  watching.catch(() => undefined);
  const stop = async () => {
    over.abort();
    await watching;
  };
  return {
    failed,
    get sessions() {
      return found.sessions;
    },
    get probes() {
      return found.probes;
    },
    get loopDelayMs() {
      return found.loopDelayMs;
    },
    get residentBytes() {
      return found.residentBytes;
    },
    busiestSecond: () => Math.max(...Array.from(bySecond, (count) => count ?? 0)),
    stop,
    [Symbol.asyncDispose]: async () => {
      over.abort();
      await watching.catch(() => undefined);
    },
  };
}

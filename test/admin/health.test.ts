// Health checks and the dependencies that they ask: unread bodies, late answers, names.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { createHealth } from "../../src/admin/health.js";
import { timeLimit } from "../../src/clock.js";
import { createLocalCoordination } from "../../src/coordination/local.js";
import { createTestClock } from "../support/world/clock.js";
import { until } from "../support/world/until.js";
import { openWorld } from "../support/world/world.js";

test("the bodies of dependencies are let go of unread, whatever they answer", async () => {
  await using world = await openWorld();
  const clock = createTestClock();
  await using coordination = createLocalCoordination({ clock });
  const cancelled: string[] = [];
  const endless = (url: string) => new ReadableStream({ cancel: () => void cancelled.push(url) });
  const stop = new AbortController();
  const health = createHealth({
    store: world.store,
    coordination,
    clock,
    countActive: async () => ({ active: 0, connected: 0 }),
    samples: () => ({ connected: 0, lastAt: clock.now() }),
    machine: async () => ({ cpuPercent: 0, memoryPercent: 0, diskPercent: 0 }),
    externalUrls: { up: "http://up", down: "http://down" },
    fetch: async (url) => new Response(endless(String(url)), { status: url === "http://up" ? 200 : 500 }),
    timeLimit,
    metricsIntervalMs: 1000,
    onRound: () => undefined,
    log: { info: () => undefined, error: () => undefined },
  });
  const task = health.task(stop.signal);
  await until(() => health.checks().has("external_dependencies"), "the dependencies are asked");
  expect(cancelled.sort()).toEqual(["http://down", "http://up"]);
  expect(health.checks().get("external_dependencies")?.figures).toEqual({ up_status: 200, down_status: 500 });
  stop.abort();
  await task;
});

test("a store that does not answer in its time is told of, and its ping is given up", async () => {
  await using world = await openWorld();
  const clock = createTestClock();
  await using coordination = createLocalCoordination({ clock });
  const limits: AbortController[] = [];
  let pinged: AbortSignal | undefined;
  const hanging: typeof world.store.ping = (signal) => {
    pinged = signal;
    return new Promise(() => undefined);
  };
  const rounds: boolean[] = [];
  const health = createHealth({
    store: { ...world.store, engine: world.store.engine, ping: hanging } as typeof world.store,
    coordination,
    clock,
    countActive: async () => ({ active: 0, connected: 0 }),
    samples: () => ({ connected: 0, lastAt: clock.now() }),
    machine: async () => ({ cpuPercent: 0, memoryPercent: 0, diskPercent: 0 }),
    externalUrls: {},
    fetch: () => Promise.reject(new TypeError("nobody is to be asked")),
    timeLimit: () => {
      const control = new AbortController();
      limits.push(control);
      return control.signal;
    },
    metricsIntervalMs: 1000,
    onRound: ({ ready }) => void rounds.push(ready),
    log: { info: () => undefined, error: () => undefined },
  });
  const first = health.first();
  await until(() => pinged !== undefined, "the store is asked");
  for (const limit of limits) limit.abort();
  await first;
  expect(pinged?.aborted).toBe(true);
  expect(rounds).toEqual([false]);
  expect(health.checks().get("database")).toMatchObject({ status: "unhealthy", message: "Database connection failed" });
});

test("a dependency that the settings name is asked, and told of by its name", async () => {
  const server = createServer((_, response) => void response.writeHead(503).end());
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  await using world = await openWorld({ settings: { EXTERNAL_HEALTH_URLS: `ledger=${url}` } });
  await until(async () => {
    const { checks } = await world.admin.getServiceHealth({});
    return checks.external_dependencies?.figures.ledger_status === 503;
  }, "the dependency is asked");
  await new Promise((resolve) => void server.close(resolve));
});

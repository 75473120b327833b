// The whole service over servers that a test breaks, with callers, nodes and probes that go on talking to it meanwhile.
import { type AddressInfo, connect, createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../../gen/grpc/health/v1/health_pb.js";
import { systemClock } from "../../../src/clock.js";
import { createLocalCoordination } from "../../../src/coordination/local.js";
import { createRedisCoordination } from "../../../src/coordination/redis/redis.js";
import { openMongoStore } from "../../../src/storage/mongo/store.js";
import { createLogger } from "../../../src/telemetry/log.js";
import type { NodeStream } from "../clients/node-stream.js";
import { embeddedEngines } from "../engines/engines.js";
import { type Refusal, refusalOf, toRefusal } from "../world/refusal.js";
import { until } from "../world/until.js";
import { openWorld, type World } from "../world/world.js";

/** How long a server stays away under load. */
export const faultMs = Number(process.env.FAULT_SECONDS ?? 8) * 1000;

/** The deadline of each call. It leaves room for a busy machine. */
export const deadline = { timeoutMs: 5_000 } as const;

export interface FaultyWorldOptions {
  /** The embedded store when absent. */
  readonly mongo?: { readonly url: string; readonly database: string; readonly operationMs?: number };
  /** In-process coordination when absent. */
  readonly redis?: { readonly url: string; readonly keyPrefix: string };
  /** By the names of the environment. */
  readonly settings?: Readonly<Record<string, string | undefined>>;
}

export interface FaultyWorld extends World {
  /** What the service has logged, an entry each, exceptions included. */
  readonly lines: readonly string[];
}

export async function openFaultyWorld({ mongo, redis, settings = {} }: FaultyWorldOptions): Promise<FaultyWorld> {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  const log = createLogger({ level: "INFO", format: "standard", service: "faults", version: "0", write });
  const embedded = embeddedEngines(systemClock);
  const openStore = async () =>
    mongo ? openMongoStore({ ...mongo, log: log.module("storage") }) : (await embedded.open()).store;
  const openCoordination = () =>
    redis
      ? createRedisCoordination({ ...redis, log: log.module("coordination") })
      : createLocalCoordination({ clock: systemClock });
  const engines = {
    open: async () => ({ store: await openStore(), coordination: openCoordination() }),
    sleepers: 0,
    remove: embedded.remove,
  };
  const world = await openWorld({ engines, settings, log });
  return Object.defineProperties({ ...world, lines }, Object.getOwnPropertyDescriptors(world));
}

/** Expects the contract's answer while the store does not serve: come again, and when. */
export function expectAway(refusal: Refusal | undefined): void {
  expect(refusal).toMatchObject({ code: "Unavailable", reason: "5031" });
  expect(refusal?.retryAfterMs).toBeGreaterThan(0);
}

/** Answers how long the refusal took. */
export async function refusedAway(call: () => PromiseLike<unknown>): Promise<number> {
  const beganMs = performance.now();
  expectAway(await refusalOf(call()));
  return performance.now() - beganMs;
}

/** Answers how long it took until the condition held. */
export async function timedUntil(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs: number,
): Promise<number> {
  const beganMs = performance.now();
  await until(condition, what, limitMs);
  return performance.now() - beganMs;
}

export const succeeds = (call: () => PromiseLike<unknown>): Promise<boolean> =>
  Promise.resolve(call()).then(
    () => true,
    () => false,
  );

/** Prints figures for the fault table of docs/operations.md. */
export function measured(fault: string, figures: Readonly<Record<string, number>>): void {
  const words = Object.entries(figures).map(([name, value]) => `${name} ${Math.round(value)}`);
  console.log(`measured: ${fault}: ${words.join(", ")}`);
}

/** The report at /health, as operators see it. */
export async function healthOf(world: World): Promise<{ status: string; checks: Record<string, { status: string }> }> {
  const response = await fetch(`http://127.0.0.1:${world.metricsPort}/health`);
  return (await response.json()) as Awaited<ReturnType<typeof healthOf>>;
}

export interface Probes {
  /** The last answer; undefined before the first. */
  readonly live: boolean | undefined;
  readonly ready: boolean | undefined;
  /** Each change of readiness from the first answer on. */
  readonly readiness: readonly boolean[];
  /** Answers that were not SERVING, or did not come. */
  readonly liveFailures: number;
  readonly slowestMs: number;
  stop(): Promise<void>;
}

const probeEveryMs = 100;

/** Asks for liveness and readiness by grpc.health.v1, as an orchestrator does, over a connection of its own. */
export function startProbes({ baseUrl }: World): Probes {
  const health = createClient(Health, createGrpcTransport({ baseUrl, defaultTimeoutMs: 5_000 }));
  const isServing = async (service: string) => (await health.check({ service })).status === Status.SERVING;
  const readiness: boolean[] = [];
  let [live, liveFailures, slowestMs]: [boolean | undefined, number, number] = [undefined, 0, 0];
  const round = async () => {
    const beganMs = performance.now();
    live = await isServing("liveness").catch(() => false);
    if (!live) liveFailures++;
    const ready = await isServing("readiness").catch(() => false);
    if (ready !== readiness.at(-1)) readiness.push(ready);
    slowestMs = Math.max(slowestMs, performance.now() - beganMs);
  };
  const stop = repeatedly(round, probeEveryMs);
  return {
    get live() {
      return live;
    },
    get ready() {
      return readiness.at(-1);
    },
    readiness,
    get liveFailures() {
      return liveFailures;
    },
    get slowestMs() {
      return slowestMs;
    },
    stop,
  };
}

export interface Beats {
  /** Beats acknowledged so far. */
  readonly count: number;
  /** The longest time that an Ack took since the last call of this. */
  takeSlowestMs(): number;
  stop(): Promise<void>;
}

const beatEveryMs = 300;

/** Has each node beat on its stream, one beat after the other; a beat without an Ack within 10 s fails `stop`. */
export function startBeats(streams: readonly NodeStream[]): Beats {
  let [count, slowestMs] = [0, 0];
  const stops = streams.map((stream) =>
    repeatedly(async () => {
      const beganMs = performance.now();
      await stream.beat();
      count++;
      slowestMs = Math.max(slowestMs, performance.now() - beganMs);
    }, beatEveryMs),
  );
  return {
    get count() {
      return count;
    },
    takeSlowestMs: () => {
      const taken = slowestMs;
      slowestMs = 0;
      return taken;
    },
    stop: async () => void (await Promise.all(stops.map((stop) => stop()))),
  };
}

export interface Called {
  readonly name: string;
  readonly beganMs: number;
  readonly tookMs: number;
  /** Undefined when it succeeded. */
  readonly refusal: Refusal | undefined;
}

export interface Calls {
  readonly all: readonly Called[];
  /** Whether a call of each kind has begun since that moment and succeeded. */
  allServedSince(beganMs: number): boolean;
  stop(): Promise<void>;
}

const callEveryMs = 50;

/** Callers that call again soon after each answer, one for each kind of call. */
export function startCalls(kinds: Readonly<Record<string, () => PromiseLike<unknown>>>): Calls {
  const all: Called[] = [];
  const stops = Object.entries(kinds).map(([name, call]) =>
    repeatedly(async () => {
      const beganMs = performance.now();
      const refusal = await Promise.resolve(call()).then(() => undefined, toRefusal);
      all.push({ name, beganMs, tookMs: performance.now() - beganMs, refusal });
    }, callEveryMs),
  );
  return {
    all,
    allServedSince: (sinceMs) =>
      Object.keys(kinds).every((name) =>
        all.some((call) => call.name === name && call.beganMs >= sinceMs && call.refusal === undefined),
      ),
    stop: async () => void (await Promise.all(stops.map((stop) => stop()))),
  };
}

/** Repeats the work until it is stopped; stopping rejects with the work's first failure. */
function repeatedly(work: () => Promise<void>, pauseMs: number): () => Promise<void> {
  const control = new AbortController();
  const run = async () => {
    while (!control.signal.aborted) {
      await work();
      await delay(pauseMs, undefined, { signal: control.signal }).catch(() => undefined);
    }
  };
  const running = run();
  running.catch(() => undefined);
  return () => {
    control.abort();
    return running;
  };
}

export interface Relay extends AsyncDisposable {
  readonly port: number;
  /** Waits for a message that holds these bytes, keeps the server's answer to itself, and cuts the connection. */
  eatAnswerTo(bytes: string): void;
  /** How many answers the relay has kept so far. */
  readonly eaten: number;
}

/** A relay before a server: the server does all that it is told, but the service does not always hear its answer. */
export async function openRelay(target: number): Promise<Relay> {
  let bait: string | undefined;
  let eaten = 0;
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    let hooked = false;
    near.on("data", (chunk) => {
      if (bait !== undefined && chunk.includes(bait)) {
        bait = undefined;
        hooked = true;
      }
      far.write(chunk);
    });
    far.on("data", (chunk) => {
      if (!hooked) return void near.write(chunk);
      eaten++;
      near.destroy();
      far.destroy();
    });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on("error", () => undefined).on("close", () => other.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    eatAnswerTo: (bytes) => {
      bait = bytes;
    },
    get eaten() {
      return eaten;
    },
    [Symbol.asyncDispose]: () => new Promise((resolve) => void server.close(() => resolve())),
  };
}

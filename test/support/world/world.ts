// The whole service on a port of its own, with the clients that reach it, for as long as one test needs it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { AdminService } from "../../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService } from "../../../gen/lucid/node/v1/node_service_pb.js";
import { PayoutService } from "../../../gen/lucid/node/v1/payout_service_pb.js";
import { PoolService } from "../../../gen/lucid/node/v1/pool_service_pb.js";
import { PoOTService } from "../../../gen/lucid/node/v1/poot_service_pb.js";
import { type Claims, newJti, signToken } from "../../../src/access/jwt.js";
import type { NodeRole, Role } from "../../../src/access/permission.js";
import { loadSecrets } from "../../../src/access/secrets.js";
import { type Clock, systemClock } from "../../../src/clock.js";
import type { Collector } from "../../../src/machine/machine.js";
import { type Overrides, type RunningServer, startServer } from "../../../src/server.js";
import { parseSettings } from "../../../src/settings/environment.js";
import { type CollectionDefinition, type Store, StoreUnavailableError } from "../../../src/storage/collection.js";
import { silentLog } from "../../../src/telemetry/log.js";
import { type Engines, onProductionEngines, openEngines, sharedEngines } from "../engines/engines.js";
import { createTestClock, type TestClock } from "./clock.js";
import { until } from "./until.js";

export interface Clients {
  readonly nodes: Client<typeof NodeService>;
  readonly pools: Client<typeof PoolService>;
  readonly poot: Client<typeof PoOTService>;
  readonly payouts: Client<typeof PayoutService>;
  readonly admin: Client<typeof AdminService>;
}

export interface WorldOptions extends Omit<Overrides, "store" | "clock"> {
  /** By the names of the environment. */
  readonly settings?: Readonly<Record<string, string | undefined>>;
  readonly clock?: Clock;
  /** The engines under the service; their data is removed with the world. */
  readonly engines?: Engines;
}

/** Given each call of the store: its operation, its arguments, its collection. Calls of the store itself have none. */
export type BeforeStore = (
  operation: string,
  given: readonly unknown[],
  collection: string | undefined,
) => Promise<void> | undefined;

/** Clients at this level are an admin's. */
export interface World extends Clients, AsyncDisposable {
  readonly clock: Clock;
  readonly port: number;
  readonly metricsPort: number;
  readonly baseUrl: string;
  readonly dataDir: string;
  readonly server: RunningServer;
  /** Clients that send this token, or none. They share one connection. */
  as(token: string | undefined): Clients;
  /** A token as another Lucid service would sign it; valid for an hour unless said otherwise. */
  token(role: Role, claims?: Partial<Claims>): Promise<string>;
  nodeToken(nodeId: string, role?: NodeRole, claims?: Partial<Claims>): Promise<string>;
  /** Value of a series, 0 when there is none. */
  count(name: string, labels?: Readonly<Record<string, string | number>>): Promise<number>;
  /** The store under the service, for what no RPC shows or does. */
  readonly store: Store;
  /** The hook runs before each call of the store. The call waits for it, and rejects with what it throws. */
  beforeStore(hook: BeforeStore | undefined): void;
  /** While true the store refuses everything, as if it could not be reached. */
  storeAway(away: boolean): void;
  /** `stop` ends in order; `crash` writes no more and tells nobody. Then the service comes up on the same data. */
  restart(how: "stop" | "crash"): Promise<void>;
}

/** A world whose clock the test moves: after `pass` the service has done everything that was due. */
export interface ClockedWorld extends World {
  readonly clock: TestClock;
  /** Lets that much time go by, in steps after each of which the long-lived work comes to rest. */
  pass(ms: number, stepMs?: number): Promise<void>;
}

export const commonSecret = "common-0123456789-abcdefghijklmnopqrstuvwxyz";

const defaults: Readonly<Record<string, string>> = {
  HOST: "127.0.0.1",
  METRICS_HOST: "127.0.0.1",
  METRICS_PORT: "0",
  HOSTNAME: "world",
  JWT_SECRET_KEY: commonSecret,
  ENCRYPTION_KEY: Buffer.alloc(32, "world").toString("base64"),
  RATE_LIMIT_ENABLED: "false",
  DRAIN_WINDOW: "0",
  // On the MongoDB of the tests, five minutes of a moved clock may take one real minute. The default is tested on the
  // embedded engine.
  ...(onProductionEngines ? { HEARTBEAT_LOST_AFTER: "120" } : {}),
};

/** Silence after which a node is LOST. */
export const lostAfterMs = onProductionEngines ? 120_000 : 300_000;

/** Reports the same machine each time, at once. */
export const stillCollector: Collector = {
  sample: async () => ({
    cpuPercent: 10,
    memoryUsedBytes: 1e9,
    memoryTotalBytes: 8e9,
    diskUsedBytes: 1e10,
    diskTotalBytes: 1e11,
    networkRxBytes: 1,
    networkTxBytes: 1,
  }),
  describe: async () => ({
    cpu: { cores: 4, frequencyMhz: 2000, architecture: "x64", model: "still" },
    memory: { totalBytes: 8e9, type: "DDR4" },
    storage: [{ totalBytes: 1e11, type: "SSD", interface: "NVMe" }],
    gpu: undefined,
    network: [{ interface: "eth0", speedMbps: 1000, macAddress: "02:00:00:00:00:01" }],
  }),
};

/** Each task that runs sleeps when it has nothing to do. */
const sleepersAtRest = ({ server }: World): number => server.tasks.running().length;

export async function openWorld(options: WorldOptions = {}): Promise<World> {
  const { settings: given = {}, clock = systemClock, engines: _, ...overrides } = options;
  const dataDir = mkdtempSync(join(tmpdir(), "lucid-world-"));
  const engines = options.engines ?? (await openEngines(clock));
  const start = async (port: number) => {
    const settings = parseSettings({ ...defaults, DATA_DIR: dataDir, PORT: String(port), ...given });
    const { store, coordination } = await engines.open();
    const severable = createSeverable(store);
    const server = await startServer(settings, {
      collector: stillCollector,
      log: silentLog,
      coordination,
      ...overrides,
      clock,
      store: severable.store,
    });
    return { settings, severable, server };
  };
  let run = await start(0);
  const { port } = run.server;
  const baseUrl = `http://127.0.0.1:${port}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  const { rings } = loadSecrets(run.settings);

  const token = (role: Role, claims: Partial<Claims> = {}): Promise<string> => {
    const issuedAt = clock.now();
    return signToken(rings, {
      subject: `${role}-1`,
      role,
      nodeId: undefined,
      tokenType: "service_access",
      jti: newJti(),
      issuedAt,
      expiresAt: new Date(issuedAt.getTime() + 3_600_000),
      ...claims,
    });
  };
  const forever = new Date(clock.now().getTime() + 365 * 86_400_000);
  const adminToken = await token("admin", { expiresAt: forever });
  const as = (bearer: string | undefined): Clients => clientsOf(baseUrl, sessionManager, bearer);

  return {
    ...as(adminToken),
    clock,
    port,
    baseUrl,
    dataDir,
    get metricsPort() {
      return run.server.metricsPort;
    },
    get server() {
      return run.server;
    },
    as,
    token,
    nodeToken: (nodeId, role = "worker", claims = {}) =>
      token(role, { subject: nodeId, nodeId, tokenType: "node_access", ...claims }),
    count: async (name, labels = {}) => {
      const { values } = (await run.server.metrics.registry.getSingleMetric(name)?.get()) ?? { values: [] };
      const fits = (found: Readonly<Record<string, unknown>>) =>
        Object.entries(labels).every(([label, value]) => found[label] === value);
      return values.filter(({ labels: found }) => fits(found)).reduce((sum, { value }) => sum + value, 0);
    },
    get store() {
      return run.severable.inner;
    },
    beforeStore: (hook) => run.severable.before(hook),
    storeAway: (away) => run.severable.sever(away),
    restart: async (how) => {
      if (how === "crash") {
        run.severable.sever(true);
        await run.severable.close();
      }
      await run.server.stop();
      run = await start(port);
    },
    [Symbol.asyncDispose]: async () => {
      sessionManager.abort();
      await run.server.stop();
      rmSync(dataDir, { recursive: true, force: true });
      engines.remove();
    },
  };
}

/** A world whose time the test moves, and where nothing is left to chance: `random` answers 0 unless given. */
export async function openClockedWorld(options: Omit<WorldOptions, "clock" | "engines"> = {}): Promise<ClockedWorld> {
  const clock = createTestClock();
  const engines = await openEngines(clock);
  const world = await openWorld({ random: () => 0, ...options, clock, engines });
  const pass = passer(clock, () => sleepersAtRest(world) + engines.sleepers);
  await pass(0);
  return Object.defineProperties({ clock, pass }, Object.getOwnPropertyDescriptors(world)) as ClockedWorld;
}

/** Several replicas over one store, under one clock. */
export interface ClockedFleet extends AsyncDisposable {
  readonly clock: TestClock;
  readonly replicas: readonly World[];
  pass(ms: number, stepMs?: number): Promise<void>;
  /** One more replica, with settings of its own beside those of all. */
  join(settings?: WorldOptions["settings"]): Promise<World>;
  /** The replica at that place goes: in order, or without a word while its records stay. */
  end(place: number, how: "stop" | "crash"): Promise<void>;
}

export async function openClockedFleet(
  count: number,
  options: Omit<WorldOptions, "clock"> = {},
): Promise<ClockedFleet> {
  const clock = createTestClock();
  const engines = await sharedEngines(clock);
  const replicas: World[] = [];
  const pass = passer(clock, () => replicas.reduce((sum, one) => sum + sleepersAtRest(one), engines.sleepers));
  const join = async (own: WorldOptions["settings"] = {}) => {
    const settings = { HOSTNAME: `replica${replicas.length}`, ...options.settings, ...own };
    const world = await openWorld({ random: () => 0, ...options, settings, clock, engines });
    replicas.push(world);
    await pass(0);
    return world;
  };
  for (let place = 0; place < count; place++) await join();
  return {
    clock,
    replicas,
    pass,
    join,
    end: async (place, how) => {
      const [world] = replicas.splice(place, 1);
      if (how === "crash") world?.storeAway(true);
      await world?.[Symbol.asyncDispose]();
    },
    [Symbol.asyncDispose]: async () => {
      for (const world of replicas) await world[Symbol.asyncDispose]();
      await engines[Symbol.asyncDispose]();
    },
  };
}

/** Lets time go by in steps. Each step ends when as many tasks sleep as do when nothing is left to be done. */
const passer =
  (clock: TestClock, atRest: () => number) =>
  async (ms: number, stepMs = 1000): Promise<void> => {
    const rest = () => until(() => clock.sleepers >= atRest(), "the service is at rest", 60_000);
    const endMs = clock.monotonicMs() + ms;
    await rest();
    while (clock.monotonicMs() < endMs) {
      await clock.advance(Math.min(stepMs, endMs - clock.monotonicMs()));
      await rest();
    }
  };

export function clientsOf(baseUrl: string, sessionManager: Http2SessionManager, token: string | undefined): Clients {
  const authorising: Interceptor = (next) => (request) => {
    if (token !== undefined && !request.header.has("authorization")) {
      request.header.set("authorization", `Bearer ${token}`);
    }
    return next(request);
  };
  const transport = createGrpcTransport({ baseUrl, sessionManager, interceptors: [authorising] });
  return {
    nodes: createClient(NodeService, transport),
    pools: createClient(PoolService, transport),
    poot: createClient(PoOTService, transport),
    payouts: createClient(PayoutService, transport),
    admin: createClient(AdminService, transport),
  };
}

/** A store that a test can cut off: after that nothing is read or written any more. */
function createSeverable(inner: Store) {
  let severed = false;
  let before: BeforeStore | undefined;
  const guarded = <T extends object>(target: T, collection?: string): T =>
    new Proxy(target, {
      get: (_, name) => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== "function") return member;
        if (name === Symbol.asyncDispose) return () => inner[Symbol.asyncDispose]();
        return async (...given: unknown[]) => {
          await before?.(String(name), given, collection);
          if (severed) throw new StoreUnavailableError("The store was cut off");
          const result: unknown = await member.apply(target, given);
          return name === "collection" ? guarded(result as object, (given[0] as CollectionDefinition).name) : result;
        };
      },
    });
  return {
    inner,
    store: guarded(inner),
    before: (hook: BeforeStore | undefined) => {
      before = hook;
    },
    sever: (value: boolean) => {
      severed = value;
    },
    close: () => inner[Symbol.asyncDispose](),
  };
}

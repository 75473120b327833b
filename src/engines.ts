// Opens the store and the coordination that the settings ask for, with metrics around them. Only this file names an
// engine.
import { type Clock, systemClock } from "./clock.js";
import { collections } from "./collections.js";
import { type Coordination, CoordinationRefusedError } from "./coordination/coordination.js";
import { createLocalCoordination } from "./coordination/local.js";
import { observeCoordination } from "./coordination/observed.js";
import { createRedisCoordination } from "./coordination/redis/redis.js";
import { parseFaults } from "./payouts/gateway/faults.js";
import type { Gateway } from "./payouts/gateway/gateway.js";
import { createSandboxGateway } from "./payouts/gateway/sandbox.js";
import { type Currency, currencies } from "./payouts/money.js";
import type { Settings } from "./settings/settings.js";
import { DuplicateKeyError, type Store } from "./storage/collection.js";
import { openMongoStore } from "./storage/mongo/store.js";
import { observeStore } from "./storage/observed.js";
import { openSqliteStore } from "./storage/sqlite/store.js";
import type { Log } from "./telemetry/log.js";
import type { Metrics } from "./telemetry/metrics.js";

export interface EngineParts {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Used in place of the store that the settings ask for. */
  readonly store?: Store;
  readonly coordination?: Coordination;
}

export interface Engines {
  readonly store: Store;
  readonly coordination: Coordination;
}

/** The caller disposes of both. @throws StoreLockedError, StoreRefusedError, CoordinationRefusedError */
export async function openEngines({ settings, clock, log, metrics, ...given }: EngineParts): Promise<Engines> {
  await using undo = new AsyncDisposableStack();
  const store = given.store ?? undo.use(await openStore(settings, clock, log));
  const coordination = given.coordination ?? (await openCoordination(settings, clock, log));
  undo.move();
  return {
    store: observeStore(store, observeDatabase(metrics), isAnswer),
    coordination: observeCoordination(coordination, observeRedis(metrics)),
  };
}

/**
 * Creates all collections and indexes of this version without serving. Returns the names of the collections.
 * @throws StoreUnavailableError, StoreLockedError, StoreRefusedError, DuplicateKeyError when stored documents violate a
 * unique index
 */
export async function migrateStore(settings: Settings, log: Log): Promise<string[]> {
  await using store = await openStore(settings, systemClock, log);
  await store.ping();
  const names: string[] = [];
  for (const definition of collections) {
    await store.collection(definition);
    names.push(definition.name);
  }
  return names;
}

export { CoordinationRefusedError } from "./coordination/coordination.js";
export { StoreRefusedError } from "./storage/collection.js";
export { StoreLockedError } from "./storage/sqlite/store.js";

const openStore = (
  { mongodb, dataDir, emptyStoreAllowed: emptyAllowed, storeCheckBytesMax: checkBytesMax }: Settings,
  clock: Clock,
  log: Log,
): Promise<Store> =>
  mongodb.url === undefined
    ? openSqliteStore({ dir: dataDir, clock, log: log.module("storage"), emptyAllowed, checkBytesMax })
    : openMongoStore({ url: mongodb.url, database: mongodb.database, log: log.module("storage") });

/** If Redis is not reachable, the service waits for it in the background. @throws CoordinationRefusedError */
async function openCoordination({ redisUrl }: Settings, clock: Clock, log: Log): Promise<Coordination> {
  if (redisUrl === undefined) return createLocalCoordination({ clock });
  const coordination = createRedisCoordination({ url: redisUrl, log: log.module("coordination") });
  try {
    await coordination.ping();
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (!(cause instanceof CoordinationRefusedError)) return coordination;
    await coordination[Symbol.asyncDispose]();
    throw cause;
  }
  return coordination;
}

/** A gateway for each currency that the settings let be paid. */
export async function openGateways(parts: {
  readonly settings: Settings;
  readonly store: Store;
  readonly random: () => number;
  readonly log: Log;
}): Promise<ReadonlyMap<Currency, Gateway>> {
  const { settings, store, random } = parts;
  const log = parts.log.module("sandbox");
  const gateways = new Map<Currency, Gateway>();
  for (const currency of currencies) {
    if (settings.payouts.gateway[currency] === undefined) continue;
    const faults = parseFaults(settings.sandbox.faults);
    const { blockMs } = settings.sandbox;
    gateways.set(currency, await createSandboxGateway({ store, currency, blockMs, faults, random, log }));
    log.info("SANDBOX: payouts of this currency move no money", { currency, block_ms: blockMs });
  }
  return gateways;
}

const isAnswer = (error: unknown): boolean => error instanceof DuplicateKeyError;

const observeDatabase =
  (metrics: Metrics) =>
  (operation: string, collection: string, status: "success" | "error", seconds: number): void => {
    metrics.databaseOperations.inc({ operation, collection, status });
    metrics.databaseDuration.observe({ operation, collection }, seconds);
  };

const observeRedis =
  (metrics: Metrics) =>
  (operation: string, status: "success" | "error", seconds: number): void => {
    metrics.redisOperations.inc({ operation, status });
    metrics.redisDuration.observe({ operation }, seconds);
  };

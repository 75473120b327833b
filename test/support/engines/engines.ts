// The engines under a world: the embedded ones, or MongoDB and Redis when LUCID_TEST_ENGINES=production.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "../../../src/clock.js";
import type { Coordination } from "../../../src/coordination/coordination.js";
import { createLocalCoordination } from "../../../src/coordination/local.js";
import { createRedisCoordination } from "../../../src/coordination/redis/redis.js";
import type { Store } from "../../../src/storage/collection.js";
import { openMongoStore } from "../../../src/storage/mongo/store.js";
import { openSqliteStore } from "../../../src/storage/sqlite/store.js";
import { sharedMongo } from "./mongo.js";
import { ownPrefix, sharedRedis } from "./redis.js";

export interface Engines {
  /** Opens them on the same data each time. */
  open(): Promise<{ readonly store: Store; readonly coordination: Coordination }>;
  /** How many sleepers the engines themselves have on the clock. */
  readonly sleepers: number;
  /** Removes the data. */
  remove(): void;
}

export const onProductionEngines = process.env.LUCID_TEST_ENGINES === "production";
export const engineNames = onProductionEngines
  ? ({ storage: "mongodb", coordination: "redis" } as const)
  : ({ storage: "embedded", coordination: "local" } as const);

export const openEngines = (clock: Clock): Promise<Engines> | Engines =>
  onProductionEngines ? productionEngines(clock) : embeddedEngines(clock);

export function embeddedEngines(clock: Clock): Engines {
  const dir = mkdtempSync(join(tmpdir(), "lucid-world-"));
  return {
    open: async () => ({
      store: await openSqliteStore({ dir, clock }),
      coordination: createLocalCoordination({ clock }),
    }),
    // The sweep that deletes expired documents.
    sleepers: 1,
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
}

/** When a test moves the clock, windows and leases follow it. So Redis and MongoDB's own clock are left out then. */
async function productionEngines(clock: Clock): Promise<Engines> {
  const mongo = await sharedMongo();
  const redis = await sharedRedis();
  const database = mongo.freshDatabase();
  const keyPrefix = ownPrefix();
  const moved = clock !== systemClock;
  return {
    open: async () => {
      // The MongoDB of the tests may be slow. Other tests cover what the service does with a slow one.
      const store = await openMongoStore({ url: mongo.url, database, operationMs: 60_000 });
      return {
        store: moved ? { ...store, now: async () => clock.now() } : store,
        coordination: moved
          ? { ...createLocalCoordination({ clock }), engine: "redis" }
          : createRedisCoordination({ url: redis.url, keyPrefix }),
      };
    },
    sleepers: 0,
    remove: () => undefined,
  };
}

/**
 * One store and one coordination for several replicas in this process, under a clock that the test moves. The embedded
 * store serves them all, which it could not do across processes. Both carry the names of the production engines.
 */
export async function sharedEngines(clock: Clock): Promise<Engines & AsyncDisposable> {
  const inner = embeddedEngines(clock);
  const { store, coordination } = await inner.open();
  const stays = async () => undefined;
  return {
    open: async () => ({
      store: { ...store, engine: "mongodb", [Symbol.asyncDispose]: stays },
      coordination: { ...coordination, engine: "redis", [Symbol.asyncDispose]: stays },
    }),
    sleepers: 1,
    remove: () => undefined,
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      inner.remove();
    },
  };
}

// What a world stands on: the embedded engines, or MongoDB and Redis when LUCID_TEST_ENGINES=production.
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
  /** Sleepers of their own on the clock. */
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
    // The sweep of what has expired.
    sleepers: 1,
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
}

/** Under a clock that a test moves, windows and leases follow it: Redis and MongoDB's own clock stay outside then. */
async function productionEngines(clock: Clock): Promise<Engines> {
  const mongo = await sharedMongo();
  const redis = await sharedRedis();
  const database = mongo.freshDatabase();
  const keyPrefix = ownPrefix();
  const moved = clock !== systemClock;
  return {
    open: async () => {
      // The MongoDB of the tests may be one that is slow; what happens then has tests of its own.
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
 * store serves them all, which it could not across processes, and says that it is another.
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

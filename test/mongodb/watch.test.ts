// A watcher of nodes misses nothing and hears nothing twice when the primary steps down.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/clock.js";
import { createLocalCoordination } from "../../src/coordination/local.js";
import { openMongoStore } from "../../src/storage/mongo/store.js";
import { type GivenMongo, isMongoGiven, openGivenMongo } from "../support/engines/mongo-given.js";
import { allLogged, asHeard, historyIn, watchThroughout } from "../support/fleet/history.js";
import { aNode } from "../support/world/builders.js";
import { until } from "../support/world/until.js";
import { openWorld } from "../support/world/world.js";

const tests = "test/mongodb/watch.test.ts";

describe.skipIf(!isMongoGiven(tests))("a watcher of nodes", () => {
  let mongo: GivenMongo;
  beforeAll(async () => {
    mongo = await openGivenMongo();
  });
  afterAll(() => mongo[Symbol.asyncDispose]());

  it("hears each change once, in order, across step downs", { timeout: 300_000 }, async () => {
    const { database, url } = mongo;
    const engines = {
      open: async () => ({
        store: await openMongoStore({ url, database: database.databaseName }),
        coordination: createLocalCoordination({ clock: systemClock }),
      }),
      sleepers: 0,
      remove: () => undefined,
    };
    await using world = await openWorld({ engines });
    await using watch = await watchThroughout(world.baseUrl, await world.token("admin"));
    let made = 0;
    for (let round = 0; round < 3; round++) {
      for (let n = 0; n < 10; n++, made++) await aNode(world.nodes);
      const stepping = mongo.stepDown();
      // If a creation is refused, only the history tells whether it took place.
      const isMade = () =>
        aNode(world.nodes).then(
          () => true,
          () => false,
        );
      await until(isMade, "a node is made after the step down", 60_000);
      await stepping;
    }
    await until(async () => (await allLogged(database)()) === true, "all changes are in the log", 60_000);
    const told = (await historyIn(database)).map(asHeard);
    expect(told.length).toBeGreaterThanOrEqual(made);
    await until(() => watch.heard.length >= told.length, "the watcher has heard all", 60_000);
    expect(watch.heard).toEqual(told);
  });
});

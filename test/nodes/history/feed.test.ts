// What a replica hears of others from its first moment on.
import { describe, expect, test } from "vitest";
import { systemClock } from "../../../src/clock.js";
import { createFeed } from "../../../src/nodes/history/feed.js";
import { type LogEntry, nodeLogCollection } from "../../../src/nodes/history/log.js";
import { type CollectionDefinition, type Store, StoreUnavailableError } from "../../../src/storage/collection.js";
import { silentLog } from "../../../src/telemetry/log.js";
import { connectNode } from "../../support/clients/node-stream.js";
import { sharedEngines } from "../../support/engines/engines.js";
import { aNode } from "../../support/world/builders.js";
import { createTestClock } from "../../support/world/clock.js";
import { expectRefusal } from "../../support/world/refusal.js";
import { until, within } from "../../support/world/until.js";
import { openWorld } from "../../support/world/world.js";

/** The store, whose log of nodes cannot be read while `away` says so. */
function withoutLog(store: Store, away: () => boolean): Store {
  const refusing = <T extends object>(target: T): T =>
    new Proxy(target, {
      get: (_, name) => {
        const member: unknown = Reflect.get(target, name);
        if (name !== "page" || typeof member !== "function") return member;
        return async (...given: unknown[]) => {
          if (away()) throw new StoreUnavailableError("The log is away");
          return member.apply(target, given);
        };
      },
    });
  return {
    ...store,
    collection: async (definition: CollectionDefinition) => {
      const collection = await store.collection(definition);
      return definition.name === nodeLogCollection.name ? refusing(collection) : collection;
    },
  } as Store;
}

describe("a replica that does not follow the log yet", () => {
  test("opens no session, so that no ban on another replica is missed", async () => {
    await using engines = await sharedEngines(systemClock);
    await using one = await openWorld({ engines });
    let away = true;
    const open = async () => {
      const { store, coordination } = await engines.open();
      return { store: withoutLog(store, () => away), coordination };
    };
    await using two = await openWorld({ engines: { ...engines, open }, settings: { HOSTNAME: "second" } });
    const [banned, other] = [await aNode(one.nodes), await aNode(one.nodes)];
    await expectRefusal(connectNode(two, banned.nodeId), "Unavailable 5031");
    await one.nodes.banNode({ nodeId: banned.nodeId, reason: "fraud" });
    away = false;
    await until(
      () =>
        connectNode(two, other.nodeId).then(
          () => true,
          () => false,
        ),
      "the other node is let in",
    );
    await expectRefusal(connectNode(two, banned.nodeId), "PermissionDenied 4031");
  });
});

test("a replica that cannot take in the log by a mistake of its own ends instead of missing it; a store that is away it outlasts", async () => {
  const clock = createTestClock();
  let failure: Error | undefined = new StoreUnavailableError("away");
  let told = 0;
  const feed = createFeed({
    log: { tail: async () => 0, after: async (place) => (place === 0 ? [{ _id: "1" } as LogEntry] : []) },
    repository: { findMany: async () => new Map() },
    clock,
    logger: silentLog,
  });
  feed.chunks.listen(async () => {
    told++;
    if (failure !== undefined) throw failure;
  });
  await feed.begin();
  const ended = feed.task(new AbortController().signal).catch((error: unknown) => error);
  await clock.advance(5_000);
  expect(told).toBeGreaterThan(1);
  failure = new TypeError("a mistake");
  await clock.advance(5_000);
  expect(await within(ended, "the task ends")).toBe(failure);
});

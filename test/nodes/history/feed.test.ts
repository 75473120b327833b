// What a replica hears of the others' changes from its start on, and what it passes on to its followers.
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
import { aNodeDocument } from "../../support/world/documents.js";
import { expectRefusal } from "../../support/world/refusal.js";
import { until, within } from "../../support/world/until.js";
import { openWorld } from "../../support/world/world.js";

/** The same store, but its log of nodes cannot be read while `away` returns true. */
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

/** A feed over a log that the test appends to from place 1 on. It counts each answer of the log and of the nodes. */
function aFeed(count = 0) {
  const clock = createTestClock();
  const entries: LogEntry[] = [];
  const append = (more: number) => {
    for (let added = 0; added < more; added++) {
      const place = entries.length + 1;
      entries.push({ _id: String(place), node_id: `node_${place % 3}` } as LogEntry);
    }
  };
  append(count);
  const counted = { reads: 0, lookups: [] as (readonly string[])[] };
  const nodes = { away: false };
  const feed = createFeed({
    log: {
      tail: async () => entries.length,
      after: async (place, limit) => {
        counted.reads++;
        return entries.slice(place, place + limit);
      },
    },
    repository: {
      findMany: async (ids) => {
        counted.lookups.push(ids);
        if (nodes.away) throw new StoreUnavailableError("away");
        return new Map(ids.map((id) => [id, aNodeDocument({ _id: id })]));
      },
    },
    clock,
    logger: silentLog,
  });
  const heard: string[] = [];
  feed.chunks.listen(({ from, to, entries: told }) => void heard.push(`${from}-${to}: ${told.length}`));
  const over = new AbortController();
  /** Begins to follow. What the log already holds counts as history. */
  const follow = async () => {
    await feed.begin();
    const ended = feed.task(over.signal);
    await clock.advance(0);
    return {
      [Symbol.asyncDispose]: async () => {
        over.abort();
        await ended;
      },
    };
  };
  return { feed, clock, append, counted, nodes, heard, follow };
}

const never = new AbortController().signal;

describe("a feed", () => {
  test("follows from the end of the log as it begins, and says whether it does", async () => {
    const { feed, clock, append, heard, follow } = aFeed(7);
    expect(feed.follows()).toBe(false);
    await using _ = await follow();
    expect(feed.follows()).toBe(true);
    append(2);
    await clock.advance(1_000);
    append(1);
    await clock.advance(1_000);
    expect(heard).toEqual(["7-9: 2", "9-10: 1"]);
  });

  test("reads at once what does not fit into one chunk, and otherwise once a second or when it is woken", async () => {
    const { feed, clock, append, counted, heard, follow } = aFeed();
    await using _ = await follow();
    append(1_001);
    feed.wake();
    await clock.advance(0);
    expect(heard).toEqual(["0-500: 500", "500-1000: 500", "1000-1001: 1"]);
    const { reads } = counted;
    await clock.advance(999);
    expect(counted.reads).toBe(reads);
    await clock.advance(1);
    expect(counted.reads).toBe(reads + 1);
  });

  test("looks up the nodes of a chunk once for all who ask, each node once, and again after an outage", async () => {
    const { feed, clock, append, counted, nodes, follow } = aFeed();
    await using _ = await follow();
    append(6);
    await clock.advance(1_000);
    const [one, other] = [await feed.next(0, 0, never), await feed.next(0, 0, never)];
    nodes.away = true;
    await expect(one?.nodes()).rejects.toThrow("away");
    nodes.away = false;
    const found = await one?.nodes();
    expect([...(found?.keys() ?? [])].sort()).toEqual(["node_0", "node_1", "node_2"]);
    expect(await other?.nodes()).toBe(found);
    expect(counted.lookups.map(({ length }) => length)).toEqual([3, 3]);
  });
});

describe("a follower", () => {
  /** What a follower gets after this place, and how often the log was read for it. */
  const nextOf = async ({ feed, clock, counted }: ReturnType<typeof aFeed>, after: number) => {
    const { reads } = counted;
    const next = feed.next(after, 0, never);
    await clock.advance(0);
    const chunk = await next;
    const places = chunk === undefined ? undefined : [chunk.from, chunk.to, chunk.entries.length];
    return { places, reads: counted.reads - reads };
  };

  test.each([
    ["at the start of a chunk gets that chunk", 2_500, 2_000, [2_000, 2_500, 500], 0],
    ["in the middle of a chunk gets the rest of it", 2_500, 2_300, [2_300, 2_500, 200], 0],
    ["at the first entry that is kept needs no log", 2_500, 500, [500, 1_000, 500], 0],
    ["behind what is kept reads the log", 2_500, 499, [499, 999, 500], 1],
    ["at the end gets nothing", 2_500, 2_500, undefined, 0],
    ["beyond the end, as another replica has told it, gets nothing", 2_500, 2_600, undefined, 0],
  ])("%s", async (_, count, after, places, reads) => {
    const parts = aFeed();
    await using _following = await parts.follow();
    parts.append(count);
    await parts.clock.advance(1_000);
    expect(await nextOf(parts, after)).toEqual({ places, reads });
  });

  test("is woken by what comes, and not by what it has already", async () => {
    const { feed, clock, append, follow } = aFeed();
    await using _ = await follow();
    const waiting = feed.next(2, 60_000, never);
    let came = false;
    void waiting.then(() => {
      came = true;
    });
    append(2);
    await clock.advance(1_000);
    expect(came).toBe(false);
    append(1);
    await clock.advance(1_000);
    expect(came).toBe(true);
    expect((await waiting)?.entries.map(({ _id }) => _id)).toEqual(["3"]);
  });

  test.each(["its wait is over", "its signal aborts"])("gets nothing when %s", async (why) => {
    const { feed, clock, follow } = aFeed();
    await using _ = await follow();
    const signal = new AbortController();
    const waiting = feed.next(0, 20_000, signal.signal);
    if (why === "its signal aborts") signal.abort();
    else await clock.advance(20_000);
    expect(await within(waiting, "it goes on")).toBeUndefined();
  });
});

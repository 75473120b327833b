// T25, T26, T27: watching nodes. Nothing is missed, nothing comes twice, and a slow watcher harms nobody.
import { randomBytes } from "node:crypto";
import { ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { nodeLogCollection } from "../../../src/nodes/history/log.js";
import { connectNode } from "../../support/clients/node-stream.js";
import { onProductionEngines } from "../../support/engines/engines.js";
import { connectivityName, statusName } from "../../support/fleet/look.js";
import { watchNodes } from "../../support/fleet/watcher.js";
import { aNode, aPool } from "../../support/world/builders.js";
import { randomFrom } from "../../support/world/random.js";
import { expectRefusal, toRefusal } from "../../support/world/refusal.js";
import { inParallel, until, within } from "../../support/world/until.js";
import { openClockedFleet, openClockedWorld, openWorld, type World } from "../../support/world/world.js";

/** The large tests use this share of their nodes: the MongoDB may be slow, and the log alone makes a test large. */
const share = onProductionEngines ? 0.2 : 1;

/** The histories of these nodes in the order of the log, in the form in which a watcher hears them. */
async function toldOf(world: World, nodeIds: readonly string[]): Promise<string[]> {
  const all = await inParallel(nodeIds, 8, (nodeId) => world.nodes.listNodeEvents({ nodeId, limit: 100 }));
  return all
    .flatMap(({ events }) => events)
    .sort((a, b) => (a.eventId < b.eventId ? -1 : 1))
    .map((event) => {
      const state = `${event.version} ${statusName(event.status)} ${connectivityName(event.connectivity)}`;
      return `${event.nodeId} ${state}`;
    });
}

describe("a watch", () => {
  test("begins with all nodes, says when they are all, and goes on with each change", async () => {
    await using world = await openWorld();
    const [one, two] = [await aNode(world.nodes), await aNode(world.nodes)];
    using watcher = watchNodes(world);
    await watcher.untilSnapshot();
    expect([...watcher.snapshot].sort()).toEqual(
      [one, two].map(({ nodeId }) => `${nodeId} 1 INACTIVE NEVER_CONNECTED`).sort(),
    );
    await world.nodes.startNode({ nodeId: one.nodeId });
    await world.nodes.deleteNode({ nodeId: two.nodeId });
    const three = await aNode(world.nodes);
    await watcher.untilChanges(4);
    expect(watcher.changes).toEqual([
      `${one.nodeId} 2 STARTING NEVER_CONNECTED`,
      `${one.nodeId} 3 ACTIVE NEVER_CONNECTED`,
      `-${two.nodeId}`,
      `${three.nodeId} 1 INACTIVE NEVER_CONNECTED`,
    ]);
    expect(watcher.received.every(({ event }) => event.case !== undefined)).toBe(true);
  });

  test("of a pool hears who comes and who leaves; of nodes, those alone", async () => {
    await using world = await openWorld();
    const { poolId } = await aPool(world.pools);
    const inside = await aNode(world.nodes, { initialPoolId: poolId });
    const outside = await aNode(world.nodes);
    using pool = watchNodes(world, { poolId });
    using own = watchNodes(world, { nodeIds: [outside.nodeId] });
    await pool.untilSnapshot();
    await own.untilSnapshot();
    expect(pool.snapshot).toEqual([`${inside.nodeId} 1 INACTIVE NEVER_CONNECTED`]);
    await world.nodes.startNode({ nodeId: outside.nodeId });
    await world.pools.addNodeToPool({ poolId, nodeId: outside.nodeId });
    await world.pools.removeNodeFromPool({ poolId, nodeId: inside.nodeId });
    await world.pools.removeNodeFromPool({ poolId, nodeId: outside.nodeId });
    await pool.untilChanges(3);
    expect(pool.changes).toEqual([
      `${outside.nodeId} 4 ACTIVE NEVER_CONNECTED`,
      `-${inside.nodeId}`,
      `-${outside.nodeId}`,
    ]);
    await own.untilChanges(4);
    expect(own.changes.map((change) => change.split(" ")[1])).toEqual(["2", "3", "4", "5"]);
  });

  test("hears nothing of a beat, and brings a newer token every 30 s without news", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    using watcher = watchNodes(world);
    await watcher.untilSnapshot();
    const before = watcher.token;
    await stream.beat();
    await world.pass(20_000);
    await stream.beat();
    await world.pass(11_000);
    await until(() => watcher.received.at(-1)?.event.case === "bookmark", "a bookmark");
    expect(watcher.changes).toEqual([]);
    expect(watcher.token).not.toBe("");
    using resumed = watchNodes(world, { resumeToken: before });
    await world.nodes.startNode({ nodeId });
    await resumed.untilChanges(1);
  });

  test("on one replica hears what is done on another, and can go on there", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = fleet.replicas as [World, World];
    const { nodeId } = await aNode(one.nodes);
    using watcher = watchNodes(one);
    await watcher.untilSnapshot();
    await two.nodes.startNode({ nodeId });
    await watcher.untilChanges(2);
    watcher.cancel();
    await one.nodes.stopNode({ nodeId });
    using resumed = watchNodes(two, { resumeToken: watcher.token });
    await resumed.untilChanges(2);
    expect([...watcher.changes, ...resumed.changes]).toEqual((await toldOf(one, [nodeId])).slice(1));
  });

  test("ends UNAVAILABLE with the time to wait when its replica shuts down", async () => {
    await using world = await openWorld();
    using watcher = watchNodes(world);
    await watcher.untilSnapshot();
    const stopping = world.server.stop();
    const end = toRefusal(await watcher.ended());
    expect(end).toMatchObject({ code: "Unavailable", reason: "5031" });
    expect(end.retryAfterMs).toBeGreaterThan(0);
    await stopping;
  });

  test("is refused with a token of other conditions, a forged one, and another list's", async () => {
    await using world = await openWorld();
    const nodes = [await aNode(world.nodes), await aNode(world.nodes), await aNode(world.nodes)];
    using watcher = watchNodes(world);
    await watcher.untilSnapshot();
    const { pagination } = await world.nodes.listNodes({ limit: 1 });
    const others = [
      { resumeToken: watcher.token, nodeIds: [nodes[0]?.nodeId ?? ""] },
      { resumeToken: `${watcher.token.slice(0, -2)}AA` },
      { resumeToken: pagination?.nextPageToken ?? "" },
      { resumeToken: "x" },
    ];
    for (const request of others) {
      using refused = watchNodes(world, request);
      expect(toRefusal(await refused.ended())).toMatchObject({ code: "InvalidArgument", reason: "4001" });
    }
  });

  test("ends with its token, and when that is revoked", async () => {
    await using world = await openClockedWorld();
    await aNode(world.nodes);
    const expiresAt = new Date(world.clock.now().getTime() + 20_000);
    using short = watchNodes(world.as(await world.token("operator", { expiresAt })));
    using revoked = watchNodes(world.as(await world.token("operator", { jti: "to-be-revoked" })));
    using other = watchNodes(world);
    for (const watcher of [short, revoked, other]) await watcher.untilSnapshot();
    await world.admin.revokeToken({ jti: "to-be-revoked" });
    expect(toRefusal(await revoked.ended())).toMatchObject({ code: "Unauthenticated", reason: "4011" });
    await world.pass(26_000);
    expect(toRefusal(await short.ended())).toMatchObject({ code: "Unauthenticated", reason: "4011" });
    await aNode(world.nodes);
    await other.untilChanges(1);
  });

  test("brings a newer token although only others' nodes change", async () => {
    await using world = await openClockedWorld();
    const [watched, other] = [await aNode(world.nodes), await aNode(world.nodes)];
    using watcher = watchNodes(world, { nodeIds: [watched.nodeId] });
    await watcher.untilSnapshot();
    for (let turn = 0; turn < 4; turn++) {
      await world.pass(10_000);
      const { nodeId } = other;
      await (turn % 2 === 0 ? world.nodes.startNode({ nodeId }) : world.nodes.stopNode({ nodeId }));
    }
    await until(() => watcher.received.some(({ event }) => event.case === "bookmark"), "a bookmark");
  });

  test("is refused to one subject that holds fifty", async () => {
    await using world = await openWorld();
    const clients = world.as(await world.token("operator", { subject: "greedy" }));
    const watchers = Array.from({ length: 50 }, () => watchNodes(clients));
    for (const watcher of watchers) await watcher.untilSnapshot();
    using refused = watchNodes(clients);
    expect(toRefusal(await refused.ended())).toMatchObject({ code: "ResourceExhausted", reason: "4291" });
    using other = watchNodes(world);
    await other.untilSnapshot();
    for (const watcher of watchers) watcher.cancel();
  });

  test("is not for node tokens", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    await expectRefusal(nodes.watchNodes({})[Symbol.asyncIterator]().next(), "PermissionDenied 4031");
  });
});

describe("T25 a watch that is cut off", () => {
  test("T25 resumes without a gap and without a double, cut again and again under changes, also by restarts", async () => {
    await using world = await openWorld();
    const seed = Number(process.env.WATCH_SEED ?? Math.floor(Math.random() * 1e9));
    console.log(`T25 seed ${seed} (WATCH_SEED)`);
    const random = randomFrom(seed);
    const ids = (await Promise.all(Array.from({ length: 20 }, () => aNode(world.nodes)))).map(({ nodeId }) => nodeId);
    using first = watchNodes(world);
    await first.untilSnapshot();
    let { token } = first;
    first.cancel();
    const heard: string[] = [];
    for (let cut = 0; cut < 12; cut++) {
      const changing = inParallel(ids, 8, async (nodeId) => {
        if (random() < 0.5) await world.nodes.startNode({ nodeId });
        else await world.nodes.stopNode({ nodeId }).catch(() => undefined);
      });
      using watcher = watchNodes(world, { resumeToken: token });
      if (random() < 0.7)
        await until(() => watcher.changes.length >= 1 + 5 * random(), "some have come").catch(() => undefined);
      await changing;
      watcher.cancel();
      await watcher.ended();
      heard.push(...watcher.changes);
      token = watcher.token;
      if (cut % 4 === 3) await world.restart(random() < 0.5 ? "stop" : "crash");
    }
    const told = (await toldOf(world, ids)).filter((event) => !/ 1 INACTIVE /.test(event));
    using last = watchNodes(world, { resumeToken: token });
    await last.untilChanges(told.length - heard.length);
    expect([...heard, ...last.changes]).toEqual(told);
  }, 180_000);

  test("T25 with a token older than the log: OUT_OF_RANGE, then anew with a snapshot", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    using watcher = watchNodes(world);
    await watcher.untilSnapshot();
    const { token } = watcher;
    watcher.cancel();
    await world.nodes.startNode({ nodeId });
    await world.nodes.listNodeEvents({ nodeId });
    await world.nodes.stopNode({ nodeId });
    await world.nodes.listNodeEvents({ nodeId });
    const log = await world.store.collection(nodeLogCollection);
    // Retention would do this after 30 days.
    await log.deleteMany({ _id: { $in: ["0000000000000001", "0000000000000002"] } }, { limit: 2 });
    using late = watchNodes(world, { resumeToken: token });
    expect(toRefusal(await late.ended())).toMatchObject({ code: "OutOfRange", reason: "4001" });
    using anew = watchNodes(world);
    await anew.untilSnapshot();
    expect(anew.snapshot).toHaveLength(1);
  });

  test("T25 real: one that reads nothing costs no memory, is let go, and resumes", async () => {
    await using world = await openClockedWorld();
    // Large labels that do not compress: the unread messages must fill every window on the way.
    const text = () => randomBytes(45).toString("base64url");
    const labels = Object.fromEntries(Array.from({ length: 60 }, (_, place) => [`label-${place}`, `x${text()}x`]));
    const nodes = await inParallel(Array.from({ length: 40 }), 16, () => aNode(world.nodes, { labels }));
    const ids = nodes.map(({ nodeId }) => nodeId);
    const control = new AbortController();
    const messages = world.nodes.watchNodes({}, { signal: control.signal })[Symbol.asyncIterator]();
    let token = "";
    for (;;) {
      const { value, done } = await messages.next();
      if (done) throw new Error("the watch ended");
      token = value.resumeToken;
      if (value.event.case === "snapshotEnd") break;
    }
    // From here on nobody reads. The windows of the connection fill, and later changes stay in the log.
    const change = (round: number) =>
      inParallel(ids, 16, async (nodeId) => {
        await (round % 2 === 0 ? world.nodes.startNode({ nodeId }) : world.nodes.stopNode({ nodeId }));
      });
    const before = process.memoryUsage().heapUsed;
    for (let round = 0; round < 6; round++) await change(round);
    expect((process.memoryUsage().heapUsed - before) / 2 ** 20).toBeLessThan(100);
    await world.pass(45_000);
    const rest = async () => {
      while (!(await messages.next()).done);
    };
    await expect(within(rest(), "the watch ends")).rejects.toBeInstanceOf(ConnectError);
    using resumed = watchNodes(world, { resumeToken: token });
    await resumed.untilChanges(ids.length * 12);
    expect(new Set(resumed.changes).size).toBe(ids.length * 12);
    control.abort();
  }, 180_000);
});

describe("T26 the order of events under changes at once", () => {
  test("T26 on two replicas: dense, the same for every watcher, each node's versions in order, and true at the end", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = fleet.replicas as [World, World];
    using onOne = watchNodes(one);
    using onTwo = watchNodes(two);
    await onOne.untilSnapshot();
    await onTwo.untilSnapshot();
    const ids = (await Promise.all(Array.from({ length: 10 }, () => aNode(one.nodes)))).map(({ nodeId }) => nodeId);
    await inParallel(Array.from({ length: 100 }), 20, async (_, place) => {
      const world = place % 2 === 0 ? one : two;
      const nodeId = ids[place % ids.length] ?? "";
      await (place % 3 === 0 ? world.nodes.stopNode({ nodeId }) : world.nodes.startNode({ nodeId })).catch(
        () => undefined,
      );
    });
    const told = await toldOf(one, ids);
    await onOne.untilChanges(told.length);
    await onTwo.untilChanges(told.length);
    expect(onOne.changes).toEqual(told);
    expect(onTwo.changes).toEqual(told);
    const log = await one.store.collection(nodeLogCollection);
    const { items } = await log.page({}, { index: "_id_", limit: 1000 });
    expect(items.map(({ _id }) => Number(_id))).toEqual(items.map((_, place) => place + 1));
    for (const nodeId of ids) {
      const own = told.filter((event) => event.startsWith(nodeId));
      expect(own.map((event) => event.split(" ")[1])).toEqual(own.map((_, place) => String(place + 1)));
      const { node } = await two.nodes.getNode({ nodeId });
      expect(own.at(-1)).toBe(
        `${nodeId} ${node?.version} ${statusName(node?.status ?? 0)} ${connectivityName(node?.connectivity ?? 0)}`,
      );
    }
  });
});

describe("T27 a snapshot while nodes come and go", () => {
  test("T27 shows every node once that was there all along, and the stream makes up for the others", async () => {
    await using world = await openWorld();
    const staying = (await inParallel(Array.from({ length: 450 * share }), 16, () => aNode(world.nodes))).map(
      (node) => node.nodeId,
    );
    const going = (await inParallel(Array.from({ length: 50 * share }), 16, () => aNode(world.nodes))).map(
      (node) => node.nodeId,
    );
    const churn = Promise.all([
      inParallel(going, 4, (nodeId) => world.nodes.deleteNode({ nodeId })),
      inParallel(Array.from({ length: 50 * share }), 4, () => aNode(world.nodes)),
    ]);
    using watcher = watchNodes(world);
    await watcher.untilSnapshot();
    const [, come] = await churn;
    const known = new Map<string, number>();
    const view = () => {
      known.clear();
      for (const word of [...watcher.snapshot, ...watcher.changes]) {
        const [id = ""] = word.split(" ");
        if (id.startsWith("-")) known.delete(id.slice(1));
        else known.set(id, (known.get(id) ?? 0) + 1);
      }
      return known;
    };
    await until(
      () => come.every(({ nodeId }) => view().has(nodeId)) && !going.some((id) => view().has(id)),
      "all is told",
    );
    expect([...view().keys()].sort()).toEqual([...staying, ...come.map(({ nodeId }) => nodeId)].sort());
    expect([...view().values()].every((times) => times === 1)).toBe(true);
  });
});

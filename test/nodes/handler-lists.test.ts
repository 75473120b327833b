// Lists of nodes and the history of a node, as callers of NodeService see them.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Connectivity, type Node, NodeStatus, NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { nodesCollection } from "../../src/nodes/repository.js";
import { connectNode } from "../support/clients/node-stream.js";
import { updateNode } from "../support/clients/update-node.js";
import { historyOf, untilStatus } from "../support/fleet/look.js";
import { aNode, aPool } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { inParallel } from "../support/world/until.js";
import { type Clients, openClockedWorld, openWorld, type World } from "../support/world/world.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

describe("a list", () => {
  const walk = async (
    clients: Clients,
    request: Parameters<Clients["nodes"]["listNodes"]>[0],
    between: () => Promise<unknown> = async () => undefined,
  ): Promise<Node[]> => {
    const found: Node[] = [];
    let pageToken = "";
    do {
      const answer = await clients.nodes.listNodes({
        ...request,
        ...(pageToken === "" ? {} : { position: { case: "pageToken", value: pageToken } }),
      });
      found.push(...answer.nodes);
      pageToken = answer.pagination?.nextPageToken ?? "";
      await between();
    } while (pageToken !== "");
    return found;
  };

  test("by number says where it stands", async () => {
    await using own = await openWorld();
    const made = await inParallel(Array.from({ length: 45 }), 16, () => aNode(own.nodes));
    const page = (value: number) => own.nodes.listNodes({ limit: 20, position: { case: "page", value } });
    const pages = [await page(1), await page(2), await page(3), await page(4)];
    expect(pages.map(({ nodes }) => nodes.length)).toEqual([20, 20, 5, 0]);
    expect(pages[1]?.pagination).toMatchObject({ limit: 20, page: 2, total: 45, pages: 3 });
    const ids = pages.flatMap(({ nodes }) => nodes.map(({ nodeId }) => nodeId));
    expect(new Set(ids)).toEqual(new Set(made.map(({ nodeId }) => nodeId)));
    expect((await own.nodes.listNodes({})).pagination?.limit).toBe(20);
  });

  test("by token shows every node that existed throughout exactly once, whatever comes and goes meanwhile", async () => {
    await using own = await openWorld();
    const made = await inParallel(Array.from({ length: 30 }), 16, () => aNode(own.nodes));
    const passing = await inParallel(Array.from({ length: 8 }), 8, () => aNode(own.nodes));
    for (const orderBy of ["", "created_at desc", "name", "name desc", "poot_score", "last_heartbeat desc"]) {
      const found = await walk(own, { limit: 7, orderBy }, async () => {
        await aNode(own.nodes);
        const gone = passing.pop();
        if (gone !== undefined) await own.nodes.deleteNode({ nodeId: gone.nodeId });
      });
      const ids = found.map(({ nodeId }) => nodeId);
      expect(new Set(ids).size).toBe(ids.length);
      expect(made.filter(({ nodeId }) => !ids.includes(nodeId))).toEqual([]);
    }
  });

  test("comes in the order asked for, each way", async () => {
    await using own = await openClockedWorld();
    const made: Node[] = [];
    const collection = await own.store.collection<NodeDocument>(nodesCollection);
    for (const [name, score] of Object.entries({ delta: 5, alpha: 9, charlie: 5, bravo: 1 })) {
      const node = await aNode(own.nodes, { name });
      await collection.updateOne({ _id: node.nodeId }, { $set: { poot_score: score } });
      made.push(node);
      await own.pass(1_000);
    }
    for (const index of [2, 0]) {
      await connectNode(own, made[index]?.nodeId ?? "");
      await own.pass(1_000);
    }
    const names = async (orderBy: string) => (await walk(own, { orderBy, limit: 3 })).map(({ name }) => name);
    expect(await names("")).toEqual(["delta", "alpha", "charlie", "bravo"]);
    expect(await names("created_at desc")).toEqual(["bravo", "charlie", "alpha", "delta"]);
    expect(await names("name")).toEqual(["alpha", "bravo", "charlie", "delta"]);
    expect(await names("name desc")).toEqual(["delta", "charlie", "bravo", "alpha"]);
    expect(await names("poot_score")).toEqual(["bravo", "delta", "charlie", "alpha"]);
    expect(await names("poot_score desc")).toEqual(["alpha", "charlie", "delta", "bravo"]);
    expect((await names("last_heartbeat desc")).slice(0, 2)).toEqual(["delta", "charlie"]);
    expect((await names("last_heartbeat")).slice(2)).toEqual(["charlie", "delta"]);
  });

  test("is narrowed by each filter, and by all together", async () => {
    await using own = await openWorld();
    const { poolId } = await aPool(own.pools);
    const both = await aNode(own.nodes, { nodeType: NodeType.VALIDATOR, initialPoolId: poolId, labels: { a: "1" } });
    const other = await aNode(own.nodes, { nodeType: NodeType.VALIDATOR });
    await aNode(own.nodes);
    await own.nodes.startNode({ nodeId: both.nodeId });
    await connectNode(own, other.nodeId, { token: await own.nodeToken(other.nodeId, "validator") });
    const ids = async (request: Parameters<typeof own.nodes.listNodes>[0]) =>
      (await own.nodes.listNodes(request)).nodes.map(({ nodeId }) => nodeId);
    expect(await ids({ nodeType: NodeType.VALIDATOR })).toEqual([both.nodeId, other.nodeId]);
    expect(await ids({ poolId })).toEqual([both.nodeId]);
    expect(await ids({ status: NodeStatus.ACTIVE })).toEqual([both.nodeId]);
    expect(await ids({ connectivity: Connectivity.CONNECTED })).toEqual([other.nodeId]);
    const all = { nodeType: NodeType.VALIDATOR, poolId, status: NodeStatus.ACTIVE, labelSelector: "a=1" };
    expect(await ids(all)).toEqual([both.nodeId]);
    expect(await ids({ ...all, connectivity: Connectivity.CONNECTED })).toEqual([]);
    expect((await own.nodes.listNodes(all)).pagination?.total).toBe(1);
  });

  test("takes a token only as it gave it, for the same filters and order", async () => {
    for (let count = 0; count < 3; count++) await aNode(world.nodes, { labels: { walk: "yes" } });
    const request = { limit: 1, labelSelector: "walk=yes", orderBy: "name" };
    const first = await world.nodes.listNodes(request);
    const value = first.pagination?.nextPageToken ?? "";
    const position = { case: "pageToken", value } as const;
    const second = await world.nodes.listNodes({ ...request, position });
    expect(second.nodes).toHaveLength(1);
    expect(second.pagination?.total).toBeUndefined();
    expect(second.pagination?.page).toBeUndefined();
    const last = value.endsWith("A") ? "B" : "A";
    const foreign = [
      { ...request, orderBy: "name desc", position },
      { ...request, labelSelector: "walk", position },
      { ...request, status: NodeStatus.ACTIVE, position },
      { ...request, position: { case: "pageToken", value: `${value.slice(0, -1)}${last}` } as const },
      { ...request, position: { case: "pageToken", value: value.slice(4) } as const },
      { ...request, position: { case: "pageToken", value: "W10" } as const },
    ];
    for (const other of foreign) {
      const refusal = await expectRefusal(world.nodes.listNodes(other), "InvalidArgument 4001");
      expect(refusal.fields).toEqual(["page_token"]);
    }
    await expectRefusal(world.pools.listPools({ position }), "InvalidArgument 4001");
    await world.nodes.listNodes({ ...request, limit: 2, position });
  });

  test("goes on with its token after a restart", async () => {
    await using own = await openWorld();
    for (let count = 0; count < 4; count++) await aNode(own.nodes);
    const { pagination } = await own.nodes.listNodes({ limit: 2 });
    await own.restart("stop");
    const position = { case: "pageToken", value: pagination?.nextPageToken ?? "" } as const;
    expect((await own.nodes.listNodes({ limit: 2, position })).nodes).toHaveLength(2);
  });
});

describe("a history", () => {
  test("is told newest first, in pages, since a time", async () => {
    await using own = await openClockedWorld();
    const { nodeId } = await aNode(own.nodes);
    for (let turn = 0; turn < 5; turn++) {
      await own.pass(1_000);
      await updateNode(own, { nodeId, labels: { turn: String(turn) } }, "labels");
    }
    const first = await own.nodes.listNodeEvents({ nodeId, limit: 4 });
    expect(first.events.map(({ version }) => version)).toEqual([6n, 5n, 4n, 3n]);
    expect(first.pagination).toMatchObject({ total: 6, pages: 2 });
    const value = first.pagination?.nextPageToken ?? "";
    await updateNode(own, { nodeId, labels: {} }, "labels");
    const rest = await own.nodes.listNodeEvents({ nodeId, limit: 4, position: { case: "pageToken", value } });
    expect(rest.events.map(({ version }) => version)).toEqual([2n, 1n]);
    const since = timestampFromDate(new Date(own.clock.now().getTime() - 1_500));
    const recent = await own.nodes.listNodeEvents({ nodeId, since });
    expect(recent.events.map(({ version }) => version)).toEqual([7n, 6n, 5n]);
    const other = await aNode(own.nodes);
    const foreign = own.nodes.listNodeEvents({
      nodeId: other.nodeId,
      limit: 4,
      position: { case: "pageToken", value },
    });
    await expectRefusal(foreign, "InvalidArgument 4001");
  });

  test("loses nothing in a crash, and says nothing twice", async () => {
    await using own = await openWorld();
    const { nodeId } = await aNode(own.nodes);
    for (let turn = 0; turn < 3; turn++) {
      await Promise.all(
        Array.from({ length: 5 }, (_, part) => updateNode(own, { nodeId, labels: { v: `${turn}-${part}` } }, "labels")),
      );
      await own.restart("crash");
    }
    const versions = async () => (await own.nodes.listNodeEvents({ nodeId, limit: 100 })).events.map((e) => e.version);
    expect(await versions()).toEqual(Array.from({ length: 16 }, (_, place) => BigInt(16 - place)));
  });

  test("names who did it", async () => {
    const { nodeId } = await aNode(world.nodes);
    await world.as(await world.token("operator", { subject: "carol" })).nodes.startNode({ nodeId });
    await untilStatus(world, nodeId, "ACTIVE");
    expect((await historyOf(world, nodeId)).map(({ actor }) => actor)).toEqual(["admin-1", "carol", "system"]);
  });
});

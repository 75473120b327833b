// A watch that goes on when the connection and the server that serve it end.
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { afterEach, expect, test } from "vitest";
import { NodeService, type WatchNodesResponse } from "../../gen/lucid/node/v1/node_service_pb.js";
import { createLucidClient, type LucidClient, watchNodes } from "../../src/client/index.js";
import { aNode } from "../support/world/builders.js";
import { until } from "../support/world/until.js";
import { openWorld } from "../support/world/world.js";

const ends: LucidClient[] = [];
afterEach(() => {
  for (const lucid of ends.splice(0)) lucid[Symbol.dispose]();
});

const wordsOf = (messages: readonly WatchNodesResponse[]): string[] =>
  messages.flatMap(({ event }) => (event.case === "upserted" ? [`${event.value.nodeId} ${event.value.version}`] : []));

test("goes on through restarts: each change once, and one snapshot only", async () => {
  await using world = await openWorld();
  const lucid = createLucidClient({ baseUrl: world.baseUrl, accessToken: await world.token("operator") });
  ends.push(lucid);
  const { nodeId } = await aNode(world.nodes);
  const control = new AbortController();
  const received: WatchNodesResponse[] = [];
  const watching = (async () => {
    for await (const message of watchNodes(lucid.nodes, {}, { signal: control.signal, random: () => 0 })) {
      received.push(message);
    }
  })();
  await until(() => received.some(({ event }) => event.case === "snapshotEnd"), "the snapshot");
  await world.nodes.startNode({ nodeId });
  await world.restart("stop");
  await world.nodes.stopNode({ nodeId });
  await world.restart("crash");
  await world.nodes.startNode({ nodeId });
  await until(() => wordsOf(received).length >= 7, "all changes", 30_000);
  expect(wordsOf(received)).toEqual([1, 2, 3, 4, 5, 6, 7].map((version) => `${nodeId} ${version}`));
  expect(received.filter(({ event }) => event.case === "snapshotEnd")).toHaveLength(1);
  control.abort();
  await watching;
});

test("left in the middle leaves nothing behind on the server", async () => {
  await using world = await openWorld();
  const lucid = createLucidClient({ baseUrl: world.baseUrl, accessToken: await world.token("operator") });
  ends.push(lucid);
  // More watches than one subject may hold at once.
  for (let turn = 0; turn < 60; turn++) for await (const _ of watchNodes(lucid.nodes)) break;
});

test("takes a new snapshot when its token is too old, and gives up on what waiting does not mend", async () => {
  const asked: string[] = [];
  const answers = [Code.OutOfRange, Code.Unavailable, Code.PermissionDenied];
  const transport = createRouterTransport(({ service }) => {
    service(NodeService, {
      watchNodes: async function* ({ resumeToken }) {
        asked.push(resumeToken);
        yield { resumeToken: `after-${asked.length}`, event: { case: "bookmark", value: {} } };
        throw new ConnectError("cut", answers[asked.length - 1] ?? Code.Internal);
      },
    });
  });
  const clock = { now: () => new Date(), monotonicMs: () => 0, sleep: async () => undefined };
  const read = async () => {
    for await (const _ of watchNodes(createClient(NodeService, transport), { resumeToken: "old" }, { clock }));
  };
  await expect(read()).rejects.toMatchObject({ code: Code.PermissionDenied });
  expect(asked).toEqual(["old", "", "after-2"]);
});

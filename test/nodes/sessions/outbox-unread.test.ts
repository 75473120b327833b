// Nodes that send what they should and read no answer: on HTTP/2 the reader alone decides how much it is sent.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type ClientHttp2Stream, connect } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { HeartbeatRequestSchema, WatchNodesRequestSchema } from "../../../gen/lucid/node/v1/node_service_pb.js";
import { connectNode } from "../../support/clients/node-stream.js";
import { connectivityOf } from "../../support/fleet/look.js";
import { aNode } from "../../support/world/builders.js";
import { expectRefusal } from "../../support/world/refusal.js";
import { inParallel, until, within } from "../../support/world/until.js";
import { openClockedWorld, type World } from "../../support/world/world.js";

type Message = Parameters<typeof create<typeof HeartbeatRequestSchema>>[1];

const framed = (message: Message): Buffer =>
  inFrame(toBinary(HeartbeatRequestSchema, create(HeartbeatRequestSchema, message)));

function inFrame(bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** A connection with an initial window of 0: the service can send nothing on its streams. */
function unreadingConnection(world: World, token: string) {
  const session = connect(world.baseUrl, { settings: { initialWindowSize: 0 } });
  session.on("error", () => undefined);
  return {
    request: (method: string): ClientHttp2Stream => {
      const stream = session.request({
        ":method": "POST",
        ":path": `/lucid.node.v1.NodeService/${method}`,
        "content-type": "application/grpc",
        te: "trailers",
        authorization: `Bearer ${token}`,
      });
      stream.on("error", () => undefined);
      return stream;
    },
    [Symbol.dispose]: () => session.destroy(),
  };
}

/** Such a connection for a node. Each stream that it opens says Hello. */
async function unreading(world: World, nodeId: string) {
  const connection = unreadingConnection(world, await world.nodeToken(nodeId));
  return {
    open: (bootId: string): ClientHttp2Stream => {
      const stream = connection.request("Heartbeat");
      stream.write(framed({ message: { case: "hello", value: { nodeId, bootId, agentVersion: "x" } } }));
      return stream;
    },
    [Symbol.dispose]: connection[Symbol.dispose],
  };
}

const beat = (stream: ClientHttp2Stream, sequence: bigint) =>
  stream.write(framed({ message: { case: "beat", value: { sequence } } }));
/** Sends so many beats that their answers more than fill every buffer on the way. */
async function fill(world: World, streams: readonly ClientHttp2Stream[]): Promise<void> {
  const name = "lucid_node_management_heartbeats_total";
  const before = await world.count(name);
  const beats = 3_000;
  for (const stream of streams) {
    for (let sequence = 1; sequence <= beats; sequence++) {
      if (!beat(stream, BigInt(sequence))) await new Promise((resolve) => stream.once("drain", resolve));
    }
  }
  await until(async () => (await world.count(name)) === before + beats * streams.length, "the beats are heard", 30_000);
}

const opened = async (world: World) => world.count("lucid_node_management_heartbeat_sessions_total", {});

describe("a stream whose answers are not read", () => {
  test("is closed in time, and its place is free again", async () => {
    await using world = await openClockedWorld({ settings: { STREAMS_MAX: "1" } });
    const { nodeId } = await aNode(world.nodes);
    using client = await unreading(world, nodeId);
    const stream = client.open("unread");
    await until(async () => (await connectivityOf(world, nodeId)) === "CONNECTED", "it is opened");
    await fill(world, [stream]);
    await world.pass(20_000);
    await until(() => stream.closed, "it is closed");
    const next = await connectNode(world, nodeId, { bootId: "reads" });
    await next.beat();
  });

  test("is closed in time when the node is banned, and when it is superseded", async () => {
    await using world = await openClockedWorld();
    const [banned, superseded] = [await aNode(world.nodes), await aNode(world.nodes)];
    using one = await unreading(world, banned.nodeId);
    using two = await unreading(world, superseded.nodeId);
    const streams = [one.open("unread"), two.open("unread")];
    await until(async () => (await opened(world)) === 2, "both are opened");
    await fill(world, streams);
    await world.nodes.banNode({ nodeId: banned.nodeId, reason: "fraud" });
    await connectNode(world, superseded.nodeId, { bootId: "newer" });
    await world.pass(8_000);
    await until(() => streams.every(({ closed }) => closed), "both are closed");
  });

  test("costs bounded memory, however many beats it sends", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    using client = await unreading(world, nodeId);
    const stream = client.open("unread");
    await until(async () => (await opened(world)) === 1, "it is opened");
    const before = process.memoryUsage().heapUsed;
    const count = 50_000;
    for (let sequence = 1; sequence <= count; sequence++) {
      if (!beat(stream, BigInt(sequence))) await new Promise((resolve) => stream.once("drain", resolve));
    }
    await until(
      async () => (await world.count("lucid_node_management_heartbeats_total")) === count,
      "all are heard",
      60_000,
    );
    expect((process.memoryUsage().heapUsed - before) / 2 ** 20).toBeLessThan(60);
  });
});

describe("a watch that is not read", () => {
  test("is closed in time when its token is revoked, and its place is free again", async () => {
    await using world = await openClockedWorld();
    // Labels that do not compress, and more of them than any buffer on the way takes.
    const text = () => randomBytes(45).toString("base64url");
    const labels = Object.fromEntries(Array.from({ length: 60 }, (_, place) => [`label-${place}`, `x${text()}x`]));
    await inParallel(Array.from({ length: 40 }), 8, () => aNode(world.nodes, { labels }));
    using connection = unreadingConnection(world, await world.token("operator", { subject: "ops", jti: "leaked" }));
    const streams = Array.from({ length: 50 }, () => {
      const stream = connection.request("WatchNodes");
      stream.end(inFrame(toBinary(WatchNodesRequestSchema, create(WatchNodesRequestSchema))));
      return stream;
    });
    // The first message of each watch is on its way, and the next ones wait to be sent.
    await Promise.all(streams.map((stream) => within(once(stream, "response"), "a watch begins")));
    const other = world.as(await world.token("operator", { subject: "ops" }));
    const open = () => other.nodes.watchNodes({})[Symbol.asyncIterator]().next();
    await expectRefusal(open(), "ResourceExhausted 4291");
    await world.admin.revokeToken({ jti: "leaked" });
    await world.pass(8_000);
    await until(() => streams.every(({ closed }) => closed), "all are closed");
    await open();
  });
});

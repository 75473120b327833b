// A fleet beats while other connections flood the service: every beat is acknowledged in time, and no node becomes
// DISCONNECTED. FLOOD_NODES: how many nodes beat.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HeartbeatRequestSchema, HeartbeatResponseSchema, NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { createLucidClient, type LucidClient } from "../../src/client/index.js";
import type { Flood } from "../support/clients/flooder.js";
import { type Child, startChild } from "../support/fleet/child.js";
import { signAccess } from "../support/world/tokens.js";
import { until } from "../support/world/until.js";
import { commonSecret } from "../support/world/world.js";

const size = Number(process.env.FLOOD_NODES ?? 500);
const intervalMs = 1_000;
const ackMs = 500;
const perChannel = 50;

const directory = mkdtempSync(join(tmpdir(), "lucid-floods-"));
let child: Child;
let port: number;
let admin: LucidClient;
let adminToken: string;
let workerToken: string;
const fleet: BeatingNode[] = [];
const channels: grpc.Client[] = [];

interface BeatingNode {
  readonly nodeId: string;
  /** How long beats waited that were acknowledged since the last look, and how long the open ones have waited. */
  look(): number[];
  readonly ended: () => string | undefined;
  close(): void;
}

function startNode(channel: grpc.Client, nodeId: string, token: string, offsetMs: number): BeatingNode {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  type Request = MessageInitShape<typeof HeartbeatRequestSchema>;
  const stream = channel.makeBidiStreamRequest(
    "/lucid.node.v1.NodeService/Heartbeat",
    (request: Request) => Buffer.from(toBinary(HeartbeatRequestSchema, create(HeartbeatRequestSchema, request))),
    (bytes) => fromBinary(HeartbeatResponseSchema, bytes),
    metadata,
  );
  const sent = new Map<bigint, number>();
  let waits: number[] = [];
  let ended: string | undefined;
  let sequence = 0n;
  let timer: NodeJS.Timeout | undefined;
  const beat = () => {
    sent.set(++sequence, performance.now());
    stream.write({ message: { case: "beat", value: { sequence } } });
  };
  stream.on("data", ({ message }) => {
    if (message.case === "welcome") setTimeout(() => (timer = setInterval(beat, intervalMs)), offsetMs);
    if (message.case !== "ack") return;
    const at = sent.get(message.value.sequence);
    sent.delete(message.value.sequence);
    if (at !== undefined) waits.push(performance.now() - at);
  });
  stream.on("error", (error: Error) => (ended = error.message)).on("end", () => (ended ??= "end"));
  stream.write({ message: { case: "hello", value: { nodeId, bootId: "boot-1" } } });
  return {
    nodeId,
    look: () => {
      const now = performance.now();
      const all = [...waits, ...[...sent.values()].map((at) => now - at)];
      waits = [];
      return all;
    },
    ended: () => ended,
    close: () => {
      clearInterval(timer);
      stream.cancel();
    },
  };
}

beforeAll(async () => {
  const env = {
    ...{ HOST: "127.0.0.1", PORT: "0", METRICS_HOST: "127.0.0.1", METRICS_PORT: "0", DATA_DIR: directory },
    ...{ JWT_SECRET_KEY: commonSecret, NODE_HEARTBEAT_INTERVAL: String(intervalMs / 1_000), HEARTBEAT_GRACE: "5" },
  };
  child = startChild(new URL("fuzzed-server.ts", import.meta.url), { env });
  port = Number((await child.line((line) => line.startsWith("port "), 60_000)).slice(5));
  adminToken = await signAccess("admin");
  admin = createLucidClient({ baseUrl: `http://127.0.0.1:${port}`, accessToken: adminToken });
  for (let index = 0; index < size; index++) {
    if (index % perChannel === 0) {
      const options = { "grpc.use_local_subchannel_pool": 1 };
      channels.push(new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), options));
    }
    const { node } = await admin.nodes.createNode({ name: `node-${index}`, nodeType: NodeType.WORKER });
    const nodeId = node?.nodeId ?? "";
    workerToken = await signAccess("worker", nodeId);
    fleet.push(startNode(channels.at(-1) as grpc.Client, nodeId, workerToken, (index * intervalMs) / size));
  }
  await until(() => fleet.every((node) => node.look().length > 0), "all nodes beat", 30_000);
}, 180_000);

afterAll(async () => {
  for (const node of fleet) node.close();
  for (const channel of channels) channel.close();
  admin?.[Symbol.dispose]();
  await child?.kill();
  rmSync(directory, { recursive: true, force: true });
});

const base64 = (bytes: readonly number[]) => Buffer.from(bytes).toString("base64");
const service = (name: string) => `/lucid.node.v1.${name}`;
/** A message field of 250,000 bytes: HeartbeatRequest.hello, ReportHeartbeatRequest.beat. */
const inside = (tag: number) => base64([tag, 0x90, 0xa1, 0x0f]);
const limitMs = 3_000;

describe(`${size} nodes beat on`, () => {
  type Given = Omit<Flood, "port" | "limitMs" | "body"> & {
    readonly body?: Omit<NonNullable<Flood["body"]>, "type"> & { as?: "admin" | "worker" };
  };
  test.each<[string, Given]>([
    [
      "refreshes in single bytes",
      {
        kind: "pieces",
        path: service("AdminService/RefreshToken"),
        connections: 6,
        each: 1,
        body: { base64: base64([0x0a, 0xb0, 0xc3, 1, ...Array(100).fill(97)]), repeat: 150 },
      },
    ],
    [
      "compressed batches of millions of empty proofs",
      {
        kind: "elements",
        path: service("PoOTService/BatchValidatePoOT"),
        connections: 6,
        each: 50,
        body: { gzip: true, as: "admin", base64: base64([0x0a, 0]), repeat: 5_200_000 },
      },
    ],
    [
      "batches of 600,000 empty proofs",
      {
        kind: "elements",
        path: service("PoOTService/BatchValidatePoOT"),
        connections: 4,
        each: 50,
        body: { as: "admin", base64: base64([0x0a, 0]), repeat: 600_000 },
      },
    ],
    [
      "hellos of empty capabilities",
      {
        kind: "elements",
        path: service("NodeService/Heartbeat"),
        connections: 6,
        each: 50,
        body: { as: "worker", prefix: inside(0x0a), base64: base64([0x2a, 0]), repeat: 125_000 },
      },
    ],
    [
      "reports of empty results",
      {
        kind: "elements",
        path: service("NodeService/ReportHeartbeat"),
        connections: 6,
        each: 50,
        body: { as: "worker", base64: base64([0x2a, 0]), repeat: 125_000 },
      },
    ],
    [
      "watches of 120,000 empty ids",
      {
        kind: "elements",
        path: service("NodeService/WatchNodes"),
        connections: 6,
        each: 50,
        body: { as: "admin", base64: base64([0x12, 0]), repeat: 120_000 },
      },
    ],
    [
      "unknown fields",
      {
        kind: "elements",
        path: service("NodeService/GetNode"),
        connections: 6,
        each: 50,
        body: { as: "admin", base64: base64([0xfa, 7, 0]), repeat: 80_000 },
      },
    ],
    [
      "streams that are reset at once",
      { kind: "resets", path: service("NodeService/GetNode"), connections: 40, each: 900, rounds: 1_000 },
    ],
    [
      "streams that are reset on connections that stand",
      { kind: "resets", path: service("NodeService/GetNode"), connections: 20, each: 900, rounds: 1_000, late: true },
    ],
    [
      "bodies that do not come",
      { kind: "half open", path: service("AdminService/RefreshToken"), connections: 6, each: 600 },
    ],
    ["calls without a token", { kind: "strangers", path: service("NodeService/GetNode"), connections: 6, each: 400 }],
  ])(
    "while the port is flooded with %s",
    async (_what, { body, ...given }) => {
      const { as, ...sent } = body ?? {};
      const token = as === "admin" ? adminToken : as === "worker" ? workerToken : undefined;
      const flood: Flood = {
        ...given,
        ...{ port, limitMs },
        ...(body ? { body: { type: "application/grpc", ...(token ? { token } : {}), ...(sent as typeof body) } } : {}),
      };
      for (const node of fleet) node.look();
      // The flooder runs at a low priority: the test measures the service, not the scheduler of two cores.
      const flooder = startChild(new URL("../support/clients/flooder.ts", import.meta.url), {
        args: [JSON.stringify(flood)],
        under: ["nice", "-n", "10"],
      });
      await flooder.ended;
      const waits = fleet.flatMap((node) => node.look()).sort((left, right) => left - right);
      const at = (share: number) => Math.round(waits[Math.floor((waits.length - 1) * share)] ?? 0);
      console.log(
        `${_what}: ${waits.length} beats, acknowledged within ${at(0.5)} ms at the median, ${at(0.99)} at p99, ${at(1)} at most`,
      );
      expect(waits.length).toBeGreaterThan(size);
      expect(at(1)).toBeLessThan(ackMs);
      expect(fleet.filter((node) => node.ended() !== undefined).map((node) => node.ended())).toEqual([]);
      const { byConnectivity } = await admin.nodes.getFleetSummary({});
      expect(byConnectivity).toMatchObject({ CONNECTIVITY_CONNECTED: size });
    },
    60_000,
  );
});

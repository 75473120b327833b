// Measures the service beside references in the same run. Absolute times mean nothing on a shared machine: what counts is
// the ratio of server CPU time per request, from interleaved rounds.
//
// usage: node bench/run.mjs [--quick] [--only PROGRAM] [--out FILE]
//        node bench/run.mjs --rows   prints name, target and reference of each row, measuring nothing
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import * as stubs from "../dist/gen/lucid/node/v1/node_service_pb.js";
import { newJti, signToken } from "../dist/src/access/jwt.js";
import { createLucidClient } from "../dist/src/client/index.js";
import { pinClient, startServer } from "./child.mjs";
import { measureFlush, startMongo } from "./flush.mjs";
import { beatLoad, grpcHeaders, unaryLoad } from "./load.mjs";
import { measureOrderInserts, measureOrders, measureSettling } from "./payouts.mjs";
import { loopDelayMs, measureBatches, measureInserts, proofLoad } from "./poot.mjs";
import { measureWeek, writeWeek } from "./resources.mjs";
import { rows } from "./rows.mjs";

const { values: given } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rows: { type: "boolean", default: false },
    only: { type: "string" },
    out: { type: "string" },
  },
});
/** A part of a run replaces no whole one. */
const latest = given.only === undefined ? fileURLToPath(new URL("results/latest.json", import.meta.url)) : undefined;
const out = given.out ?? latest;
const size = given.quick
  ? {
      rounds: 3,
      roundMs: 300,
      warmUpMs: 300,
      streams: 200,
      few: 20,
      connections: 10,
      idle: 100,
      flush: 1000,
      calls: 40,
      payouts: 200,
    }
  : {
      rounds: 7,
      roundMs: 1500,
      warmUpMs: 2000,
      streams: 1000,
      few: 100,
      connections: 10,
      idle: 1000,
      flush: 10_000,
      calls: 200,
      payouts: 2000,
    };
/** The surrogate MongoDB settles a few payouts a second. */
const payoutsOnMongo = 100;

let directory;
const secret = randomBytes(32).toString("hex");
const running = [];
const results = [];

async function started(name, env) {
  const server = await startServer(name, env);
  running.push(server);
  return server;
}

async function stopAll() {
  await Promise.all(running.splice(0).map((server) => server.stop()));
}

/** Limits are on, but too high to be reached. Silence is not judged, since streams rest between rounds. */
const startLucid = (dataDir = mkdtempSync(join(directory, "data-")), env = {}) =>
  started("lucid", {
    ...env,
    DATA_DIR: dataDir,
    PORT: "0",
    METRICS_PORT: "0",
    JWT_SECRET_KEY: secret,
    RATE_LIMIT_PER_MINUTE: "10000000",
    RATE_LIMIT_ADMIN_PER_MINUTE: "10000000",
    RATE_LIMIT_POOT_PER_MINUTE: "10000000",
    RATE_LIMIT_PAYOUT_PER_MINUTE: "10000000",
    NODE_HEARTBEAT_INTERVAL: "1",
    HEARTBEAT_GRACE: "3600",
    HEARTBEAT_RATE_MAX: "1000000",
    STREAM_LIFETIME: "86400",
  });

function tokenFor(role, nodeId) {
  const issuedAt = new Date();
  const rings = { common: [{ kid: "1", secret }], privileged: undefined };
  const tokenType = nodeId === undefined ? "service_access" : "node_access";
  const expiresAt = new Date(issuedAt.getTime() + 3_600_000);
  return signToken(rings, { subject: nodeId ?? role, role, nodeId, tokenType, jti: newJti(), issuedAt, expiresAt });
}

/** Creates that many nodes and returns how each of them opens its stream. */
async function makeNodes({ port }, count) {
  using client = createLucidClient({ baseUrl: `http://127.0.0.1:${port}`, accessToken: await tokenFor("admin") });
  const nodes = [];
  const make = async () => {
    for (let place = nodes.push(undefined); place <= count; place = nodes.push(undefined)) {
      const { node } = await client.nodes.createNode({ name: `bench-${place}`, nodeType: stubs.NodeType.WORKER });
      nodes[place - 1] = await streamOf(node.nodeId);
    }
    nodes.pop();
  };
  await Promise.all(Array.from({ length: 32 }, make));
  return nodes;
}

async function streamOf(nodeId) {
  const hello = create(stubs.HeartbeatRequestSchema, {
    message: { case: "hello", value: { nodeId, bootId: "bench", agentVersion: "bench/1.0.0" } },
  });
  return {
    headers: grpcHeaders("/lucid.node.v1.NodeService/Heartbeat", await tokenFor("worker", nodeId)),
    hello: Buffer.from(toBinary(stubs.HeartbeatRequestSchema, hello)),
  };
}

const beatRest = Buffer.from(
  toBinary(
    stubs.BeatSchema,
    create(stubs.BeatSchema, {
      sentAt: timestampNow(),
      metrics: {
        cpuPercent: 12.5,
        memoryUsedBytes: 4_000_000_000n,
        memoryTotalBytes: 16_000_000_000n,
        diskUsedBytes: 100_000_000_000n,
        diskTotalBytes: 500_000_000_000n,
        networkRxBytes: 12_345_678n,
        networkTxBytes: 87_654_321n,
      },
    }),
  ),
);

/** Rounds A B C, A B C ...; returns microseconds of server CPU per request, a list for each cell. */
async function measure(cells) {
  const costs = Object.fromEntries(Object.keys(cells).map((name) => [name, []]));
  for (const { load } of Object.values(cells)) await load.run(size.warmUpMs);
  for (let round = 0; round < size.rounds; round++) {
    for (const [name, { server, load }] of Object.entries(cells)) {
      const before = server.cpuNs();
      const { done, errors } = await load.run(size.roundMs);
      if (errors > 0 || done === 0) throw new Error(`${name}: ${errors} of ${done + errors} requests failed`);
      costs[name].push((server.cpuNs() - before) / 1000 / done);
    }
  }
  for (const { load } of Object.values(cells)) load.close();
  return costs;
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

/** The text with sizes of this run in place of their names. */
const sized = (text) => text.replaceAll(/\{(\w+)\}/g, (_, name) => String(size[name]));

/**
 * `factor` times the reference's cost divided by ours, round by round: above 1, ours is cheaper. `by` names the maker of the
 * reference, where it varies.
 */
function report(row, ours, reference, by) {
  const { what, unit, target, reference: named } = rows[row];
  const ratio = median(ours.map((cost, round) => reference[round] / cost));
  results.push({
    row,
    what: sized(what),
    unit,
    ours: median(ours),
    reference: median(reference),
    named: by === undefined ? sized(named) : `${sized(named)} (${by})`,
    ratio,
    target,
    rounds: { ours, reference },
  });
}

/** A figure without a reference in the same run. */
const reportFigure = (row, figure, by) => report(row, [figure], [figure], by);

async function unary() {
  const lucid = await startLucid();
  using client = createLucidClient({ baseUrl: `http://127.0.0.1:${lucid.port}`, accessToken: await tokenFor("admin") });
  const { node } = await client.nodes.createNode({
    name: "bench",
    nodeType: stubs.NodeType.WORKER,
    labels: { zone: "a", rack: "7" },
    hardwareInfo: {
      cpu: { cores: 8, frequencyMhz: 3200, architecture: "x64", model: "Ryzen" },
      memory: { totalBytes: 16_000_000_000n, type: "DDR5" },
      storage: [{ totalBytes: 500_000_000_000n, type: "SSD", interface: "NVMe" }],
      network: [{ interface: "eth0", speedMbps: 1000, macAddress: "02:00:00:00:00:01" }],
    },
  });
  const request = { nodeId: node.nodeId };
  const answer = toBinary(stubs.GetNodeResponseSchema, await client.nodes.getNode(request));
  const reference = { NODE_MESSAGE: Buffer.from(answer).toString("base64") };
  const message = Buffer.from(toBinary(stubs.GetNodeRequestSchema, create(stubs.GetNodeRequestSchema, request)));
  const headers = grpcHeaders("/lucid.node.v1.NodeService/GetNode", await tokenFor("operator"));
  const cell = async (server) => {
    const load = await unaryLoad({ port: server.port, connections: 4, inFlight: 25, headers, message });
    return { server, load };
  };
  const cells = {
    lucid: await cell(lucid),
    connectNode: await cell(await started("connect-node", reference)),
    grpcJs: await cell(await started("grpc-js", reference)),
  };
  const costs = await measure(cells);
  await stopAll();
  report("getNodeSameLane", costs.lucid, costs.connectNode);
  report("getNodeConnect", costs.lucid, costs.connectNode);
  report("getNodeGrpcJs", costs.lucid, costs.grpcJs);
}

async function beats() {
  const cell = async (server, nodes, connections) => {
    const load = await beatLoad({ port: server.port, connections, nodes, rest: beatRest });
    return { server, load };
  };
  const [many, few] = [await startLucid(), await startLucid()];
  const nodes = await makeNodes(many, size.streams);
  const cells = {
    lucid: await cell(many, nodes, size.connections),
    connectNode: await cell(await started("connect-node"), nodes, size.connections),
    grpcJs: await cell(await started("grpc-js"), nodes, size.connections),
    lucidFew: await cell(few, await makeNodes(few, size.few), 1),
  };
  const costs = await measure(cells);
  await stopAll();
  report("beatConnect", costs.lucid, costs.connectNode);
  report("beatGrpcJs", costs.lucid, costs.grpcJs);
  report("beatGrowth", costs.lucid, costs.lucidFew);
}

/** Bytes added by a node with its own connection and stream, after its first beat, while idle. */
async function idleMemory(server, nodes) {
  const warm = await beatLoad({
    port: server.port,
    connections: size.few,
    nodes: nodes.slice(0, size.few),
    rest: beatRest,
  });
  await warm.run(size.roundMs);
  const before = await server.memory();
  const rest = nodes.slice(size.few);
  const load = await beatLoad({ port: server.port, connections: rest.length, nodes: rest, rest: beatRest });
  await load.run(0);
  const after = await server.memory();
  warm.close();
  load.close();
  await server.stop();
  running.splice(0);
  return {
    rss: (after.rss - before.rss) / rest.length / 1024,
    heap: (after.heapUsed - before.heapUsed) / rest.length / 1024,
  };
}

async function memory() {
  const lucid = await startLucid();
  const nodes = await makeNodes(lucid, size.few + size.idle);
  const ours = await idleMemory(lucid, nodes);
  const connect = await idleMemory(await started("connect-node"), nodes);
  report("rssConnect", [ours.rss], [connect.rss]);
  report("heapConnect", [ours.heap], [connect.heap]);
  const grpcJs = await idleMemory(await started("grpc-js"), nodes);
  report("rssGrpcJs", [ours.rss], [grpcJs.rss]);
  report("heapGrpcJs", [ours.heap], [grpcJs.heap]);
}

async function proofs() {
  const lucid = await startLucid();
  using client = createLucidClient({ baseUrl: `http://127.0.0.1:${lucid.port}`, accessToken: await tokenFor("admin") });
  const { node } = await client.nodes.createNode({ name: "bench", nodeType: stubs.NodeType.WORKER });
  const { nodeId } = node;
  await client.nodes.startNode({ nodeId });
  const token = await tokenFor("admin");
  const cell = (server) => ({ server, load: proofLoad({ port: server.port, token, nodeId, inFlight: 4 }) });
  await loopDelayMs(lucid.metricsPort);
  const costs = await measure({ lucid: cell(lucid), hashing: cell(await started("hashing")) });
  const lateMs = await loopDelayMs(lucid.metricsPort);
  report("proof", costs.lucid, costs.hashing);
  report("loopLate", [lateMs], [50]);
  const batches = await measureBatches({ poot: client.poot, nodeId, server: lucid, rounds: size.rounds });
  const inserts = await measureInserts({ dir: mkdtempSync(join(directory, "inserts-")), rounds: size.rounds });
  await stopAll();
  report("batchCpu", batches.cpu, inserts.cpu);
  report("batchTime", batches.time, inserts.time);
}

async function flush() {
  const costs = await measureFlush({ nodes: size.flush, rounds: size.rounds });
  if (costs === undefined) {
    notes.push("NOT MEASURED: the heartbeat flush, for want of a MongoDB (MONGODB_TEST_URL, mongod, or make tools).");
    return;
  }
  report("flush", costs.ours, costs.reference, costs.server);
}

async function payouts() {
  const sandbox = { SANDBOX_BLOCK_TIME: "10" };
  const aPayee = async (lucid) => {
    const client = createLucidClient({
      baseUrl: `http://127.0.0.1:${lucid.port}`,
      accessToken: await tokenFor("admin"),
    });
    const payoutAddress = "TYE3wALUCdopQkYWyMyU2HJFtNzMvaqxjm";
    const { node } = await client.nodes.createNode({ name: "bench", nodeType: stubs.NodeType.WORKER, payoutAddress });
    return { client, payouts: client.payouts, nodeId: node.nodeId, server: lucid };
  };
  const settle = async (lucid, count) => {
    using payee = disposing(await aPayee(lucid));
    return await measureSettling({ ...payee, count });
  };
  // A slow chain and no sends while orders are timed, so that the worker's share is small.
  const dataDir = mkdtempSync(join(directory, "data-"));
  const lucid = await startLucid(dataDir, { SANDBOX_BLOCK_TIME: "60000", ROLES: "api" });
  const ordering = await aPayee(lucid);
  const orders = await measureOrders({ ...ordering, rounds: size.rounds, calls: size.calls });
  ordering.client[Symbol.dispose]();
  await stopAll();
  const into = mkdtempSync(join(directory, "inserts-"));
  const inserts = await measureOrderInserts({ dataDir, into, rounds: size.rounds, calls: size.calls });
  report("payoutOne", orders.one, inserts.one);
  report("payoutBatch", orders.batch, inserts.batch);
  const embedded = await settle(await startLucid(undefined, sandbox), size.payouts);
  await stopAll();
  reportFigure("payoutsSettled", embedded.perSecond);
  reportFigure("payoutCpu", embedded.cpuUs);
  const mongo = await startMongo();
  if (mongo === undefined) {
    notes.push("NOT MEASURED: payouts on MongoDB, for want of one (MONGODB_TEST_URL, mongod, or make tools).");
    return;
  }
  try {
    const env = { ...sandbox, MONGODB_URL: mongo.url, MONGODB_DATABASE: `bench_${Date.now()}` };
    const found = await settle(await startLucid(undefined, env), payoutsOnMongo);
    reportFigure("payoutsSettledMongo", found.perSecond, mongo.name);
  } finally {
    await stopAll();
    await mongo.stop();
  }
}

const disposing = (payee) => ({ ...payee, [Symbol.dispose]: () => payee.client[Symbol.dispose]() });

async function week() {
  const dataDir = mkdtempSync(join(directory, "data-"));
  const clientOf = async ({ port }) =>
    createLucidClient({ baseUrl: `http://127.0.0.1:${port}`, accessToken: await tokenFor("admin") });
  const make = async () => {
    using client = await clientOf(await startLucid(dataDir));
    return (await client.nodes.createNode({ name: "bench", nodeType: stubs.NodeType.WORKER })).node.nodeId;
  };
  const nodeId = await make();
  await stopAll();
  await writeWeek(dataDir, nodeId);
  using client = await clientOf(await startLucid(dataDir));
  const waits = await measureWeek(client.nodes, nodeId, size);
  await stopAll();
  report("weekResources", waits.resources, waits.getNode);
  report("weekMetrics", waits.metrics, waits.getNode);
}

const notes = [
  "Server CPU per request (schedstat of all threads), server on core 0, client on core 1, interleaved rounds, medians.",
  "ratio = reference / ours, so above 1 ours is cheaper. References do nothing but decode, answer and encode.",
  "GetNode: the whole way with token, rate limit, validation, store, metrics; references answer the same bytes.",
  "Beats come as fast as acks return, each with metrics. Interval 1 s: every beat is validated, counted and acknowledged,",
  "but of one stream's beats at most two a second mark its node for the store, which is written once a second.",
  "1 MiB proofs: four at a time, each with a new nonce, verdicts durable and counted; the event loop's delay is the service's",
  "own figure over all its rounds. Batches: one node's, durable and counted, beside the insert alone in this process.",
  "7 days: what a caller waits for a node's week of one-minute samples on the embedded store, calls one after the other.",
  "Flush: CPU of the writing process alone, in batches of 1000, majority and journaled, each update under its epoch.",
];

const print = (cells) =>
  process.stdout.write(
    `${cells.map((cell, column) => (column === 0 || column === 2 ? cell.padEnd(38) : cell.padStart(10))).join(" ")}\n`,
  );

function printAll() {
  print(["what", "ours", " reference", "", "ratio", "target"]);
  for (const { what, unit, ours, reference, named, ratio, target } of results) {
    print([
      what,
      `${ours.toFixed(1)} ${unit}`,
      ` ${named}`,
      `${reference.toFixed(1)} ${unit}`,
      ratio.toFixed(2),
      ` ${target}`,
    ]);
  }
  process.stdout.write(`\n${notes.join("\n")}\n`);
}

/** In the order in which they run. */
const programs = { unary, beats, memory, proofs, week, payouts, flush };
const chosen = Object.keys(programs).filter((name) => given.only === undefined || given.only === name);
if (chosen.length === 0) throw new Error(`--only takes one of ${Object.keys(programs).join(", ")}`);
for (const [row, { program }] of Object.entries(rows)) {
  if (!(program in programs)) throw new Error(`No program ${program} measures the row ${row}`);
}
if (given.rows) {
  for (const { what, target, reference } of Object.values(rows)) {
    process.stdout.write(`${[sized(what), target, sized(reference)].join("\t")}\n`);
  }
  process.exit();
}

/** @throws Error when the program has not measured each of its rows */
async function run(program) {
  await programs[program]();
  const due = Object.keys(rows).filter((row) => rows[row].program === program);
  const needsMongo = ["flush", "payoutsSettledMongo"];
  const isNoted = (row) => needsMongo.includes(row) && notes.some((note) => note.startsWith("NOT MEASURED"));
  const missing = due.filter((row) => results.every((result) => result.row !== row) && !isNoted(row));
  if (missing.length > 0) throw new Error(`${program} has not measured ${missing.join(", ")}`);
}

const startedAt = performance.now();
try {
  directory = mkdtempSync(join(tmpdir(), "lucid-bench-"));
  if (!pinClient()) notes.push("NOT PINNED: taskset or a second core is missing, so figures are rough.");
  for (const program of chosen) await run(program);
} finally {
  await stopAll();
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
}
printAll();
const facts = { at: new Date().toISOString(), node: process.version, cpu: cpus()[0]?.model ?? "", quick: given.quick };
const seconds = Math.round((performance.now() - startedAt) / 1000);
const rounded = (_, value) => (typeof value === "number" ? Math.round(value * 100) / 100 : value);
const text = JSON.stringify({ ...facts, seconds, size, notes, results }, rounded, 2);
// Puts a list of figures on one line.
const lines = text.replaceAll(/\[[\d.,\s-]+\]/g, (list) =>
  list.replaceAll(/\s+/g, " ").replace("[ ", "[").replace(" ]", "]"),
);
if (out !== undefined) {
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(out, `${lines}\n`);
}
process.stdout.write(`\n${seconds} s${out === undefined ? "" : `; figures in ${out}`}\n`);

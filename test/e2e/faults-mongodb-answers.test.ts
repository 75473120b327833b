// What callers, nodes and probes see while MongoDB answers late, refuses, or its answers get lost: more lines of the
// table of faults in docs/operations.md.
import type { Document } from "mongodb";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { connectNode } from "../support/clients/node-stream.js";
import { hasMongoProgram, type MongoUnderTest, startMongo } from "../support/engines/mongo.js";
import {
  deadline,
  type FaultyWorld,
  measured,
  openFaultyWorld,
  openRelay,
  refusedAway,
  startBeats,
  startProbes,
  succeeds,
  timedUntil,
} from "../support/fleet/faults.js";
import { historyOf, nodeOf } from "../support/fleet/look.js";
import { aName, aNode, aPool } from "../support/world/builders.js";
import { until } from "../support/world/until.js";
import type { World } from "../support/world/world.js";

/** What one operation may take in these tests. */
const operationMs = 2_000;
/** A busy machine answers this much later. */
const lateMs = 2_000;
const returnMs = 30_000;

const relabel = ({ nodes }: World, nodeId: string, value: string) =>
  nodes.updateNode({ node: { nodeId, labels: { value } }, updateMask: { paths: ["labels"] } }, deadline);

/** How many updates the node's history holds, and the label that the node has now. */
async function standing(world: World, nodeId: string): Promise<{ updates: number; value: string | undefined }> {
  const history = await historyOf(world, nodeId);
  const { labels } = await nodeOf(world, nodeId);
  return { updates: history.filter(({ type }) => type === "UPDATED").length, value: labels.value };
}

describe.skipIf(!hasMongoProgram("the service and the answers of MongoDB"))("MongoDB", () => {
  let mongo: MongoUnderTest;
  let world: FaultyWorld;
  let database: string;
  let nodeId: string;
  beforeAll(async () => {
    mongo = await startMongo({ testCommands: true });
    database = mongo.freshDatabase();
    world = await openFaultyWorld({ mongo: { url: mongo.url, database, operationMs } });
    ({ nodeId } = await aNode(world.nodes));
  });
  afterAll(async () => {
    await world?.[Symbol.asyncDispose]();
    await mongo?.[Symbol.asyncDispose]();
  });
  afterEach(() => mongo.failCommand("off"));

  const fail = (failCommands: readonly string[], data: Document, times: number | "always" = 1) =>
    mongo.failCommand(times === "always" ? "alwaysOn" : { times }, { failCommands, ...data });
  /** Calls, each with the command that it sends and that the tests make fail. */
  const calls: readonly [name: string, command: string, call: () => PromiseLike<unknown>][] = [
    ["GetNode", "find", () => world.nodes.getNode({ nodeId }, deadline)],
    ["ListNodes", "find", () => world.nodes.listNodes({ limit: 5 }, deadline)],
    ["CreateNode", "insert", () => world.nodes.createNode({ name: aName(), nodeType: NodeType.WORKER }, deadline)],
    ["UpdateNode", "findAndModify", () => relabel(world, nodeId, aName())],
    ["CreatePool", "insert", () => world.pools.createPool({ name: aName("pool") }, deadline)],
  ];
  const read = () => world.nodes.getNode({ nodeId }, deadline);
  const everyCommand = ["find", "aggregate", "insert", "update", "findAndModify"];
  /** Waits until only the test's own calls write: a fault for one command must not meet another part's command. */
  const atRest = () =>
    until(
      async () => {
        const nodes = mongo.client().db(database).collection("nodes");
        return (await nodes.countDocuments({ unlogged_since: { $exists: true } })) === 0;
      },
      "all changes are in the log",
      returnMs,
    );

  describe("that is slow", () => {
    test("below the limit of an operation is waited for", async () => {
      await fail(everyCommand, { blockConnection: true, blockTimeMS: operationMs / 4 }, "always");
      const beganMs = performance.now();
      await read();
      await relabel(world, nodeId, "late");
      expect(performance.now() - beganMs).toBeGreaterThan(operationMs / 4);
      await mongo.failCommand("off");
      expect(await standing(world, nodeId)).toMatchObject({ value: "late" });
    });

    test("beyond it is UNAVAILABLE in time, and beats do not wait", { timeout: 60_000 }, async () => {
      const beaten = await aNode(world.nodes);
      const beats = startBeats([await connectNode(world, beaten.nodeId)]);
      await until(() => beats.count > 0, "a beat");
      beats.takeSlowestMs();
      const probes = startProbes(world);
      await fail([...everyCommand, "ping"], { blockConnection: true, blockTimeMS: 2 * operationMs }, "always");
      const slowestMs = Math.max(...(await Promise.all(calls.map(([, , call]) => refusedAway(call)))));
      expect(slowestMs).toBeLessThan(operationMs + lateMs);
      await until(() => probes.ready === false, "not ready", returnMs);
      const slowestBeatMs = beats.takeSlowestMs();
      expect(slowestBeatMs).toBeLessThan(operationMs);
      await mongo.failCommand("off");
      const readyMs = await timedUntil(() => probes.ready === true, "readiness", returnMs);
      const servedMs = await timedUntil(() => succeeds(read), "it serves", returnMs);
      await beats.stop();
      await probes.stop();
      expect(probes.liveFailures).toBe(0);
      measured(`MongoDB slower than an operation may take (${operationMs} ms here)`, {
        refusal_max_ms: slowestMs,
        beat_max_ms: slowestBeatMs,
        ready_again_ms: readyMs,
        served_again_ms: servedMs,
      });
    });
  });

  describe("that does what it is told and is not heard", () => {
    const unconfirmed = { writeConcernError: { code: 64, errmsg: "waiting for replication timed out" } };

    test("of a change that no majority confirmed: it is found, and stands once", async () => {
      const before = await standing(world, nodeId);
      await atRest();
      await fail(["findAndModify"], unconfirmed);
      await relabel(world, nodeId, "unconfirmed");
      expect(await standing(world, nodeId)).toEqual({ updates: before.updates + 1, value: "unconfirmed" });
    });

    test("of a new node: with a key it is found; without one it is UNAVAILABLE, and there or not", async () => {
      const request = { name: aName("once"), nodeType: NodeType.WORKER };
      await atRest();
      await fail(["insert"], unconfirmed);
      const { node } = await world.nodes.createNode({ ...request, idempotencyKey: aName("key") }, deadline);
      const unkeyed = { ...request, name: aName("once") };
      await atRest();
      await fail(["insert"], unconfirmed);
      await refusedAway(() => world.nodes.createNode(unkeyed, deadline));
      const { nodes } = await world.nodes.listNodes({ limit: 100 });
      expect(nodes.filter(({ name }) => name === request.name).map((found) => found.nodeId)).toEqual([node?.nodeId]);
      expect(nodes.filter(({ name }) => name === unkeyed.name)).toHaveLength(1);
    });

    test("of a change of a pool: it is found", async () => {
      const { poolId, version } = await aPool(world.pools);
      await atRest();
      await fail(["findAndModify"], unconfirmed);
      const request = { pool: { poolId, maxNodes: 7 }, updateMask: { paths: ["max_nodes"] }, expectedVersion: version };
      const { pool } = await world.pools.updatePool(request, deadline);
      expect(pool).toMatchObject({ maxNodes: 7, version: version + 1n });
    });

    test("because the connection broke before the answer: the change is found by its mark, and stands once", async () => {
      await using alone = await startMongo({ standalone: true });
      await using relay = await openRelay(Number(new URL(alone.url).port));
      const url = `mongodb://127.0.0.1:${relay.port}/?directConnection=true&retryWrites=false`;
      await using beyond = await openFaultyWorld({ mongo: { url, database: alone.freshDatabase() } });
      const node = await aNode(beyond.nodes);
      const beganMs = performance.now();
      // No other write holds this label.
      relay.eatAnswerTo("unheard-of");
      const { node: changed } = await relabel(beyond, node.nodeId, "unheard-of");
      const tookMs = performance.now() - beganMs;
      expect(relay.eaten).toBe(1);
      expect(changed?.version).toBe(node.version + 1n);
      expect(await standing(beyond, node.nodeId)).toEqual({ updates: 1, value: "unheard-of" });
      measured("an answer lost on the way", { change_ms: tookMs });
    });
  });

  describe("that closes connections in mid-command", () => {
    test("once: every call is served", async () => {
      for (const [, command, call] of calls) {
        await fail([command], { closeConnection: true });
        await call();
      }
    });

    test("again and again: UNAVAILABLE at once, and served after", async () => {
      await fail(everyCommand, { closeConnection: true }, "always");
      const took: number[] = [];
      for (const [, , call] of calls) took.push(await refusedAway(call));
      await mongo.failCommand("off");
      const servedMs = await timedUntil(() => succeeds(() => relabel(world, nodeId, "again")), "it serves", returnMs);
      measured("MongoDB closes connections", { refusal_max_ms: Math.max(...took), served_again_ms: servedMs });
    });
  });

  /** NotWritablePrimary, InterruptedAtShutdown, ShutdownInProgress, PrimarySteppedDown. */
  test.each([10107, 11600, 91, 189])(
    "whose primary steps down (%i): once it is served; for as long as none follows it is UNAVAILABLE",
    { timeout: 60_000 },
    async (errorCode) => {
      const beaten = await aNode(world.nodes);
      const stream = await connectNode(world, beaten.nodeId);
      const beats = startBeats([stream]);
      const onceMs: number[] = [];
      for (const command of ["find", "findAndModify"]) {
        await fail([command], { errorCode });
        const beganMs = performance.now();
        await relabel(world, nodeId, aName());
        onceMs.push(performance.now() - beganMs);
      }
      await fail(everyCommand, { errorCode }, "always");
      const took = await Promise.all(calls.map(([, , call]) => refusedAway(call)));
      const before = beats.count;
      await until(() => beats.count > before + 1, "beats are acknowledged", returnMs);
      await mongo.failCommand("off");
      const servedMs = await timedUntil(() => succeeds(() => relabel(world, nodeId, "led")), "it serves", returnMs);
      await beats.stop();
      expect(stream.end).toBeUndefined();
      measured(`MongoDB steps down (${errorCode})`, {
        served_through_one_ms: Math.max(...onceMs),
        refusal_max_ms: Math.max(...took),
        served_again_ms: servedMs,
      });
    },
  );

  test("that refuses the password: not ready, UNAVAILABLE, and a log that says so without it", async () => {
    await using guarded = await startMongo({ auth: { user: "lucid", password: "right-0123456789" } });
    const wrong = "wrong-9876543210";
    const url = guarded.url.replace("right-0123456789", wrong);
    const beganMs = performance.now();
    await using refused = await openFaultyWorld({ mongo: { url, database: guarded.freshDatabase() } });
    const portMs = performance.now() - beganMs;
    const probes = startProbes(refused);
    await until(() => probes.ready !== undefined, "a probe is answered");
    expect([probes.live, probes.ready]).toEqual([true, false]);
    await refusedAway(() => refused.nodes.listNodes({}, deadline));
    const reasons = refused.lines.filter((line) => /MongoDB at 127\.0\.0\.1:\d+ does not answer: .*uth/.test(line));
    expect(reasons.length).toBeGreaterThan(0);
    expect(refused.lines.join("\n")).not.toContain(wrong);

    const admin = guarded.client().db("admin");
    await admin.command({ updateUser: "lucid", pwd: wrong });
    const readyMs = await timedUntil(() => probes.ready === true, "readiness", returnMs);
    await aNode(refused.nodes);
    await probes.stop();
    measured("MongoDB refuses the password, until it is put right there", { port_ms: portMs, ready_ms: readyMs });
  });
});

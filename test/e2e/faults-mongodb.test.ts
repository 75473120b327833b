// What callers, nodes and probes see while MongoDB is away, dies, or comes back: the lines of the table of faults in
// docs/operations.md. FAULT_SECONDS: how long MongoDB stays away under load.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { connectNode, openNodeStream } from "../support/clients/node-stream.js";
import { hasMongoProgram, type MongoUnderTest, startMongo } from "../support/engines/mongo.js";
import {
  deadline,
  expectAway,
  type FaultyWorld,
  faultMs,
  measured,
  openFaultyWorld,
  refusedAway,
  startBeats,
  startCalls,
  startProbes,
  timedUntil,
} from "../support/fleet/faults.js";
import { connectionsOf, lastHeartbeatOf, nodeOf, untilConnectivity } from "../support/fleet/look.js";
import { type Watcher, watchNodes } from "../support/fleet/watcher.js";
import { aName, aNode } from "../support/world/builders.js";
import { toRefusal } from "../support/world/refusal.js";
import { inParallel, until } from "../support/world/until.js";
import type { World } from "../support/world/world.js";

const intervalMs = 1_000;
const graceMs = 4_000;
/** Silence after which a judge finds a node DISCONNECTED. */
const silentMs = 1.1 * intervalMs + graceMs;
const settings = { NODE_HEARTBEAT_INTERVAL: "1", HEARTBEAT_GRACE: "4" };
const beating = 20;
const kills = 3;
const writesPerKill = 10;
/** The deadline that the service's own client gives a call. */
const clientsOwn = { timeoutMs: 10_000 } as const;
/** A server of the tests works again within seconds; on a busy machine it may need far longer. */
const returnMs = 30_000;

describe.skipIf(!hasMongoProgram("the service under faults of MongoDB"))("MongoDB", () => {
  let mongo: MongoUnderTest;
  beforeAll(async () => {
    mongo = await startMongo({ durable: true });
  });
  afterAll(() => mongo?.[Symbol.asyncDispose]());
  afterEach(async () => {
    if (mongo.pid === undefined) await mongo.restart();
  });

  const open = (): Promise<FaultyWorld> =>
    openFaultyWorld({ mongo: { url: mongo.url, database: mongo.freshDatabase() }, settings });
  const linesOf = (world: FaultyWorld, pattern: RegExp) => world.lines.filter((line) => pattern.test(line));

  test("away at start: the port answers, nothing is served, and all is once it comes", {
    timeout: 90_000,
  }, async () => {
    await mongo.kill();
    const beganMs = performance.now();
    await using world = await open();
    const portMs = performance.now() - beganMs;
    const probes = startProbes(world);
    await until(() => probes.ready !== undefined, "a probe is answered");
    expect([probes.live, probes.ready]).toEqual([true, false]);
    await refusedAway(() => world.nodes.listNodes({}, deadline));
    await refusedAway(() => world.nodes.createNode({ name: aName(), nodeType: NodeType.WORKER }, deadline));
    expectAway(
      toRefusal(
        await openNodeStream(world.as(await world.nodeToken("node_any")).nodes, { nodeId: "node_any" }).ended(),
      ),
    );

    await mongo.restart();
    const readyMs = await timedUntil(() => probes.ready === true, "readiness", returnMs);
    const { nodeId } = await aNode(world.nodes);
    await (await connectNode(world, nodeId)).beat();
    await probes.stop();
    expect(probes.liveFailures).toBe(0);
    expect(probes.readiness).toEqual([false, true]);
    expect(linesOf(world, /MongoDB at 127\.0\.0\.1:\d+ does not answer: .*ECONNREFUSED.*trying again/)).toHaveLength(1);
    expect(linesOf(world, /MongoDB at 127\.0\.0\.1:\d+ answers/)).toHaveLength(1);
    measured("MongoDB away at start", { port_ms: portMs, ready_again_ms: readyMs });
  });

  test(`away for ${faultMs / 1000} s under load: beats go on, all else waits`, {
    timeout: 120_000 + 3 * faultMs,
  }, async () => {
    await using world = await open();
    const nodes = await inParallel(Array.from({ length: beating }), 5, () => aNode(world.nodes));
    const streams = await inParallel(nodes, 5, ({ nodeId }) => connectNode(world, nodeId));
    const silent = await aNode(world.nodes);
    const silentStream = await connectNode(world, silent.nodeId);
    await silentStream.beat();
    const spare = await aNode(world.nodes);
    const beats = startBeats(streams);
    const probes = startProbes(world);
    const calls = startCalls(await callersOf(world, spare.nodeId));
    const unary = await aNode(world.nodes);
    const reports = startCalls({ ReportHeartbeat: await reporterOf(world, unary.nodeId) });
    const allServedSince = (sinceMs: number) => calls.allServedSince(sinceMs) && reports.allServedSince(sinceMs);
    await until(() => probes.ready === true && allServedSince(0), "all is served", returnMs);
    using watcher = watchNodes(world, { nodeIds: [spare.nodeId] });
    await watcher.untilChanges(1);

    const downMs = performance.now();
    const beatsBefore = beats.count;
    beats.takeSlowestMs();
    await mongo.kill();
    silentStream.cancel();
    const unreadyMs = await timedUntil(() => probes.ready === false, "not ready", returnMs);
    await until(() => performance.now() - downMs >= faultMs, "the fault has lasted", 2 * faultMs);
    const beatsIn = beats.count - beatsBefore;
    const slowestBeatMs = beats.takeSlowestMs();
    const during = [...calls.all, ...reports.all].filter(
      ({ beganMs, tookMs }) => beganMs > downMs + 100 && beganMs + tookMs < downMs + faultMs,
    );
    await mongo.restart();
    const upMs = performance.now();
    const upAt = new Date();
    const readyMs = await timedUntil(() => probes.ready === true, "readiness", returnMs);
    await until(() => allServedSince(upMs), "all is served again", returnMs);
    const servedMs = performance.now() - upMs;
    await calls.stop();
    const versionsHeard = await heardToTheEnd(world, spare.nodeId, watcher);
    expect(versionsHeard).toEqual(versionsHeard.map((_, place) => (versionsHeard[0] ?? 0) + place));
    // A node that fell silent during the outage gets its full time, counted from the return.
    const judged = untilConnectivity(world, silent.nodeId, "DISCONNECTED", returnMs + silentMs).then(
      () => performance.now() - upMs,
    );

    // Beats reach the store again, and go on until a judge would long have found the nodes silent.
    const writtenBeyond = async (at: number) => {
      const seen = await inParallel(nodes, 5, ({ nodeId }) => lastHeartbeatOf(world, nodeId));
      return seen.every((last) => last !== undefined && last.getTime() > at);
    };
    const flushedMs = await timedUntil(() => writtenBeyond(upAt.getTime()), "beats are in the store", returnMs);
    await until(() => writtenBeyond(upAt.getTime() + silentMs), "a judge has had its turn", returnMs);
    await Promise.all([beats.stop(), reports.stop(), probes.stop()]);
    const judgedMs = await judged;
    expect(judgedMs).toBeGreaterThan(intervalMs + graceMs);

    for (const name of ["GetNode", "ListNodes", "CreateNode", "UpdateNode", "ReportHeartbeat"]) {
      const refused = during.filter((call) => call.name === name);
      expect(refused.length, name).toBeGreaterThan(0);
      for (const { refusal } of refused) expectAway(refusal);
    }
    const opened = during.filter(({ name }) => name === "Heartbeat");
    expect(opened.length).toBeGreaterThan(0);
    // A node that keeps trying also meets the limit of sessions.
    for (const { refusal } of opened) if (refusal?.reason !== "4291") expectAway(refusal);
    // No caller waits beyond its deadline, not even around the kill and the return.
    const refusals = [...calls.all, ...reports.all].flatMap(({ refusal }) => refusal ?? []);
    expect(refusals.filter(({ reason }) => reason !== "5031" && reason !== "4291")).toEqual([]);
    expect(streams.map(({ end }) => end)).toEqual(streams.map(() => undefined));
    expect(beatsIn).toBeGreaterThan((beating * faultMs) / 1000);
    expect(slowestBeatMs).toBeLessThan(3_000);
    expect([probes.liveFailures, probes.readiness]).toEqual([0, [true, false, true]]);
    for (const { nodeId } of [...nodes, unary])
      expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
    expect(linesOf(world, /Heartbeats cannot be written/)).toHaveLength(1);
    measured(`MongoDB away for ${faultMs / 1000} s`, {
      unready_ms: unreadyMs,
      refusal_max_ms: Math.max(...during.map(({ tookMs }) => tookMs)),
      beats_in_the_fault: beatsIn,
      beat_max_ms: slowestBeatMs,
      probe_max_ms: probes.slowestMs,
      ready_again_ms: readyMs,
      served_again_ms: servedMs,
      flushed_ms: flushedMs,
      silent_node_disconnected_ms: judgedMs,
    });
  });

  test("stands still: calls are UNAVAILABLE in time, beats go on, and a stop is not held up", {
    timeout: 90_000,
  }, async () => {
    await using world = await open();
    const [beaten, spare] = [await aNode(world.nodes), await aNode(world.nodes)];
    const stream = await connectNode(world, beaten.nodeId);
    const beats = startBeats([stream]);
    const calls = startCalls({
      GetNode: () => world.nodes.getNode({ nodeId: spare.nodeId }, clientsOwn),
      CreateNode: () => world.nodes.createNode({ name: aName(), nodeType: NodeType.WORKER }, clientsOwn),
      UpdateNode: () => world.nodes.updateNode(relabelled(spare.nodeId, aName()), clientsOwn),
    });
    const probes = startProbes(world);
    await until(() => calls.allServedSince(0) && beats.count > 0, "all is served", returnMs);
    beats.takeSlowestMs();
    const { pid = 0 } = mongo;
    expect(pid).toBeGreaterThan(0);
    process.kill(pid, "SIGSTOP");
    try {
      const refused = (name: string) => calls.all.filter((call) => call.name === name && call.refusal !== undefined);
      const names = ["GetNode", "CreateNode", "UpdateNode"];
      await until(() => names.every((name) => refused(name).length > 1), "each is refused twice", 2 * returnMs);
      await until(() => probes.ready === false, "not ready", returnMs);
    } finally {
      process.kill(pid, "SIGCONT");
    }
    const upMs = performance.now();
    const slowestBeatMs = beats.takeSlowestMs();
    const readyMs = await timedUntil(() => probes.ready === true, "readiness", returnMs);
    await until(() => calls.allServedSince(upMs), "all is served again", returnMs);
    const servedMs = performance.now() - upMs;
    await Promise.all([calls.stop(), beats.stop(), probes.stop()]);
    const refusals = calls.all.filter(({ refusal }) => refusal !== undefined);
    for (const { refusal } of refusals) expectAway(refusal);
    expect([stream.end, probes.liveFailures]).toEqual([undefined, 0]);
    expect(slowestBeatMs).toBeLessThan(3_000);

    process.kill(pid, "SIGSTOP");
    const beganMs = performance.now();
    await world.server.stop().finally(() => process.kill(pid, "SIGCONT"));
    const stopMs = performance.now() - beganMs;
    expect(stopMs).toBeLessThan(20_000);
    measured("MongoDB stands still", {
      refusal_max_ms: Math.max(...refusals.map(({ tookMs }) => tookMs)),
      beat_max_ms: slowestBeatMs,
      ready_again_ms: readyMs,
      served_again_ms: servedMs,
      stop_ms: stopMs,
    });
  });

  test("killed and restarted under writers: what was acknowledged is there", { timeout: 120_000 }, async () => {
    await using world = await open();
    const counted = await aNode(world.nodes);
    const [names, versions] = [new Set<string>(), new Set<bigint>()];
    let tries = 0;
    const calls = startCalls({
      CreateNode: async () => {
        const name = aName("written");
        await create(world, name);
        names.add(name);
      },
      UpdateNode: async () => {
        const { node } = await relabel(world, counted.nodeId, String(tries++));
        if (node !== undefined) versions.add(node.version);
      },
    });
    for (let kill = 1; kill <= kills; kill++) {
      const enough = () => Math.min(names.size, versions.size) >= kill * writesPerKill;
      await until(enough, "writes are acknowledged", returnMs);
      await mongo.kill();
      await mongo.restart();
    }
    const sinceMs = performance.now();
    const servedMs = await timedUntil(() => calls.allServedSince(sinceMs), "writes are acknowledged", returnMs);
    await calls.stop();
    for (const { refusal } of calls.all) if (refusal !== undefined) expectAway(refusal);

    const found = new Set(await allNames(world));
    expect([...names].filter((name) => !found.has(name))).toEqual([]);
    // The history holds each version once, and every version that was acknowledged.
    const history = await allVersions(world, counted.nodeId);
    expect(history).toEqual(history.map((_, place) => BigInt(place + 1)));
    expect([...versions].filter((version) => !history.includes(version))).toEqual([]);
    measured(`MongoDB killed ${kills} times`, { acknowledged: names.size + versions.size, served_again_ms: servedMs });
  });
});

const create = ({ nodes }: World, name: string) => nodes.createNode({ name, nodeType: NodeType.WORKER }, deadline);

const relabelled = (nodeId: string, value: string) => ({
  node: { nodeId, labels: { value } },
  updateMask: { paths: ["labels"] },
});

const relabel = ({ nodes }: World, nodeId: string, value: string) =>
  nodes.updateNode(relabelled(nodeId, value), deadline);

/** One caller for each way to reach the store; the callers share the node. */
async function callersOf(world: World, nodeId: string): Promise<Record<string, () => Promise<unknown>>> {
  const own = world.as(await world.nodeToken(nodeId));
  let labels = 0;
  return {
    GetNode: () => world.nodes.getNode({ nodeId }, deadline),
    ListNodes: () => world.nodes.listNodes({ limit: 5 }, deadline),
    CreateNode: () => create(world, aName()),
    UpdateNode: () => relabel(world, nodeId, String(labels++)),
    Heartbeat: async () => {
      const stream = openNodeStream(own.nodes, { nodeId });
      await stream.hello().finally(stream.cancel);
    },
  };
}

/** A node that has no stream, and beats by unary calls. */
async function reporterOf(world: World, nodeId: string): Promise<() => Promise<void>> {
  const { nodes } = world.as(await world.nodeToken(nodeId));
  let session: { sessionEpoch?: bigint } = {};
  let sequence = 0n;
  return async () => {
    const report = { nodeId, bootId: "boot-1", ...session, beat: { sequence: ++sequence } };
    const { sessionEpoch } = await nodes.reportHeartbeat(report, deadline);
    session = { sessionEpoch };
  };
}

/** The versions of a node that a watcher has heard. If the outage ended its watch, the watch resumes there. */
async function heardToTheEnd(world: World, nodeId: string, watcher: Watcher): Promise<number[]> {
  const heard = () => watcher.changes.map(versionOf);
  const last = Number((await nodeOf(world, nodeId)).version);
  const ended = watcher.ended(returnMs).then(expectEndedByOutage);
  await Promise.race([ended, until(() => heard().at(-1) === last, "the watcher hears the last change", returnMs)]);
  if (heard().at(-1) === last) return heard();
  using resumed = watchNodes(world, { nodeIds: [nodeId], resumeToken: watcher.token });
  await until(() => versionOf(resumed.changes.at(-1)) === last, "the resumed watcher hears the last change", returnMs);
  return [...heard(), ...resumed.changes.map(versionOf)];
}

const expectEndedByOutage = (error: unknown): void => expectAway(error === undefined ? undefined : toRefusal(error));

const versionOf = (change = ""): number => Number(change.split(" ")[1]);

async function allNames({ nodes }: World): Promise<string[]> {
  const names: string[] = [];
  let position: ReturnType<typeof nextOf> = { case: undefined };
  do {
    const page = await nodes.listNodes({ limit: 100, position });
    names.push(...page.nodes.map(({ name }) => name));
    position = nextOf(page.pagination?.nextPageToken);
  } while (position.case !== undefined);
  return names;
}

/** The versions in a node's history, oldest first. */
async function allVersions({ nodes }: World, nodeId: string): Promise<bigint[]> {
  const versions: bigint[] = [];
  let position: ReturnType<typeof nextOf> = { case: undefined };
  do {
    const page = await nodes.listNodeEvents({ nodeId, limit: 100, position });
    versions.push(...page.events.map(({ version }) => version));
    position = nextOf(page.pagination?.nextPageToken);
  } while (position.case !== undefined);
  return versions.reverse();
}

const nextOf = (token = ""): { case: "pageToken"; value: string } | { case: undefined } =>
  token === "" ? { case: undefined } : { case: "pageToken", value: token };

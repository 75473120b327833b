// Several replicas over one store: which one takes over, which one judges a node, and which one acts for all.
import { describe, expect, test } from "vitest";
import { CommandStatus } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { nodesCollection } from "../../src/nodes/repository.js";
import { replicasCollection } from "../../src/replicas/roster.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { anIdentity } from "../support/clients/enroll.js";
import { connectNode, type NodeStream } from "../support/clients/node-stream.js";
import { connectionsOf, connectivityOf, historyOf, nodeOf, statusOf, untilStatus } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { expectRefusal, toRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import { type ClockedFleet, openClockedFleet, openClockedWorld, type World } from "../support/world/world.js";

/** Interval and grace of the default settings; the interval includes the 10 % by which it may be longer. */
const silentMs = 63_000;
const deadMs = 10_000;
const leaseMs = 10_000;
const lostMs = 300_000;

function pairOf({ replicas }: ClockedFleet): [World, World] {
  const [one, two] = replicas;
  if (one === undefined || two === undefined) throw new Error("a fleet of two was asked for");
  return [one, two];
}

/** Lets the time pass while each stream beats every 20 s. */
async function passBeating(fleet: ClockedFleet, streams: readonly Pick<NodeStream, "beat">[], ms: number) {
  for (let gone = 0; gone < ms; gone += 20_000) {
    for (const stream of streams) await stream.beat();
    await fleet.pass(20_000);
  }
}

describe("a session that moves to another replica", () => {
  test("ends the older stream there: OK for the same agent, ABORTED 5013 for another one", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(one.nodes);
    const first = await connectNode(one, nodeId, { bootId: "a" });
    const second = await connectNode(two, nodeId, { bootId: "a" });
    expect(await first.ended()).toBeUndefined();
    expect(second.welcome.sessionEpoch).toBe(first.welcome.sessionEpoch + 1n);
    const third = await connectNode(one, nodeId, { bootId: "b" });
    expect(toRefusal(await second.ended())).toMatchObject({ code: "Aborted", reason: "5013" });
    await third.beat();
    await fleet.pass(2_000);
    expect(third.end).toBeUndefined();
    expect(await connectionsOf(one, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("is noticed by the next beat when no replica tells of it", async () => {
    await using fleet = await openClockedFleet(2, { coordination: deaf() });
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(one.nodes);
    const older = await connectNode(one, nodeId, { bootId: "a" });
    await fleet.pass(20_000);
    const newer = await connectNode(two, nodeId, { bootId: "b" });
    await older.beat();
    await fleet.pass(2_000);
    expect(toRefusal(await older.ended())).toMatchObject({ code: "Aborted", reason: "5013" });
    await newer.beat();
  });

  test("counts on all replicas: the fourth in 8 s waits, and two machines that share an identity are found", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(one.nodes);
    await one.nodes.startNode({ nodeId });
    await connectNode(one, nodeId, { bootId: "left" });
    await connectNode(two, nodeId, { bootId: "right" });
    await connectNode(one, nodeId, { bootId: "left" });
    await expectRefusal(connectNode(two, nodeId, { bootId: "right" }), "ResourceExhausted 4291");
    await fleet.pass(4_000);
    for (let turn = 0; turn < 6; turn++) {
      await fleet.pass(4_000);
      await connectNode(turn % 2 === 0 ? two : one, nodeId, { bootId: turn % 2 === 0 ? "right" : "left" });
    }
    expect(await nodeOf(one, nodeId)).toMatchObject({ statusReason: "duplicate identity" });
    expect(await statusOf(two, nodeId)).toBe("ERROR");
    const raised = (await historyOf(one, nodeId)).filter(({ reason }) => reason === "duplicate identity");
    expect(raised).toHaveLength(1);
  });
});

describe("what is done on one replica", () => {
  test.each([["woken by a message"], ["told by the log alone"]])("reaches a node on another one, %s", async (how) => {
    const told = how === "woken by a message" ? {} : { coordination: deaf() };
    await using fleet = await openClockedFleet(2, told);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(one.nodes);
    const stream = await connectNode(one, nodeId);
    await two.nodes.startNode({ nodeId });
    await fleet.pass(3_000);
    await until(() => startOf(stream) !== undefined, "the node is told to start");
    stream.result(startOf(stream) ?? "", CommandStatus.OK);
    await untilStatus(two, nodeId, "ACTIVE");
    const reset = await connectNode(one, (await aNode(one.nodes)).nodeId);
    const { nodeId: resetId } = (await one.nodes.listNodes({ orderBy: "created_at desc", limit: 1 })).nodes[0] ?? {};
    await two.nodes.resetEnrollment({ nodeId: resetId ?? "" });
    await fleet.pass(5_000);
    expect(toRefusal(await reset.ended())).toMatchObject({ code: "Unauthenticated", reason: "4011" });
    expect(await connectivityOf(two, resetId ?? "")).toBe("DISCONNECTED");
    await two.nodes.banNode({ nodeId, reason: "test" });
    await fleet.pass(5_000);
    expect(toRefusal(await stream.ended())).toMatchObject({ code: "PermissionDenied", reason: "4031" });
  });
});

describe("who judges whom", () => {
  test("each replica its own streams: nodes that beat on the other one are left alone", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const ids = [await aNode(one.nodes), await aNode(one.nodes)].map(({ nodeId }) => nodeId);
    const streams = [await connectNode(one, ids[0] ?? ""), await connectNode(two, ids[1] ?? "")];
    await passBeating(fleet, streams, 2 * lostMs);
    for (const id of ids) expect(await connectionsOf(one, id)).toEqual(["CONNECTED connected"]);
  });

  test("the nodes of a replica that died have a restart's grace, then DISCONNECTED once and LOST once", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(two.nodes);
    await (await connectNode(one, nodeId)).beat();
    await fleet.pass(2_000);
    await fleet.end(0, "crash");
    await fleet.pass(leaseMs + silentMs - 5_000);
    expect(await connectivityOf(two, nodeId)).toBe("CONNECTED");
    await fleet.pass(deadMs + 10_000);
    expect(await connectivityOf(two, nodeId)).toBe("DISCONNECTED");
    await fleet.pass(lostMs + 20_000);
    expect(await connectionsOf(two, nodeId)).toEqual([
      "CONNECTED connected",
      "DISCONNECTED silent",
      "LOST silent for too long",
    ]);
    const records = await two.store.collection(replicasCollection);
    expect((await records.page({}, { index: "_id_", limit: 10 })).items).toHaveLength(1);
  });

  test.each(["stop", "crash"] as const)("nodes that come back elsewhere after a %s were never gone", async (how) => {
    await using fleet = await openClockedFleet(3);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(two.nodes);
    await (await connectNode(one, nodeId, { bootId: "a" })).beat();
    await fleet.pass(2_000);
    await fleet.end(0, how);
    await fleet.pass(25_000);
    const again = await connectNode(two, nodeId, { bootId: "a" });
    await passBeating(fleet, [again], lostMs);
    expect(await connectionsOf(two, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("a replica that stood still and comes back has its nodes back, and gives up none of them", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(two.nodes);
    const stream = await connectNode(two, nodeId);
    await stream.beat();
    await fleet.pass(2_000);
    // Without its store a replica looks frozen to the others: it renews no record and flushes no beats.
    two.storeAway(true);
    await fleet.pass(30_000);
    two.storeAway(false);
    await passBeating(fleet, [stream], lostMs);
    expect(stream.end).toBeUndefined();
    expect(await connectionsOf(one, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("a node that was given up while its replica stood still is CONNECTED by its next beat", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(one.nodes);
    const stream = await connectNode(two, nodeId);
    await stream.beat();
    await fleet.pass(2_000);
    two.storeAway(true);
    await fleet.pass(deadMs + silentMs + 10_000);
    expect(await connectivityOf(one, nodeId)).toBe("DISCONNECTED");
    two.storeAway(false);
    await fleet.pass(3_000);
    await stream.beat();
    await fleet.pass(2_000);
    expect(await connectionsOf(one, nodeId)).toEqual([
      "CONNECTED connected",
      "DISCONNECTED silent",
      "CONNECTED heard again",
    ]);
  });
});

describe("a session whose opening was never answered", () => {
  test("is judged like any other: a node that died with it is found DISCONNECTED", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId, { bootId: "a" });
    await stream.beat();
    await world.pass(2_000);
    const { replicaId } = await world.admin.getServiceInfo({});
    const nodes = await world.store.collection<NodeDocument>(nodesCollection);
    world.beforeStore(async (operation) => {
      if (operation !== "findOneAndUpdate") return;
      world.beforeStore(undefined);
      const $set = { session_boot_id: "a", session_replica: replicaId };
      await nodes.findOneAndUpdate({ _id: nodeId }, { $inc: { session_epoch: 1 }, $set });
      throw new StoreUnavailableError("the connection broke");
    });
    await expectRefusal(connectNode(world, nodeId, { bootId: "a" }), "Unavailable 5031");
    await world.pass(2_000);
    expect(await stream.ended()).toBeUndefined();
    await world.pass(silentMs + 2_000);
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected", "DISCONNECTED silent"]);
  });
});

describe("a node that reports by unary calls", () => {
  const reporter = async (world: World, nodeId: string) => {
    const token = await world.nodeToken(nodeId);
    let sequence = 0n;
    let sessionEpoch: bigint | undefined;
    return async (by: World) => {
      sequence++;
      const beat = { nodeId, bootId: "a", beat: { sequence }, ...(sessionEpoch === undefined ? {} : { sessionEpoch }) };
      ({ sessionEpoch } = await by.as(token).nodes.reportHeartbeat(beat));
    };
  };

  test("to one replica and the other in turn is heard, and silent once it is", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(one.nodes);
    const report = await reporter(one, nodeId);
    for (let turn = 0; turn < 12; turn++) {
      await report(turn % 2 === 0 ? one : two);
      await fleet.pass(30_000);
    }
    expect(await connectionsOf(one, nodeId)).toEqual(["CONNECTED connected"]);
    await fleet.pass(silentMs);
    expect(await connectionsOf(one, nodeId)).toEqual(["CONNECTED connected", "DISCONNECTED silent"]);
    await report(two);
    await fleet.pass(2_000);
    expect(await connectionsOf(one, nodeId)).toEqual([
      "CONNECTED connected",
      "DISCONNECTED silent",
      "CONNECTED heard again",
    ]);
  });

  test("is not given up past the watermark of a replica that has taken a beat and not written it yet", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(one.nodes);
    const report = await reporter(one, nodeId);
    await report(one);
    await fleet.pass(40_000);
    let flushing = 0;
    const late = Promise.withResolvers<void>();
    using _ = { [Symbol.dispose]: () => late.resolve() };
    two.beforeStore((operation) => {
      if (operation !== "bulkUpdate") return undefined;
      flushing++;
      return late.promise;
    });
    await report(two);
    // Not `pass`: it would wait for the other replica's turn, which does not end while the flush hangs.
    await fleet.clock.advance(1_000);
    await until(() => flushing > 0, "the beat is on its way");
    for (let second = 0; second < 45; second++) await fleet.clock.advance(1_000);
    expect(await connectivityOf(one, nodeId)).toBe("CONNECTED");
    two.beforeStore(undefined);
    late.resolve();
    await fleet.pass(3_000);
    expect(await connectionsOf(one, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("goes on with a session whose stream it had, on any replica", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { nodeId } = await aNode(one.nodes);
    const stream = await connectNode(one, nodeId, { bootId: "a" });
    await stream.beat();
    stream.cancel();
    await fleet.pass(20_000);
    const { nodes } = two.as(await two.nodeToken(nodeId));
    const { sessionEpoch } = stream.welcome;
    for (let sequence = 2n; sequence < 12n; sequence++) {
      await nodes.reportHeartbeat({ nodeId, bootId: "a", sessionEpoch, beat: { sequence } });
      await fleet.pass(30_000);
    }
    expect(await connectionsOf(one, nodeId)).toEqual(["CONNECTED connected"]);
  });
});

describe("a replica that lives and cannot write its beats", () => {
  test.each([1, 0])("keeps its nodes, however long it takes (replica %i)", async (place) => {
    await using fleet = await openClockedFleet(2);
    const slow = fleet.replicas[place] as World;
    const other = fleet.replicas[1 - place] as World;
    const { nodeId } = await aNode(slow.nodes);
    const stream = await connectNode(slow, nodeId);
    let flushing = 0;
    const late = Promise.withResolvers<void>();
    using _ = { [Symbol.dispose]: () => late.resolve() };
    slow.beforeStore((operation) => {
      if (operation !== "bulkUpdate") return undefined;
      flushing++;
      return late.promise;
    });
    for (let second = 0; second < 180; second++) {
      if (second % 20 === 0) await stream.beat();
      await fleet.clock.advance(1_000);
    }
    expect(flushing).toBe(1);
    expect(await connectionsOf(other, nodeId)).toEqual(["CONNECTED connected"]);
    slow.beforeStore(undefined);
    late.resolve();
    await fleet.pass(3_000);
    expect(await connectionsOf(other, nodeId)).toEqual(["CONNECTED connected"]);
  });
});

describe("the leader", () => {
  test("that hangs in the middle of an act does no harm when it goes on: another one has acted meanwhile", async () => {
    await using fleet = await openClockedFleet(3);
    const [one, two] = pairOf(fleet);
    const third = fleet.replicas[2] as World;
    const { nodeId } = await aNode(two.nodes);
    await (await connectNode(third, nodeId, { bootId: "a" })).beat();
    await fleet.pass(2_000);
    await fleet.end(2, "crash");
    const late = Promise.withResolvers<void>();
    using _ = { [Symbol.dispose]: () => late.resolve() };
    let held = 0;
    // The first replica leads. Its verdict on the orphan is held just before the write.
    one.beforeStore((operation) => {
      if (operation !== "findOneAndUpdate" && operation !== "updateOne") return undefined;
      held++;
      return late.promise;
    });
    for (let second = 0; second < 200; second++) await fleet.clock.advance(1_000);
    await until(() => held > 0, "the old leader hangs");
    await until(async () => (await connectivityOf(two, nodeId)) === "DISCONNECTED", "another one has judged");
    const again = await connectNode(two, nodeId, { bootId: "b" });
    await again.beat();
    one.beforeStore(undefined);
    late.resolve();
    await fleet.pass(5_000);
    await again.beat();
    expect(await connectionsOf(two, nodeId)).toEqual([
      "CONNECTED connected",
      "DISCONNECTED silent",
      "CONNECTED connected",
    ]);
  });

  test("is followed by another one, and what time alone ends is ended once", async () => {
    await using fleet = await openClockedFleet(2);
    const [, two] = pairOf(fleet);
    const nodes = await Promise.all(Array.from({ length: 5 }, () => aNode(two.nodes)));
    for (const { nodeId } of nodes) await two.nodes.startNode({ nodeId });
    for (const { nodeId } of nodes) {
      const deadline = { seconds: BigInt(Math.floor(fleet.clock.now().getTime() / 1000) + 20), nanos: 0 };
      await two.nodes.enterMaintenance({ nodeId, reason: "test", deadline });
    }
    await fleet.end(0, "crash");
    await fleet.pass(leaseMs + 25_000);
    for (const { nodeId } of nodes) {
      expect(await statusOf(two, nodeId)).toBe("ACTIVE");
      const ended = (await historyOf(two, nodeId)).filter(({ reason }) => reason === "maintenance deadline passed");
      expect(ended).toHaveLength(1);
    }
  });
});

describe("the replicas", () => {
  test("share rate limits", async () => {
    const settings = { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_PER_MINUTE: "10" };
    await using fleet = await openClockedFleet(2, { settings });
    const [one, two] = pairOf(fleet);
    const token = await one.token("operator");
    for (let call = 0; call < 10; call++) await (call % 2 === 0 ? one : two).as(token).nodes.listNodes({});
    for (const world of [one, two]) await expectRefusal(world.as(token).nodes.listNodes({}), "ResourceExhausted 4291");
    await fleet.pass(60_000);
    await one.as(token).nodes.listNodes({});
  });

  test("take each other's challenges, each once", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const { publicKey, sign } = anIdentity("node_seed");
    const { nodeId } = await aNode(one.nodes, { publicKey });
    const { challenge } = await one.as(undefined).nodes.beginEnrollment({ nodeId, publicKey });
    const answer = { nodeId, challenge, signature: sign(challenge) };
    expect((await two.as(undefined).nodes.completeEnrollment(answer)).accessToken).not.toBe("");
    for (const world of [one, two]) {
      await expectRefusal(world.as(undefined).nodes.completeEnrollment(answer), "Unauthenticated 4011");
    }
  });

  test("are counted while they live", async () => {
    await using fleet = await openClockedFleet(2);
    const [one] = pairOf(fleet);
    expect((await one.admin.getServiceInfo({})).replicas).toBe(2);
    await fleet.join();
    expect((await one.admin.getServiceInfo({})).replicas).toBe(3);
    await fleet.end(1, "stop");
    expect((await one.admin.getServiceInfo({})).replicas).toBe(2);
    await fleet.end(1, "crash");
    await fleet.pass(deadMs + 2_000);
    expect((await one.admin.getServiceInfo({})).replicas).toBe(1);
  });
});

/** The id of the start command that the stream received. */
function startOf({ received }: NodeStream): string | undefined {
  for (const { case: kind, value } of received) {
    if (kind === "command" && value.command.case === "start") return value.commandId;
  }
  return undefined;
}

/** Coordination that loses every message, as if it were away. */
function deaf() {
  return {
    engine: "redis",
    hit: async () => ({ allowed: true, count: 1, resetMs: 0 }),
    publish: async () => undefined,
    subscribe: async () => undefined,
    ping: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  } as const;
}

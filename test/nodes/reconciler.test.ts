// T21, T22: the reconciler ends what is over by time alone, and completes what a crash left unfinished.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { CommandStatus } from "../../gen/lucid/node/v1/node_service_pb.js";
import { nodeNotFound } from "../../src/failure.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { createReconciler } from "../../src/nodes/reconciler.js";
import type { NodeRepository } from "../../src/nodes/repository.js";
import { silentLog } from "../../src/telemetry/log.js";
import { connectNode } from "../support/clients/node-stream.js";
import { historyOf, nodeOf, statusOf, untilStatus } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { createTestClock } from "../support/world/clock.js";
import { aNodeDocument } from "../support/world/documents.js";
import { expectRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import { openClockedWorld, openWorld } from "../support/world/world.js";

const commandTimeoutMs = 60_000;

describe("after a crash", () => {
  test.each(["start", "restart"] as const)("a %s that nobody ended ends ACTIVE", async (operation) => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    if (operation === "restart") await world.nodes.startNode({ nodeId });
    let writes = 0;
    world.beforeStore((name) => {
      if (name === "findOneAndUpdate" && ++writes === 2) world.storeAway(true);
      return undefined;
    });
    const call = operation === "start" ? world.nodes.startNode({ nodeId }) : world.nodes.restartNode({ nodeId });
    await expectRefusal(call, "Unavailable 5031");
    world.beforeStore(undefined);
    await world.restart("crash");
    // On engines that replicas share, the lease of the crashed process must run out first.
    await world.pass(11_000);
    await untilStatus(world, nodeId, "ACTIVE");
    expect((await historyOf(world, nodeId)).at(-1)?.reason).toContain("completed without a connection");
  });

  test("maintenance whose deadline passed meanwhile ends", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    const deadline = timestampFromDate(new Date(world.clock.now().getTime() + 10_000));
    await world.nodes.enterMaintenance({ nodeId, reason: "disk", deadline });
    await world.restart("crash");
    expect(await statusOf(world, nodeId)).toBe("MAINTENANCE");
    await world.pass(11_000);
    expect(await statusOf(world, nodeId)).toBe("ACTIVE");
  });
});

describe("maintenance", () => {
  test("ends at its deadline, not before, with an event", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    const deadline = timestampFromDate(new Date(world.clock.now().getTime() + 3_600_000));
    const { node } = await world.nodes.enterMaintenance({ nodeId, reason: "new disk", deadline });
    expect(node?.statusReason).toBe("new disk");
    await world.clock.stall(3_590_000);
    await world.pass(9_000);
    expect(await statusOf(world, nodeId)).toBe("MAINTENANCE");
    await world.pass(2_000);
    expect(await nodeOf(world, nodeId)).toMatchObject({ status: 3, statusReason: "" });
    expect((await historyOf(world, nodeId)).at(-1)).toMatchObject({
      reason: "maintenance deadline passed",
      actor: "system",
    });
  });

  test("entered again without a deadline lasts until it is ended", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    const deadline = timestampFromDate(new Date(world.clock.now().getTime() + 10_000));
    await world.nodes.enterMaintenance({ nodeId, deadline });
    await world.nodes.enterMaintenance({ nodeId });
    await world.pass(20_000);
    expect(await statusOf(world, nodeId)).toBe("MAINTENANCE");
    await world.nodes.exitMaintenance({ nodeId });
    expect(await statusOf(world, nodeId)).toBe("ACTIVE");
  });

  test("left by a stop does not come back at its deadline", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    const deadline = timestampFromDate(new Date(world.clock.now().getTime() + 10_000));
    await world.nodes.enterMaintenance({ nodeId, deadline });
    await world.nodes.stopNode({ nodeId });
    await world.pass(20_000);
    expect(await statusOf(world, nodeId)).toBe("INACTIVE");
  });

  test("moves the desired status of a connected node, and back", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    const stream = await connectNode(world, nodeId);
    expect(stream.welcome.desiredStatus).toBe(3);
    await world.nodes.enterMaintenance({ nodeId });
    expect((await stream.beat()).desiredStatus).toBe(5);
    await world.nodes.exitMaintenance({ nodeId });
    expect((await stream.beat()).desiredStatus).toBe(3);
  });
});

describe("a connected node", () => {
  async function connected() {
    const world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    const collect = await stream.next("command");
    expect(collect.command.case).toBe("collectMetrics");
    return { world, nodeId, stream };
  }

  test("is told to start, and its OK makes it ACTIVE", async () => {
    const { world, nodeId, stream } = await connected();
    await using _ = world;
    const { status, startedAt } = await world.nodes.startNode({ nodeId });
    expect({ status, startedAt }).toEqual({ status: 2, startedAt: undefined });
    const command = await stream.next("command");
    expect(command.command.case).toBe("start");
    stream.result(command.commandId, CommandStatus.OK);
    await untilStatus(world, nodeId, "ACTIVE");
    expect((await historyOf(world, nodeId)).slice(-2)).toMatchObject([
      { reason: "start requested", actor: "admin-1", status: "STARTING" },
      { reason: "start completed by the node", actor: "system", status: "ACTIVE" },
    ]);
  });

  test("that fails is in ERROR with its reason, and may be started again", async () => {
    const { world, nodeId, stream } = await connected();
    await using _ = world;
    await world.nodes.startNode({ nodeId });
    stream.result((await stream.next("command")).commandId, CommandStatus.FAILED, "no disk");
    await untilStatus(world, nodeId, "ERROR");
    expect((await nodeOf(world, nodeId)).statusReason).toBe("no disk");
    await world.nodes.startNode({ nodeId });
    stream.result((await stream.next("command")).commandId, CommandStatus.OK);
    await untilStatus(world, nodeId, "ACTIVE");
    expect((await nodeOf(world, nodeId)).statusReason).toBe("");
  });

  test("that does not know the command is taken at the word of the service", async () => {
    const { world, nodeId, stream } = await connected();
    await using _ = world;
    await world.nodes.startNode({ nodeId });
    stream.result((await stream.next("command")).commandId, CommandStatus.UNSUPPORTED);
    await untilStatus(world, nodeId, "ACTIVE");
  });

  test("that does not answer until the deadline is in ERROR, and a late answer changes nothing", async () => {
    const { world, nodeId, stream } = await connected();
    await using _ = world;
    await world.nodes.startNode({ nodeId });
    const { commandId } = await stream.next("command");
    await world.pass(commandTimeoutMs / 2);
    await stream.beat();
    await world.pass(commandTimeoutMs / 2 - 1_000);
    expect(await statusOf(world, nodeId)).toBe("STARTING");
    await world.pass(2_000);
    expect(await statusOf(world, nodeId)).toBe("ERROR");
    stream.result(commandId, CommandStatus.OK);
    await stream.beat();
    expect(await statusOf(world, nodeId)).toBe("ERROR");
  });

  test("that leaves before it answers is done without", async () => {
    const { world, nodeId, stream } = await connected();
    await using _ = world;
    await world.nodes.startNode({ nodeId });
    await stream.next("command");
    await stream.leave();
    await world.pass(2_000);
    expect(await statusOf(world, nodeId)).toBe("ACTIVE");
  });

  test("is told again after it came back, under the same id, and answers once", async () => {
    const { world, nodeId, stream } = await connected();
    await using _ = world;
    await world.nodes.startNode({ nodeId });
    const first = await stream.next("command");
    const again = await connectNode(world, nodeId);
    const second = await again.next("command");
    expect(second.commandId).toBe(first.commandId);
    again.result(second.commandId, CommandStatus.OK);
    await untilStatus(world, nodeId, "ACTIVE");
    again.result(second.commandId, CommandStatus.FAILED, "late");
    await again.beat();
    expect(await statusOf(world, nodeId)).toBe("ACTIVE");
  });

  test("is told a stop that overtakes a start, and the start's answer ends nothing", async () => {
    const { world, nodeId, stream } = await connected();
    await using _ = world;
    await world.nodes.startNode({ nodeId });
    const start = await stream.next("command");
    await world.nodes.stopNode({ nodeId });
    const stop = await stream.next("command");
    expect(stop.command.case).toBe("stop");
    stream.result(start.commandId, CommandStatus.OK);
    await stream.beat();
    expect(await statusOf(world, nodeId)).toBe("STOPPING");
    stream.result(stop.commandId, CommandStatus.OK);
    await untilStatus(world, nodeId, "INACTIVE");
  });

  test("cannot end another node's command", async () => {
    const { world, nodeId, stream } = await connected();
    await using _ = world;
    const thief = await connectNode(world, (await aNode(world.nodes)).nodeId);
    await world.nodes.startNode({ nodeId });
    const { commandId } = await stream.next("command");
    thief.result(commandId, CommandStatus.OK);
    await thief.beat();
    expect(await statusOf(world, nodeId)).toBe("STARTING");
  });

  test("is told its new configuration until it has taken it over, each version once", async () => {
    const { world, nodeId, stream } = await connected();
    await using _ = world;
    const configure = (maxSessions: number) =>
      world.nodes.updateNode({
        node: { nodeId, configuration: { maxSessions } },
        updateMask: { paths: ["configuration"] },
      });
    await configure(5);
    const first = await stream.next("command");
    expect(first.command).toMatchObject({
      case: "updateConfiguration",
      value: { configuration: { maxSessions: 5 } },
    });
    await configure(6);
    const second = await stream.next("command");
    stream.result(first.commandId, CommandStatus.OK);
    await stream.beat();
    const back = await connectNode(world, nodeId);
    expect((await back.next("command")).commandId).toBe(second.commandId);
    back.result(second.commandId, CommandStatus.OK);
    const applied = async () =>
      (await historyOf(world, nodeId)).filter(({ reason }) => reason === "configuration taken over").length;
    await until(async () => (await applied()) === 2, "the configuration is taken over");
    const again = await connectNode(world, nodeId);
    await again.beat();
    const commands = again.received.flatMap((message) => (message.case === "command" ? [message.value] : []));
    expect(commands.map(({ command }) => command.case)).toEqual(["collectMetrics"]);
  });
});

describe("calls at once", () => {
  test("of start and stop on one node end in a status that the table allows, with one event a change", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const calls = Array.from({ length: 30 }, (_, turn) =>
      (turn % 2 === 0 ? world.nodes.startNode({ nodeId }) : world.nodes.stopNode({ nodeId })).catch(() => undefined),
    );
    await Promise.all(calls);
    await until(async () => ["ACTIVE", "INACTIVE"].includes(await statusOf(world, nodeId)), "it comes to rest");
    const history = await historyOf(world, nodeId);
    const { version } = await nodeOf(world, nodeId);
    expect(history).toHaveLength(Number(version));
    const moves = history.slice(1).map(({ status }, place) => `${history[place]?.status} ${status}`);
    const allowed = [
      "INACTIVE STARTING",
      "STARTING ACTIVE",
      "STARTING STOPPING",
      "ACTIVE STOPPING",
      "STOPPING INACTIVE",
    ];
    expect(moves.filter((move) => !allowed.includes(move))).toEqual([]);
  });
});

test("a node that is deleted while the leader looks at it keeps no other from its due, and ends nothing", async () => {
  const clock = createTestClock();
  const over = { status: "maintenance", maintenance_until: new Date(0) } as const;
  const [gone, other] = [aNodeDocument({ ...over, _id: "node_gone" }), aNodeDocument({ ...over, _id: "node_other" })];
  const advanced: string[] = [];
  const { task } = createReconciler({
    repository: {
      inTransition: async () => ({ items: [] }),
      maintenanceOver: async () => [gone, other],
      compareAndSet: async (node: NodeDocument) => {
        if (node === gone) return null;
        advanced.push(node._id);
        return node;
      },
      get: async (nodeId: string) => Promise.reject(nodeNotFound(nodeId)),
    } as unknown as NodeRepository,
    clock,
    leadership: () => ({ token: 1, holds: () => true }),
    log: silentLog,
  });
  const control = new AbortController();
  const running = task(control.signal);
  await clock.advance(1_000);
  control.abort();
  await running;
  expect(advanced).toEqual(["node_other", "node_other"]);
});

// The lifecycle of a node: every operation from every status over the wire, and the decisions in pure code.
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  advance,
  answered,
  begin,
  type NodeDocument,
  type NodeStatus,
  pendingCommands,
  type Transition,
} from "../../src/nodes/node.js";
import { nodesCollection } from "../../src/nodes/repository.js";
import { statusName, statusOf } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { aNodeDocument } from "../support/world/documents.js";
import { toRefusal } from "../support/world/refusal.js";
import { type ClockedWorld, openClockedWorld } from "../support/world/world.js";

type Call = "start" | "stop" | "restart" | "enter" | "exit" | "delete";

// The node is connected, so no transition ends by itself. "=" means success without a change.
const table: Readonly<Record<Call, Readonly<Record<NodeStatus, string>>>> = {
  start: {
    inactive: "STARTING",
    starting: "= STARTING Node is already starting",
    active: "= ACTIVE Node is already active",
    stopping: "5003",
    maintenance: "5003",
    error: "STARTING",
  },
  stop: {
    inactive: "= INACTIVE Node is already inactive",
    starting: "STOPPING",
    active: "STOPPING",
    stopping: "= STOPPING Node is already stopping",
    maintenance: "STOPPING",
    error: "STOPPING",
  },
  restart: {
    inactive: "5003",
    starting: "5003",
    active: "STARTING",
    stopping: "5003",
    maintenance: "5003",
    error: "STARTING",
  },
  enter: {
    inactive: "5003",
    starting: "5003",
    active: "MAINTENANCE",
    stopping: "5003",
    maintenance: "= MAINTENANCE",
    error: "5003",
  },
  exit: {
    inactive: "5003",
    starting: "5003",
    active: "= ACTIVE",
    stopping: "5003",
    maintenance: "ACTIVE",
    error: "5003",
  },
  delete: {
    inactive: "deleted",
    starting: "5003",
    active: "5003",
    stopping: "5003",
    maintenance: "5003",
    error: "deleted",
  },
};

const rows = Object.entries(table).flatMap(([call, outcomes]) =>
  Object.entries(outcomes).map(([status, outcome]) => [call, status, outcome] as [Call, NodeStatus, string]),
);

describe("the lifecycle table", () => {
  let world: ClockedWorld;
  beforeAll(async () => {
    world = await openClockedWorld();
  });
  afterAll(() => world[Symbol.asyncDispose]());

  /** Makes a connected node in this status, with the transition that belongs to it. */
  async function nodeIn(status: NodeStatus): Promise<string> {
    const { nodeId } = await aNode(world.nodes);
    const deadline = new Date(world.clock.now().getTime() + 60_000);
    const operation = status === "starting" ? "start" : "stop";
    const moving = status === "starting" || status === "stopping";
    const transition: Transition | undefined = moving ? { operation_id: "earlier", operation, deadline } : undefined;
    const nodes = await world.store.collection<NodeDocument>(nodesCollection);
    const set = { status, connectivity: "connected", ...(transition === undefined ? {} : { transition }) };
    await nodes.updateOne({ _id: nodeId }, { $set: set });
    return nodeId;
  }

  async function outcomeOf(call: Call, nodeId: string): Promise<string> {
    const { nodes } = world;
    const before = (await nodes.getNode({ nodeId })).node?.version;
    const said = async (): Promise<string> => {
      switch (call) {
        case "start":
          return (await nodes.startNode({ nodeId })).message;
        case "stop":
          return (await nodes.stopNode({ nodeId })).message;
        case "restart":
          return (await nodes.restartNode({ nodeId })).message;
        case "enter":
          return (await nodes.enterMaintenance({ nodeId })).node?.statusReason ?? "";
        case "exit":
          return (await nodes.exitMaintenance({ nodeId })).node?.statusReason ?? "";
        case "delete":
          await nodes.deleteNode({ nodeId });
          return "";
        default:
          return call satisfies never;
      }
    };
    const message = await said();
    if (call === "delete") return "deleted";
    const after = (await nodes.getNode({ nodeId })).node;
    const status = after === undefined ? "" : statusName(after.status);
    return after?.version === before ? `= ${status} ${message}`.trim() : status;
  }

  test.each(rows)("%s from %s: %s", async (call, status, expected) => {
    const nodeId = await nodeIn(status);
    const outcome = await outcomeOf(call, nodeId).catch((error: unknown) => {
      const refusal = toRefusal(error);
      expect(refusal.code).toBe("FailedPrecondition");
      return refusal.reason ?? refusal.code;
    });
    expect(outcome).toBe(expected);
    if (expected === "5003") expect(await statusOf(world, nodeId)).toBe(status.toUpperCase());
  });

  test.each([
    ["start", "ACTIVE"],
    ["stop", "INACTIVE"],
    ["restart", "ACTIVE"],
  ] as const)("without a connection %s ends at once: %s", async (operation, status) => {
    const { nodeId } = await aNode(world.nodes);
    if (operation !== "start") await world.nodes.startNode({ nodeId });
    const call = { start: world.nodes.startNode, stop: world.nodes.stopNode, restart: world.nodes.restartNode };
    const answer = await call[operation]({ nodeId });
    expect(statusName(answer.status)).toBe(status);
    const at = answer.$typeName === "lucid.node.v1.StopNodeResponse" ? answer.stoppedAt : answer.startedAt;
    expect(at && timestampDate(at)).toEqual(world.clock.now());
    expect(await statusOf(world, nodeId)).toBe(status);
  });

  test("a banned node is stopped but not started", async () => {
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.startNode({ nodeId });
    await world.nodes.banNode({ nodeId, reason: "fraud" });
    await world.nodes.stopNode({ nodeId });
    expect(await statusOf(world, nodeId)).toBe("INACTIVE");
    await expect(world.nodes.startNode({ nodeId })).rejects.toThrow("banned");
  });
});

describe("a transition", () => {
  const now = new Date("2026-01-01T01:00:00Z");
  const by = { actor: "ops", operationId: "op-1", deadline: new Date(now.getTime() + 1000) };
  const transition: Transition = { operation_id: "op-1", operation: "start", deadline: by.deadline };
  const starting = aNodeDocument({ status: "starting", connectivity: "connected", transition });

  test("of a connected node waits until its deadline and ends in ERROR at it", () => {
    expect(advance(starting, new Date(by.deadline.getTime() - 1))).toBeUndefined();
    expect(advance(starting, by.deadline)?.set).toMatchObject({ status: "error" });
  });

  test.each(["never_connected", "disconnected", "lost"] as const)("of a node that is %s ends well", (connectivity) => {
    expect(advance({ ...starting, connectivity }, now)?.set).toMatchObject({ status: "active", started_at: now });
  });

  test("is ended by the answer to its own command only", () => {
    const ok = { commandId: "op-1", ok: true, error: "" };
    expect(answered(starting, ok, now)?.set).toMatchObject({ status: "active" });
    expect(answered(starting, { ...ok, commandId: "op-0" }, now)).toBeUndefined();
    expect(answered(aNodeDocument(), ok, now)).toBeUndefined();
    expect(answered(starting, { ...ok, ok: false, error: "no disk" }, now)?.set).toMatchObject({
      status: "error",
      status_reason: "no disk",
    });
  });

  test("replaced by another one is told instead of it", () => {
    const decision = begin(starting, "stop", { ...by, operationId: "op-2" });
    expect("patch" in decision && decision.patch.set?.transition).toMatchObject({ operation_id: "op-2" });
    const stopping = aNodeDocument({ status: "stopping", transition: { ...transition, operation_id: "op-2" } });
    expect(pendingCommands(stopping).map(({ commandId }) => commandId)).toEqual(["op-2"]);
  });

  test("maintenance ends at its deadline, not before, and without one never", () => {
    const node = aNodeDocument({ status: "maintenance", maintenance_until: now });
    expect(advance(node, new Date(now.getTime() - 1))).toBeUndefined();
    expect(advance(node, now)?.set).toMatchObject({ status: "active" });
    expect(advance(aNodeDocument({ status: "maintenance" }), new Date(8.64e15))).toBeUndefined();
  });
});

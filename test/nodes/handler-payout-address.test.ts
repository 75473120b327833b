// A node's payout address: who sets it, who sees it, and when it begins to be used.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { nodesCollection } from "../../src/nodes/repository.js";
import { createLogger } from "../../src/telemetry/log.js";
import { aName, aNode, otherTronAddress, tronAddress } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

describe("a payout address", () => {
  test("is shown masked, and never whole: not on the wire, not in logs, not in the store", async () => {
    const lines: string[] = [];
    const log = createLogger({
      level: "DEBUG",
      format: "json",
      service: "t",
      version: "1",
      write: (line) => lines.push(line),
    });
    await using own = await openWorld({ log });
    const node = await aNode(own.nodes, { payoutAddress: tronAddress });
    const { nodeId } = node;
    const masked = `${tronAddress.slice(0, 4)}…${tronAddress.slice(-4)}`;
    expect(node.payoutAddress).toBe(masked);
    const set = await own.nodes.setPayoutAddress({ nodeId, payoutAddress: otherTronAddress });
    const broken = `${otherTronAddress.slice(0, -1)}8`;
    const refusal = await expectRefusal(
      own.nodes.setPayoutAddress({ nodeId, payoutAddress: broken }),
      "InvalidArgument 4001",
    );
    const { nodes } = await own.nodes.listNodes({});
    const { events } = await own.nodes.listNodeEvents({ nodeId });
    const collection = await own.store.collection<NodeDocument>(nodesCollection);
    const stored = await collection.findOne({ _id: nodeId });
    const wire = JSON.stringify([node, set, refusal, nodes, events, stored], (_, value) =>
      typeof value === "bigint" ? String(value) : value,
    );
    expect(lines.length).toBeGreaterThan(5);
    for (const address of [tronAddress, otherTronAddress, broken]) {
      expect(wire).not.toContain(address);
      expect(lines.join("\n")).not.toContain(address);
    }
  });

  test("waits after a change, not after the first one; taking it away first shortens nothing", async () => {
    await using own = await openClockedWorld();
    const { nodeId } = await aNode(own.nodes);
    const collection = await own.store.collection<NodeDocument>(nodesCollection);
    const usableAt = async () => (await collection.findOne({ _id: nodeId }))?.payout_address_usable_at;
    const set = (payoutAddress: string) => own.nodes.setPayoutAddress({ nodeId, payoutAddress });
    const day = 86_400_000;

    await set(tronAddress);
    expect(await usableAt()).toBeUndefined();
    await set(tronAddress);
    expect(await usableAt()).toBeUndefined();
    await set(otherTronAddress);
    const changed = own.clock.now().getTime();
    expect(await usableAt()).toEqual(new Date(changed + day));
    await own.pass(60_000, 10_000);
    await set(otherTronAddress);
    expect(await usableAt()).toEqual(new Date(changed + day));
    await set("");
    await own.pass(1_000);
    const { node } = await set(tronAddress);
    expect(node?.payoutAddress).not.toBe("");
    expect((await usableAt())?.getTime()).toBe(own.clock.now().getTime() - 1_000 + day);
  });

  test("is set by admins alone, under the version they saw", async () => {
    const { nodeId } = await aNode(world.nodes);
    const set = { nodeId, payoutAddress: tronAddress };
    for (const role of ["operator", "payer", "approver"] as const) {
      const { nodes } = world.as(await world.token(role));
      await expectRefusal(nodes.setPayoutAddress(set), "PermissionDenied 4031");
    }
    await expectRefusal(world.nodes.setPayoutAddress({ ...set, expectedVersion: 7n }), "Aborted 5012");
    await world.nodes.setPayoutAddress({ ...set, expectedVersion: 1n });
  });

  test("may be given by whoever creates the node, an operator too", async () => {
    const { nodes } = world.as(await world.token("operator"));
    const request = { name: aName(), nodeType: NodeType.WORKER, payoutAddress: tronAddress };
    expect((await nodes.createNode(request)).node?.payoutAddress).not.toBe("");
  });
});

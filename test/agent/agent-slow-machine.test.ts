// Agents on machines whose figures cannot be read, or only slowly: they connect and beat as others do.
import { afterEach, describe, expect, test } from "vitest";
import { MetricType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { type AgentOptions, runAgent } from "../../src/agent/agent.js";
import { createMemoryCredentials } from "../../src/agent/credentials.js";
import { sampleToWire } from "../../src/agent/machine.js";
import { createPassport } from "../../src/agent/passport.js";
import { createServiceTime } from "../../src/agent/service-time.js";
import { systemClock } from "../../src/clock.js";
import type { MachineSample } from "../../src/machine/machine.js";
import { enrollmentToken } from "../support/clients/enroll.js";
import { nodeOf } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { until, within } from "../support/world/until.js";
import { openWorld, stillCollector, type World } from "../support/world/world.js";

const settings = { NODE_HEARTBEAT_INTERVAL: "1", HEARTBEAT_GRACE: "1", RESOURCE_COLLECTION_INTERVAL: "10" };
const never = () => new Promise<never>(() => undefined);

let leave: (() => Promise<void>) | undefined;
afterEach(async () => {
  await leave?.();
  leave = undefined;
});

async function startAgent(world: World, machine: Pick<AgentOptions, "sample" | "describe">) {
  const { nodeId } = await aNode(world.nodes);
  const control = new AbortController();
  const clients = world.as(undefined);
  const serviceTime = createServiceTime(systemClock, () => undefined);
  const credentials = createMemoryCredentials(nodeId);
  const token = await enrollmentToken(world, nodeId);
  const counted = { acks: 0 };
  const end = runAgent(
    {
      ...machine,
      nodes: clients.nodes,
      nodeId,
      passport: createPassport({ ...clients, credentials, enrollmentToken: token, now: serviceTime.now }),
      serviceTime,
      clock: systemClock,
      random: () => 0,
      agentVersion: "test/1",
      onAck: () => {
        counted.acks++;
      },
    },
    control.signal,
  );
  leave = async () => {
    control.abort();
    await within(end, "the agent leaves");
  };
  return { nodeId, counted };
}

describe("an agent", () => {
  test("whose machine never answers connects, beats and leaves all the same", async () => {
    await using world = await openWorld({ settings });
    const { nodeId, counted } = await startAgent(world, { sample: never, describe: never });
    await until(() => counted.acks >= 3, "three beats");
    expect((await nodeOf(world, nodeId)).hardwareInfo).toBeUndefined();
    await leave?.();
    leave = undefined;
  });

  test("asks its machine once at a time, however many beats go by", async () => {
    await using world = await openWorld({ settings: { ...settings, RESOURCE_COLLECTION_INTERVAL: "1" } });
    let asked = 0;
    const sample = () => {
      asked++;
      return never();
    };
    const { counted } = await startAgent(world, { sample, describe: async () => undefined });
    await until(() => counted.acks >= 4, "four beats");
    expect(asked).toBe(1);
  });

  test("tells what could be read, and the service has no figures of what could not", async () => {
    await using world = await openWorld({ settings });
    const sample = async () =>
      sampleToWire({ ...(await stillCollector.sample()), diskUsedBytes: undefined, diskTotalBytes: undefined });
    const { nodeId } = await startAgent(world, { sample, describe: async () => undefined });
    const summaryOf = async () => (await world.nodes.getNodeResources({ nodeId })).summary;
    await until(async () => (await summaryOf()) !== undefined, "a sample is written", 15_000);
    const summary = await summaryOf();
    expect(summary?.memoryUsedBytes?.last).toBe(1e9);
    expect(summary?.diskUsedBytes).toBeUndefined();
    const metrics = await world.nodes.getResourceMetrics({ nodeId, metricType: MetricType.DISK });
    expect(metrics.points).toEqual([]);
    const answer = await fetch(`${world.baseUrl}/lucid.node.v1.NodeService/GetNodeResources`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${await world.token("admin")}` },
      body: JSON.stringify({ nodeId }),
    });
    const told = JSON.parse(await answer.text());
    expect(told.summary).toMatchObject({ memory_used_bytes: { last: 1e9 }, disk_total_bytes: 0 });
    expect(told.summary).not.toHaveProperty("disk_used_bytes");
    expect(told.metrics[0]).toMatchObject({ memory_total_bytes: 8e9, disk_total_bytes: 0 });
  });
});

describe("a sample for the contract", () => {
  const none: MachineSample = {
    cpuPercent: 5,
    memoryUsedBytes: undefined,
    memoryTotalBytes: undefined,
    diskUsedBytes: undefined,
    diskTotalBytes: undefined,
    networkRxBytes: undefined,
    networkTxBytes: undefined,
  };
  test.each<[string, Partial<MachineSample>, object | undefined]>([
    ["without a processor's use is none", { cpuPercent: undefined }, undefined],
    ["with a total alone leaves both out", { diskTotalBytes: 10 }, { diskUsedBytes: 0n, diskTotalBytes: 0n }],
    ["with a use alone leaves both out", { memoryUsedBytes: 10 }, { memoryUsedBytes: 0n, memoryTotalBytes: 0n }],
    [
      "never uses more than there is",
      { memoryUsedBytes: 11.6, memoryTotalBytes: 11.4, diskUsedBytes: 20, diskTotalBytes: 10 },
      { memoryUsedBytes: 11n, memoryTotalBytes: 11n, diskUsedBytes: 10n, diskTotalBytes: 10n },
    ],
    ["stays within the range of percent", { cpuPercent: 100.4 }, { cpuPercent: 100 }],
  ])("%s", (_, told, expected) => {
    const sent = sampleToWire({ ...none, ...told });
    if (expected === undefined) expect(sent).toBeUndefined();
    else expect(sent).toMatchObject(expected);
  });
});

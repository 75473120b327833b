// The agent against a real service: it enrols once, and comes back by itself after anything but a refusal.
import { afterEach, describe, expect, it } from "vitest";
import { TokenType } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { Connectivity, NodeStatus } from "../../gen/lucid/node/v1/node_service_pb.js";
import { type AgentEnd, type AgentState, backoffMs, runAgent } from "../../src/agent/agent.js";
import { type Credentials, createMemoryCredentials } from "../../src/agent/credentials.js";
import { descriptionToWire, sampleToWire } from "../../src/agent/machine.js";
import { createPassport } from "../../src/agent/passport.js";
import { createServiceTime } from "../../src/agent/service-time.js";
import { systemClock } from "../../src/clock.js";
import { aNode } from "../support/world/builders.js";
import { until, within } from "../support/world/until.js";
import { openWorld, stillCollector, type World } from "../support/world/world.js";

interface RunningAgent {
  readonly states: AgentState[];
  readonly end: Promise<AgentEnd>;
  acks: number;
  desired: NodeStatus;
  leave(): void;
}

function startAgent(world: World, credentials: Credentials, enrollmentToken?: string): RunningAgent {
  const control = new AbortController();
  const clients = world.as(undefined);
  const serviceTime = createServiceTime(systemClock, () => undefined);
  const agent: RunningAgent = {
    states: [],
    acks: 0,
    desired: NodeStatus.UNSPECIFIED,
    leave: () => control.abort(),
    end: runAgent(
      {
        nodes: clients.nodes,
        nodeId: credentials.identity.nodeId,
        passport: createPassport({ ...clients, credentials, enrollmentToken, now: serviceTime.now }),
        serviceTime,
        clock: systemClock,
        random: () => 0,
        agentVersion: "test/1",
        sample: async () => sampleToWire(await stillCollector.sample()),
        describe: async () => descriptionToWire(await stillCollector.describe()),
        onState: (state) => agent.states.push(state),
        onAck: () => {
          agent.acks++;
        },
        onDesired: (status) => {
          agent.desired = status;
        },
      },
      control.signal,
    ),
  };
  return agent;
}

describe("agent", () => {
  let world: World;
  const agents: RunningAgent[] = [];
  afterEach(async () => {
    for (const agent of agents.splice(0)) {
      agent.leave();
      await agent.end;
    }
    await world[Symbol.asyncDispose]();
  });
  const settings = { NODE_HEARTBEAT_INTERVAL: "1", HEARTBEAT_GRACE: "2" };
  const start = (...given: Parameters<typeof startAgent>) => {
    const agent = startAgent(...given);
    agents.push(agent);
    return agent;
  };
  const read = async (nodeId: string) => {
    const { node } = await world.nodes.getNode({ nodeId });
    if (node === undefined) throw new Error("no node");
    return node;
  };
  const isConnected = async (nodeId: string) => (await read(nodeId)).connectivity === Connectivity.CONNECTED;
  const enrollmentToken = async (nodeId: string) =>
    (await world.admin.issueToken({ nodeId, tokenType: TokenType.NODE_ENROLLMENT })).accessToken;

  it("enrols with a token, tells its machine, beats, obeys, and leaves", async () => {
    world = await openWorld({ settings });
    const { nodeId } = await aNode(world.nodes);
    const agent = start(world, createMemoryCredentials(nodeId), await enrollmentToken(nodeId));
    await until(() => isConnected(nodeId), "connected");
    await until(() => agent.acks > 0, "a beat acknowledged");
    expect(await read(nodeId)).toMatchObject({ agentVersion: "test/1", hardwareInfo: { cpu: { cores: 4 } } });
    await world.nodes.startNode({ nodeId });
    await until(async () => (await read(nodeId)).status === NodeStatus.ACTIVE, "started by the agent's answer");
    expect(agent.desired).toBe(NodeStatus.ACTIVE);
    agent.leave();
    expect(await within(agent.end, "left")).toEqual({ end: "left" });
    await until(
      async () => (await read(nodeId)).connectivity === Connectivity.DISCONNECTED,
      "disconnected at once",
      1000,
    );
  });

  it("comes back by its key alone when all its tokens are gone, whatever spent token it still brings", async () => {
    world = await openWorld({ settings });
    const { nodeId } = await aNode(world.nodes);
    const credentials = createMemoryCredentials(nodeId);
    const token = await enrollmentToken(nodeId);
    const first = start(world, credentials, token);
    await until(() => isConnected(nodeId), "connected");
    first.leave();
    await first.end;
    const forgetful: Credentials = { ...credentials, tokens: () => undefined };
    const second = start(world, forgetful, token);
    await until(() => second.states.includes("connected"), "connected again");
  });

  it("reconnects after the service restarts, without ever being called disconnected", async () => {
    world = await openWorld({ settings });
    const { nodeId } = await aNode(world.nodes);
    const agent = start(world, createMemoryCredentials(nodeId), await enrollmentToken(nodeId));
    await until(() => isConnected(nodeId), "connected");
    await world.restart("stop");
    const welcomes = () => agent.states.filter((state) => state === "connected").length;
    await until(() => welcomes() === 2, "connected again", 25_000);
    const { events } = await world.nodes.listNodeEvents({ nodeId });
    expect(events.filter((event) => event.connectivity === Connectivity.DISCONNECTED)).toEqual([]);
  });

  it("stops for good when it is banned", async () => {
    world = await openWorld({ settings });
    const { nodeId } = await aNode(world.nodes);
    const agent = start(world, createMemoryCredentials(nodeId), await enrollmentToken(nodeId));
    await until(() => isConnected(nodeId), "connected");
    await world.nodes.banNode({ nodeId, reason: "test" });
    expect(await within(agent.end, "refused", 5000)).toEqual({ end: "refused", message: "The node is banned" });
  });

  it("does not enrol with another node's token", async () => {
    world = await openWorld({ settings });
    const { nodeId } = await aNode(world.nodes);
    const other = await aNode(world.nodes);
    const agent = start(world, createMemoryCredentials(nodeId), await enrollmentToken(other.nodeId));
    expect((await within(agent.end, "refused")).end).toBe("refused");
    expect((await read(nodeId)).keyFingerprint).toBe("");
  });

  it("moves to a new stream on a new connection when the old one has lived its time", async () => {
    world = await openWorld({ settings: { ...settings, STREAM_LIFETIME: "1" } });
    const { nodeId } = await aNode(world.nodes);
    const agent = start(world, createMemoryCredentials(nodeId), await enrollmentToken(nodeId));
    const welcomes = () => agent.states.filter((state) => state === "connected").length;
    await until(() => welcomes() >= 3, "two renewals");
    expect(agent.states).not.toContain("waiting");
    const { events } = await world.nodes.listNodeEvents({ nodeId });
    expect(events.filter((event) => event.connectivity === Connectivity.DISCONNECTED)).toEqual([]);
  });
});

describe("backoff", () => {
  it("waits between 1 s and 30 s, longer with each failure, at random", () => {
    expect(backoffMs(0, () => 0)).toBe(1000);
    expect(backoffMs(0, () => 1)).toBe(2000);
    expect(backoffMs(3, () => 1)).toBe(16_000);
    expect(backoffMs(20, () => 1)).toBe(30_000);
  });
});

// Many nodes in one process, over few connections: each is a whole agent with its own identity and an invented machine.

import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { AdminService, Role } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService, NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { createSession } from "../client/session.js";
import { tokenPairOf } from "../client/tokens.js";
import type { Clock } from "../clock.js";
import type { MachineSample } from "../machine/machine.js";
import { eachOf } from "../task.js";
import { type AgentState, runAgent } from "./agent.js";
import { agentReadMaxBytes } from "./bounds.js";
import { type Credentials, createMemoryCredentials } from "./credentials.js";
import { sampleToWire } from "./machine.js";
import { createPassport } from "./passport.js";
import { createServiceTime } from "./service-time.js";

export interface SimulationOptions {
  readonly baseUrl: string;
  /** An admin's token, which creates the nodes and issues their tokens. */
  readonly adminToken: string;
  readonly nodes: number;
  /** Nodes are named `{prefix}-{number}`; the same prefix reuses the same nodes. */
  readonly prefix: string;
  /** Streams that share a connection. */
  readonly streamsPerConnection: number;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly onCounts: (counts: SimulationCounts) => void;
}

export interface SimulationCounts {
  readonly created: number;
  readonly connecting: number;
  readonly connected: number;
  readonly waiting: number;
  readonly left: number;
  readonly refused: number;
  /** Since the start. */
  readonly acknowledged: number;
  readonly reconnects: number;
  /** The most recent error. */
  readonly lastError: string;
}

/** The most nodes created at the same time. */
const creatorsMax = 16;

/** Creates missing nodes, then runs all nodes until the signal aborts; then they leave. Returns the last counts. */
export async function simulate(options: SimulationOptions, signal: AbortSignal): Promise<SimulationCounts> {
  const { clock } = options;
  const states = new Map<number, AgentState>();
  let created = 0;
  let acknowledged = 0;
  let reconnects = 0;
  let lastError = "";
  const counts = (): SimulationCounts => {
    const of = (state: AgentState) => [...states.values()].filter((found) => found === state).length;
    return {
      created,
      connecting: of("connecting"),
      connected: of("connected"),
      waiting: of("waiting"),
      left: of("left"),
      refused: of("refused"),
      acknowledged,
      reconnects,
      lastError,
    };
  };
  const connections = createConnections(options);
  const over = new AbortController();
  const reporting = report(clock, () => options.onCounts(counts()), over.signal);

  const runNode = async (place: number): Promise<void> => {
    const link = connections.at(place);
    const credentials = await retried(
      () => createNode(link, options, place),
      clock,
      signal,
      (error) => {
        lastError = error;
      },
    );
    if (credentials === undefined) return;
    created++;
    const serviceTime = createServiceTime(clock, () => undefined);
    void agents.push(
      runAgent(
        {
          nodes: link.nodes,
          nodeId: credentials.identity.nodeId,
          passport: createPassport({ ...link, credentials, enrollmentToken: undefined, now: serviceTime.now }),
          serviceTime,
          clock,
          random: options.random,
          agentVersion: "simulate/1.0.0",
          sample: async () => sampleToWire(inventedSample(options.random)),
          describe: async () => undefined,
          onAck: () => {
            acknowledged++;
          },
          onState: (state, detail) => {
            if (state === "connecting" && states.has(place)) reconnects++;
            if (state === "waiting" || state === "refused") lastError = detail;
            states.set(place, state);
          },
        },
        signal,
      ),
    );
  };
  const agents: Promise<unknown>[] = [];
  const places = Array.from({ length: options.nodes }, (_, place) => place);
  await eachOf(places, creatorsMax, (place) => (signal.aborted ? Promise.resolve() : runNode(place)));
  await Promise.all(agents);
  over.abort();
  await reporting;
  connections.close();
  return counts();
}

interface Connection {
  readonly nodes: Client<typeof NodeService>;
  readonly admin: Client<typeof AdminService>;
}

/** Leaves a hanging replica after 20 s. One connection serves many nodes, so frequent pings cost little. */
const pings = { pingIntervalMs: 10_000, pingTimeoutMs: 10_000 };

function createConnections({ baseUrl, nodes, streamsPerConnection }: SimulationOptions) {
  const managers = Array.from({ length: Math.max(1, Math.ceil(nodes / streamsPerConnection)) }, () =>
    createSession(baseUrl, pings),
  );
  const connections = managers.map((sessionManager): Connection => {
    const transport = createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: agentReadMaxBytes });
    return { nodes: createClient(NodeService, transport), admin: createClient(AdminService, transport) };
  });
  return {
    at: (place: number): Connection => connections[place % connections.length] as Connection,
    close: () => {
      for (const manager of managers) manager.abort();
    },
  };
}

/** The node of that number with its own tokens; it is created if missing. */
async function createNode(link: Connection, options: SimulationOptions, place: number): Promise<Credentials> {
  const headers = { authorization: `Bearer ${options.adminToken}` };
  const name = `${options.prefix}-${place}`;
  const { node } = await link.nodes.createNode(
    { name, nodeType: NodeType.WORKER, labels: { simulated: "true" }, idempotencyKey: `simulate/${name}` },
    { headers, timeoutMs: 30_000 },
  );
  const nodeId = node?.nodeId ?? "";
  const issued = await link.admin.issueToken({ role: Role.WORKER, nodeId }, { headers, timeoutMs: 30_000 });
  return createMemoryCredentials(nodeId, tokenPairOf(issued));
}

/** Tries until it succeeds or the signal aborts (undefined then), a second apart. */
async function retried<T>(
  work: () => Promise<T>,
  clock: Clock,
  signal: AbortSignal,
  failed: (error: string) => void,
): Promise<T | undefined> {
  while (!signal.aborted) {
    try {
      return await work();
    } catch (error) {
      failed(String(error));
      await clock.sleep(1000, signal);
    }
  }
  return undefined;
}

async function report(clock: Clock, tell: () => void, over: AbortSignal): Promise<void> {
  while (!over.aborted) {
    await clock.sleep(1000, over);
    tell();
  }
}

const gigabyte = 1e9;
const inventedSample = (random: () => number): MachineSample => ({
  cpuPercent: Math.round(random() * 1000) / 10,
  memoryUsedBytes: Math.round(random() * 8 * gigabyte),
  memoryTotalBytes: 8 * gigabyte,
  diskUsedBytes: Math.round(random() * 100 * gigabyte),
  diskTotalBytes: 100 * gigabyte,
  networkRxBytes: Math.round(random() * gigabyte),
  networkTxBytes: Math.round(random() * gigabyte),
});

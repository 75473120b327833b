// The state of a node or of the fleet, in short words.
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Connectivity, type Node, NodeEventType, NodeStatus } from "../../../gen/lucid/node/v1/node_service_pb.js";
import { until } from "../world/until.js";
import type { Clients } from "../world/world.js";

type Nodes = Pick<Clients, "nodes">;

export async function nodeOf({ nodes }: Nodes, nodeId: string): Promise<Node> {
  const { node } = await nodes.getNode({ nodeId });
  if (node === undefined) throw new Error("no node in the answer");
  return node;
}

const nameOf = (names: Readonly<Record<string, number>>, value: number): string =>
  Object.entries(names).find(([, known]) => known === value)?.[0] ?? String(value);

export const statusName = (status: NodeStatus): string => nameOf(NodeStatus, status);
export const connectivityName = (connectivity: Connectivity): string => nameOf(Connectivity, connectivity);

export const statusOf = async (clients: Nodes, nodeId: string): Promise<string> =>
  statusName((await nodeOf(clients, nodeId)).status);
export const connectivityOf = async (clients: Nodes, nodeId: string): Promise<string> =>
  connectivityName((await nodeOf(clients, nodeId)).connectivity);
export const lastHeartbeatOf = async (clients: Nodes, nodeId: string): Promise<Date | undefined> => {
  const { lastHeartbeat } = await nodeOf(clients, nodeId);
  return lastHeartbeat && timestampDate(lastHeartbeat);
};

export interface Happening {
  readonly type: string;
  readonly reason: string;
  readonly connectivity: string;
  readonly status: string;
  readonly actor: string;
}

/** A node's history, oldest first; at most 100 entries. */
export async function historyOf({ nodes }: Nodes, nodeId: string): Promise<Happening[]> {
  const { events } = await nodes.listNodeEvents({ nodeId, limit: 100 });
  return events.reverse().map((event) => ({
    type: nameOf(NodeEventType, event.type),
    reason: event.reason,
    connectivity: connectivityName(event.connectivity),
    status: statusName(event.status),
    actor: event.actor,
  }));
}

/** What its history says of its connectivity, oldest first: "CONNECTED connected". */
export const connectionsOf = async (clients: Nodes, nodeId: string): Promise<string[]> =>
  (await historyOf(clients, nodeId))
    .filter(({ type }) => type === "CONNECTIVITY")
    .map(({ connectivity, reason }) => `${connectivity} ${reason}`);

/** How many nodes there are by connectivity. */
export async function fleetOf({ nodes }: Nodes): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const [name, connectivity] of Object.entries(Connectivity)) {
    if (typeof connectivity !== "number" || connectivity === 0) continue;
    const { pagination } = await nodes.listNodes({ connectivity, limit: 1 });
    if (pagination?.total) counts[name] = pagination.total;
  }
  return counts;
}

export const untilConnectivity = (clients: Nodes, nodeId: string, expected: string, limitMs?: number): Promise<void> =>
  until(async () => (await connectivityOf(clients, nodeId)) === expected, `${nodeId} is ${expected}`, limitMs);
export const untilStatus = (clients: Nodes, nodeId: string, expected: string, limitMs?: number): Promise<void> =>
  until(async () => (await statusOf(clients, nodeId)) === expected, `${nodeId} is ${expected}`, limitMs);

// Between the contract's messages and what this folder speaks: plain translation, no decisions.
import { type DescEnum, fromJson, type JsonValue, type MessageInitShape, toJson } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  Connectivity,
  ConnectivitySchema,
  type HardwareInfo,
  HardwareInfoSchema,
  type NodeConfiguration,
  NodeConfigurationSchema,
  type NodeLocation,
  NodeLocationSchema,
  type NodeSchema,
  NodeStatus,
  NodeStatusSchema,
  NodeType,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import type { NodeRole } from "../access/permission.js";
import { labelKeyOf } from "./labels.js";
import type * as domain from "./node.js";

export const statusToWire: Readonly<Record<domain.NodeStatus, NodeStatus>> = {
  inactive: NodeStatus.INACTIVE,
  starting: NodeStatus.STARTING,
  active: NodeStatus.ACTIVE,
  stopping: NodeStatus.STOPPING,
  maintenance: NodeStatus.MAINTENANCE,
  error: NodeStatus.ERROR,
};
export const connectivityToWire: Readonly<Record<domain.ConnectivityState, Connectivity>> = {
  never_connected: Connectivity.NEVER_CONNECTED,
  connected: Connectivity.CONNECTED,
  disconnected: Connectivity.DISCONNECTED,
  lost: Connectivity.LOST,
};
export const typeToWire: Readonly<Record<NodeRole, NodeType>> = {
  worker: NodeType.WORKER,
  validator: NodeType.VALIDATOR,
  storage: NodeType.STORAGE,
  compute: NodeType.COMPUTE,
};
/** How many nodes there are of each value, by the names of the enum without UNSPECIFIED. */
export const countsToWire = async (
  countStatus: (status: domain.NodeStatus) => number | Promise<number>,
  countConnectivity: (connectivity: domain.ConnectivityState) => number | Promise<number>,
) => ({
  byStatus: await named(statusToWire, NodeStatusSchema, countStatus),
  byConnectivity: await named(connectivityToWire, ConnectivitySchema, countConnectivity),
});

async function named<Key extends string>(
  table: Readonly<Record<Key, number>>,
  { value }: DescEnum,
  count: (key: Key) => number | Promise<number>,
): Promise<Record<string, number>> {
  const keys = Object.keys(table) as Key[];
  return Object.fromEntries(
    await Promise.all(keys.map(async (key) => [value[table[key]]?.name ?? key, await count(key)] as const)),
  );
}

/** The key that this value of the enum belongs to; undefined for UNSPECIFIED. */
export const fromWire = <Key extends string, Value>(
  table: Readonly<Record<Key, Value>>,
  value: Value,
): Key | undefined => (Object.entries(table) as [Key, Value][]).find(([, wire]) => wire === value)?.[0];

const asJson = (value: JsonValue): domain.Json => value as domain.Json;
export const hardwareToJson = (message: HardwareInfo): domain.Json =>
  asJson(toJson(HardwareInfoSchema, message, { useProtoFieldName: true }));
export const locationToJson = (message: NodeLocation): domain.Json =>
  asJson(toJson(NodeLocationSchema, message, { useProtoFieldName: true }));
export const configurationToJson = (message: NodeConfiguration): domain.Json =>
  asJson(toJson(NodeConfigurationSchema, message, { useProtoFieldName: true }));

export function nodeToWire(node: domain.NodeDocument): MessageInitShape<typeof NodeSchema> {
  return {
    nodeId: node._id,
    name: node.name,
    status: statusToWire[node.status],
    nodeType: typeToWire[node.node_type],
    poolId: node.pool_id ?? "",
    ...(node.pool_priority === undefined ? {} : { poolPriority: node.pool_priority }),
    ...(node.hardware_info === undefined
      ? {}
      : { hardwareInfo: fromJson(HardwareInfoSchema, node.hardware_info as JsonValue) }),
    ...(node.location === undefined ? {} : { location: fromJson(NodeLocationSchema, node.location as JsonValue) }),
    ...(node.configuration === undefined
      ? {}
      : { configuration: fromJson(NodeConfigurationSchema, node.configuration as JsonValue) }),
    labels: Object.fromEntries(Object.entries(node.labels).map(([key, value]) => [labelKeyOf(key), value])),
    connectivity: connectivityToWire[node.connectivity],
    ...(node.last_heartbeat.getTime() === 0 ? {} : { lastHeartbeat: timestampFromDate(node.last_heartbeat) }),
    ...(node.started_at === undefined ? {} : { startedAt: timestampFromDate(node.started_at) }),
    ...(node.poot_score < 0 ? {} : { pootScore: node.poot_score }),
    statusReason: node.status_reason,
    agentVersion: node.agent_version,
    banned: node.banned,
    payoutAddress: node.payout_address_masked ?? "",
    keyFingerprint: node.key_fingerprint ?? "",
    createdAt: timestampFromDate(node.created_at),
    updatedAt: timestampFromDate(node.updated_at),
    version: BigInt(node.version),
  };
}

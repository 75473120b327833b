// Entries of the log as the contract's events.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type NodeEventSchema, NodeEventType } from "../../../gen/lucid/node/v1/node_service_pb.js";
import type { EventType } from "../node.js";
import { connectivityToWire, statusToWire } from "../wire.js";
import type { LogEntry } from "./log.js";

const eventTypeToWire: Readonly<Record<EventType, NodeEventType>> = {
  created: NodeEventType.CREATED,
  status: NodeEventType.STATUS,
  connectivity: NodeEventType.CONNECTIVITY,
  updated: NodeEventType.UPDATED,
  banned: NodeEventType.BANNED,
  unbanned: NodeEventType.UNBANNED,
  deleted: NodeEventType.DELETED,
};

export const eventToWire = (entry: LogEntry): MessageInitShape<typeof NodeEventSchema> => ({
  eventId: entry._id,
  nodeId: entry.node_id,
  type: eventTypeToWire[entry.type],
  status: statusToWire[entry.status],
  connectivity: connectivityToWire[entry.connectivity],
  reason: entry.reason,
  actor: entry.actor,
  version: BigInt(entry.version),
  occurredAt: timestampFromDate(entry.at),
});

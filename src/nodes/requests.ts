// What requests ask for, in this folder's own types.
import type {
  CreateNodeRequest,
  ListNodesRequest,
  UpdateNodeRequest,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Caller } from "../access/caller.js";
import { sha256Hex } from "../crypto.js";
import { malformed } from "../failure.js";
import { newNodeId } from "../ids.js";
import { present } from "../present.js";
import { labelFilter, storeLabels } from "./labels.js";
import type { NodeDocument, Patch } from "./node.js";
import type { NodeOrder } from "./repository.js";
import {
  configurationToJson,
  connectivityToWire,
  fromWire,
  hardwareToJson,
  locationToJson,
  statusToWire,
  typeToWire,
} from "./wire.js";

/** A new node, INACTIVE; the fields of its pool come from the claim. */
export function newNode(
  request: CreateNodeRequest,
  caller: Caller,
  now: Date,
  addressFields: (address: string, former: undefined) => Partial<NodeDocument>,
): NodeDocument {
  const key = request.publicKey.length === 0 ? undefined : request.publicKey;
  return {
    _id: newNodeId(now),
    name: request.name,
    status: "inactive",
    status_reason: "",
    node_type: fromWire(typeToWire, request.nodeType) ?? "worker",
    ...present({
      hardware_info: request.hardwareInfo && hardwareToJson(request.hardwareInfo),
      location: request.location && locationToJson(request.location),
      configuration: request.configuration && configurationToJson(request.configuration),
    }),
    configuration_version: request.configuration === undefined ? 0 : 1,
    configuration_applied: 0,
    labels: storeLabels(request.labels),
    connectivity: "never_connected",
    last_heartbeat: new Date(0),
    poot_score: -1,
    agent_version: "",
    banned: false,
    ...(request.payoutAddress === "" ? {} : addressFields(request.payoutAddress, undefined)),
    ...(key === undefined ? {} : { public_key: Buffer.from(key).toString("base64"), key_fingerprint: sha256Hex(key) }),
    session_epoch: 0,
    live: true,
    version: 1,
    change: 1,
    unlogged: [
      {
        change: 1,
        type: "created",
        status: "inactive",
        connectivity: "never_connected",
        reason: "created",
        actor: caller.subject,
        version: 1,
        at: now,
      },
    ],
    unlogged_since: now,
    created_at: now,
    updated_at: now,
  };
}

export type UpdatePath = "name" | "node_type" | "pool_id" | "configuration" | "location" | "labels";

/** What the mask changes, except the pool. @throws Failure 4001 for a path that cannot be cleared */
export function updatePatch(
  request: UpdateNodeRequest,
  paths: ReadonlySet<UpdatePath>,
  current: NodeDocument,
  actor: string,
): Patch {
  const wanted = request.node;
  const set: Partial<Record<keyof NodeDocument, unknown>> = {};
  const unset: (keyof NodeDocument)[] = [];
  const put = (field: keyof NodeDocument, value: unknown) => {
    if (value === undefined) unset.push(field);
    else set[field] = value;
  };
  if (paths.has("name")) {
    if (!wanted?.name) throw malformed({ field: "node.name", description: "cannot be cleared" });
    set.name = wanted.name;
  }
  if (paths.has("node_type")) {
    const type = wanted && fromWire(typeToWire, wanted.nodeType);
    if (type === undefined) throw malformed({ field: "node.node_type", description: "cannot be cleared" });
    set.node_type = type;
  }
  if (paths.has("configuration")) {
    put("configuration", wanted?.configuration && configurationToJson(wanted.configuration));
    set.configuration_version = current.configuration_version + 1;
  }
  if (paths.has("location")) put("location", wanted?.location && locationToJson(wanted.location));
  if (paths.has("labels")) set.labels = storeLabels(wanted?.labels ?? {});
  const event = { type: "updated", reason: `updated ${[...paths].join(", ")}`, actor } as const;
  return { set: set as Partial<NodeDocument>, unset, event };
}

export const merged = (patch: Patch, other: Patch): Patch => ({
  set: { ...patch.set, ...other.set },
  unset: [...(patch.unset ?? []), ...(other.unset ?? [])],
  event: patch.event,
});

export function listQuery(request: ListNodesRequest) {
  const [order = "created_at", direction] = request.orderBy.split(" ");
  const filter = present({
    status: fromWire(statusToWire, request.status),
    poolId: request.poolId === "" ? undefined : request.poolId,
    nodeType: fromWire(typeToWire, request.nodeType),
    connectivity: fromWire(connectivityToWire, request.connectivity),
    labels: labelFilter(request.labelSelector),
  });
  const query = { order: (order === "" ? "created_at" : order) as NodeOrder, descending: direction === "desc" };
  return { filter, query, binding: JSON.stringify(["nodes", filter, query]) };
}

// What requests ask for, in this folder's own types.
import { toJson } from "@bufbuild/protobuf";
import { ResourceLimitsSchema } from "../../gen/lucid/node/v1/node_service_pb.js";
import {
  type CreatePoolRequest,
  type NodePool,
  PoolPricingSchema,
  ScalingPolicySchema,
} from "../../gen/lucid/node/v1/pool_service_pb.js";
import { malformed } from "../failure.js";
import { newPoolId } from "../ids.js";
import type { Json } from "../nodes/node.js";
import { present } from "../present.js";
import { maxNodesDefault, type PoolDocument } from "./pool.js";
import type { PoolPatch } from "./repository.js";

export const updatable = [
  "name",
  "description",
  "max_nodes",
  "resource_limits",
  "auto_scaling",
  "scaling_policy",
  "pricing",
] as const;
export type UpdatePath = (typeof updatable)[number];

export function newPool(request: CreatePoolRequest, now: Date): PoolDocument {
  return {
    _id: newPoolId(now),
    name: request.name,
    description: request.description,
    max_nodes: request.maxNodes ?? maxNodesDefault,
    auto_scaling: request.autoScaling,
    ...jsonFields(request),
    version: 1,
    created_at: now,
    updated_at: now,
  };
}

type JsonFields = Pick<NodePool, "resourceLimits" | "scalingPolicy" | "pricing">;

/** The message fields in their stored form; absent ones are left out. */
function jsonFields(message: Partial<JsonFields>): Partial<PoolDocument> {
  const options = { useProtoFieldName: true } as const;
  const { resourceLimits, scalingPolicy, pricing } = message;
  return present({
    resource_limits: resourceLimits && (toJson(ResourceLimitsSchema, resourceLimits, options) as Json),
    scaling_policy: scalingPolicy && (toJson(ScalingPolicySchema, scalingPolicy, options) as Json),
    pricing: pricing && (toJson(PoolPricingSchema, pricing, options) as Json),
  });
}

export function updatePatch(wanted: NodePool, paths: ReadonlySet<UpdatePath>, current: PoolDocument): PoolPatch {
  if (paths.has("name") && wanted.name === "")
    throw malformed({ field: "pool.name", description: "cannot be cleared" });
  const values: Readonly<Record<UpdatePath, unknown>> = {
    name: wanted.name,
    description: wanted.description,
    max_nodes: wanted.maxNodes === 0 ? maxNodesDefault : wanted.maxNodes,
    auto_scaling: wanted.autoScaling,
    resource_limits: undefined,
    scaling_policy: undefined,
    pricing: undefined,
    ...jsonFields(wanted),
  };
  const set = Object.fromEntries(
    [...paths].map((path) => [path, values[path]]).filter(([, value]) => value !== undefined),
  );
  const unset = [...paths].filter((path) => values[path] === undefined);
  const after: PoolDocument = { ...current, ...set };
  const policy = paths.has("scaling_policy") ? values.scaling_policy : current.scaling_policy;
  if (after.auto_scaling && policy === undefined) {
    throw malformed({ field: "pool.scaling_policy", description: "auto_scaling needs a scaling_policy" });
  }
  return { set, unset };
}

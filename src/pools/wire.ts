// Between the contract's messages and what this folder speaks: plain translation, no decisions.
import { fromJson, type JsonValue, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ResourceLimitsSchema } from "../../gen/lucid/node/v1/node_service_pb.js";
import {
  type NodePoolSchema,
  PoolPricingSchema,
  ScalingPolicySchema,
} from "../../gen/lucid/node/v1/pool_service_pb.js";
import type { Json } from "../nodes/node.js";
import { present } from "../present.js";
import type { PoolDocument } from "./pool.js";

export function poolToWire(pool: PoolDocument, nodeCount: number): MessageInitShape<typeof NodePoolSchema> {
  const read = (json: Json) => json as JsonValue;
  return {
    poolId: pool._id,
    name: pool.name,
    description: pool.description,
    nodeCount,
    maxNodes: pool.max_nodes,
    autoScaling: pool.auto_scaling,
    ...present({
      resourceLimits: pool.resource_limits && fromJson(ResourceLimitsSchema, read(pool.resource_limits)),
      scalingPolicy: pool.scaling_policy && fromJson(ScalingPolicySchema, read(pool.scaling_policy)),
      pricing: pool.pricing && fromJson(PoolPricingSchema, read(pool.pricing)),
      desiredSize: pool.desired_size,
    }),
    disrupted: pool.disrupted_since !== undefined,
    createdAt: timestampFromDate(pool.created_at),
    updatedAt: timestampFromDate(pool.updated_at),
    version: BigInt(pool.version),
  };
}

// The exports of the package.
export * from "../../gen/lucid/node/v1/admin_service_pb.js";
export * from "../../gen/lucid/node/v1/common_pb.js";
export * from "../../gen/lucid/node/v1/node_service_pb.js";
export * from "../../gen/lucid/node/v1/payout_service_pb.js";
export * from "../../gen/lucid/node/v1/pool_service_pb.js";
export * from "../../gen/lucid/node/v1/poot_service_pb.js";
export { createLucidClient, type LucidClient, type LucidClientOptions } from "./client.js";
export { lucidReason, retryAfterMs } from "./errors.js";
export type { TokenPair } from "./tokens.js";
export { type WatchOptions, watchNodes } from "./watch.js";

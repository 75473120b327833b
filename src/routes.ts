// Registers the services on the router. The server serves them, and tests call them.
import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import { AdminService } from "../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService } from "../gen/lucid/node/v1/node_service_pb.js";
import { PayoutService } from "../gen/lucid/node/v1/payout_service_pb.js";
import { PoolService } from "../gen/lucid/node/v1/pool_service_pb.js";
import { PoOTService } from "../gen/lucid/node/v1/poot_service_pb.js";
import { adminPolicies } from "./admin/handler.js";
import { type NodeHandlers, nodePolicies } from "./nodes/handler.js";
import { payoutPolicies } from "./payouts/handler.js";
import { poolPolicies } from "./pools/handler.js";
import { pootPolicies } from "./poot/handler.js";
import { type ResourceHandlers, resourcePolicies } from "./resources/handler.js";
import { type Policies, policiesOf } from "./rpc/policies.js";

export const services: readonly DescService[] = [NodeService, PoolService, PoOTService, PayoutService, AdminService];

export const policies: Policies = new Map([
  ...policiesOf(NodeService, { ...nodePolicies, ...resourcePolicies }),
  ...policiesOf(PoolService, poolPolicies),
  ...policiesOf(PoOTService, pootPolicies),
  ...policiesOf(PayoutService, payoutPolicies),
  ...policiesOf(AdminService, adminPolicies),
]);

export interface Handlers {
  readonly nodes: NodeHandlers;
  readonly resources: ResourceHandlers;
  readonly pools: ServiceImpl<typeof PoolService>;
  readonly poot: ServiceImpl<typeof PoOTService>;
  readonly payouts: ServiceImpl<typeof PayoutService>;
  readonly admin: ServiceImpl<typeof AdminService>;
}

export const createRoutes = (handlers: Handlers) => (router: ConnectRouter) => {
  router.service(NodeService, { ...handlers.nodes, ...handlers.resources });
  router.service(PoolService, handlers.pools);
  router.service(PoOTService, handlers.poot);
  router.service(PayoutService, handlers.payouts);
  router.service(AdminService, handlers.admin);
};

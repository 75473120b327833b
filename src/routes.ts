// Registers the services on the router. The server serves them, and tests call them.
import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import { AdminService } from "../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService } from "../gen/lucid/node/v1/node_service_pb.js";
import { PoolService } from "../gen/lucid/node/v1/pool_service_pb.js";
import { PoOTService } from "../gen/lucid/node/v1/poot_service_pb.js";
import { adminPolicies } from "./admin/handler.js";
import { type NodeHandlers, nodePolicies } from "./nodes/handler.js";
import { poolPolicies } from "./pools/handler.js";
import { pootPolicies } from "./poot/handler.js";
import { type ResourceHandlers, resourcePolicies } from "./resources/handler.js";
import { type Policies, policiesOf } from "./rpc/policies.js";

export const services: readonly DescService[] = [NodeService, PoolService, PoOTService, AdminService];

export const policies: Policies = new Map([
  ...policiesOf(NodeService, { ...nodePolicies, ...resourcePolicies }),
  ...policiesOf(PoolService, poolPolicies),
  ...policiesOf(PoOTService, pootPolicies),
  ...policiesOf(AdminService, adminPolicies),
]);

export interface Handlers {
  readonly nodes: NodeHandlers;
  readonly resources: ResourceHandlers;
  readonly pools: ServiceImpl<typeof PoolService>;
  readonly poot: ServiceImpl<typeof PoOTService>;
  readonly admin: ServiceImpl<typeof AdminService>;
}

export const createRoutes = (handlers: Handlers) => (router: ConnectRouter) => {
  router.service(NodeService, { ...handlers.nodes, ...handlers.resources });
  router.service(PoolService, handlers.pools);
  router.service(PoOTService, handlers.poot);
  router.service(AdminService, handlers.admin);
};

// The services, each on the router: what the server serves and what tests call.
import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import { AdminService } from "../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService } from "../gen/lucid/node/v1/node_service_pb.js";
import { PoolService } from "../gen/lucid/node/v1/pool_service_pb.js";
import { adminPolicies } from "./admin/handler.js";
import { nodePolicies } from "./nodes/handler.js";
import { poolPolicies } from "./pools/handler.js";
import { type Policies, policiesOf } from "./rpc/policies.js";

export const services: readonly DescService[] = [NodeService, PoolService, AdminService];

export const policies: Policies = new Map([
  ...policiesOf(NodeService, nodePolicies),
  ...policiesOf(PoolService, poolPolicies),
  ...policiesOf(AdminService, adminPolicies),
]);

export interface Handlers {
  readonly nodes: ServiceImpl<typeof NodeService>;
  readonly pools: ServiceImpl<typeof PoolService>;
  readonly admin: ServiceImpl<typeof AdminService>;
}

export const createRoutes = (handlers: Handlers) => (router: ConnectRouter) => {
  router.service(NodeService, handlers.nodes);
  router.service(PoolService, handlers.pools);
  router.service(AdminService, handlers.admin);
};

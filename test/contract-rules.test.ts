// Who may call what, over a real port, RPC by RPC. The table follows the contract, not the code. An RPC that is missing
// here fails the test.
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nodeRoles, type Role, serviceRoles } from "../src/access/permission.js";
import { policies, services } from "../src/routes.js";
import { procedureOf } from "../src/rpc/policies.js";
import { aNode } from "./support/world/builders.js";
import { type Refusal, toRefusal } from "./support/world/refusal.js";
import { openWorld, type World } from "./support/world/world.js";

const roles: readonly Role[] = [...nodeRoles, ...serviceRoles];
const readers: readonly Role[] = ["operator", "payer", "approver", "admin"];
const proofReaders: readonly Role[] = ["validator", ...readers];
const operators: readonly Role[] = ["operator", "admin"];
const payers: readonly Role[] = ["payer", "admin"];
const approvers: readonly Role[] = ["approver", "admin"];
const admins: readonly Role[] = ["admin"];
const selfAndReaders: readonly Role[] = [...nodeRoles, ...readers];

/** `open` needs no token. */
const callers: Readonly<Record<string, readonly Role[] | "open">> = {
  "NodeService.createNode": operators,
  "NodeService.getNode": selfAndReaders,
  "NodeService.listNodes": readers,
  "NodeService.updateNode": operators,
  "NodeService.setPayoutAddress": admins,
  "NodeService.deleteNode": operators,
  "NodeService.startNode": operators,
  "NodeService.stopNode": operators,
  "NodeService.restartNode": operators,
  "NodeService.enterMaintenance": operators,
  "NodeService.exitMaintenance": operators,
  "NodeService.banNode": admins,
  "NodeService.unbanNode": admins,
  "NodeService.beginEnrollment": "open",
  "NodeService.completeEnrollment": "open",
  "NodeService.resetEnrollment": admins,
  "NodeService.heartbeat": nodeRoles,
  "NodeService.reportHeartbeat": nodeRoles,
  "NodeService.watchNodes": readers,
  "NodeService.listNodeEvents": selfAndReaders,
  "NodeService.getNodeResources": selfAndReaders,
  "NodeService.getResourceMetrics": operators,
  "NodeService.setResourceThresholds": operators,
  "NodeService.getResourceThresholds": selfAndReaders,
  "NodeService.listResourceAlerts": selfAndReaders,
  "NodeService.allocateResources": operators,
  "NodeService.releaseResources": operators,
  "NodeService.getFleetSummary": readers,
  "PoolService.createPool": operators,
  "PoolService.getPool": readers,
  "PoolService.listPools": readers,
  "PoolService.updatePool": operators,
  "PoolService.deletePool": operators,
  "PoolService.addNodeToPool": operators,
  "PoolService.removeNodeFromPool": operators,
  "PoolService.listPoolNodes": readers,
  "PoolService.getPoolMetrics": readers,
  "PoolService.scalePool": operators,
  "PoOTService.validatePoOT": [...nodeRoles, "admin"],
  "PoOTService.batchValidatePoOT": ["validator", "admin"],
  "PoOTService.issuePoOTChallenge": [...nodeRoles, "admin"],
  "PoOTService.getPoOTScore": selfAndReaders,
  "PoOTService.listPoOTValidations": proofReaders,
  "PoOTService.getPoOTValidation": proofReaders,
  "PoOTService.calculatePoOTScore": proofReaders,
  "PoOTService.getPoOTStatistics": proofReaders,
  "PoOTService.getPoOTLeaderboard": proofReaders,
  "PayoutService.createPayout": payers,
  "PayoutService.createBatchPayout": payers,
  "PayoutService.getPayout": selfAndReaders,
  "PayoutService.listPayouts": selfAndReaders,
  "PayoutService.getPayoutBatch": readers,
  "PayoutService.listPayoutBatches": readers,
  "PayoutService.cancelPayout": payers,
  "PayoutService.cancelPayoutBatch": payers,
  "PayoutService.retryPayout": payers,
  "PayoutService.approvePayout": approvers,
  "PayoutService.rejectPayout": approvers,
  "PayoutService.listPayoutEvents": selfAndReaders,
  "PayoutService.getPayoutStatistics": readers,
  "PayoutService.getPayoutQueue": readers,
  "PayoutService.getNodeEarnings": selfAndReaders,
  "PayoutService.pausePayouts": admins,
  "PayoutService.resumePayouts": admins,
  "PayoutService.reconcilePayouts": admins,
  "PayoutService.acceptTransfer": admins,
  "AdminService.issueToken": admins,
  "AdminService.refreshToken": "open",
  "AdminService.revokeToken": admins,
  "AdminService.getServiceInfo": roles,
  "AdminService.getServiceHealth": admins,
};

type Loose = Readonly<Record<string, (request: unknown, options: unknown) => unknown>>;
const shortName = (service: DescService, method: DescMethod) =>
  `${service.typeName.split(".").at(-1)}.${method.localName}`;
const methods = services.flatMap((service) => service.methods.map((method) => ({ service, method })));
const named = methods.map(({ service, method }): [string, DescService, DescMethod] => [
  shortName(service, method),
  service,
  method,
]);

let world: World;
let manager: Http2SessionManager;
const own: Partial<Record<Role, string>> = {};
let stranger: string;

beforeAll(async () => {
  world = await openWorld();
  manager = new Http2SessionManager(world.baseUrl);
  for (const role of nodeRoles) own[role] = (await aNode(world.nodes)).nodeId;
  stranger = (await aNode(world.nodes)).nodeId;
});
afterAll(async () => {
  manager.abort();
  await world[Symbol.asyncDispose]();
});

/** How the call ends: "through" if neither the gate nor the handler refuses this caller. */
async function call(
  service: DescService,
  method: DescMethod,
  token: string | undefined,
  nodeId = "",
): Promise<Pick<Refusal, "code" | "reason"> | "through"> {
  const transport = createGrpcTransport({ baseUrl: world.baseUrl, sessionManager: manager });
  // The test knows the methods only by their descriptors, so the client has no types.
  const client = createClient(service, transport) as Client<DescService> as unknown as Loose;
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const rpc = client[method.localName] ?? (() => undefined);
  try {
    if (method.methodKind === "unary") await rpc(requestOf(method, nodeId), { headers });
    else for await (const _ of rpc(streamOf(method, nodeId), { headers }) as AsyncIterable<unknown>) break;
    return "through";
  } catch (error) {
    const { code, reason } = toRefusal(error);
    return code === "Unauthenticated" || code === "PermissionDenied" ? { code, reason } : "through";
  }
}

/** An empty request, or the least that is valid if the request names a node. */
function requestOf(method: DescMethod, nodeId: string): object {
  const asksNode = method.input.fields.some(({ name }) => name === "node_id");
  if (!asksNode || nodeId === "") return {};
  return method.localName === "reportHeartbeat" ? { nodeId, bootId: "walk", beat: { sequence: 1n } } : { nodeId };
}

const streamOf = (method: DescMethod, nodeId: string): object =>
  method.methodKind === "server_streaming"
    ? requestOf(method, nodeId)
    : only({ message: { case: "hello", value: { nodeId, bootId: "walk" } } });

async function* only<T>(item: T): AsyncGenerator<T> {
  yield item;
}

const tokenOf = (role: Role): Promise<string> => {
  const nodeId = own[role];
  return nodeId === undefined ? world.token(role) : world.nodeToken(nodeId, role as (typeof nodeRoles)[number]);
};

const unauthenticated = { code: "Unauthenticated", reason: "4011" };
const denied = { code: "PermissionDenied", reason: "4031" };

describe("every RPC", () => {
  test("stands in the table, and the table names no other", () => {
    expect(named.map(([name]) => name).sort()).toEqual(Object.keys(callers).sort());
  });

  test.each(named)("%s states its policy", (name, _, method) => {
    const policy = policies.get(procedureOf(method));
    expect(policy).toBeDefined();
    expect(policy?.permission === "open").toBe(callers[name] === "open");
  });

  test.each(named)("%s admits whom the contract admits", async (name, service, method) => {
    const admitted = callers[name] ?? [];
    if (admitted === "open") {
      expect(await call(service, method, undefined)).toBe("through");
      return;
    }
    for (const role of roles) {
      const outcome = await call(service, method, await tokenOf(role), own[role] ?? stranger);
      expect({ role, outcome }).toEqual({ role, outcome: admitted.includes(role) ? "through" : denied });
    }
  });

  test.each(named.filter(([name]) => callers[name] !== "open"))(
    "%s refuses a caller without a good token",
    async (_, service, method) => {
      const now = Date.now();
      const past = { issuedAt: new Date(now - 120_000), expiresAt: new Date(now - 60_000) };
      const enrolment = { subject: "x", nodeId: stranger, tokenType: "node_enrollment" } as const;
      const refresh = { subject: "x", tokenType: "service_refresh" } as const;
      const tokens = {
        none: undefined,
        bad: "eyJhbGciOiJIUzI1NiJ9.e30.AAAA",
        noise: "noise",
        expired: await world.token("admin", past),
        forged: `${await world.token("admin")}x`,
        enrolment: await world.token("worker", enrolment),
        refresh: await world.token("admin", refresh),
      };
      for (const [kind, token] of Object.entries(tokens)) {
        expect({ kind, outcome: await call(service, method, token) }).toEqual({ kind, outcome: unauthenticated });
      }
    },
  );

  // The first is about no node. The others name a payout, and test/payouts/handler.test.ts asks them for another node's.
  const ofNoNode = ["AdminService.getServiceInfo", "PayoutService.getPayout", "PayoutService.listPayoutEvents"];
  const forNodes = named.filter(([name]) => {
    const admitted = callers[name] ?? [];
    return admitted !== "open" && admitted.includes("worker") && !ofNoNode.includes(name);
  });
  test.each(forNodes)("%s is open to a node for itself only", async (_, service, method) => {
    for (const role of nodeRoles) expect(await call(service, method, await tokenOf(role), stranger)).toEqual(denied);
  });
});

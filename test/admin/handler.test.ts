// AdminService: to whom it issues tokens, and what it says about the service.
import { describe, expect, test } from "vitest";
import { HealthStatus, Role, TokenType } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { connectNode } from "../support/clients/node-stream.js";
import { engineNames } from "../support/engines/engines.js";
import { aNode } from "../support/world/builders.js";
import { expectRefusal, refusalOf } from "../support/world/refusal.js";
import { openClockedWorld, openWorld } from "../support/world/world.js";

describe("a token's life", () => {
  test("is bounded by a setting: more is refused, and what lives longer unasked is cut", async () => {
    await using world = await openClockedWorld({ settings: { TOKEN_TTL_MAX: "600" } });
    const { nodeId } = await aNode(world.nodes);
    const request = { subject: "ops", role: Role.OPERATOR };
    const enrolment = { subject: "ops", nodeId, tokenType: TokenType.NODE_ENROLLMENT };
    for (const asked of [request, enrolment]) {
      const refusal = await refusalOf(world.admin.issueToken({ ...asked, ttl: { seconds: 601n } }));
      expect(refusal).toMatchObject({ code: "InvalidArgument", reason: "4001", fields: ["ttl"] });
      await world.admin.issueToken({ ...asked, ttl: { seconds: 600n } });
      const { accessToken, refreshToken } = await world.admin.issueToken(asked);
      for (const token of [accessToken, refreshToken].filter((given) => given !== "")) expect(lifeOf(token)).toBe(600);
    }
    const { refreshToken } = await world.admin.issueToken(request);
    const next = await world.as(undefined).admin.refreshToken({ refreshToken });
    expect([lifeOf(next.accessToken), lifeOf(next.refreshToken)]).toEqual([600, 600]);
  });
});

/** The life of the token in seconds. */
function lifeOf(token: string): number {
  const { iat, exp } = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
  return exp - iat;
}

describe("issuing", () => {
  test("gives each role a token that opens what the role may", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes, { nodeType: NodeType.VALIDATOR });
    const node = await world.admin.issueToken({ role: Role.VALIDATOR, nodeId });
    await world.as(node.accessToken).nodes.getNode({ nodeId });
    for (const role of [Role.OPERATOR, Role.PAYER, Role.APPROVER, Role.ADMIN]) {
      const { accessToken } = await world.admin.issueToken({ subject: "svc", role });
      await world.as(accessToken).nodes.listNodes({});
    }
  });

  test.each<[string, Parameters<Awaited<ReturnType<typeof openWorld>>["admin"]["issueToken"]>[0], string]>([
    ["no subject", { role: Role.OPERATOR }, "subject"],
    ["no role", { subject: "x" }, "role"],
    ["a node's role without a node", { subject: "x", role: Role.WORKER }, "node_id"],
    ["a service's role with a node", { subject: "x", role: Role.ADMIN, nodeId: "node_unknown" }, "node_id"],
    ["a type that does not fit", { subject: "x", role: Role.ADMIN, tokenType: TokenType.NODE_ACCESS }, "token_type"],
    ["no time", { subject: "x", role: Role.ADMIN, ttl: { seconds: 0n } }, "ttl"],
    ["too much time", { subject: "x", role: Role.ADMIN, ttl: { seconds: 86_401n } }, "ttl"],
    ["a subject with a space", { subject: "a b", role: Role.ADMIN }, "subject"],
  ])("with %s is refused", async (_, request, field) => {
    await using world = await openWorld();
    const { fields } = await expectRefusal(world.admin.issueToken(request), "InvalidArgument 4001");
    expect(fields).toEqual([field]);
  });

  test("for a node that is not there is 5001, and a role that is not the node's is refused", async () => {
    await using world = await openWorld();
    await expectRefusal(world.admin.issueToken({ role: Role.WORKER, nodeId: "node_unknown" }), "NotFound 5001");
    const { nodeId } = await aNode(world.nodes);
    await expectRefusal(world.admin.issueToken({ role: Role.VALIDATOR, nodeId }), "InvalidArgument 4001");
  });

  test("honours the time asked for, to the leeway of 30 s", async () => {
    await using world = await openClockedWorld();
    const { accessToken } = await world.admin.issueToken({ subject: "x", role: Role.OPERATOR, ttl: { seconds: 60n } });
    const { nodes } = world.as(accessToken);
    await world.pass(89_000, 10_000);
    await nodes.listNodes({});
    await world.pass(2_000);
    await expectRefusal(nodes.listNodes({}), "Unauthenticated 4011");
  });
});

describe("the service's word of itself", () => {
  test("names version, engines and replica to anyone with a token", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const info = await world.as(await world.nodeToken(nodeId)).admin.getServiceInfo({});
    expect(info).toMatchObject({
      service: "node-management-service",
      version: "1.0.0",
      engines: engineNames,
      replicas: 1,
    });
    expect(info.replicaId).toMatch(/^world-/);
  });

  test("is a health report whose fleet may be ill without the service being so", async () => {
    await using world = await openClockedWorld();
    await world.pass(20_000);
    const fine = await world.admin.getServiceHealth({});
    expect(fine.status).toBe(HealthStatus.HEALTHY);
    expect(Object.keys(fine.checks).sort()).toEqual([
      "coordination",
      "database",
      "nodes",
      "resource_monitoring",
      "system_resources",
    ]);
    for (let count = 0; count < 2; count++) {
      await world.nodes.startNode({ nodeId: (await aNode(world.nodes)).nodeId });
    }
    await world.pass(20_000);
    const ill = await world.admin.getServiceHealth({});
    expect(ill.status).toBe(HealthStatus.DEGRADED);
    expect(ill.checks.nodes?.figures).toMatchObject({ total_nodes: 2, healthy_nodes: 0 });
  });

  test("says unhealthy while the store is away, and healthy again after it", async () => {
    await using world = await openClockedWorld();
    world.storeAway(true);
    await world.pass(3_000);
    expect((await world.admin.getServiceHealth({})).status).toBe(HealthStatus.UNHEALTHY);
    await expectRefusal(world.nodes.listNodes({}), "Unavailable 5031");
    world.storeAway(false);
    await world.pass(16_000);
    expect((await world.admin.getServiceHealth({})).status).toBe(HealthStatus.HEALTHY);
  });

  test("counts beats' samples as monitoring", async () => {
    await using world = await openClockedWorld();
    const stream = await connectNode(world, (await aNode(world.nodes)).nodeId);
    for (let beats = 0; beats < 7; beats++) {
      await stream.beat();
      await world.pass(27_000);
    }
    const before = await world.admin.getServiceHealth({});
    expect(before.checks.resource_monitoring?.status).toBe(HealthStatus.DEGRADED);
    await stream.beat(undefined, { cpuPercent: 5 });
    await world.pass(4_000);
    const after = await world.admin.getServiceHealth({});
    expect(after.checks.resource_monitoring).toMatchObject({ status: HealthStatus.HEALTHY, figures: { connected: 1 } });
  });
});

import { durationMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { AdminService } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Policy } from "../../src/access/permission.js";
import type { Hit } from "../../src/coordination/coordination.js";
import { callerOf } from "../../src/rpc/context.js";
import { bearerToken, createGate } from "../../src/rpc/gate.js";
import { assertPolicies, policiesOf } from "../../src/rpc/policies.js";
import {
  Code,
  clientOf,
  failureOf,
  nodeId,
  type ProtocolName,
  protocols,
  startTestServer,
  transportOf,
} from "./harness.js";

const otherNode = "node_01hzxk7v9c3r5t8w2y4a6b8zzz";

/** The code with which GetNode ends under a policy and token; undefined for success. */
async function codeUnder(policy: Policy, token: string | undefined, asked = nodeId, protocol: ProtocolName = "grpc") {
  await using server = await startTestServer({ policies: { getNode: policy } });
  return await clientOf(server.port, protocol, token ?? "none")
    .getNode({ nodeId: asked })
    .then(
      () => undefined,
      (error) => error.code,
    );
}

/** Counts in memory, and shows the keys that were counted. */
function counters() {
  const counts = new Map<string, number>();
  const hit = async (key: string, limit: number, windowMs: number): Promise<Hit> => {
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    return { allowed: count <= limit, count, resetMs: windowMs / 2 };
  };
  return { hit, counts };
}

describe("credentials", () => {
  test.each(protocols)("without a token %s calls are refused before the body is read", async (protocol) => {
    await using server = await startTestServer();
    // The request is malformed, too: the gate answers before anything looks at it.
    const error = await failureOf(createClient(NodeService, transportOf(server.port, protocol, undefined)).getNode({}));
    expect([error.code, error.rawMessage]).toEqual([Code.Unauthenticated, "A token is required"]);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_4011");
  });

  test.each([
    ["Bearer abc", "abc"],
    ["bearer   abc ", "abc"],
    ["Basic abc", undefined],
    ["Bearer", undefined],
    ["Bearer a b", undefined],
    ["", undefined],
  ])("%j holds %j", (header, token) => {
    expect(bearerToken(new Headers({ authorization: header }))).toBe(token);
  });

  test("an enrolment token serves no RPC but the open ones", async () => {
    const token = `enroll@${nodeId}`;
    expect(await codeUnder({ permission: "token", nodeToken: "handler" }, token)).toBe(Code.Unauthenticated);
    expect(await codeUnder({ permission: "open" }, token)).toBeUndefined();
  });

  test("an open RPC takes no token and a bad one alike, and sees no caller", async () => {
    const seen: unknown[] = [];
    await using server = await startTestServer({
      policies: { getNode: { permission: "open" } },
      node: {
        getNode: (_, context) => {
          expect(() => callerOf(context)).toThrow();
          seen.push(context.requestHeader.get("authorization"));
          return {};
        },
      },
    });
    await clientOf(server.port, "grpc", "bad!").getNode({ nodeId });
    await clientOf(server.port, "grpc", "admin").getNode({ nodeId });
    expect(seen).toEqual(["Bearer bad!", "Bearer admin"]);
  });

  test("the caller reaches the handler", async () => {
    let subject = "";
    await using server = await startTestServer({
      node: {
        getNode: (_, context) => {
          subject = callerOf(context).subject;
          return {};
        },
      },
    });
    await clientOf(server.port, "grpc", "operator:ann").getNode({ nodeId });
    expect(subject).toBe("ann");
  });
});

describe("permissions", () => {
  test.each<[Policy, string, Code | undefined]>([
    [{ permission: "node:read", nodeToken: "handler" }, `worker@${nodeId}`, undefined],
    [{ permission: "node:read", nodeToken: "refused" }, `worker@${nodeId}`, Code.PermissionDenied],
    [{ permission: "node:read" }, `worker@${nodeId}`, Code.PermissionDenied],
    [{ permission: "node:read" }, "operator", undefined],
    [{ permission: "node:admin" }, "operator", Code.PermissionDenied],
    [{ permission: "node:admin" }, "admin", undefined],
    [{ permission: "poot:batch", nodeToken: "handler" }, `validator@${nodeId}`, undefined],
    [{ permission: "poot:batch", nodeToken: "handler" }, `worker@${nodeId}`, Code.PermissionDenied],
    [{ permission: "token" }, "payer", undefined],
  ])("%j under %s", async (policy, token, code) => {
    expect(await codeUnder(policy, token)).toBe(code);
  });

  test("a node's token reaches its own node alone", async () => {
    const policy: Policy = { permission: "node:read", nodeToken: "self" };
    expect(await codeUnder(policy, `worker@${nodeId}`)).toBeUndefined();
    expect(await codeUnder(policy, `worker@${nodeId}`, otherNode)).toBe(Code.PermissionDenied);
    expect(await codeUnder(policy, "operator", otherNode)).toBeUndefined();
  });
});

describe("rate limits", () => {
  const limits = { public: 2, authenticated: 3, admin: 4, poot: 1, payout: 1, windowMs: 60_000 };

  /** How many calls pass before the first refusal. */
  async function passing(policy: Policy, token: string, max = 10) {
    const { hit, counts } = counters();
    await using server = await startTestServer({ policies: { getNode: policy }, limits, hit });
    for (let passed = 0; passed < max; passed++) {
      const error = await clientOf(server.port, "grpc", token)
        .getNode({ nodeId })
        .then(
          () => undefined,
          (cause) => cause,
        );
      if (error?.code === Code.ResourceExhausted) return { passed, error, keys: [...counts.keys()] };
    }
    return { passed: max, error: undefined, keys: [...counts.keys()] };
  }

  test.each<[Policy, string, number, string[]]>([
    [{ permission: "open" }, "nobody", 2, ["rate:public:127.0.0.1"]],
    [{ permission: "open" }, "operator:ann", 3, ["rate:authenticated:ann"]],
    [{ permission: "token" }, "bad!", 2, ["rate:public:127.0.0.1"]],
    [{ permission: "token" }, "operator:ann", 3, ["rate:authenticated:ann"]],
    [{ permission: "token" }, "admin:root", 4, ["rate:admin:root"]],
    [{ permission: "token", tier: "poot" }, "admin:root", 1, ["rate:poot:root"]],
    [{ permission: "token", tier: "payout" }, "payer:pat", 1, ["rate:payout:pat"]],
    [{ permission: "token", tier: "none" }, "operator:ann", 10, []],
    [{ permission: "open", tier: "none" }, "nobody", 10, []],
  ])("%j under %s passes %i calls", async (policy, token, count, expectedKeys) => {
    const { passed, keys, error } = await passing(policy, token);
    expect([passed, keys]).toEqual([count, expectedKeys]);
    if (!error) return;
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_4291");
    const [retry] = error.findDetails(RetryInfoSchema);
    expect(retry?.retryDelay && durationMs(retry.retryDelay)).toBe(30_000);
  });

  test("health is answered while its caller is limited", async () => {
    const { hit } = counters();
    await using server = await startTestServer({ limits: { ...limits, public: 0, admin: 0 }, hit });
    expect((await failureOf(clientOf(server.port).getNode({ nodeId }))).code).toBe(Code.ResourceExhausted);
    const health = createClient(Health, transportOf(server.port, "grpc", undefined));
    expect((await health.check({ service: "liveness" })).status).toBe(1);
  });

  test("without counters calls pass, except those that move money", async () => {
    const hit = () => Promise.reject(new Error("redis is away"));
    const policies: Record<string, Policy> = {
      getNode: { permission: "token", tier: "payout" },
      startNode: { permission: "token" },
      stopNode: { permission: "token", tier: "payout" },
    };
    const node = { startNode: () => ({}), stopNode: () => ({}) };
    await using server = await startTestServer({ policies, limits, hit, node });
    const client = clientOf(server.port);
    await client.getNode({ nodeId });
    await client.startNode({ nodeId });
    const error = await failureOf(client.stopNode({ nodeId }));
    expect(error.code).toBe(Code.Unavailable);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_5031");
  });
});

describe("policies", () => {
  const complete = (policy: Policy) =>
    policiesOf(AdminService, {
      issueToken: policy,
      refreshToken: policy,
      revokeToken: policy,
      getServiceInfo: policy,
      getServiceHealth: policy,
    });

  test("a complete table passes, and one that lacks an RPC names it", () => {
    const policies = new Map(complete({ permission: "admin" }));
    assertPolicies([AdminService], policies);
    policies.delete("/lucid.node.v1.AdminService/IssueToken");
    expect(() => assertPolicies([AdminService], policies)).toThrow("/lucid.node.v1.AdminService/IssueToken");
  });

  test("`self` on a request that names no node is refused", () => {
    expect(() => assertPolicies([AdminService], complete({ permission: "token", nodeToken: "self" }))).toThrow(
      "node_id",
    );
  });

  test("an RPC without a policy is refused as our own mistake", async () => {
    const gate = createGate({
      policies: new Map(),
      verify: () => Promise.reject(),
      hit: counters().hit,
      limits: undefined,
      nowMs: () => 0,
      random: () => 0,
    });
    await expect(gate.admit({ method: NodeService.method.getNode } as never)).rejects.toMatchObject({
      reason: "LUCID_ERR_5999",
    });
  });
});

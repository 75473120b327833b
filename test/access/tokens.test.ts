// Tokens over their lives: issued, refreshed once, replayed, spent, revoked.
import { describe, expect, test } from "vitest";
import { Role, TokenType } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { tokensCollection } from "../../src/access/tokens.js";
import { connectNode } from "../support/clients/node-stream.js";
import { embeddedEngines } from "../support/engines/engines.js";
import { connectionsOf, connectivityOf } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { createTestClock } from "../support/world/clock.js";
import { expectRefusal, toRefusal } from "../support/world/refusal.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";

const unauthenticated = "Unauthenticated 4011";
const refresh = (world: World, refreshToken: string) => world.as(undefined).admin.refreshToken({ refreshToken });
const anOperator = (world: World) => world.admin.issueToken({ subject: "ops", role: Role.OPERATOR });
const payloadOf = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());

describe("a refresh token", () => {
  test("gives a new pair, and is no access token itself", async () => {
    await using world = await openClockedWorld();
    const pair = await anOperator(world);
    await world.pass(1_000);
    const next = await refresh(world, pair.refreshToken);
    expect(next.accessToken).not.toBe(pair.accessToken);
    await world.as(next.accessToken).nodes.listNodes({});
    await expectRefusal(world.as(pair.refreshToken).nodes.listNodes({}), unauthenticated);
    await expectRefusal(refresh(world, pair.accessToken), unauthenticated);
  });

  test("replayed within 60 s gives the same pair to the letter, later nothing", async () => {
    await using world = await openClockedWorld();
    const { refreshToken } = await anOperator(world);
    const first = await refresh(world, refreshToken);
    await world.pass(60_000, 10_000);
    expect(await refresh(world, refreshToken)).toEqual(first);
    await world.pass(1_000);
    await expectRefusal(refresh(world, refreshToken), unauthenticated);
    await refresh(world, first.refreshToken);
  });

  test("replayed after a crash gives the same pair", async () => {
    await using world = await openClockedWorld();
    const { refreshToken } = await anOperator(world);
    const first = await refresh(world, refreshToken);
    await world.restart("crash");
    expect(await refresh(world, refreshToken)).toEqual(first);
  });

  test("used by many at once gives all the same pair", async () => {
    await using world = await openWorld();
    const { refreshToken } = await anOperator(world);
    const pairs = await Promise.all(Array.from({ length: 20 }, () => refresh(world, refreshToken)));
    expect(new Set(pairs.map((pair) => `${pair.accessToken} ${pair.refreshToken}`)).size).toBe(1);
  });

  test("goes on for months, one after the other, and ends 24 h after the last", async () => {
    await using world = await openClockedWorld();
    let { refreshToken } = await anOperator(world);
    for (let day = 0; day < 60; day++) {
      world.clock.stepWall(86_000_000);
      ({ refreshToken } = await refresh(world, refreshToken));
    }
    world.clock.stepWall(86_431_000);
    await expectRefusal(refresh(world, refreshToken), unauthenticated);
  });

  test("spent a day ago is still spent in the leeway after its end", async () => {
    await using world = await openClockedWorld();
    const { refreshToken } = await anOperator(world);
    await refresh(world, refreshToken);
    world.clock.stepWall(86_400_000 - 60_000);
    await world.pass(70_000, 10_000);
    await expectRefusal(refresh(world, refreshToken), unauthenticated);
  });

  test("from before its node's enrolment was reset gives nothing, and the node's stream ends", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const { refreshToken } = await world.admin.issueToken({ role: Role.WORKER, nodeId });
    const stream = await connectNode(world, nodeId);
    await world.pass(2_000);
    await world.nodes.resetEnrollment({ nodeId });
    expect(toRefusal(await stream.ended())).toMatchObject({ code: "Unauthenticated" });
    await expectRefusal(refresh(world, refreshToken), unauthenticated);
    await world.pass(2_000);
    const fresh = await world.admin.issueToken({ role: Role.WORKER, nodeId });
    await refresh(world, fresh.refreshToken);
  });

  test("of a node that was banned or deleted gives nothing", async () => {
    await using world = await openWorld();
    const [banned, deleted] = [await aNode(world.nodes), await aNode(world.nodes)];
    const issue = ({ nodeId }: { nodeId: string }) => world.admin.issueToken({ role: Role.WORKER, nodeId });
    const [first, second] = [await issue(banned), await issue(deleted)];
    await world.nodes.banNode({ nodeId: banned.nodeId, reason: "fraud" });
    await world.nodes.deleteNode({ nodeId: deleted.nodeId });
    await expectRefusal(refresh(world, first.refreshToken), "PermissionDenied 4031");
    await expectRefusal(refresh(world, second.refreshToken), "NotFound 5001");
    await world.nodes.unbanNode({ nodeId: banned.nodeId });
    await refresh(world, first.refreshToken);
  });

  test("does not keep a node's former role", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes, { nodeType: NodeType.VALIDATOR });
    const { refreshToken } = await world.admin.issueToken({ role: Role.VALIDATOR, nodeId });
    const updateMask = { paths: ["node_type"] };
    await world.nodes.updateNode({ node: { nodeId, nodeType: NodeType.WORKER }, updateMask });
    expect(payloadOf((await refresh(world, refreshToken)).accessToken).role).toBe("worker");
  });
});

describe("a revoked token", () => {
  test("that another service has made for a month is refused for the whole month", async () => {
    await using world = await openClockedWorld();
    const expiresAt = new Date(world.clock.now().getTime() + 30 * 86_400_000);
    const token = await world.token("operator", { jti: "long-lived", expiresAt });
    await world.admin.revokeToken({ jti: "long-lived" });
    world.clock.stepWall(10 * 86_400_000);
    // Long enough for the store to sweep everything that has expired.
    await world.pass(70_000, 10_000);
    await expectRefusal(world.as(token).nodes.listNodes({}), unauthenticated);
    await world.restart("stop");
    await expectRefusal(world.as(token).nodes.listNodes({}), unauthenticated);
  });

  test("is refused at once, after a restart too, and revoking it again is harmless", async () => {
    await using world = await openWorld();
    const pair = await anOperator(world);
    const { nodes } = world.as(pair.accessToken);
    await nodes.listNodes({});
    const jti = String(payloadOf(pair.accessToken).jti);
    await world.admin.revokeToken({ jti });
    await world.admin.revokeToken({ jti });
    await expectRefusal(nodes.listNodes({}), unauthenticated);
    await world.restart("crash");
    await expectRefusal(nodes.listNodes({}), unauthenticated);
  });

  test("of a refresh gives no pair, not even the one it gave before", async () => {
    await using world = await openWorld();
    const { refreshToken } = await anOperator(world);
    await refresh(world, refreshToken);
    await world.admin.revokeToken({ jti: String(payloadOf(refreshToken).jti) });
    await expectRefusal(refresh(world, refreshToken), unauthenticated);
  });

  test("ends its streams within 5 s, and no other of the same connection", async () => {
    await using world = await openWorld();
    const [one, two] = [await aNode(world.nodes), await aNode(world.nodes)];
    const token = await world.nodeToken(one.nodeId, "worker", { jti: "leaked" });
    const [ended, standing] = [await connectNode(world, one.nodeId, { token }), await connectNode(world, two.nodeId)];
    await world.admin.revokeToken({ jti: "leaked" });
    expect(toRefusal(await ended.ended(5_000))).toMatchObject({ code: "Unauthenticated", reason: "4011" });
    await standing.beat();
    const again = connectNode(world, one.nodeId, { token });
    await expectRefusal(again, unauthenticated);
  });

  test("leaves its node to be judged by its silence, and free to come back with another", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await connectNode(world, nodeId, { token: await world.nodeToken(nodeId, "worker", { jti: "leaked" }) });
    await world.admin.revokeToken({ jti: "leaked" });
    await world.pass(30_000);
    await (await connectNode(world, nodeId)).beat();
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
  });
});

describe("a revocation from another replica", () => {
  const revoke = async (world: World, jti: string, at: Date) => {
    const tokens = await world.store.collection<{ _id: string; kind: string; at: Date }>(tokensCollection);
    await tokens.insertOne({ _id: `revoked:${jti}`, kind: "revoked", at });
  };
  const aToken = (world: World, jti: string) => world.token("operator", { jti, expiresAt: later(world, 86_400_000) });
  const later = (world: World, ms: number) => new Date(world.clock.now().getTime() + ms);

  test.each([61_000, 3_600_000, 365 * 86_400_000])(
    "dated %i ms ahead hides none that comes after it",
    async (ahead) => {
      await using world = await openClockedWorld();
      const token = await aToken(world, "after");
      await revoke(world, "ahead", later(world, ahead));
      await world.pass(2_000);
      await revoke(world, "after", await world.store.now());
      await world.pass(2_000);
      await expectRefusal(world.as(token).nodes.listNodes({}), unauthenticated);
      await expectRefusal(world.as(await aToken(world, "ahead")).nodes.listNodes({}), unauthenticated);
    },
  );

  test("dated long ago is found when all are read again", async () => {
    await using world = await openClockedWorld();
    await world.pass(120_000, 10_000);
    const token = await aToken(world, "late");
    await revoke(world, "late", later(world, -3_600_000));
    await world.pass(310_000, 10_000);
    await expectRefusal(world.as(token).nodes.listNodes({}), unauthenticated);
  });

  test("is dated by the store's clock, whatever this machine's says", async () => {
    const storeClock = createTestClock(new Date("2025-01-01T00:00:00Z"));
    await using world = await openWorld({ engines: embeddedEngines(storeClock) });
    await world.admin.revokeToken({ jti: "dated" });
    const tokens = await world.store.collection<{ _id: string; at: Date }>(tokensCollection);
    const found = await tokens.findOne({ _id: "revoked:dated" });
    expect(found?.at).toEqual(storeClock.now());
  });
});

describe("rotation", () => {
  const oldKey = "old:0123456789-0123456789-0123456789-old";
  const newKey = "new:abcdefghij-abcdefghij-abcdefghij-new";

  test("a token of the former key is good while that key is listed", async () => {
    await using before = await openWorld({ settings: { JWT_SECRET_KEY: oldKey } });
    await using during = await openWorld({ settings: { JWT_SECRET_KEY: `${newKey},${oldKey}` } });
    await using after = await openWorld({ settings: { JWT_SECRET_KEY: newKey } });
    const old = (await anOperator(before)).accessToken;
    await during.as(old).nodes.listNodes({});
    await expectRefusal(after.as(old).nodes.listNodes({}), unauthenticated);
    const fresh = (await anOperator(during)).accessToken;
    await after.as(fresh).nodes.listNodes({});
    await expectRefusal(before.as(fresh).nodes.listNodes({}), unauthenticated);
  });
});

describe("an enrolment token", () => {
  test("names an existing node, and lives 15 minutes unless told otherwise", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const request = { subject: "ops", tokenType: TokenType.NODE_ENROLLMENT, nodeId };
    const issued = await world.admin.issueToken(request);
    expect(issued.refreshToken).toBe("");
    expect(Number(payloadOf(issued.accessToken).exp) - Number(payloadOf(issued.accessToken).iat)).toBe(900);
    await expectRefusal(world.admin.issueToken({ ...request, nodeId: "node_unknown" }), "NotFound 5001");
    await expectRefusal(world.admin.issueToken({ ...request, nodeId: "" }), "InvalidArgument 4001");
  });
});

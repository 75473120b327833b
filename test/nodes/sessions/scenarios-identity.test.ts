// T16, T17, T18: the identity of a node, banned nodes, and how a node comes back.
import { describe, expect, test } from "vitest";
import { createMemoryCredentials } from "../../../src/agent/credentials.js";
import { createPassport } from "../../../src/agent/passport.js";
import { tokenPairOf } from "../../../src/client/tokens.js";
import { anIdentity, enroll, enrollmentToken } from "../../support/clients/enroll.js";
import { connectNode, openNodeStream } from "../../support/clients/node-stream.js";
import { connectionsOf, connectivityOf, nodeOf } from "../../support/fleet/look.js";
import { aNode } from "../../support/world/builders.js";
import { expectRefusal, toRefusal } from "../../support/world/refusal.js";
import { until } from "../../support/world/until.js";
import { openClockedWorld } from "../../support/world/world.js";

const day = 86_400_000;
const unknownMessages = "lucid_node_management_unknown_messages_total";

describe("T16 someone else's credentials", () => {
  test("T16 a Hello for another node is PERMISSION_DENIED and leaves that node's record as it was", async () => {
    await using world = await openClockedWorld();
    const mine = await aNode(world.nodes);
    const other = await aNode(world.nodes);
    const stream = openNodeStream(world.as(await world.nodeToken(mine.nodeId)).nodes, { nodeId: other.nodeId });
    await expectRefusal(stream.hello(), "PermissionDenied 4031");
    expect(await nodeOf(world, other.nodeId)).toEqual(other);
  });

  test("T16 nor may it report, read or list for another node", async () => {
    await using world = await openClockedWorld();
    const mine = await aNode(world.nodes);
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(mine.nodeId));
    await expectRefusal(
      nodes.reportHeartbeat({ nodeId, bootId: "a", beat: { sequence: 1n } }),
      "PermissionDenied 4031",
    );
    await expectRefusal(nodes.getNode({ nodeId }), "PermissionDenied 4031");
    await expectRefusal(nodes.listNodeEvents({ nodeId }), "PermissionDenied 4031");
    await expectRefusal(nodes.listNodes({}), "PermissionDenied 4031");
  });

  test("T16 an operator is no node: heartbeats are the node's own", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    for (const role of ["operator", "payer", "approver", "admin"] as const) {
      const stream = openNodeStream(world.as(await world.token(role)).nodes, { nodeId });
      await expectRefusal(stream.hello(), "PermissionDenied 4031");
    }
  });

  test("T16 another key's signature, another pinned key and another node's enrolment token are refused", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const identity = anIdentity(nodeId);
    const thief = anIdentity(nodeId);
    const invited = world.as(await enrollmentToken(world, nodeId));

    const begun = await invited.nodes.beginEnrollment({ nodeId, publicKey: identity.publicKey });
    const { challenge } = begun;
    const signature = thief.sign(challenge);
    await expectRefusal(invited.nodes.completeEnrollment({ nodeId, challenge, signature }), "Unauthenticated 4011");
    expect((await nodeOf(world, nodeId)).keyFingerprint).toBe("");

    await enroll(invited, identity);
    const enrolled = await nodeOf(world, nodeId);
    await expectRefusal(enroll(world.as(undefined), thief), "Unauthenticated 4011");
    await expectRefusal(enroll(world.as(await enrollmentToken(world, nodeId)), thief), "PermissionDenied 4031");
    const { nodeId: elsewhere } = await aNode(world.nodes);
    const forElsewhere = world.as(await enrollmentToken(world, elsewhere));
    await expectRefusal(enroll(forElsewhere, thief), "PermissionDenied 4031");
    expect(await nodeOf(world, nodeId)).toEqual(enrolled);
  });

  test("T16 an enrolment token opens nothing but the enrolment", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await enrollmentToken(world, nodeId));
    await expectRefusal(nodes.getNode({ nodeId }), "Unauthenticated 4011");
    await expectRefusal(openNodeStream(nodes, { nodeId }).hello(), "Unauthenticated 4011");
  });
});

describe("T17 a ban", () => {
  test("T17 ban, beat, re-register, reset, re-register: out until unbanned, then in with a fresh enrolment", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const identity = anIdentity(nodeId);
    const pair = await enroll(world.as(await enrollmentToken(world, nodeId)), identity);
    const stream = await connectNode(world, nodeId, { token: pair.accessToken });
    await stream.beat();

    await world.nodes.banNode({ nodeId, reason: "fraud" });
    expect(toRefusal(await stream.ended(5_000))).toMatchObject({ code: "PermissionDenied", reason: "4031" });
    const node = world.as(pair.accessToken);
    const report = { nodeId, bootId: "boot-1", beat: { sequence: 2n } };
    await expectRefusal(node.nodes.reportHeartbeat(report), "PermissionDenied 4031");
    await expectRefusal(
      node.nodes.reportHeartbeat({ ...report, sessionEpoch: stream.welcome.sessionEpoch }),
      "PermissionDenied 4031",
    );
    await expectRefusal(openNodeStream(node.nodes, { nodeId }).hello(), "PermissionDenied 4031");
    await expectRefusal(enroll(world.as(undefined), identity), "PermissionDenied 4031");
    const { refreshToken } = pair;
    await expectRefusal(world.as(undefined).admin.refreshToken({ refreshToken }), "PermissionDenied 4031");

    await world.nodes.resetEnrollment({ nodeId });
    const fresh = anIdentity(nodeId);
    await expectRefusal(enroll(world.as(await enrollmentToken(world, nodeId)), fresh), "PermissionDenied 4031");

    await world.nodes.unbanNode({ nodeId });
    await expectRefusal(enroll(world.as(undefined), identity), "Unauthenticated 4011");
    const again = await enroll(world.as(await enrollmentToken(world, nodeId)), fresh);
    await world.pass(8_000);
    await (await connectNode(world, nodeId, { token: again.accessToken })).beat();
    await expectRefusal(enroll(world.as(undefined), identity), "Unauthenticated 4011");
  });

  test("T17 a banned node does not stay CONNECTED", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await (await connectNode(world, nodeId)).beat();
    await world.nodes.banNode({ nodeId, reason: "fraud" });
    await world.pass(61_000);
    expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
  });

  test("T17 nor does one that reports by unary calls, and it is refused at once", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    const { sessionEpoch } = await nodes.reportHeartbeat({ nodeId, bootId: "a", beat: { sequence: 1n } });
    await world.nodes.banNode({ nodeId, reason: "fraud" });
    const beat = { sequence: 2n };
    await expectRefusal(nodes.reportHeartbeat({ nodeId, bootId: "a", sessionEpoch, beat }), "PermissionDenied 4031");
    await world.pass(61_000);
    expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
  });

  test("T17 a ban that comes while a session opens finds it", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    let opened = false;
    let banned = false;
    world.beforeStore((operation) => {
      if (operation === "findOneAndUpdate") opened = true;
      if (operation !== "findOne" || !opened || banned) return undefined;
      banned = true;
      return world.nodes.banNode({ nodeId, reason: "fraud" }).then(() => undefined);
    });
    await expectRefusal(connectNode(world, nodeId), "PermissionDenied 4031");
    world.beforeStore(undefined);
    expect(await connectivityOf(world, nodeId)).toBe("NEVER_CONNECTED");
  });

  test("T17 a ban said twice is one event, and so is its end", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    await world.nodes.banNode({ nodeId, reason: "fraud" });
    await world.nodes.banNode({ nodeId, reason: "again" });
    await world.nodes.unbanNode({ nodeId });
    await world.nodes.unbanNode({ nodeId });
    const { events } = await world.nodes.listNodeEvents({ nodeId });
    expect(events.map(({ reason }) => reason)).toEqual(["unbanned", "fraud", "created"]);
  });
});

describe("T18 credentials that ran out", () => {
  test("T18 a laptop closed for a month comes back by its pinned key alone", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const credentials = createMemoryCredentials(nodeId);
    const open = world.as(undefined);
    const passport = createPassport({
      ...open,
      credentials,
      enrollmentToken: await enrollmentToken(world, nodeId),
      now: world.clock.now,
    });
    const first = await passport.token();
    await (await connectNode(world, nodeId, { token: first })).leave();
    world.clock.stepWall(30 * day);

    const old = credentials.tokens();
    await expectRefusal(world.as(first).nodes.getNode({ nodeId }), "Unauthenticated 4011");
    const refreshToken = old?.refreshToken ?? "";
    await expectRefusal(open.admin.refreshToken({ refreshToken }), "Unauthenticated 4011");
    const later = await createPassport({
      ...open,
      credentials,
      enrollmentToken: undefined,
      now: world.clock.now,
    }).token();
    await world.pass(8_000);
    await (await connectNode(world, nodeId, { token: later })).beat();
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
  });

  test("T18 an access token that ran out while away is refreshed", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const credentials = createMemoryCredentials(nodeId);
    const open = world.as(undefined);
    const pair = await enroll(world.as(await enrollmentToken(world, nodeId)), credentials.identity);
    credentials.keep(tokenPairOf(pair));
    world.clock.stepWall(3 * 3_600_000);
    const passport = createPassport({ ...open, credentials, enrollmentToken: undefined, now: world.clock.now });
    const token = await passport.token();
    expect(token).not.toBe(pair.accessToken);
    await (await connectNode(world, nodeId, { token })).beat();
  });

  test("T18 a stream does not outlive its token: Reconnect, then OK, and nobody counts as silent", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const expiresAt = new Date(world.clock.now().getTime() + 20_000);
    const stream = await connectNode(world, nodeId, { token: await world.nodeToken(nodeId, "worker", { expiresAt }) });
    await stream.beat();
    await world.pass(21_000);
    expect((await stream.next("reconnect")).reason).not.toBe("");
    expect(await stream.ended()).toBeUndefined();
    const next = await connectNode(world, nodeId);
    await next.beat();
    expect(await connectionsOf(world, nodeId)).toEqual(["CONNECTED connected"]);
  });

  test("T18 a token that was revoked before Hello opens no session", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId, "worker", { jti: "lost-laptop" }));
    const stream = openNodeStream(nodes, { nodeId });
    stream.send({ message: { case: undefined } });
    await until(async () => (await world.count(unknownMessages)) === 1, "the stream is open");
    await world.admin.revokeToken({ jti: "lost-laptop" });
    await expectRefusal(stream.hello(), "Unauthenticated 4011");
  });

  test("T18 a token that has run out opens no stream, even for one that is open with it", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const expiresAt = new Date(world.clock.now().getTime() + 10_000);
    const token = await world.nodeToken(nodeId, "worker", { expiresAt });
    await connectNode(world, nodeId, { token });
    await world.pass(41_000);
    await expectRefusal(openNodeStream(world.as(token).nodes, { nodeId }).hello(), "Unauthenticated 4011");
  });
});

// Proofs of identity: challenges that are replayed, forged, expired or meant for another node.
import { describe, expect, test } from "vitest";
import { createVault } from "../../src/crypto.js";
import { challengeBody, macBytes } from "../../src/nodes/challenge-form.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { anIdentity, enroll, enrollmentToken } from "../support/clients/enroll.js";
import { connectNode } from "../support/clients/node-stream.js";
import { nodeOf } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";

async function invited(world: World) {
  const { nodeId } = await aNode(world.nodes);
  const identity = anIdentity(nodeId);
  const clients = world.as(await enrollmentToken(world, nodeId));
  const { challenge } = await clients.nodes.beginEnrollment({ nodeId, publicKey: identity.publicKey });
  return { nodeId, identity, clients, challenge, signature: identity.sign(challenge) };
}

describe("an enrolment", () => {
  test("pins the key, and gives tokens that connect", async () => {
    await using world = await openWorld();
    const { nodeId, clients, challenge, signature } = await invited(world);
    const pair = await clients.nodes.completeEnrollment({ nodeId, challenge, signature });
    expect((await nodeOf(world, nodeId)).keyFingerprint).toMatch(/^[0-9a-f]{64}$/);
    await (await connectNode(world, nodeId, { token: pair.accessToken })).beat();
    expect((await world.as(undefined).admin.refreshToken({ refreshToken: pair.refreshToken })).accessToken).not.toBe(
      "",
    );
  });

  test("with a key given at creation needs no enrolment token", async () => {
    await using world = await openWorld();
    const seed = anIdentity("node_seed");
    const { nodeId } = await aNode(world.nodes, { publicKey: seed.publicKey });
    await enroll(world.as(undefined), { ...seed, nodeId });
  });

  test("is done once with one challenge", async () => {
    await using world = await openWorld();
    const { nodeId, clients, challenge, signature } = await invited(world);
    await clients.nodes.completeEnrollment({ nodeId, challenge, signature });
    const replay = world.as(undefined).nodes.completeEnrollment({ nodeId, challenge, signature });
    await expectRefusal(replay, "Unauthenticated 4011");
  });

  test("at once from many with one challenge succeeds once", async () => {
    await using world = await openWorld();
    const { nodeId, clients, challenge, signature } = await invited(world);
    const tries = Array.from({ length: 10 }, () => clients.nodes.completeEnrollment({ nodeId, challenge, signature }));
    const outcomes = await Promise.allSettled(tries);
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  test("at once from two machines with one token pins one key", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const clients = world.as(await enrollmentToken(world, nodeId));
    const tries = [0, 1, 2, 3].map(() => enroll(clients, anIdentity(nodeId)));
    const outcomes = await Promise.allSettled(tries);
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  test("with a token spent before is refused once the key was reset", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const clients = world.as(await enrollmentToken(world, nodeId));
    await enroll(clients, anIdentity(nodeId));
    await world.nodes.resetEnrollment({ nodeId });
    await expectRefusal(enroll(clients, anIdentity(nodeId)), "Unauthenticated 4011");
    await enroll(world.as(await enrollmentToken(world, nodeId)), anIdentity(nodeId));
  });

  test("that the store cut short after the token was spent may be tried again by the same key, and by no other", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const clients = world.as(await enrollmentToken(world, nodeId));
    const identity = anIdentity(nodeId);
    world.beforeStore((operation) => {
      if (operation === "findOneAndUpdate") throw new StoreUnavailableError("cut off");
      return undefined;
    });
    await expectRefusal(enroll(clients, identity), "Unavailable 5031");
    world.beforeStore(undefined);
    await expectRefusal(enroll(clients, anIdentity(nodeId)), "Unauthenticated 4011");
    await enroll(clients, identity);
  });

  test("with the very key and token of before is refused once the enrolment was reset", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const clients = world.as(await enrollmentToken(world, nodeId));
    const identity = anIdentity(nodeId);
    await enroll(clients, identity);
    await world.pass(2_000);
    await world.nodes.resetEnrollment({ nodeId });
    await expectRefusal(enroll(clients, identity), "Unauthenticated 4011");
    await enroll(world.as(await enrollmentToken(world, nodeId)), identity);
  });

  test("with a token that has run out is refused", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const clients = world.as(await enrollmentToken(world, nodeId));
    world.clock.stepWall(931_000);
    await expectRefusal(enroll(clients, anIdentity(nodeId)), "Unauthenticated 4011");
  });

  test("of a node that does not exist is NOT_FOUND with a token, and says no more without one", async () => {
    await using world = await openWorld();
    const identity = anIdentity("node_nobody");
    const { nodeId, publicKey } = identity;
    const token = await world.token("worker", { subject: "ops", nodeId, tokenType: "node_enrollment" });
    await expectRefusal(world.as(token).nodes.beginEnrollment({ nodeId, publicKey }), "NotFound 5001");
  });
});

describe("a challenge", () => {
  test("has the form that the contract says, so that a node can tell what it signs", async () => {
    await using world = await openClockedWorld();
    const { nodeId, identity, challenge } = await invited(world);
    const bytes = Buffer.from(challenge);
    const head = Buffer.from(`lucid.enrollment.v1\n${nodeId}\n`);
    expect(bytes.subarray(0, head.length)).toEqual(head);
    const rest = bytes.subarray(head.length);
    expect(rest).toHaveLength(16 + 8 + 32 + 32);
    expect(Number(rest.readBigUInt64BE(16))).toBe(world.clock.now().getTime() + 120_000);
    expect(rest.subarray(24, 56)).toEqual(Buffer.from(identity.publicKey));
  });

  test("is as long as the contract allows for the longest name of a node", () => {
    const nodeId = `node_${"x".repeat(59)}`;
    const publicKey = new Uint8Array(32);
    const body = challengeBody({ nodeId, random: new Uint8Array(16), expiresAt: new Date(0), publicKey });
    expect(body.length + macBytes).toBeLessThanOrEqual(256);
  });

  test("is good for 120 s", async () => {
    await using world = await openClockedWorld();
    const { nodeId, clients, challenge, signature } = await invited(world);
    world.clock.stepWall(120_000);
    await expectRefusal(clients.nodes.completeEnrollment({ nodeId, challenge, signature }), "Unauthenticated 4011");
  });

  test.each(["stop", "crash"] as const)("serves once, also beyond a %s of the service", async (how) => {
    await using world = await openClockedWorld();
    const { nodeId, clients, challenge, signature } = await invited(world);
    await clients.nodes.completeEnrollment({ nodeId, challenge, signature });
    for (let turn = 0; turn < 2; turn++) {
      await world.restart(how);
      // The same must hold if the wall clock goes back to before the proof.
      if (turn === 1) world.clock.stepWall(-60_000);
      const replay = world.as(undefined).nodes.completeEnrollment({ nodeId, challenge, signature });
      await expectRefusal(replay, "Unauthenticated 4011");
    }
  });

  test("is spent as long as it is good, although the clock steps to and fro", async () => {
    await using world = await openClockedWorld();
    const { nodeId, clients, challenge, signature } = await invited(world);
    await clients.nodes.completeEnrollment({ nodeId, challenge, signature });
    const replay = () => world.as(undefined).nodes.completeEnrollment({ nodeId, challenge, signature });
    world.clock.stepWall(7_200_000);
    // Long enough for the store to sweep everything that has expired.
    await world.pass(70_000, 10_000);
    await expectRefusal(replay(), "Unauthenticated 4011");
    world.clock.stepWall(-7_200_000);
    await expectRefusal(replay(), "Unauthenticated 4011");
  });

  test("with any byte changed is not ours, whoever signs it", async () => {
    await using world = await openWorld();
    const { nodeId, identity, clients, challenge } = await invited(world);
    for (let place = 0; place < challenge.length; place += 8) {
      const forged = Uint8Array.from(challenge, (byte, at) => (at === place ? byte ^ 1 : byte));
      const signature = identity.sign(forged);
      const call = clients.nodes.completeEnrollment({ nodeId, challenge: forged, signature });
      await expectRefusal(call, "Unauthenticated 4011");
    }
    const shorter = challenge.subarray(0, -1);
    await expectRefusal(
      clients.nodes.completeEnrollment({ nodeId, challenge: shorter, signature: identity.sign(shorter) }),
      "Unauthenticated 4011",
    );
  });

  test("of one node serves no other", async () => {
    await using world = await openWorld();
    const { identity, challenge, signature } = await invited(world);
    const { nodeId } = await aNode(world.nodes, { publicKey: identity.publicKey });
    const call = world.as(undefined).nodes.completeEnrollment({ nodeId, challenge, signature });
    await expectRefusal(call, "Unauthenticated 4011");
  });

  test("signed in part, or not at all, is refused", async () => {
    await using world = await openWorld();
    const { nodeId, identity, clients, challenge } = await invited(world);
    for (const signature of [identity.sign(challenge.subarray(0, 10)), new Uint8Array(64)]) {
      const call = clients.nodes.completeEnrollment({ nodeId, challenge, signature });
      await expectRefusal(call, "Unauthenticated 4011");
    }
  });

  test("for a key that is no point of the curve is refused, not an error", async () => {
    await using world = await openWorld();
    const { nodeId } = await aNode(world.nodes);
    const clients = world.as(await enrollmentToken(world, nodeId));
    for (const byte of [0, 1, 255]) {
      const publicKey = new Uint8Array(32).fill(byte);
      const { challenge } = await clients.nodes.beginEnrollment({ nodeId, publicKey });
      const call = clients.nodes.completeEnrollment({ nodeId, challenge, signature: new Uint8Array(64) });
      await expectRefusal(call, "Unauthenticated 4011");
    }
  });
});

describe("sealed text", () => {
  const key = Buffer.alloc(32, 7).toString("base64");

  test("opens under its key alone, and only unchanged", () => {
    const vault = createVault(key);
    const sealed = vault.seal("address");
    expect(vault.open(sealed)).toBe("address");
    expect(vault.seal("address")).not.toBe(sealed);
    expect(() => createVault(Buffer.alloc(32, 8).toString("base64")).open(sealed)).toThrow("Sealed under key");
    expect(() => vault.open(`${sealed.slice(0, -2)}AA`)).toThrow();
    expect(() => vault.open(sealed.split(".").slice(0, 4).join("."))).toThrow("cut short");
    expect(vault.fingerprint("address")).toBe(createVault(key).fingerprint("address"));
  });
});

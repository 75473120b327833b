// T30: a node cannot prove what it has not made: challenges, signatures, outputs that another node has proved.

import { timestampDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "../../src/clock.js";
import { aNode } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { openWorld, type World } from "../support/world/world.js";
import { aNonce, anActiveNode, aProof, prove } from "./proofs.js";
import { aSignerFor, signed } from "./signing.js";

let world: World;
let stepMs = 0;
beforeAll(async () => {
  const clock: Clock = { ...systemClock, now: () => new Date(Date.now() + stepMs) };
  world = await openWorld({ clock });
});
afterAll(() => world[Symbol.asyncDispose]());

const challengeOf = async (nodeId: string) => (await world.poot.issuePoOTChallenge({ nodeId })).nonce;
const refused = async (nodeId: string, nonce: string, from = world) => {
  const refusal = await expectRefusal(from.poot.validatePoOT(aProof(from, nodeId, { nonce })), "InvalidArgument 5005");
  expect(refusal.message).toBe("Invalid nonce");
};

describe("a challenge", () => {
  test("serves its node once, and brings all points of randomness", async () => {
    const nodeId = await anActiveNode(world);
    const { nonce, expiresAt } = await world.poot.issuePoOTChallenge({ nodeId });
    const lifetimeMs = expiresAt === undefined ? 0 : timestampDate(expiresAt).getTime() - world.clock.now().getTime();
    expect(lifetimeMs).toBeGreaterThan(290_000);
    expect(lifetimeMs).toBeLessThanOrEqual(300_000);
    const request = aProof(world, nodeId, { nonce });
    const verdict = await prove(world, request);
    expect(verdict).toMatchObject({ isValid: true, breakdown: { randomness: 20 } });
    expect(await prove(world, request)).toEqual({ ...verdict, replayed: true });
    expect(await prove(world, aProof(world, nodeId, { nonce }))).toMatchObject({ errors: ["nonce_reused"] });
  });

  test("is refused of another node, forged, respelt, or too old", async () => {
    const [one, other] = [await anActiveNode(world), await anActiveNode(world)];
    const nonce = await challengeOf(one);
    await refused(other, nonce);
    for (let place = "poot_ch_".length; place < nonce.length; place += 5) {
      const changed = nonce[place] === "A" ? "B" : "A";
      await refused(one, nonce.slice(0, place) + changed + nonce.slice(place + 1));
    }
    await refused(one, `${nonce}=`);
    await refused(one, `${nonce}A`);
    await refused(one, nonce.slice(0, -1));
    await refused(one, "poot_ch_of_my_own");
    const request = aProof(world, one, { nonce });
    const verdict = await prove(world, request);
    const unused = await challengeOf(one);
    stepMs += 300_001;
    const clients = { ...world, ...world.as(await world.token("admin")) };
    await refused(one, unused, clients);
    // This proof got its verdict in time, so its replay is answered.
    expect(await prove(clients, request)).toEqual({ ...verdict, replayed: true });
    stepMs = 0;
  });

  test("is given to a node itself, and to none that may not prove", async () => {
    const [one, other] = [await anActiveNode(world), await anActiveNode(world)];
    const asOne = world.as(await world.nodeToken(one));
    expect((await asOne.poot.issuePoOTChallenge({ nodeId: one })).nonce).toMatch(/^poot_ch_/);
    await expectRefusal(asOne.poot.issuePoOTChallenge({ nodeId: other }), "PermissionDenied 4031");
    await expectRefusal(world.poot.issuePoOTChallenge({ nodeId: "node_unknown" }), "NotFound 5001");
    const { nodeId: inactive } = await aNode(world.nodes);
    await expectRefusal(world.poot.issuePoOTChallenge({ nodeId: inactive }), "FailedPrecondition 5005");
    await world.nodes.banNode({ nodeId: other, reason: "test" });
    await expectRefusal(world.poot.issuePoOTChallenge({ nodeId: other }), "FailedPrecondition 5005");
  });

  test("is required where the settings say so", async () => {
    await using own = await openWorld({ settings: { POOT_CHALLENGES_REQUIRED: "true" } });
    const nodeId = await anActiveNode(own);
    await refused(nodeId, aNonce(), own);
    const { nonce } = await own.poot.issuePoOTChallenge({ nodeId });
    expect(await prove(own, aProof(own, nodeId, { nonce }))).toMatchObject({ isValid: true });
  });
});

describe("a signature", () => {
  test("that is given is checked, whoever brings it", async () => {
    const { nodeId, sign } = await aSignerFor(world);
    const other = await aSignerFor(world);
    expect(await prove(world, signed(aProof(world, nodeId), sign))).toMatchObject({ isValid: true });
    const request = aProof(world, nodeId);
    const wrong = [
      signed(request, other.sign),
      { ...signed(request, sign), nonce: aNonce() },
      { ...signed(request, sign), outputData: new Uint8Array(5) },
      { ...signed(request, sign), timestamp: { ...request.timestamp, nanos: request.timestamp.nanos ^ 1 } },
      { ...request, signature: new Uint8Array(64) },
    ];
    for (const forged of wrong) {
      const refusal = await expectRefusal(world.poot.validatePoOT(forged), "InvalidArgument 5005");
      expect(refusal.message).toBe("Invalid signature");
    }
    const short = { ...request, signature: new Uint8Array(63) };
    await expectRefusal(world.poot.validatePoOT(short), "InvalidArgument 4001");
    const keyless = await anActiveNode(world);
    await expectRefusal(world.poot.validatePoOT(signed(aProof(world, keyless), sign)), "InvalidArgument 5005");
    expect(await prove(world, request)).toMatchObject({ isValid: true, replayed: false });
  });

  test("is required under HARDWARE_VALIDATION_ENABLED", async () => {
    await using own = await openWorld({ settings: { HARDWARE_VALIDATION_ENABLED: "true" } });
    const { nodeId, sign } = await aSignerFor(own);
    const request = aProof(own, nodeId);
    const refusal = await expectRefusal(own.poot.validatePoOT(request), "InvalidArgument 5005");
    expect(refusal.message).toBe("A signature is required");
    expect(await prove(own, signed(request, sign))).toMatchObject({ isValid: true });
  });
});

describe("an output that another node has proved", () => {
  const shared = "lucid_node_management_poot_shared_outputs_total";

  test("is told of where the settings say so", async () => {
    await using own = await openWorld({ settings: { POOT_SHARED_OUTPUT_EVENTS: "true" } });
    const [one, other] = [await anActiveNode(own), await anActiveNode(own)];
    const outputData = new Uint8Array(30_000).fill(9);
    await prove(own, aProof(own, one, { outputData }));
    await prove(own, aProof(own, one, { outputData }));
    expect(await own.count(shared)).toBe(0);
    expect(await prove(own, aProof(own, other, { outputData }))).toMatchObject({ isValid: true, errors: [] });
    expect(await own.count(shared)).toBe(1);
  });

  test("is nobody's business otherwise", async () => {
    const [one, other] = [await anActiveNode(world), await anActiveNode(world)];
    const outputData = new Uint8Array(30_000).fill(9);
    for (const nodeId of [one, other]) await prove(world, aProof(world, nodeId, { outputData }));
    expect(await world.count(shared)).toBe(0);
  });
});

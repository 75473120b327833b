// PoOTService: a single proof, the reasons to refuse it, its replays and rivals (T30), and later reads of its verdict.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { ProofOutcome } from "../../gen/lucid/node/v1/poot_service_pb.js";
import { standingsCollection, validationsCollection } from "../../src/poot/repository.js";
import type { StandingDocument } from "../../src/poot/standing.js";
import type { ValidationDocument } from "../../src/poot/verdict.js";
import { createLogger } from "../../src/telemetry/log.js";
import { aNode, aPool } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { type ClockedWorld, openClockedWorld } from "../support/world/world.js";
import { aNonce, anActiveNode, aProof, prove, secondsFrom, sha256 } from "./proofs.js";

let world: ClockedWorld;
beforeAll(async () => {
  world = await openClockedWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

const total = "lucid_node_management_poot_validations_total";
const scoreOf = (nodeId: string) => world.poot.getPoOTScore({ nodeId });
const standingOf = async (nodeId: string) =>
  (await world.store.collection<StandingDocument>(standingsCollection)).findOne({ _id: nodeId });

describe("a proof", () => {
  test("is scored, kept and counted", async () => {
    const nodeId = await anActiveNode(world);
    const before = await world.count(total, { status: "valid" });
    const request = aProof(world, nodeId);
    const verdict = await prove(world, request);
    expect(verdict).toMatchObject({
      nodeId,
      outputHash: sha256(request.outputData),
      outputSize: 30_000,
      timestamp: request.timestamp,
      score: 87.5,
      confidence: 0.5,
      isValid: true,
      outcome: ProofOutcome.VALID,
      breakdown: { complexity: 30, freshness: 25, reliability: 12.5, randomness: 20 },
      errors: [],
      batchId: "",
      replayed: false,
      scoreVersion: 1,
    });
    expect(verdict.validationId).toMatch(/^poot_val_[0-9a-hjkmnp-tv-z]{26}$/);
    expect((await world.poot.getPoOTValidation({ validationId: verdict.validationId })).validation).toEqual(verdict);
    expect(await scoreOf(nodeId)).toMatchObject({
      score: 87.5,
      confidence: 0.5,
      validationStatus: ProofOutcome.VALID,
      outputHash: verdict.outputHash,
      sampleSize: 1,
    });
    expect((await scoreOf(nodeId)).reliability).toBeCloseTo(0.7 + 0.3 * 0.875, 9);
    expect(await world.count(total, { status: "valid" })).toBe(before + 1);
    const { node } = await world.nodes.getNode({ nodeId });
    expect(node?.pootScore).toBe(87.5);
  });

  test("does not change its node's version or history", async () => {
    const nodeId = await anActiveNode(world);
    const { node: before } = await world.nodes.getNode({ nodeId });
    await prove(world, aProof(world, nodeId));
    const { node: after } = await world.nodes.getNode({ nodeId });
    expect(after).toEqual({ ...before, pootScore: 87.5 });
  });

  test.each([
    [12_494, 69.99, false],
    [12_495, 70, true],
  ])("of a new node with %d bytes scores %d", async (size, score, isValid) => {
    const nodeId = await anActiveNode(world);
    const verdict = await prove(world, aProof(world, nodeId, { outputData: new Uint8Array(size) }));
    expect(verdict).toMatchObject({ score, isValid, errors: isValid ? [] : ["score_below_threshold"] });
  });

  test("sees the reliability that the one before it left", async () => {
    const nodeId = await anActiveNode(world);
    await prove(world, aProof(world, nodeId, { outputData: new Uint8Array(1) }));
    const second = await prove(world, aProof(world, nodeId));
    // The first proof scored 0.001 + 25 + 12.5 + 20 and was invalid.
    expect(second.breakdown?.reliability).toBeCloseTo(25 * 0.3 * 0.575, 9);
    expect(second.confidence).toBe(0.1);
  });

  test("of the same output within 24 h is told so, and later is not", async () => {
    const nodeId = await anActiveNode(world);
    const outputData = new Uint8Array(30_000).fill(7);
    expect((await prove(world, aProof(world, nodeId, { outputData }))).errors).toEqual([]);
    const second = await prove(world, aProof(world, nodeId, { outputData }));
    expect(second).toMatchObject({ isValid: true, errors: ["duplicate_output"] });
    const other = await anActiveNode(world);
    expect((await prove(world, aProof(world, other, { outputData }))).errors).toEqual([]);
    await using late = await openClockedWorld();
    const lateNode = await anActiveNode(late);
    await prove(late, aProof(late, lateNode, { outputData }));
    late.clock.stepWall(86_400_001);
    const token = await late.token("admin");
    expect((await prove(late.as(token), aProof(late, lateNode, { outputData }))).errors).toEqual([]);
  });

  test("again is answered with its verdict, and counts once", async () => {
    const nodeId = await anActiveNode(world);
    const request = aProof(world, nodeId);
    const first = await prove(world, request);
    for (let again = 0; again < 3; again++) {
      expect(await prove(world, request)).toEqual({ ...first, replayed: true });
    }
    expect(await scoreOf(nodeId)).toMatchObject({ sampleSize: 1 });
  });

  test("again is answered even when it could no longer be judged", async () => {
    await using own = await openClockedWorld();
    const nodeId = await anActiveNode(own);
    const request = aProof(own, nodeId);
    const first = await prove(own, request);
    const rival = aProof(own, nodeId, { nonce: request.nonce });
    const reused = await prove(own, rival);
    expect(reused.errors).toEqual(["nonce_reused"]);
    await own.nodes.stopNode({ nodeId });
    expect(await prove(own, request)).toEqual({ ...first, replayed: true });
    expect(await prove(own, rival)).toEqual({ ...reused, replayed: true });
    await expectRefusal(own.poot.validatePoOT(aProof(own, nodeId)), "FailedPrecondition 5005");
    await own.nodes.startNode({ nodeId });
    own.clock.stepWall(90_000_000);
    const later = own.as(await own.token("admin"));
    expect(await prove(later, request)).toEqual({ ...first, replayed: true });
    await expectRefusal(later.poot.validatePoOT({ ...request, outputData: new Uint8Array(5) }), "InvalidArgument 5005");
  });

  test("another with a spent nonce is invalid, once, and never counts", async () => {
    const nodeId = await anActiveNode(world);
    const first = await prove(world, aProof(world, nodeId));
    const nonce = aNonce();
    const held = await prove(world, aProof(world, nodeId, { nonce }));
    const rival = aProof(world, nodeId, { nonce });
    const reused = await prove(world, rival);
    expect(reused).toMatchObject({
      isValid: false,
      score: 0,
      confidence: 0,
      errors: ["nonce_reused"],
      replayed: false,
    });
    expect(reused.breakdown).toBeUndefined();
    expect(await prove(world, rival)).toEqual({ ...reused, replayed: true });
    // Another nanosecond in the time makes it another proof, too.
    const closely = { ...aProof(world, nodeId, { nonce }), timestamp: { ...rival.timestamp, nanos: 1 } };
    expect((await world.poot.validatePoOT(closely)).validation).toMatchObject({ errors: ["nonce_reused"] });
    expect(await scoreOf(nodeId)).toMatchObject({ sampleSize: 2, score: held.score });
    expect(first.validationId).not.toBe(held.validationId);
    const statistics = await world.poot.getPoOTStatistics({ nodeId });
    expect(statistics).toMatchObject({ total: 2n, valid: 2n, invalid: 0n });
  });

  test("with a nonce that another node has spent is judged by itself", async () => {
    const [one, other] = [await anActiveNode(world), await anActiveNode(world)];
    const nonce = aNonce();
    await prove(world, aProof(world, one, { nonce }));
    expect(await prove(world, aProof(world, other, { nonce }))).toMatchObject({ isValid: true });
  });

  test("comes by JSON with up to 1 MiB, and an over-long body is refused", async () => {
    const nodeId = await anActiveNode(world);
    const token = await world.nodeToken(nodeId);
    const call = (bytes: number) =>
      fetch(`${world.baseUrl}/lucid.node.v1.PoOTService/ValidatePoOT`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
        body: JSON.stringify({
          node_id: nodeId,
          output_data: Buffer.alloc(bytes, 3).toString("base64"),
          timestamp: world.clock.now().toISOString(),
          nonce: aNonce(),
        }),
      });
    const good = await call(1_048_576);
    expect(good.status).toBe(200);
    const { validation } = (await good.json()) as { validation: Record<string, unknown> };
    expect(validation).toMatchObject({ is_valid: true, output_size: 1_048_576, outcome: "PROOF_OUTCOME_VALID" });
    expect(validation.output_hash).toBe(sha256(Buffer.alloc(1_048_576, 3)));
    const tooLarge = await call(1_048_577);
    expect(await tooLarge.json()).toMatchObject({ code: "invalid_argument", message: "Output data too large" });
    expect(await (await call(1_300_000)).json()).toMatchObject({ code: "resource_exhausted" });
  });
});

describe("a proof is refused", () => {
  test("for its output, its nonce and its time, each with its message", async () => {
    const nodeId = await anActiveNode(world);
    const cases: [string, Parameters<typeof aProof>[2]][] = [
      ["Output data is empty", { outputData: new Uint8Array() }],
      ["Output data too large", { outputData: new Uint8Array(1_048_577) }],
      ["Invalid nonce", { nonce: "1234567" }],
      ["Invalid nonce", { nonce: "x".repeat(257) }],
      ["Invalid nonce", { nonce: "with a space" }],
      ["Timestamp out of valid range", { timestamp: secondsFrom(world, -86_400.001) }],
      ["Timestamp out of valid range", { timestamp: secondsFrom(world, 60.001) }],
    ];
    for (const [message, tweaks] of cases) {
      const refusal = await expectRefusal(
        world.poot.validatePoOT(aProof(world, nodeId, tweaks)),
        "InvalidArgument 5005",
      );
      expect(refusal.message).toBe(message);
    }
    const { timestamp: _, ...timeless } = aProof(world, nodeId);
    expect((await expectRefusal(world.poot.validatePoOT(timeless), "InvalidArgument 5005")).message).toBe(
      "Timestamp out of valid range",
    );
  });

  test("not at the edges of these rules", async () => {
    const nodeId = await anActiveNode(world);
    const edges: Parameters<typeof aProof>[2][] = [
      { outputData: new Uint8Array(1) },
      { outputData: new Uint8Array(1_048_576) },
      { nonce: aNonce().slice(0, 8) },
      { nonce: aNonce().slice(0, 15) },
      { nonce: aNonce().slice(0, 16) },
      { nonce: aNonce().repeat(10).slice(0, 256) },
      { timestamp: secondsFrom(world, -86_400) },
      { timestamp: secondsFrom(world, 60) },
    ];
    for (const tweaks of edges) expect((await prove(world, aProof(world, nodeId, tweaks))).replayed).toBe(false);
  });

  test("of an unknown, an inactive and a banned node", async () => {
    await expectRefusal(world.poot.validatePoOT(aProof(world, "node_unknown")), "NotFound 5001");
    const { nodeId: inactive } = await aNode(world.nodes);
    const refusal = await expectRefusal(world.poot.validatePoOT(aProof(world, inactive)), "FailedPrecondition 5005");
    expect(refusal.message).toBe("Node not found or inactive");
    const banned = await anActiveNode(world);
    await world.nodes.banNode({ nodeId: banned, reason: "test" });
    await expectRefusal(world.poot.validatePoOT(aProof(world, banned)), "FailedPrecondition 5005");
  });

  test("under another node's token", async () => {
    const [one, other] = [await anActiveNode(world), await anActiveNode(world)];
    const clients = world.as(await world.nodeToken(one));
    await expectRefusal(clients.poot.validatePoOT(aProof(world, other)), "PermissionDenied 4031");
    expect(await prove(clients, aProof(world, one))).toMatchObject({ isValid: true });
  });

  test("spends nothing, leaves no verdict, and is counted as rejected", async () => {
    const nodeId = await anActiveNode(world);
    const before = await world.count(total, { status: "rejected" });
    const nonce = aNonce();
    await expectRefusal(
      world.poot.validatePoOT(aProof(world, nodeId, { nonce, outputData: new Uint8Array() })),
      "InvalidArgument 5005",
    );
    expect(await world.count(total, { status: "rejected" })).toBe(before + 1);
    await world.pass(4_000);
    expect(await world.poot.getPoOTStatistics({ nodeId })).toMatchObject({ total: 1n, rejected: 1n, valid: 0n });
    expect(await prove(world, aProof(world, nodeId, { nonce }))).toMatchObject({ isValid: true, replayed: false });
    expect(await world.poot.getPoOTStatistics({ nodeId })).toMatchObject({ total: 2n, rejected: 1n, valid: 1n });
    expect((await world.poot.listPoOTValidations({ nodeId })).pagination?.total).toBe(1);
  });

  test("is told in the log, and its count outlives an orderly restart", async () => {
    const lines: string[] = [];
    const write = (line: string) => void lines.push(line);
    const log = createLogger({ level: "INFO", format: "json", service: "test", version: "1", write });
    await using own = await openClockedWorld({ log });
    const nodeId = await anActiveNode(own);
    await expectRefusal(own.poot.validatePoOT(aProof(own, nodeId, { nonce: "short" })), "InvalidArgument 5005");
    const told = lines.map((line) => JSON.parse(line)).find(({ message }) => message === "A proof was refused");
    expect(told).toMatchObject({ level: "INFO", node_id: nodeId, reason: "LUCID_ERR_5005", problem: "Invalid nonce" });
    await own.restart("stop");
    expect(await own.poot.getPoOTStatistics({ nodeId })).toMatchObject({ total: 1n, rejected: 1n });
  });

  test("when the store is away: nothing is spent and it may come again", async () => {
    const nodeId = await anActiveNode(world);
    const failed = await world.count(total, { status: "failed" });
    const request = aProof(world, nodeId);
    world.storeAway(true);
    const refusal = await expectRefusal(world.poot.validatePoOT(request), "Unavailable 5031");
    world.storeAway(false);
    expect(refusal.retryAfterMs).toBeGreaterThan(0);
    expect(await world.count(total, { status: "failed" })).toBe(failed + 1);
    expect(await prove(world, request)).toMatchObject({ isValid: true, replayed: false });
  });

  test("that is stored and cannot be counted is answered, and counted by the leader", async () => {
    const nodeId = await anActiveNode(world);
    let inserted = false;
    world.beforeStore((operation) => {
      if (inserted) world.storeAway(true);
      if (operation === "insertOne") inserted = true;
      return undefined;
    });
    const verdict = await prove(world, aProof(world, nodeId));
    world.beforeStore(undefined);
    world.storeAway(false);
    expect(verdict.isValid).toBe(true);
    expect(await scoreOf(nodeId)).toMatchObject({ sampleSize: 0 });
    await world.pass(8_000);
    expect(await scoreOf(nodeId)).toMatchObject({ sampleSize: 1, score: 87.5 });
    expect((await world.nodes.getNode({ nodeId })).node?.pootScore).toBe(87.5);
    const left = (await world.store.collection<ValidationDocument>(validationsCollection)).count(
      { node_id: nodeId, uncounted: true },
      { index: "idx_uncounted" },
    );
    expect(await left).toBe(0);
  });
});

describe("shape", () => {
  test("ids, signatures and windows are refused as malformed, with their field", async () => {
    const { poot } = world;
    const node = aProof(world, "node_unknown");
    const malformed: [string, () => Promise<unknown>][] = [
      ["node_id", () => poot.validatePoOT({ ...node, nodeId: "" })],
      ["node_id", () => poot.validatePoOT({ ...node, nodeId: "node_a.b" })],
      ["node_id", () => poot.validatePoOT({ ...node, nodeId: `node_${"x".repeat(60)}` })],
      ["signature", () => poot.validatePoOT({ ...node, signature: new Uint8Array(65) })],
      [
        "validations[1].node_id",
        () => poot.batchValidatePoOT({ validations: [node, { ...node, nodeId: "pool_unknown" }] }),
      ],
      ["validation_id", () => poot.getPoOTValidation({ validationId: "poot_val_" })],
      ["validation_id", () => poot.getPoOTValidation({ validationId: "batch_unknown" })],
      ["validation_id", () => poot.getPoOTValidation({ validationId: `poot_val_${"x".repeat(56)}` })],
      ["batch_id", () => poot.listPoOTValidations({ batchId: "batch_" })],
      ["outcome", () => poot.listPoOTValidations({ outcome: ProofOutcome.REJECTED })],
      ["limit", () => poot.listPoOTValidations({ limit: 101 })],
      ["since", () => poot.listPoOTValidations({ since: { seconds: 253_402_300_800n, nanos: 0 } })],
      ["pool_id", () => poot.getPoOTLeaderboard({ poolId: "node_unknown" })],
      ["window", () => poot.getPoOTLeaderboard({ window: { seconds: 3_599n, nanos: 0 } })],
      ["window", () => poot.getPoOTLeaderboard({ window: { seconds: 2_592_001n, nanos: 0 } })],
    ];
    for (const [field, call] of malformed) {
      const { fields } = await expectRefusal(call(), "InvalidArgument 4001");
      expect([...new Set(fields)]).toEqual([field]);
    }
  });
});

describe("rivals", () => {
  test("of 200 that send one proof at once one verdict counts, and all get it", async () => {
    const nodeId = await anActiveNode(world);
    const request = aProof(world, nodeId);
    const verdicts = await Promise.all(Array.from({ length: 200 }, () => prove(world, request)));
    expect(new Set(verdicts.map(({ validationId }) => validationId)).size).toBe(1);
    expect(verdicts.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(await scoreOf(nodeId)).toMatchObject({ sampleSize: 1 });
  });

  test("of 200 that send one nonce with proofs of their own one counts, the others are told", async () => {
    const nodeId = await anActiveNode(world);
    const nonce = aNonce();
    const verdicts = await Promise.all(
      Array.from({ length: 200 }, (_, place) =>
        prove(world, aProof(world, nodeId, { nonce, outputData: new Uint8Array(30_000 + place) })),
      ),
    );
    expect(verdicts.filter(({ isValid }) => isValid)).toHaveLength(1);
    const others = verdicts.filter(({ isValid }) => !isValid);
    expect(others.every(({ errors }) => errors.join() === "nonce_reused")).toBe(true);
    expect(await scoreOf(nodeId)).toMatchObject({ sampleSize: 1 });
    expect(await standingOf(nodeId)).toMatchObject({ valid: 1, invalid: 0 });
  });

  test("of one node with 120 proofs at once all count, each once", async () => {
    const nodeId = await anActiveNode(world);
    await Promise.all(Array.from({ length: 120 }, () => prove(world, aProof(world, nodeId))));
    expect(await standingOf(nodeId)).toMatchObject({ valid: 120, invalid: 0 });
    expect((await standingOf(nodeId))?.recent).toHaveLength(100);
  });
});

describe("what is told of proofs", () => {
  test("a node without one", async () => {
    const nodeId = await anActiveNode(world);
    const told = await scoreOf(nodeId);
    expect(told).toMatchObject({ nodeId, reliability: 0.5, sampleSize: 0, outputHash: "" });
    expect([told.score, told.confidence, told.calculatedAt]).toEqual([undefined, undefined, undefined]);
    expect(told.validationStatus).toBe(ProofOutcome.UNSPECIFIED);
    await expectRefusal(scoreOf("node_unknown"), "NotFound 5001");
    await expectRefusal(world.poot.getPoOTValidation({ validationId: "poot_val_none" }), "NotFound 5001");
    const statistics = await world.poot.getPoOTStatistics({ nodeId });
    expect([statistics.total, statistics.averageScore, statistics.validityRate]).toEqual([0n, undefined, undefined]);
  });

  test("a dry run scores as the proof would, and keeps and spends nothing", async () => {
    const nodeId = await anActiveNode(world);
    const request = aProof(world, nodeId);
    const { timestamp, nonce } = request;
    const dry = { nodeId, outputSize: 30_000n, timestamp, nonce };
    const told = await world.poot.calculatePoOTScore(dry);
    expect((await world.poot.listPoOTValidations({ nodeId })).validations).toEqual([]);
    const verdict = await prove(world, request);
    expect(verdict.replayed).toBe(false);
    expect(told).toMatchObject({ score: verdict.score, breakdown: verdict.breakdown });
    const refusals: [string, object][] = [
      ["Output data is empty", { outputSize: 0n }],
      ["Output data is empty", { outputSize: -1n }],
      ["Output data too large", { outputSize: 1_048_577n }],
      ["Invalid nonce", { nonce: "short" }],
      ["Timestamp out of valid range", { timestamp: secondsFrom(world, 61) }],
    ];
    for (const [message, tweaks] of refusals) {
      const refusal = await expectRefusal(world.poot.calculatePoOTScore({ ...dry, ...tweaks }), "InvalidArgument 5005");
      expect(refusal.message).toBe(message);
    }
    await expectRefusal(world.poot.calculatePoOTScore({ ...dry, nodeId: "node_unknown" }), "NotFound 5001");
  });

  test("lists, newest first, by node, outcome, batch and time, in pages", async () => {
    await using own = await openClockedWorld();
    const [one, other] = [await anActiveNode(own), await anActiveNode(own)];
    const made: string[] = [];
    for (let at = 0; at < 5; at++) {
      const outputData = new Uint8Array(at === 2 ? 1 : 30_000).fill(at);
      made.unshift((await prove(own, aProof(own, one, { outputData }))).validationId);
      await own.clock.advance(1000);
    }
    const middle = own.clock.now();
    const { batchId } = await own.poot.batchValidatePoOT({ validations: [aProof(own, other), aProof(own, other)] });
    const list = async (request: Parameters<typeof own.poot.listPoOTValidations>[0]) =>
      (await own.poot.listPoOTValidations(request)).validations.map(({ validationId }) => validationId);
    expect(await list({ nodeId: one })).toEqual(made);
    expect(await list({ nodeId: one, outcome: ProofOutcome.VALID })).toEqual(made.filter((_, at) => at !== 2));
    expect(await list({ outcome: ProofOutcome.INVALID })).toEqual([made[2]]);
    expect(await list({ batchId })).toHaveLength(2);
    expect(await list({})).toHaveLength(7);
    const until = { seconds: BigInt(middle.getTime() / 1000), nanos: 0 };
    expect(await list({ until })).toEqual(made);
    expect(await list({ since: until })).toHaveLength(2);
    const first = await own.poot.listPoOTValidations({ nodeId: one, limit: 2 });
    expect(first.pagination).toMatchObject({ total: 5, pages: 3, page: 1 });
    const value = first.pagination?.nextPageToken ?? "";
    expect(await list({ nodeId: one, limit: 2, position: { case: "pageToken", value } })).toEqual(made.slice(2, 4));
    await expectRefusal(
      list({ nodeId: other, limit: 2, position: { case: "pageToken", value } }),
      "InvalidArgument 4001",
    );
  });

  test("statistics of a node and of a pool, over hours and days", async () => {
    await using own = await openClockedWorld();
    const { poolId } = await aPool(own.pools);
    const [one, other] = [
      await anActiveNode(own, { initialPoolId: poolId }),
      await anActiveNode(own, { initialPoolId: poolId }),
    ];
    await prove(own, aProof(own, one));
    await prove(own, aProof(own, other, { outputData: new Uint8Array(1) }));
    own.clock.stepWall(5 * 3_600_000);
    const clients = own.as(await own.token("admin"));
    await prove(clients, aProof(own, one));
    const hours = (count: number) => ({ seconds: BigInt(count * 3600), nanos: 0 });
    const of = clients.poot.getPoOTStatistics;
    expect(await of({ nodeId: one, window: hours(2) })).toMatchObject({ total: 1n, valid: 1n });
    expect(await of({ nodeId: one })).toMatchObject({ total: 2n, valid: 2n, validityRate: 1 });
    const pool = await of({ poolId, window: hours(24) });
    expect(pool).toMatchObject({ total: 3n, valid: 2n, invalid: 1n });
    expect(pool.validityRate).toBeCloseTo(2 / 3, 9);
    expect(await of({ poolId, window: hours(720) })).toMatchObject({ total: 3n });
    await expectRefusal(of({}), "InvalidArgument 4001");
    await expectRefusal(of({ nodeId: one, poolId }), "InvalidArgument 4001");
    await expectRefusal(of({ nodeId: "node_unknown" }), "NotFound 5001");
    await expectRefusal(of({ poolId: "pool_unknown" }), "NotFound 5002");
    for (const window of [hours(0.5), hours(721), { seconds: 3599n, nanos: 0 }]) {
      await expectRefusal(of({ nodeId: one, window }), "InvalidArgument 4001");
    }
  });

  test("a leaderboard of all and of a pool, without the silent and the deleted", async () => {
    await using own = await openClockedWorld();
    const { poolId } = await aPool(own.pools);
    const sizes = [5_000, 30_000, 20_000, 10_000];
    const nodeIds: string[] = [];
    for (const [place, size] of sizes.entries()) {
      const nodeId = await anActiveNode(own, place < 2 ? { initialPoolId: poolId } : {});
      nodeIds.push(nodeId);
      await prove(own, aProof(own, nodeId, { outputData: new Uint8Array(size) }));
    }
    const [low, best, second, third] = nodeIds;
    const board = async (request: Parameters<typeof own.poot.getPoOTLeaderboard>[0], clients = own.as(undefined)) =>
      (await clients.poot.getPoOTLeaderboard(request)).entries.map(({ nodeId }) => nodeId);
    const admin = own.as(await own.token("admin"));
    const { entries } = await admin.poot.getPoOTLeaderboard({});
    expect(entries.map(({ rank, nodeId, score }) => [rank, nodeId, score])).toEqual([
      [1, best, 87.5],
      [2, second, 77.5],
      [3, third, 67.5],
      [4, low, 62.5],
    ]);
    expect(entries.map(({ valid }) => valid)).toEqual([1n, 1n, 0n, 0n]);
    expect(await board({ limit: 2 }, admin)).toEqual([best, second]);
    expect(await board({ poolId }, admin)).toEqual([best, low]);
    await expectRefusal(board({ poolId: "pool_unknown" }, admin), "NotFound 5002");
    own.clock.stepWall(2 * 3_600_000);
    const later = own.as(await own.token("admin"));
    await prove(later, aProof(own, third ?? "", { outputData: new Uint8Array(10_001) }));
    expect(await board({ window: { seconds: 3600n, nanos: 0 } }, later)).toEqual([third]);
    await later.nodes.stopNode({ nodeId: best ?? "" });
    await later.nodes.deleteNode({ nodeId: best ?? "" });
    expect((await board({}, later))[0]).toBe(second);
    for (const limit of [-1, 201]) await expectRefusal(board({ limit }, later), "InvalidArgument 4001");
  });

  test("a worker reads its own score and nothing else, a validator reads verdicts", async () => {
    const [worker, validator] = [
      await anActiveNode(world),
      await anActiveNode(world, { nodeType: NodeType.VALIDATOR }),
    ];
    const asWorker = world.as(await world.nodeToken(worker));
    const asValidator = world.as(await world.nodeToken(validator, "validator"));
    expect(await asWorker.poot.getPoOTScore({ nodeId: worker })).toMatchObject({ sampleSize: 0 });
    await expectRefusal(asWorker.poot.getPoOTScore({ nodeId: validator }), "PermissionDenied 4031");
    await expectRefusal(asWorker.poot.listPoOTValidations({ nodeId: worker }), "PermissionDenied 4031");
    await asValidator.poot.listPoOTValidations({ nodeId: worker });
  });
});

// Batches: order, duplicates inside, items that fail alone or come too late, and calls that compete with a batch.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { BatchPoOTResult, BatchValidatePoOTResponse } from "../../gen/lucid/node/v1/poot_service_pb.js";
import { type Clock, systemClock } from "../../src/clock.js";
import { reliabilityOf } from "../../src/poot/score.js";
import { expectRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import { openClockedWorld, openWorld, type World } from "../support/world/world.js";
import { aNonce, anActiveNode, aProof, type ProofRequest, prove } from "./proofs.js";
import { aSignerFor, signed } from "./signing.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

type Signed = ProofRequest & { readonly signature?: Uint8Array<ArrayBuffer> };
const send = (validations: readonly Signed[], { poot }: Pick<World, "poot"> = world) =>
  poot.batchValidatePoOT({ validations: [...validations] });

/** A result in short words: "valid", "invalid nonce_reused", "replayed valid", "error 9 LUCID_ERR_5005". */
function outcomeOf({ result }: BatchPoOTResult): string {
  if (result.case === "error") return `error ${result.value.code} ${result.value.reason}`.trim();
  if (result.case === undefined) return "nothing";
  const { isValid, errors, replayed } = result.value;
  return [replayed ? "replayed" : "", isValid ? "valid" : "invalid", ...errors].filter((word) => word !== "").join(" ");
}
const outcomesOf = ({ results }: BatchValidatePoOTResponse) => results.map(outcomeOf);
const verdictsOf = ({ results }: BatchValidatePoOTResponse) =>
  results.flatMap(({ result }) => (result.case === "validation" ? [result.value] : []));
const small = () => new Uint8Array(randomBytes(20));

describe("a batch", () => {
  test("answers in its order, each item by itself", async () => {
    const [one, other] = [await anActiveNode(world), await anActiveNode(world)];
    const banned = await anActiveNode(world);
    await world.nodes.banNode({ nodeId: banned, reason: "test" });
    const answer = await send([
      aProof(world, one),
      aProof(world, other, { outputData: small() }),
      aProof(world, "node_unknown"),
      aProof(world, one, { outputData: new Uint8Array() }),
      aProof(world, banned),
      aProof(world, other, { nonce: "short" }),
      aProof(world, one),
    ]);
    expect(answer.batchId).toMatch(/^batch_[0-9a-hjkmnp-tv-z]{26}$/);
    expect(outcomesOf(answer)).toEqual([
      "valid",
      "invalid score_below_threshold",
      "error 5 LUCID_ERR_5001",
      "error 3 LUCID_ERR_5005",
      "error 9 LUCID_ERR_5005",
      "error 3 LUCID_ERR_5005",
      "valid",
    ]);
    expect(answer.results[3]?.result.value).toMatchObject({ message: "Output data is empty" });
    expect(answer.summary).toMatchObject({ total: 7, valid: 2, invalid: 1, errors: 4 });
    const listed = await world.poot.listPoOTValidations({ batchId: answer.batchId });
    expect(listed.pagination?.total).toBe(3);
    for (const verdict of verdictsOf(answer)) {
      expect(verdict.batchId).toBe(answer.batchId);
      expect((await world.poot.getPoOTValidation({ validationId: verdict.validationId })).validation).toEqual(verdict);
    }
    expect(await world.poot.getPoOTScore({ nodeId: one })).toMatchObject({ sampleSize: 2 });
  });

  test("lets each item see the reliability that those before it left", async () => {
    const nodeId = await anActiveNode(world);
    await prove(world, aProof(world, nodeId));
    const sizes = [30_000, 10, 30_000, 5_000, 30_000];
    const answer = await send(
      sizes.map((size) => aProof(world, nodeId, { outputData: new Uint8Array(randomBytes(size)) })),
    );
    const history = [{ valid: true, score: 87.5 }];
    const { validations } = await world.poot.listPoOTValidations({ nodeId });
    history[0] = { valid: true, score: validations.at(-1)?.score ?? 0 };
    for (const { breakdown, score, isValid } of verdictsOf(answer)) {
      expect(breakdown?.reliability).toBeCloseTo(25 * reliabilityOf(history), 9);
      history.push({ valid: isValid, score });
    }
    expect((await world.poot.getPoOTScore({ nodeId })).reliability).toBeCloseTo(reliabilityOf(history), 9);
  });

  test("catches duplicates inside itself", async () => {
    const nodeId = await anActiveNode(world);
    const nonce = aNonce();
    const first = aProof(world, nodeId, { nonce });
    const rival = aProof(world, nodeId, { nonce });
    const answer = await send([first, rival, first, rival, aProof(world, nodeId, { outputData: first.outputData })]);
    expect(outcomesOf(answer)).toEqual([
      "valid",
      "invalid nonce_reused",
      "replayed valid",
      "replayed invalid nonce_reused",
      "valid duplicate_output",
    ]);
    const [held, reused, again, reusedAgain] = verdictsOf(answer);
    expect(again?.validationId).toBe(held?.validationId);
    expect(reusedAgain?.validationId).toBe(reused?.validationId);
    expect(await world.poot.getPoOTScore({ nodeId })).toMatchObject({ sampleSize: 2 });
  });

  test("sent again is answered with the same verdicts and counts once", async () => {
    const nodes = await Promise.all([anActiveNode(world), anActiveNode(world), anActiveNode(world)]);
    const batch = Array.from({ length: 30 }, (_, at) => aProof(world, nodes[at % 3] ?? ""));
    const first = await send(batch);
    const again = await send(batch);
    expect(again.batchId).not.toBe(first.batchId);
    expect(verdictsOf(again)).toEqual(verdictsOf(first).map((verdict) => ({ ...verdict, replayed: true })));
    for (const nodeId of nodes) expect((await world.poot.getPoOTScore({ nodeId })).sampleSize).toBe(10);
  });

  test("with replays of good proofs gains nothing by them", async () => {
    const nodeId = await anActiveNode(world);
    const good = aProof(world, nodeId);
    await prove(world, good);
    await prove(world, aProof(world, nodeId, { outputData: small() }));
    const { reliability } = await world.poot.getPoOTScore({ nodeId });
    const answer = await send([...Array.from({ length: 20 }, () => good), aProof(world, nodeId)]);
    expect(verdictsOf(answer).at(-1)?.breakdown?.reliability).toBeCloseTo(25 * reliability, 9);
  });

  test("of 1000 is taken, of 0 and of 1001 refused", { timeout: 120_000 }, async () => {
    const nodes = await Promise.all(Array.from({ length: 4 }, () => anActiveNode(world)));
    const items = (count: number) =>
      Array.from({ length: count }, (_, at) =>
        aProof(world, nodes[at % nodes.length] ?? "", { outputData: new Uint8Array(randomBytes(1024)) }),
      );
    const answer = await send(items(1000));
    expect(answer.summary).toMatchObject({ total: 1000, errors: 0 });
    expect(new Set(verdictsOf(answer).map(({ validationId }) => validationId)).size).toBe(1000);
    for (const nodeId of nodes) {
      expect(await world.poot.getPoOTScore({ nodeId })).toMatchObject({ sampleSize: 100 });
      expect(await world.poot.getPoOTStatistics({ nodeId })).toMatchObject({ total: 250n });
    }
    await expectRefusal(send([]), "InvalidArgument 4001");
    await expectRefusal(send(items(1001)), "InvalidArgument 4001");
  });

  test("fails whole when the store is away, spends nothing and may come again", async () => {
    const nodeId = await anActiveNode(world);
    const batch = [aProof(world, nodeId), aProof(world, nodeId)];
    world.beforeStore((operation) => {
      if (operation === "insertMany") world.storeAway(true);
      return undefined;
    });
    await expectRefusal(send(batch), "Unavailable 5031");
    world.beforeStore(undefined);
    world.storeAway(false);
    expect(outcomesOf(await send(batch))).toEqual(["valid", "valid"]);
  });

  test("whose nonce one of its own proofs spends elsewhere in the meantime tells each proof the truth", async () => {
    await using own = await openClockedWorld();
    const nodeId = await anActiveNode(own);
    // After this the log of nodes is written, so the batch makes the next insert of many.
    await own.pass(2_000);
    const nonce = aNonce();
    const [first, second] = [aProof(own, nodeId, { nonce }), aProof(own, nodeId, { nonce })];
    let elsewhere: Awaited<ReturnType<typeof prove>> | undefined;
    own.beforeStore((operation) => {
      if (operation !== "insertMany") return undefined;
      own.beforeStore(undefined);
      return prove(own, second).then((verdict) => {
        elsewhere = verdict;
      });
    });
    const answer = await send([first, second, first], own);
    expect(outcomesOf(answer)).toEqual(["invalid nonce_reused", "replayed valid", "replayed invalid nonce_reused"]);
    expect(verdictsOf(answer)[1]?.validationId).toBe(elsewhere?.validationId);
    expect(await own.poot.getPoOTScore({ nodeId })).toMatchObject({ sampleSize: 1 });
  });

  test("that two send at once gives each proof one verdict", async () => {
    const nodeId = await anActiveNode(world);
    const nonce = aNonce();
    const shared = Array.from({ length: 40 }, () => aProof(world, nodeId));
    const batches = Array.from({ length: 5 }, () => [...shared, aProof(world, nodeId, { nonce })]);
    const answers = await Promise.all(batches.map((batch) => send(batch)));
    const ids = answers.map((answer) =>
      verdictsOf(answer)
        .slice(0, 40)
        .map(({ validationId }) => validationId),
    );
    expect(new Set(ids.flat()).size).toBe(40);
    const rivals = answers.flatMap((answer) => verdictsOf(answer).slice(40));
    expect(rivals.filter(({ errors }) => errors.join() === "nonce_reused")).toHaveLength(4);
    expect(await world.poot.getPoOTStatistics({ nodeId })).toMatchObject({ total: 41n });
  });
});

/** While this clock is slow, each reading of its stopwatch takes `costMs`. */
function aSlowClock(costMs = 100) {
  let slow = false;
  let addedMs = 0;
  const clock: Clock = {
    ...systemClock,
    monotonicMs: () => {
      if (slow) addedMs += costMs;
      return performance.now() + addedMs;
    },
  };
  const setSlow = (value: boolean) => {
    slow = value;
  };
  return { clock, setSlow };
}

describe("an item that comes too late", () => {
  test("is an error in its place, and its nonce is unspent", async () => {
    const { clock, setSlow } = aSlowClock();
    await using own = await openWorld({ clock, settings: { POOT_VALIDATION_TIMEOUT: "4" } });
    const nodeId = await anActiveNode(own);
    const batch = Array.from({ length: 30 }, () => aProof(own, nodeId));
    setSlow(true);
    const answer = await send(batch, own);
    setSlow(false);
    const late = outcomesOf(answer).map((outcome) => outcome === "error 4");
    const firstLate = late.indexOf(true);
    expect(firstLate).toBeGreaterThan(0);
    expect(late.slice(firstLate).every(Boolean)).toBe(true);
    expect(
      outcomesOf(answer)
        .slice(0, firstLate)
        .every((outcome) => outcome === "valid"),
    ).toBe(true);
    const again = outcomesOf(await send(batch, own));
    expect(again.slice(0, firstLate).every((outcome) => outcome === "replayed valid")).toBe(true);
    expect(again.slice(firstLate).every((outcome) => outcome === "valid")).toBe(true);
  });

  test("alone is refused after POOT_VALIDATION_TIMEOUT, its nonce unspent", async () => {
    const { clock, setSlow } = aSlowClock(2_000);
    await using own = await openWorld({ clock, settings: { POOT_VALIDATION_TIMEOUT: "1" } });
    const nodeId = await anActiveNode(own);
    const request = aProof(own, nodeId);
    setSlow(true);
    await expectRefusal(own.poot.validatePoOT(request), "Unavailable 5031");
    setSlow(false);
    expect(await prove(own, request)).toMatchObject({ replayed: false, isValid: true });
  });

  test("alone is refused at its caller's deadline, its nonce unspent", async () => {
    await using own = await openWorld({ settings: { POOT_VALIDATION_TIMEOUT: "1" } });
    const nodeId = await anActiveNode(own);
    const request = aProof(own, nodeId);
    const began = Promise.withResolvers<void>();
    own.beforeStore(() => began.promise);
    const call = own.poot.validatePoOT(request, { timeoutMs: 200 });
    await expectRefusal(call, "DeadlineExceeded");
    // The service, too, has given up before the store answers.
    await until(
      async () => (await own.count("grpc_server_handled_total", { grpc_method: "ValidatePoOT" })) === 1,
      "the call has ended on the server",
    );
    own.beforeStore(undefined);
    began.resolve();
    expect(await prove(own, request)).toMatchObject({ replayed: false, isValid: true });
  });
});

describe("under a validator's token", () => {
  test("an item for another node needs that node's signature", async () => {
    const validator = await anActiveNode(world, { nodeType: NodeType.VALIDATOR });
    const { nodeId, sign } = await aSignerFor(world);
    const stranger = await aSignerFor(world);
    const asValidator = world.as(await world.nodeToken(validator, "validator"));
    const unsigned = aProof(world, nodeId);
    const forged = aProof(world, nodeId);
    const answer = await send(
      [
        aProof(world, validator),
        unsigned,
        signed(aProof(world, nodeId), sign),
        signed(forged, stranger.sign),
        aProof(world, "node_unknown"),
      ],
      asValidator,
    );
    expect(outcomesOf(answer)).toEqual([
      "valid",
      "error 7 LUCID_ERR_4031",
      "valid",
      "error 7 LUCID_ERR_4031",
      "error 5 LUCID_ERR_5001",
    ]);
    expect(outcomesOf(await send([unsigned, forged]))).toEqual(["valid", "valid"]);
  });

  test("what is brought for another node without its signature is never held against it, whatever else is wrong", async () => {
    await using own = await openClockedWorld();
    const validator = await anActiveNode(own, { nodeType: NodeType.VALIDATOR });
    const { nodeId, sign } = await aSignerFor(own);
    const stranger = await aSignerFor(own);
    const asValidator = own.as(await own.nodeToken(validator, "validator"));
    const stale = {
      ...aProof(own, nodeId),
      timestamp: { seconds: 1n, nanos: 0, $typeName: "google.protobuf.Timestamp" },
    };
    const wrong = [
      { ...aProof(own, nodeId), outputData: new Uint8Array(0) },
      { ...aProof(own, nodeId), nonce: "short" },
      signed(stale as ReturnType<typeof aProof>, stranger.sign),
    ];
    const { results } = await asValidator.poot.batchValidatePoOT({ validations: wrong });
    expect(results.map(({ result }) => result.case === "error" && result.value.code)).toEqual([7, 7, 7]);
    const own5005 = signed(stale as ReturnType<typeof aProof>, sign);
    const later = await asValidator.poot.batchValidatePoOT({ validations: [own5005] });
    expect(later.results.map(({ result }) => result.case === "error" && result.value.reason)).toEqual([
      "LUCID_ERR_5005",
    ]);
    await own.pass(10_000);
    expect((await own.poot.getPoOTStatistics({ nodeId })).rejected).toBe(1n);
  });
});

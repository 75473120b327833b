// Two replicas over one store: which proofs count, each once, and a replica that is paused or dies in a count.
import { describe, expect, test } from "vitest";
import { standingsCollection, validationsCollection } from "../../src/poot/repository.js";
import type { StandingDocument } from "../../src/poot/standing.js";
import type { ValidationDocument } from "../../src/poot/verdict.js";
import { type ClockedFleet, openClockedFleet, type World } from "../support/world/world.js";
import { aNonce, anActiveNode, aProof, prove } from "./proofs.js";

function pairOf({ replicas }: ClockedFleet): [World, World] {
  const [one, two] = replicas;
  if (one === undefined || two === undefined) throw new Error("a fleet of two was asked for");
  return [one, two];
}

const standingOf = async (world: World, nodeId: string) =>
  (await world.store.collection<StandingDocument>(standingsCollection)).findOne({ _id: nodeId });
const uncountedOf = async (world: World, nodeId: string) =>
  (await world.store.collection<ValidationDocument>(validationsCollection)).count(
    { node_id: nodeId, uncounted: true },
    { index: "idx_uncounted" },
  );

describe("200 at once, half of them on each replica", () => {
  test("with one proof get one verdict", async () => {
    await using fleet = await openClockedFleet(2);
    const pair = pairOf(fleet);
    const nodeId = await anActiveNode(pair[0]);
    const request = aProof(pair[0], nodeId);
    const verdicts = await Promise.all(Array.from({ length: 200 }, (_, at) => prove(pair[at % 2] ?? pair[0], request)));
    expect(new Set(verdicts.map(({ validationId }) => validationId)).size).toBe(1);
    expect(verdicts.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(await standingOf(pair[0], nodeId)).toMatchObject({ valid: 1, invalid: 0 });
  });

  test("with one nonce and proofs of their own: one counts, the others are told", async () => {
    await using fleet = await openClockedFleet(2);
    const pair = pairOf(fleet);
    const nodeId = await anActiveNode(pair[0]);
    const nonce = aNonce();
    const verdicts = await Promise.all(
      Array.from({ length: 200 }, (_, at) => {
        const world = pair[at % 2] ?? pair[0];
        return prove(world, aProof(world, nodeId, { nonce, outputData: new Uint8Array(30_000 + at) }));
      }),
    );
    expect(verdicts.filter(({ isValid }) => isValid)).toHaveLength(1);
    expect(verdicts.filter(({ errors }) => errors.join() === "nonce_reused")).toHaveLength(199);
    expect(await standingOf(pair[0], nodeId)).toMatchObject({ valid: 1, invalid: 0 });
  });

  test("with proofs of one node that differ all count, each once", async () => {
    await using fleet = await openClockedFleet(2);
    const pair = pairOf(fleet);
    const nodeId = await anActiveNode(pair[0]);
    await Promise.all(Array.from({ length: 200 }, (_, at) => prove(pair[at % 2] ?? pair[0], aProof(pair[0], nodeId))));
    await fleet.pass(6_000);
    expect(await standingOf(pair[0], nodeId)).toMatchObject({ valid: 200, invalid: 0 });
    expect(await uncountedOf(pair[0], nodeId)).toBe(0);
  });
});

/** The steps of a count after its verdict is stored: standing, uncounted verdicts, write, node's score, marks. */
const steps = [1, 2, 3, 4, 5];

describe("a replica that counts", () => {
  test.each(steps)("and is paused before step %d takes nothing twice when it goes on", async (step) => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const nodeId = await anActiveNode(one);
    await prove(one, aProof(one, nodeId));
    const paused = Promise.withResolvers<void>();
    const resume = Promise.withResolvers<void>();
    let stored = false;
    let done = 0;
    one.beforeStore((operation) => {
      if (stored && ++done === step) {
        paused.resolve();
        return resume.promise;
      }
      if (operation === "insertOne") stored = true;
      return undefined;
    });
    const slow = prove(one, aProof(one, nodeId));
    await paused.promise;
    one.beforeStore(undefined);
    for (let at = 0; at < 5; at++) await prove(two, aProof(two, nodeId));
    // More verdicts than one chunk of a count, so the verdicts that the paused replica has read are far behind.
    const many = Array.from({ length: 300 }, () => aProof(two, nodeId, { outputData: new Uint8Array(30_000) }));
    await two.poot.batchValidatePoOT({ validations: many.slice(0, 30).map((one) => one) });
    await two.poot.batchValidatePoOT({
      validations: many.slice(30).map((request, at) => ({ ...request, outputData: new Uint8Array(20 + at) })),
    });
    resume.resolve();
    expect((await slow).isValid).toBe(true);
    await fleet.pass(8_000);
    const standing = await standingOf(one, nodeId);
    expect((standing?.valid ?? 0) + (standing?.invalid ?? 0)).toBe(2 + 5 + 300);
    expect(await uncountedOf(one, nodeId)).toBe(0);
    const { node } = await two.nodes.getNode({ nodeId });
    expect(node?.pootScore).toBe(standing?.last?.score);
  });

  test.each(steps)("and dies before step %d leaves a verdict that another one counts once", async (step) => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = pairOf(fleet);
    const nodeId = await anActiveNode(one);
    await prove(one, aProof(one, nodeId));
    let stored = false;
    let done = 0;
    one.beforeStore((operation) => {
      if (stored && ++done === step) one.storeAway(true);
      if (operation === "insertOne") stored = true;
      return undefined;
    });
    const request = aProof(one, nodeId);
    const verdict = await prove(one, request);
    await fleet.end(0, "crash");
    expect(await prove(two, request)).toEqual({ ...verdict, replayed: true });
    await fleet.pass(20_000);
    expect(await standingOf(two, nodeId)).toMatchObject({ valid: 2, invalid: 0 });
    expect(await uncountedOf(two, nodeId)).toBe(0);
    const later = two.as(await two.token("admin"));
    expect(await later.poot.getPoOTStatistics({ nodeId })).toMatchObject({ total: 2n });
    expect((await later.nodes.getNode({ nodeId })).node?.pootScore).toBe((await standingOf(two, nodeId))?.last?.score);
  });
});

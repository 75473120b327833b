// What must hold after provers were killed. Every proof that was sent ends with one verdict, as its prover was told,
// if the prover lived to hear it. Each verdict is counted once.
import { expect } from "vitest";
import { standingsCollection, validationsCollection } from "../../src/poot/repository.js";
import type { StandingDocument } from "../../src/poot/standing.js";
import type { ValidationDocument } from "../../src/poot/verdict.js";
import type { Cursor, Store } from "../../src/storage/collection.js";
import { createProver, proverNodeIds, submissionOf } from "./prover.js";

/** Sends every proof again that the prover's lines name. Returns how many verdicts the prover had been told. */
export async function sendAgain(store: Store, lines: readonly string[]): Promise<number> {
  const prover = await createProver(store);
  const words = lines.map((line) => line.split(" "));
  const told = new Map(words.filter(([kind]) => kind === "verdict").map(([, name, id]) => [name, id]));
  for (const [kind, name = "", atMs] of words) {
    if (kind !== "sent") continue;
    const submission = submissionOf(name, Number(atMs));
    const first = await prover.prove(submission);
    const second = await prover.prove(submission);
    expect(second.verdict._id, name).toBe(first.verdict._id);
    expect(second.replayed, name).toBe(true);
    expect(first.verdict.errors, name).not.toContain("nonce_reused");
    if (told.has(name)) expect({ name, id: first.verdict._id }).toEqual({ name, id: told.get(name) });
  }
  return told.size;
}

/** Counts the verdicts that are left, as the leader does, and compares the standings with all stored verdicts. */
export async function expectCountedOnce(store: Store): Promise<void> {
  const prover = await createProver(store);
  const standings = await store.collection<StandingDocument>(standingsCollection);
  for (const nodeId of proverNodeIds) {
    await prover.count(nodeId);
    expect((await prover.repository.uncountedOf(nodeId, 10)).items).toEqual([]);
    const verdicts = await verdictsOf(store, nodeId);
    const standing = await standings.findOne({ _id: nodeId });
    const valid = verdicts.filter(({ is_valid }) => is_valid).length;
    expect([standing?.valid ?? 0, standing?.invalid ?? 0]).toEqual([valid, verdicts.length - valid]);
    const cents = (all: readonly number[]) => Math.round(all.reduce((sum, value) => sum + value, 0));
    expect(cents((standing?.hours ?? []).map(({ score_sum }) => score_sum))).toBe(
      cents(verdicts.map(({ score }) => score * 100)),
    );
    const node = await prover.nodes.get(nodeId);
    expect(node.poot_score).toBe(standing?.last?.score ?? -1);
  }
}

async function verdictsOf(store: Store, nodeId: string): Promise<ValidationDocument[]> {
  const validations = await store.collection<ValidationDocument>(validationsCollection);
  const found: ValidationDocument[] = [];
  let after: Cursor | undefined;
  do {
    const from = after === undefined ? {} : { after };
    const page = await validations.page({ node_id: nodeId }, { index: "idx_node_id", limit: 1000, ...from });
    found.push(...page.items);
    after = page.next;
  } while (after !== undefined);
  return found;
}

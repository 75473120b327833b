// Many proofs at once: judged in order, each with the reliability that the proofs before it left, and stored by one
// write. Each succeeds or fails by itself. An outage of the store fails all of them, and all may be sent again.
import { setImmediate as nextTurn } from "node:timers/promises";
import { Failure, nodeNotFound } from "../failure.js";
import { newBatchId, newValidationId } from "../ids.js";
import type { NodeDocument } from "../nodes/node.js";
import type { Submission } from "./admission.js";
import { createPasts, distinct, type Past } from "./past.js";
import type { Judged, Proving, ProvingParts } from "./proving.js";
import { historyMax } from "./score.js";
import {
  isSameProof,
  type Proof,
  proofKey,
  proofOf,
  reusedVerdict,
  type ValidationDocument,
  verdictOf,
} from "./verdict.js";

/** What became of one proof; `late`: it was not judged in time, its nonce is unspent. */
export type BatchResult = Judged | { readonly failure: Failure } | "late";

export interface BatchOrder {
  /** At most 1000. */
  readonly submissions: readonly Submission[];
  /** The node whose token brings the proofs; undefined for a service's token. */
  readonly ownNodeId: string | undefined;
  /** How long the caller waits, in milliseconds. */
  readonly budgetMs: number;
  readonly signal: AbortSignal;
}

/** An admitted proof and its place in the batch. */
interface Entry {
  readonly place: number;
  readonly proof: Proof;
}

/** A proof with the verdict made for it. */
interface Spending {
  readonly entry: Entry;
  readonly verdict: ValidationDocument;
}

/** One batch while it is worked on. */
interface Turn {
  readonly order: BatchOrder;
  readonly batchId: string;
  elapsedMs(): number;
  isLate(): boolean;
  /** By place; filled step by step. */
  readonly results: BatchResult[];
}

/** How many proofs are taken before other work gets its turn. */
const stretch = 32;

export type Batch = ReturnType<typeof createBatch>;

export function createBatch(
  parts: ProvingParts & {
    readonly proving: Proving;
    /** The live nodes among these, at most 1000. */
    readonly findNodes: (nodeIds: readonly string[]) => Promise<Map<string, NodeDocument>>;
  },
) {
  const { repository, admission, proving, witness, clock } = parts;
  const pastsOf = createPasts(parts);

  const run = async (order: BatchOrder): Promise<{ batchId: string; results: BatchResult[] }> => {
    const turn = beginTurn(order);
    const { batchId, results } = turn;
    const entries = await admitAll(turn);
    const pasts = await pastsOf(entries);
    const { spending, again } = judgeAll(turn, entries, pasts);
    const holders = await storeAll(turn, spending);
    await judgeAgain(turn, again, pasts, holders);
    const fresh = results.flatMap((one) =>
      typeof one === "object" && "verdict" in one && !one.replayed ? one.verdict : [],
    );
    for (const verdict of fresh) witness.judged(verdict, turn.elapsedMs() / 1000 / fresh.length);
    await proving.follow(fresh);
    return { batchId, results };
  };

  const beginTurn = (order: BatchOrder): Turn => {
    const beganMs = clock.monotonicMs();
    const elapsedMs = () => clock.monotonicMs() - beganMs;
    const isLate = () => elapsedMs() >= Math.min(parts.timeoutMs, order.budgetMs) || order.signal.aborted;
    return { order, batchId: newBatchId(clock.now()), elapsedMs, isLate, results: [] };
  };

  /** Admits each proof, or writes its result at its place. */
  const admitAll = async ({ order, isLate, results }: Turn): Promise<Entry[]> => {
    const { submissions, ownNodeId } = order;
    const nodes = await parts.findNodes(distinct(submissions.map(({ nodeId }) => nodeId)));
    const entries: Entry[] = [];
    for (const [place, submission] of submissions.entries()) {
      if (place % stretch === stretch - 1) await nextTurn();
      const admitted = isLate() ? "late" : await admit(submission, nodes.get(submission.nodeId), ownNodeId);
      if (typeof admitted === "object" && "outputHash" in admitted) entries.push({ place, proof: admitted });
      else results[place] = admitted;
    }
    return entries;
  };

  /** Judges proofs with fresh nonces; returns those whose nonce is already spent in `again`. */
  const judgeAll = (turn: Turn, entries: readonly Entry[], pasts: ReadonlyMap<string, Past>) => {
    const spending = new Map<string, Spending>();
    const again: Entry[] = [];
    for (const entry of entries) {
      const { place, proof } = entry;
      const past = pasts.get(proof.nodeId);
      if (past === undefined || turn.isLate()) turn.results[place] = "late";
      else if (past.spent.has(proof.nonce) || spending.has(nonceKey(proof))) again.push(entry);
      else {
        const facts = { history: past.history, duplicate: past.proved.has(proof.outputHash) };
        const verdict = verdictOf(proof, facts, circumstancesOf(turn, place));
        past.history = [...past.history, { valid: verdict.is_valid, score: verdict.score }].slice(-historyMax);
        past.proved.add(proof.outputHash);
        spending.set(nonceKey(proof), { entry, verdict });
      }
    }
    return { spending: [...spending.values()], again };
  };

  const circumstancesOf = ({ batchId, elapsedMs }: Pick<Turn, "batchId" | "elapsedMs">, place: number) => {
    const now = clock.now();
    return { id: newValidationId(now), now, tookMs: elapsedMs(), batchId, place };
  };

  /** One write for all. Answers who spent each nonce in the end; if another call was faster, the store says who. */
  const storeAll = async (turn: Turn, spending: readonly Spending[]): Promise<Map<string, ValidationDocument>> => {
    const lost = new Set(await repository.insertMany(spending.map(({ verdict }) => verdict)));
    const holders = new Map<string, ValidationDocument>();
    for (const [index, { entry, verdict }] of spending.entries()) {
      const { place, proof } = entry;
      if (!lost.has(index)) {
        turn.results[place] = { verdict, replayed: false };
        holders.set(nonceKey(proof), verdict);
        continue;
      }
      turn.results[place] = await proving.judgedAgain(proof, circumstancesOf(turn, place));
      const spender = await repository.spenderOf(proof.nodeId, proof.nonce);
      if (spender !== null) holders.set(nonceKey(proof), spender);
    }
    return holders;
  };

  /** Answers the admitted proof, or its result if it ends before it is judged. */
  const admit = async (
    submission: Submission,
    node: NodeDocument | undefined,
    ownNodeId: string | undefined,
  ): Promise<Proof | Judged | { failure: Failure }> => {
    const foreign = ownNodeId !== undefined && ownNodeId !== submission.nodeId;
    // Until the node's signature is checked, a proof that another node brings says nothing about the node.
    let isItsOwn = !foreign;
    try {
      if (node === undefined) throw nodeNotFound(submission.nodeId);
      const signed = foreign ? await admission.proofOf(submission, node, true) : undefined;
      isItsOwn = true;
      const fault = admission.fault(submission);
      if (fault !== undefined) throw fault;
      const obstacle = admission.obstacle(submission, node);
      if (obstacle !== undefined) return await proving.verdictBefore(submission, node, foreign, obstacle);
      return signed ?? (await admission.proofOf(submission, node, false));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (isItsOwn) proving.note(error, submission.nodeId);
      return { failure: error };
    }
  };

  /** Judges proofs whose nonce was spent before, outside the batch or in it. */
  const judgeAgain = async (
    { results, ...turn }: Turn,
    again: readonly Entry[],
    pasts: ReadonlyMap<string, Past>,
    holders: ReadonlyMap<string, ValidationDocument>,
  ): Promise<void> => {
    const reused = new Map<string, Spending>();
    const followers: Entry[] = [];
    for (const entry of again) {
      const { place, proof } = entry;
      const holder = holders.get(nonceKey(proof)) ?? pasts.get(proof.nodeId)?.spent.get(proof.nonce);
      if (holder !== undefined && isSameProof(proof, proofOf(holder))) {
        results[place] = { verdict: holder, replayed: true };
      } else if (reused.has(fullKey(proof))) followers.push(entry);
      else reused.set(fullKey(proof), { entry, verdict: reusedVerdict(proof, circumstancesOf(turn, place)) });
    }
    const judged = await storeReused(reused);
    for (const [key, one] of judged) results[reused.get(key)?.entry.place ?? -1] = one;
    for (const { place, proof } of followers) {
      const one = judged.get(fullKey(proof));
      if (one !== undefined) results[place] = { ...one, replayed: true };
    }
  };

  /** Stores verdicts by the same keys; for a verdict that was stored before it answers the stored one. */
  const storeReused = async (reused: ReadonlyMap<string, Spending>): Promise<Map<string, Judged>> => {
    const known = new Set(await repository.insertMany([...reused.values()].map(({ verdict }) => verdict)));
    const judged = new Map<string, Judged>();
    for (const [index, [key, { entry, verdict }]] of [...reused].entries()) {
      const stored = known.has(index) ? await repository.reusedOf(entry.proof) : verdict;
      judged.set(key, { verdict: stored ?? verdict, replayed: known.has(index) });
    }
    return judged;
  };

  return {
    /** @throws StoreUnavailableError: the whole batch can be sent again */
    validate: async (order: BatchOrder): Promise<{ batchId: string; results: BatchResult[] }> => {
      try {
        return await run(order);
      } catch (error) {
        if (!order.signal.aborted) witness.failed(order.submissions.length);
        throw error;
      }
    },
  };
}

const fullKey = (proof: Proof): string => `${proof.nodeId} ${proofKey(proof)}`;
const nonceKey = ({ nodeId, nonce }: Proof): string => `${nodeId} ${nonce}`;

// The way of one proof: admitted, judged, stored, counted. The verdict that is stored first spends the nonce; a later
// call with the same nonce reads it.
import type { Clock } from "../clock.js";
import { Failure, unavailable } from "../failure.js";
import { newValidationId } from "../ids.js";
import type { NodeDocument } from "../nodes/node.js";
import { DuplicateKeyError } from "../storage/collection.js";
import { isOutage, unless } from "../task.js";
import type { Admission, Submission } from "./admission.js";
import type { Counting } from "./counting.js";
import type { PootRepository } from "./repository.js";
import { isSameProof, type Proof, proofOf, reusedVerdict, type ValidationDocument, verdictOf } from "./verdict.js";

/** The verdict on a proof; `replayed`: an earlier call made it. */
export interface Judged {
  readonly verdict: ValidationDocument;
  readonly replayed: boolean;
}

/** Tells metrics and log about proofs. */
export interface ProofWitness {
  /** A new verdict, and how many seconds it took. */
  judged(verdict: ValidationDocument, seconds: number): void;
  /** A proof was refused before it was judged. */
  rejected(nodeId: string, failure: Failure): void;
  /** Proofs failed for reasons of the service. */
  failed(proofs: number): void;
  /** Another node has proved the same output. */
  shared(nodeId: string, otherNodeId: string, outputHash: string): void;
  /** Verdicts of these nodes are stored but could not be counted yet. */
  uncounted(nodeIds: readonly string[], error: unknown): void;
}

export interface ProvingParts {
  readonly repository: PootRepository;
  /** @throws Failure 5001 */
  readonly getNode: (nodeId: string) => Promise<NodeDocument>;
  readonly admission: Admission;
  readonly counting: Counting;
  readonly witness: ProofWitness;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Whether to look for other nodes that have proved the same output. */
  readonly sharedOutputEvents: boolean;
}

export type Proving = ReturnType<typeof createProving>;

export function createProving(parts: ProvingParts) {
  const { repository, admission, counting, witness, clock } = parts;

  /** The verdict on a proof whose nonce was spent: earlier by the same proof, or by another one. */
  const judgedAgain = async (proof: Proof, lost: Circumstances): Promise<Judged> => {
    const spender = await repository.spenderOf(proof.nodeId, proof.nonce);
    if (spender === null) throw unavailable("The verdict on that nonce has just expired", 1_000);
    if (isSameProof(proof, proofOf(spender))) return { verdict: spender, replayed: true };
    return storeReused(reusedVerdict(proof, { ...lost, id: newValidationId(lost.now) }), proof);
  };

  const storeReused = async (verdict: ValidationDocument, proof: Proof): Promise<Judged> => {
    try {
      await repository.insert(verdict);
      return { verdict, replayed: false };
    } catch (error) {
      if (!(error instanceof DuplicateKeyError)) throw error;
      return { verdict: (await repository.reusedOf(proof)) ?? verdict, replayed: true };
    }
  };

  /** The verdict that a proof got before its time ran out. @throws the obstacle when it has none */
  const verdictBefore = async (
    submission: Submission,
    node: NodeDocument,
    foreign: boolean,
    obstacle: Failure,
  ): Promise<Judged> => {
    const spender = await repository.spenderOf(submission.nodeId, submission.nonce);
    if (spender === null || submission.at === undefined) throw obstacle;
    const proof = await admission.proofOf(submission, node, foreign);
    const verdict = isSameProof(proof, proofOf(spender)) ? spender : await repository.reusedOf(proof);
    if (verdict === null) throw obstacle;
    return { verdict, replayed: true };
  };

  const lookForShared = async ({ node_id: nodeId, output_hash: hash }: ValidationDocument): Promise<void> => {
    const other = await repository.sharedBy(hash, nodeId, clock.now());
    if (other !== null) witness.shared(nodeId, other.node_id, hash);
  };

  /** Work after a new verdict; its failure cannot take the verdict back. */
  const follow = async (verdicts: readonly ValidationDocument[]): Promise<void> => {
    const spending = verdicts.filter(({ uncounted }) => uncounted);
    const nodeIds = [...new Set(spending.map(({ node_id }) => node_id))];
    await counting.countMany(nodeIds).catch((error: unknown) => witness.uncounted(nodeIds, error));
    if (parts.sharedOutputEvents) {
      for (const verdict of spending) await lookForShared(verdict).catch(unless(isOutage));
    }
  };

  const judge = async (submission: Submission, signal: AbortSignal): Promise<Judged> => {
    const beganMs = clock.monotonicMs();
    const node = await parts.getNode(submission.nodeId);
    const fault = admission.fault(submission);
    if (fault !== undefined) throw fault;
    const obstacle = admission.obstacle(submission, node);
    if (obstacle !== undefined) return await verdictBefore(submission, node, false, obstacle);
    const proof = await admission.proofOf(submission, node, false);
    const now = clock.now();
    const [standing, duplicate] = await Promise.all([
      repository.standingOf(proof.nodeId),
      repository.hasProved(proof.nodeId, [proof.outputHash], now),
    ]);
    const tookMs = clock.monotonicMs() - beganMs;
    // The insert spends the nonce, so nothing is inserted for a caller that no longer waits.
    signal.throwIfAborted();
    if (tookMs >= parts.timeoutMs) throw unavailable("The proof was not judged in time", 1_000);
    const circumstances = { id: newValidationId(now), now, tookMs };
    const verdict = verdictOf(proof, { history: standing?.recent ?? [], duplicate }, circumstances);
    const judged = await store(verdict, proof, circumstances);
    if (!judged.replayed) {
      witness.judged(judged.verdict, (clock.monotonicMs() - beganMs) / 1000);
      await follow([judged.verdict]);
    }
    return judged;
  };

  const store = async (verdict: ValidationDocument, proof: Proof, circumstances: Circumstances): Promise<Judged> => {
    try {
      await repository.insert(verdict);
      return { verdict, replayed: false };
    } catch (error) {
      if (!(error instanceof DuplicateKeyError)) throw error;
      return judgedAgain(proof, circumstances);
    }
  };

  /** Counts and reports a refusal of the proof. Other errors are not noted here. */
  const note = (error: unknown, nodeId: string): void => {
    if (!(error instanceof Failure)) return;
    if (error.reason === "LUCID_ERR_5005") counting.reject(nodeId);
    if (error.reason === "LUCID_ERR_5005" || error.reason === "LUCID_ERR_5001") witness.rejected(nodeId, error);
  };

  return {
    judgedAgain,
    verdictBefore,
    follow,
    note,

    /**
     * Judges a proof, or answers the verdict that it has.
     * @throws Failure 5001, 5005, 4031; StoreUnavailableError: it can be sent again; the signal's reason when it aborts
     */
    prove: async (submission: Submission, signal: AbortSignal): Promise<Judged> => {
      try {
        return await judge(submission, signal);
      } catch (error) {
        if (isOurs(error) && !signal.aborted) witness.failed(1);
        note(error, submission.nodeId);
        throw error;
      }
    },
  };
}

const isOurs = (error: unknown): boolean => !(error instanceof Failure) || error.reason === "LUCID_ERR_5031";

type Circumstances = Parameters<typeof reusedVerdict>[1];

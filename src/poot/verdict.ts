// The verdict on a proof: the rules that the proof must keep, its verdict, and when two proofs are the same. Pure.
import {
  type Breakdown,
  type Counted,
  confidenceOf,
  passScore,
  reliabilityOf,
  scoreOf,
  scoreVersion,
} from "./score.js";

/**
 * The facts that a verdict is based on, without the output itself. Two proofs that agree in all of them are the same.
 */
export interface Proof {
  readonly nodeId: string;
  /** SHA-256 of the decoded output in lower-case hex. */
  readonly outputHash: string;
  /** Decoded bytes. */
  readonly sizeBytes: number;
  readonly at: Instant;
  readonly nonce: string;
}

/** A caller's time: whole seconds since 1970 plus 0 to 999,999,999 nanoseconds. */
export interface Instant {
  readonly seconds: number;
  readonly nanos: number;
}

export type Outcome = "valid" | "invalid";

/** The stored verdict on a proof. */
export interface ValidationDocument {
  readonly _id: string;
  readonly node_id: string;
  readonly output_hash: string;
  readonly output_size: number;
  readonly timestamp: { readonly seconds: number; readonly nanos: number };
  readonly nonce: string;
  readonly score: number;
  readonly confidence: number;
  readonly is_valid: boolean;
  readonly outcome: Outcome;
  /** Absent when the nonce was used before. */
  readonly breakdown?: Breakdown;
  readonly validation_time_ms: number;
  readonly errors: readonly string[];
  readonly batch_id?: string;
  /** Its place in its batch, from 0; 0 without a batch. */
  readonly place: number;
  readonly score_version: number;
  readonly created_at: Date;
  /** The nonce, on the verdict that spends it: unique for the node. */
  readonly spent_nonce?: string;
  /** `proofKey`, on the verdict on another proof with a spent nonce: unique for the node. */
  readonly reused_proof?: string;
  /** Present until the node's standing includes it; never on a verdict with `reused_proof`. */
  readonly uncounted?: true;
}

/** What a verdict needs besides the proof. */
export interface Circumstances {
  readonly id: string;
  readonly now: Date;
  readonly tookMs: number;
  readonly batchId?: string | undefined;
  readonly place?: number;
}

export interface ProofLimits {
  readonly outputBytesMax: number;
  /** How far a node's clock may be ahead of ours. */
  readonly skewMs: number;
}

export const pastMsMax = 24 * 3_600_000;
const nonceShape = /^[\x21-\x7e]{8,256}$/;

export const instantMs = ({ seconds, nanos }: Instant): number => seconds * 1000 + Math.floor(nanos / 1_000_000);

/** What is wrong with a proof at any time; undefined when nothing is. */
export function shapeFault(sizeBytes: number, nonce: string, { outputBytesMax }: ProofLimits): string | undefined {
  if (sizeBytes > outputBytesMax) return "Output data too large";
  if (sizeBytes < 1) return "Output data is empty";
  return nonceShape.test(nonce) ? undefined : "Invalid nonce";
}

/** Whether `at` is acceptable at `now`: at most 24 h ago and at most the skew ahead, both inclusive. */
export function isTimely(at: Instant | undefined, now: Date, { skewMs }: ProofLimits): at is Instant {
  if (at === undefined || at.nanos < 0 || at.nanos > 999_999_999) return false;
  const aheadMs = instantMs(at) - now.getTime();
  return aheadMs >= -pastMsMax && aheadMs <= skewMs;
}

/**
 * The verdict that spends the nonce. `duplicate`: the node proved the same output within 24 h; this does not lower the
 * score.
 */
export function verdictOf(
  proof: Proof,
  { history, duplicate }: { readonly history: readonly Counted[]; readonly duplicate: boolean },
  circumstances: Circumstances,
): ValidationDocument {
  const { score, breakdown } = scoreOf({
    sizeBytes: proof.sizeBytes,
    ageMs: circumstances.now.getTime() - instantMs(proof.at),
    nonce: proof.nonce,
    reliability: reliabilityOf(history),
  });
  const isValid = score >= passScore;
  return {
    ...factsOf(proof, circumstances),
    score,
    confidence: confidenceOf(score, history),
    is_valid: isValid,
    outcome: isValid ? "valid" : "invalid",
    breakdown,
    errors: [...(isValid ? [] : ["score_below_threshold"]), ...(duplicate ? ["duplicate_output"] : [])],
    spent_nonce: proof.nonce,
    uncounted: true,
  };
}

/** The verdict on another proof with a spent nonce: invalid, without a score, and never counted. */
export const reusedVerdict = (proof: Proof, circumstances: Circumstances): ValidationDocument => ({
  ...factsOf(proof, circumstances),
  score: 0,
  confidence: 0,
  is_valid: false,
  outcome: "invalid",
  errors: ["nonce_reused"],
  reused_proof: proofKey(proof),
});

const factsOf = (proof: Proof, { id, now, tookMs, batchId, place = 0 }: Circumstances) => ({
  _id: id,
  node_id: proof.nodeId,
  output_hash: proof.outputHash,
  output_size: proof.sizeBytes,
  timestamp: { seconds: proof.at.seconds, nanos: proof.at.nanos },
  nonce: proof.nonce,
  validation_time_ms: Math.max(0, Math.round(tookMs)),
  ...(batchId === undefined ? {} : { batch_id: batchId }),
  place,
  score_version: scoreVersion,
  created_at: now,
});

/** Distinguishes the proofs of a node. */
export const proofKey = ({ outputHash, at, nonce }: Proof): string => `${outputHash} ${instantText(at)} ${nonce}`;

export const proofOf = (document: ValidationDocument): Proof => ({
  nodeId: document.node_id,
  outputHash: document.output_hash,
  sizeBytes: document.output_size,
  at: document.timestamp,
  nonce: document.nonce,
});

/** Whether two proofs of one node are the same. */
export const isSameProof = (one: Proof, other: Proof): boolean => proofKey(one) === proofKey(other);

/** The text that the node's key signs. */
export const signedText = (proof: Omit<Proof, "sizeBytes">): string =>
  ["lucid.poot.v1", proof.nodeId, proof.outputHash, instantText(proof.at), proof.nonce].join("\n");

const instantText = ({ seconds, nanos }: Instant): string => `${seconds}.${String(nanos).padStart(9, "0")}`;

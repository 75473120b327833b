// Between the contract's messages and what this folder speaks: plain translation, no decisions.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  type BatchPoOTResultSchema,
  type PoOTValidationSchema,
  ProofOutcome,
  type ValidatePoOTRequest,
} from "../../gen/lucid/node/v1/poot_service_pb.js";
import { codeOfFailure } from "../rpc/errors.js";
import type { Submission } from "./admission.js";
import type { BatchResult } from "./batch.js";
import type { Judged } from "./proving.js";
import type { Instant, Outcome, ValidationDocument } from "./verdict.js";

export const outcomeToWire: Readonly<Record<Outcome, ProofOutcome>> = {
  valid: ProofOutcome.VALID,
  invalid: ProofOutcome.INVALID,
};

/** Undefined for UNSPECIFIED. */
export const outcomeFromWire = (outcome: ProofOutcome): Outcome | undefined =>
  outcome === ProofOutcome.VALID ? "valid" : outcome === ProofOutcome.INVALID ? "invalid" : undefined;

export const toSubmission = (request: ValidatePoOTRequest): Submission => ({
  nodeId: request.nodeId,
  output: request.outputData,
  at: toInstant(request.timestamp),
  nonce: request.nonce,
  signature: request.signature,
});

export const toInstant = (timestamp: Timestamp | undefined): Instant | undefined =>
  timestamp && { seconds: Number(timestamp.seconds), nanos: timestamp.nanos };

export const judgedToWire = ({ verdict, replayed }: Judged): MessageInitShape<typeof PoOTValidationSchema> =>
  validationToWire(verdict, replayed);

export const validationToWire = (
  verdict: ValidationDocument,
  replayed = false,
): MessageInitShape<typeof PoOTValidationSchema> => ({
  validationId: verdict._id,
  nodeId: verdict.node_id,
  outputHash: verdict.output_hash,
  outputSize: verdict.output_size,
  timestamp: { seconds: BigInt(verdict.timestamp.seconds), nanos: verdict.timestamp.nanos },
  score: verdict.score,
  confidence: verdict.confidence,
  isValid: verdict.is_valid,
  outcome: outcomeToWire[verdict.outcome],
  ...(verdict.breakdown === undefined ? {} : { breakdown: verdict.breakdown }),
  validationTimeMs: verdict.validation_time_ms,
  errors: [...verdict.errors],
  batchId: verdict.batch_id ?? "",
  replayed,
  scoreVersion: verdict.score_version,
  createdAt: timestampFromDate(verdict.created_at),
});

export function resultToWire(result: BatchResult): MessageInitShape<typeof BatchPoOTResultSchema> {
  if (result === "late") {
    const message = "The proof was not judged in time";
    return { result: { case: "error", value: { code: Code.DeadlineExceeded, reason: "", message } } };
  }
  if ("verdict" in result) return { result: { case: "validation", value: judgedToWire(result) } };
  const { reason, message } = result.failure;
  return { result: { case: "error", value: { code: codeOfFailure(result.failure), reason, message } } };
}

// The only place where a refusal becomes a gRPC status with its details.
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { Failure, type Reason } from "../failure.js";
import { StoreUnavailableError } from "../storage/collection.js";

export const codeOf: Readonly<Record<Reason, Code>> = {
  LUCID_ERR_5000: Code.Internal,
  LUCID_ERR_5001: Code.NotFound,
  LUCID_ERR_5002: Code.NotFound,
  LUCID_ERR_5003: Code.FailedPrecondition,
  LUCID_ERR_5004: Code.ResourceExhausted,
  LUCID_ERR_5005: Code.InvalidArgument,
  LUCID_ERR_5006: Code.FailedPrecondition,
  LUCID_ERR_5007: Code.AlreadyExists,
  LUCID_ERR_5008: Code.AlreadyExists,
  LUCID_ERR_5009: Code.InvalidArgument,
  LUCID_ERR_5010: Code.Aborted,
  LUCID_ERR_5011: Code.NotFound,
  LUCID_ERR_5012: Code.Aborted,
  LUCID_ERR_5013: Code.Aborted,
  LUCID_ERR_4001: Code.InvalidArgument,
  LUCID_ERR_4011: Code.Unauthenticated,
  LUCID_ERR_4031: Code.PermissionDenied,
  LUCID_ERR_4291: Code.ResourceExhausted,
  LUCID_ERR_5031: Code.Unavailable,
  LUCID_ERR_5999: Code.Internal,
};

/** The gRPC code of a refusal. */
export function codeOfFailure({ reason, outOfRange, failedPrecondition, unavailable }: Failure): Code {
  if (outOfRange) return Code.OutOfRange;
  if (unavailable) return Code.Unavailable;
  return failedPrecondition ? Code.FailedPrecondition : codeOf[reason];
}

/** For errors that a library raises after decoding. */
const reasonOfCode: Partial<Record<Code, Reason>> = {
  [Code.InvalidArgument]: "LUCID_ERR_4001",
  [Code.Unauthenticated]: "LUCID_ERR_4011",
  [Code.PermissionDenied]: "LUCID_ERR_4031",
  [Code.Unavailable]: "LUCID_ERR_5031",
};

/** A message of google.rpc and its fields. */
export interface Detail {
  readonly desc: DescMessage;
  readonly value: MessageInitShape<DescMessage>;
}

const domain = "node.lucid";
const storeRetryMs = 1_000;
// Details travel in a response header, and clients refuse headers beyond 8 KiB.
const messageCharsMax = 1_000;
const violationsMax = 10;
const violationCharsMax = 200;

export interface ErrorContext {
  readonly requestId: string;
  /** The procedure, such as "/lucid.node.v1.NodeService/GetNode". */
  readonly path: string;
  readonly now: Date;
}

/** The error answer of a call, whichever protocol encodes it. */
export interface Status {
  readonly code: Code;
  readonly message: string;
  readonly details: readonly Detail[];
  /** The underlying error, for the log alone. */
  readonly cause: unknown;
}

/** Any thrown value as a status that may go on the wire. */
export function toStatus(thrown: unknown, context: ErrorContext): Status {
  if (thrown instanceof Failure) return fromFailure(thrown, context, thrown.cause);
  if (thrown instanceof StoreUnavailableError) {
    const failure = new Failure("LUCID_ERR_5031", "The store is not available", { retryAfterMs: storeRetryMs });
    return fromFailure(failure, context, thrown);
  }
  return fromFailure(new Failure("LUCID_ERR_5999", "Internal server error"), context, thrown);
}

/**
 * A library's status without a reason of ours: it keeps its code and gets the nearest reason. `details` are the
 * library's own.
 */
export function withReason(status: Status, context: ErrorContext): Status {
  const details = [...status.details, errorInfo(reasonOfCode[status.code] ?? "LUCID_ERR_5000", context)];
  if (status.code === Code.Unavailable && !details.some(({ desc }) => desc === RetryInfoSchema)) {
    details.push(retryInfo(storeRetryMs));
  }
  return { ...status, message: status.message.slice(0, messageCharsMax), details };
}

/** The reason in a status. */
export function reasonOf({ details }: Status): string | undefined {
  const info = details.find(({ desc }) => desc === ErrorInfoSchema)?.value;
  return info && "reason" in info && typeof info.reason === "string" ? info.reason : undefined;
}

function fromFailure(failure: Failure, context: ErrorContext, cause: unknown): Status {
  const details: Detail[] = [errorInfo(failure.reason, context)];
  if (failure.violations.length > 0) {
    const fieldViolations = shortened(failure.violations);
    details.push({ desc: BadRequestSchema, value: { fieldViolations } });
  }
  if (failure.retryAfterMs !== undefined) details.push(retryInfo(failure.retryAfterMs));
  return { code: codeOfFailure(failure), message: failure.message.slice(0, messageCharsMax), details, cause };
}

function shortened(violations: Failure["violations"]): { field: string; description: string }[] {
  // A single violation may list all existing names, so it gets more room.
  const descriptionCharsMax = violations.length === 1 ? 2 * violationCharsMax : violationCharsMax;
  return violations.slice(0, violationsMax).map(({ field, description }) => ({
    field: field.slice(0, violationCharsMax),
    description: description.slice(0, descriptionCharsMax),
  }));
}

function errorInfo(reason: Reason, context: ErrorContext): Detail {
  const metadata = { request_id: context.requestId, timestamp: context.now.toISOString(), path: context.path };
  return { desc: ErrorInfoSchema, value: { reason, domain, metadata } };
}

function retryInfo(ms: number): Detail {
  return { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(Math.max(0, Math.ceil(ms))) } };
}

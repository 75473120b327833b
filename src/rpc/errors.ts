// The one place where a refusal becomes a gRPC status with its details.
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor, type StreamResponse, type UnaryResponse } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import type { Clock } from "../clock.js";
import { Failure, type Reason } from "../failure.js";
import { StoreUnavailableError } from "../storage/collection.js";
import { requestIdKey } from "./caller.js";
import { procedureOf } from "./policies.js";
import { untilAborted } from "./stream.js";

export const codeOf: Readonly<Record<Reason, Code>> = {
  LUCID_ERR_5000: Code.Internal,
  LUCID_ERR_5001: Code.NotFound,
  LUCID_ERR_5002: Code.NotFound,
  LUCID_ERR_5003: Code.FailedPrecondition,
  LUCID_ERR_5004: Code.ResourceExhausted,
  LUCID_ERR_5005: Code.InvalidArgument,
  LUCID_ERR_5007: Code.AlreadyExists,
  LUCID_ERR_5008: Code.AlreadyExists,
  LUCID_ERR_5009: Code.InvalidArgument,
  LUCID_ERR_5012: Code.Aborted,
  LUCID_ERR_5013: Code.Aborted,
  LUCID_ERR_4001: Code.InvalidArgument,
  LUCID_ERR_4011: Code.Unauthenticated,
  LUCID_ERR_4031: Code.PermissionDenied,
  LUCID_ERR_4291: Code.ResourceExhausted,
  LUCID_ERR_5031: Code.Unavailable,
  LUCID_ERR_5999: Code.Internal,
};

/** The gRPC code that a refusal is answered with. */
export function codeOfFailure({ reason, outOfRange, failedPrecondition }: Failure): Code {
  if (outOfRange) return Code.OutOfRange;
  return failedPrecondition ? Code.FailedPrecondition : codeOf[reason];
}

/** For errors that Connect itself raises after decoding: they keep their code and get the nearest reason. */
const reasonOfCode: Partial<Record<Code, Reason>> = {
  [Code.InvalidArgument]: "LUCID_ERR_4001",
  [Code.Unauthenticated]: "LUCID_ERR_4011",
  [Code.PermissionDenied]: "LUCID_ERR_4031",
  [Code.Unavailable]: "LUCID_ERR_5031",
};

type Detail = NonNullable<ConstructorParameters<typeof ConnectError>[3]>[number];

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

/** Any thrown value as the error that the wire may carry; `cause` is what lies behind it, for the log alone. */
export function toConnectError(thrown: unknown, context: ErrorContext): ConnectError {
  if (thrown instanceof Failure) return fromFailure(thrown, context, thrown.cause);
  if (thrown instanceof ConnectError && !thrown.isWireError) return fromConnect(thrown, context);
  if (isCancellation(thrown)) return fromConnect(new ConnectError("The call was cancelled", Code.Canceled), context);
  if (thrown instanceof StoreUnavailableError) {
    const failure = new Failure("LUCID_ERR_5031", "The store is not available", { retryAfterMs: storeRetryMs });
    return fromFailure(failure, context, thrown);
  }
  return fromFailure(new Failure("LUCID_ERR_5999", "Internal server error"), context, thrown);
}

/** The reason an error of `toConnectError` carries. */
export function reasonOf(error: ConnectError): string | undefined {
  return error.findDetails(ErrorInfoSchema)[0]?.reason;
}

/**
 * Turns what handlers and inner interceptors throw into what the wire may carry, also in the middle of streams.
 * A unary call ends when its signal aborts, so that deadlines and shutdown hold for handlers that do not look at it;
 * a request stream ends with it too.
 */
export function errorInterceptor(clock: Clock): Interceptor {
  return (next) => async (request) => {
    const convert = (thrown: unknown) =>
      toConnectError(thrown, {
        requestId: request.contextValues.get(requestIdKey),
        path: procedureOf(request.method),
        now: clock.now(),
      });
    try {
      if (!request.stream) return await orAborted(next(request), request.signal);
      const response = await next({ ...request, message: untilAborted(request.message, request.signal) });
      return response.stream ? { ...response, message: converted(response.message, convert) } : response;
    } catch (thrown) {
      throw convert(thrown);
    }
  };
}

async function orAborted(
  answer: Promise<UnaryResponse | StreamResponse>,
  signal: AbortSignal,
): Promise<UnaryResponse | StreamResponse> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([answer, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function* converted<T>(messages: AsyncIterable<T>, convert: (thrown: unknown) => ConnectError) {
  try {
    yield* messages;
  } catch (thrown) {
    throw convert(thrown);
  }
}

function fromFailure(failure: Failure, context: ErrorContext, cause: unknown): ConnectError {
  const details: Detail[] = [errorInfo(failure.reason, context)];
  if (failure.violations.length > 0) {
    const fieldViolations = shortened(failure.violations);
    details.push({ desc: BadRequestSchema, value: { fieldViolations } });
  }
  if (failure.retryAfterMs !== undefined) details.push(retryInfo(failure.retryAfterMs));
  return new ConnectError(failure.message.slice(0, messageCharsMax), codeOfFailure(failure), undefined, details, cause);
}

function shortened(violations: Failure["violations"]): { field: string; description: string }[] {
  // A list of the names that exist needs some room.
  const descriptionCharsMax = violations.length === 1 ? 2 * violationCharsMax : violationCharsMax;
  return violations.slice(0, violationsMax).map(({ field, description }) => ({
    field: field.slice(0, violationCharsMax),
    description: description.slice(0, descriptionCharsMax),
  }));
}

function fromConnect(error: ConnectError, context: ErrorContext): ConnectError {
  if (reasonOf(error) !== undefined) return error;
  const given = error.details.filter((detail): detail is Detail => "desc" in detail);
  const details = [...given, errorInfo(reasonOfCode[error.code] ?? "LUCID_ERR_5000", context)];
  if (error.code === Code.Unavailable && error.findDetails(RetryInfoSchema).length === 0) {
    details.push(retryInfo(storeRetryMs));
  }
  return new ConnectError(error.rawMessage.slice(0, messageCharsMax), error.code, error.metadata, details, error.cause);
}

/** The client has gone: its stream was reset, or the connection broke while its message was read. */
function isCancellation(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  return thrown.name === "AbortError" || ("code" in thrown && thrown.code === "ERR_STREAM_PREMATURE_CLOSE");
}

function errorInfo(reason: Reason, context: ErrorContext): Detail {
  const metadata = { request_id: context.requestId, timestamp: context.now.toISOString(), path: context.path };
  return { desc: ErrorInfoSchema, value: { reason, domain, metadata } };
}

function retryInfo(ms: number): Detail {
  return { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(Math.max(0, Math.ceil(ms))) } };
}

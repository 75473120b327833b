// The driver's and the server's errors in the words of the port.
import {
  MongoBulkWriteError,
  MongoClientClosedError,
  MongoError,
  MongoExpiredSessionError,
  MongoNetworkError,
  MongoNotConnectedError,
  MongoOperationTimeoutError,
  MongoServerClosedError,
  MongoServerError,
  MongoStalePrimaryError,
  MongoSystemError,
  MongoTopologyClosedError,
  MongoUnexpectedServerResponseError,
  MongoWriteConcernError,
} from "mongodb";
import { DuplicateKeyError, type IndexDefinition, StoreUnavailableError } from "./collection.js";
import { UpdateError } from "./update.js";

/** What an error may be about. */
export interface ErrorContext {
  /** Host names, without credentials. */
  readonly hosts: string;
  readonly collection?: string;
  readonly indexes?: readonly IndexDefinition[];
}

export const duplicateKeyCode = 11000;

/** IndexOptionsConflict and IndexKeySpecsConflict: an index of this name, or over this key, is there otherwise. */
export const indexConflictCodes: ReadonlySet<unknown> = new Set([85, 86]);

/** BadValue, TypeMismatch and PathNotViable: the stored document does not bear the update. */
const updateErrorCodes: ReadonlySet<unknown> = new Set([2, 14, 28]);

/**
 * HostUnreachable, HostNotFound, AuthenticationFailed, CursorNotFound (its server went away), MaxTimeMSExpired,
 * WriteConcernTimeout, NetworkTimeout, ShutdownInProgress, UnsatisfiableWriteConcern, FailedToSatisfyReadPreference,
 * ReadConcernMajorityNotAvailableYet, QueryPlanKilled, PrimarySteppedDown, NetworkInterfaceExceededTimeLimit,
 * ExceededTimeLimit, PooledConnectionsExpired, ReauthenticationRequired, SocketException, NotWritablePrimary in its old
 * and new code, InterruptedAtShutdown, Interrupted, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk,
 * NotPrimaryOrSecondary.
 */
const unavailableCodes: ReadonlySet<unknown> = new Set([
  6, 7, 18, 43, 50, 64, 89, 91, 100, 133, 134, 175, 189, 202, 262, 317, 391, 9001, 10058, 10107, 11600, 11601, 11602,
  13435, 13436,
]);

const unavailableClasses = [
  MongoClientClosedError,
  MongoExpiredSessionError,
  MongoNetworkError,
  MongoNotConnectedError,
  MongoOperationTimeoutError,
  MongoServerClosedError,
  MongoStalePrimaryError,
  MongoSystemError,
  MongoTopologyClosedError,
  MongoUnexpectedServerResponseError,
  MongoWriteConcernError,
];

/** Classes that the driver does not export. */
const unavailableNames: ReadonlySet<string> = new Set(["MongoPoolClosedError", "MongoWaitQueueTimeoutError"]);

/** With these the driver and the server say themselves that it is the weather. */
const unavailableLabels = [
  "RetryableError",
  "RetryableWriteError",
  "SystemOverloadedError",
  "TransientTransactionError",
];

/** Whether the error means that the server did not answer, or that it is unknown whether a write took place. */
export function isUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof MongoBulkWriteError) return isBulkUnavailable(error);
  if (!(error instanceof MongoError)) return isSystemError(error);
  return (
    unavailableCodes.has(error.code) ||
    unavailableNames.has(error.name) ||
    unavailableClasses.some((known) => error instanceof known) ||
    unavailableLabels.some((label) => error.hasErrorLabel(label))
  );
}

/** A bulk error hides the network's error in what it calls the server's response. */
function isBulkUnavailable(error: MongoBulkWriteError): boolean {
  const response: unknown = error.errorResponse;
  return (
    isUnavailable(response) ||
    error.result?.getWriteConcernError() !== undefined ||
    writeErrorsOf(error).some(({ code }) => unavailableCodes.has(code)) ||
    (writeErrorsOf(error).length === 0 && unavailableCodes.has(error.code))
  );
}

/** Of connections that broke, which the driver sometimes passes on as they are; Node names no syscall with EPIPE. */
const brokenCodes: ReadonlySet<unknown> = new Set(["ECONNRESET", "EPIPE", "ETIMEDOUT"]);

/** Names that do not resolve come from the resolver as they are; a certificate that cannot be read is no weather. */
function isSystemError(error: Error): boolean {
  if ("code" in error && brokenCodes.has(error.code)) return true;
  return (
    "syscall" in error && typeof error.syscall === "string" && error.syscall !== "open" && error.syscall !== "read"
  );
}

export interface WriteFault {
  /** Its position among the operations of the batch. */
  readonly index: number;
  readonly code: number;
  readonly message: string;
}

export function writeErrorsOf(error: MongoBulkWriteError): WriteFault[] {
  const faults = Array.isArray(error.writeErrors) ? error.writeErrors : [error.writeErrors];
  return faults.map(({ index, code, errmsg }) => ({ index, code, message: errmsg ?? "" }));
}

/** The error in the port's words, with the driver's as its cause; what has no words there stays what it is. */
export function translateError(error: unknown, context: ErrorContext): unknown {
  if (isUnavailable(error)) return unavailable(context, error);
  // Of a batch, duplicates are an answer: its error is about something else, whatever came first in it.
  if (error instanceof MongoBulkWriteError || !(error instanceof MongoServerError)) return error;
  if (error.code !== duplicateKeyCode) return error;
  return new DuplicateKeyError(context.collection ?? "", indexNameOf(error, context), { cause: error });
}

/** The same for an update, which the stored document may not bear. */
export function translateUpdateError(error: unknown, context: ErrorContext): unknown {
  if (!isUnavailable(error) && error instanceof MongoServerError && isUpdateFault(error)) {
    return new UpdateError(error.message, { cause: error });
  }
  return translateError(error, context);
}

/** An index that is gone is a BadValue too, and no fault of the document. */
export function isUpdateFault({ code, message }: { readonly code?: unknown; readonly message: string }): boolean {
  return updateErrorCodes.has(code) && !/\bhint\b/.test(message);
}

export function unavailable({ hosts }: ErrorContext, cause: unknown): StoreUnavailableError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StoreUnavailableError(`MongoDB at ${hosts} does not answer: ${reason}`, { cause });
}

/** The server names the index in its message alone; its key is the second best. */
export function indexNameOf(
  error: { readonly message: string; readonly keyPattern?: unknown },
  { indexes = [] }: ErrorContext,
): string {
  const named = / index: (\S+) dup key/.exec(error.message)?.[1];
  if (named !== undefined) return named.replace(/^.*\.\$/, "");
  const paths = Object.keys((error.keyPattern ?? {}) as object);
  if (paths.join() === "_id") return "_id_";
  return indexes.find(({ key, unique }) => unique && key.join() === paths.join())?.name ?? paths.join();
}

// Translates the driver's and the server's errors into those of the port.
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
import { DuplicateKeyError, type IndexDefinition, StoreUnavailableError } from "../collection.js";
import { UpdateError } from "../update.js";

/** The subject of an error. */
export interface ErrorContext {
  /** Host names, without credentials. */
  readonly hosts: string;
  readonly collection?: string;
  readonly indexes?: readonly IndexDefinition[];
}

export const duplicateKeyCode = 11000;

/**
 * IndexOptionsConflict and IndexKeySpecsConflict: an index of this name, or on this key, exists with another
 * definition.
 */
export const indexConflictCodes: ReadonlySet<unknown> = new Set([85, 86]);

/** BadValue, TypeMismatch and PathNotViable: the update does not fit the stored document. */
const updateErrorCodes: ReadonlySet<unknown> = new Set([2, 14, 28]);

/**
 * Errors that pass by themselves or after work on the server, named and grouped as in MongoDB's list of codes
 * (src/mongo/base/error_codes.yml). A caller may retry. Whether a write was applied is unknown.
 */
const temporaryCodes = {
  /**
   * HostUnreachable, HostNotFound, NetworkTimeout, PooledConnectionsDropped, NetworkInterfaceExceededTimeLimit,
   * DNSHostNotFound, DNSProtocolError, ClientDisconnect, ConnectionPoolExpired, ConnectionError,
   * PooledConnectionAcquisitionExceededTimeLimit, SocketException, ConfigServerUnreachable.
   */
  network: [6, 7, 89, 145, 202, 230, 231, 279, 317, 384, 407, 9001, 56846],
  /**
   * AuthenticationFailed, AuthenticationAbandoned, ReauthenticationRequired, and AtlasError, which means a wrong
   * password there.
   */
  login: [18, 337, 391, 8000],
  /**
   * ShutdownInProgress, PrimarySteppedDown, ElectionInProgress, ServiceExecutorInShutdown,
   * CloseConnectionForShutdownCommand, LegacyNotPrimary, NotWritablePrimary, InterruptedAtShutdown,
   * InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary.
   */
  primary: [91, 189, 216, 333, 372, 10058, 10107, 11600, 11602, 13435, 13436],
  /**
   * NotYetInitialized, ConfigurationInProgress, FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet,
   * NoConfigPrimary, ReplicaSetMonitorRemoved, ShardingStateNotInitialized, CannotVerifyAndSignLogicalTime, KeyNotFound
   * (of the cluster's time), CurrentConfigNotCommittedYet.
   */
  starting: [94, 109, 133, 134, 149, 199, 203, 210, 211, 308],
  /** WriteConcernTimeout, UnsatisfiableWriteConcern, IncompleteTransactionHistory (of a write that is repeated). */
  confirmation: [64, 100, 217],
  /**
   * LockTimeout, CursorNotFound (its server went away), MaxTimeMSExpired, QueryPlanKilled, CursorKilled, ExceededTimeLimit,
   * TransactionCoordinatorSteppingDown, TransactionCoordinatorReachedAbortDecision,
   * TransactionExceededLifetimeLimitSeconds, ObjectIsBusy, InterruptedDueToStorageChange,
   * InterruptedDueToReshardingCriticalSection, Interrupted, ClientMarkedKilled, RetriableRemoteCommandFailure,
   * InterruptedDueToFCVChange.
   */
  interruption: [24, 43, 50, 175, 237, 262, 281, 282, 290, 314, 355, 453, 11601, 46841, 91331, 10045600],
  /**
   * LockBusy, LockFailed, WriteConflict, ConflictingOperationInProgress, CursorInUse, DatabaseDropPending, SnapshotTooOld,
   * SnapshotUnavailable, StaleChunkHistory, PreparedTransactionInProgress, MigrationConflict, IndexBuildAborted,
   * IndexBuildAlreadyInProgress, InternalTransactionNotSupported, RetryableTransactionInProgress,
   * MigrationBlockingOperationCoordinatorCleaningUp, UpdatesStillPending, BackgroundOperationInProgressForDatabase and
   * ...ForNamespace, BackupCursorOpenConflictWithCheckpoint.
   */
  conflict: [46, 107, 112, 117, 143, 215, 239, 246, 250, 267, 272, 276, 285, 358, 363, 406, 412, 12586, 12587, 50915],
  /**
   * StaleShardVersion, StaleEpoch, StaleDbVersion, MovePrimaryInProgress, ReshardingCriticalSectionTimeout,
   * ShardCannotRefreshDueToLocksHeld, RecvStaleConfig, StaleConfig.
   */
  routing: [63, 150, 249, 319, 342, 343, 9996, 13388],
  /**
   * ExceededMemoryLimit, TooManyLocks, TooManyLogicalSessions, TooManyFilesOpen, TemporarilyUnavailable, UserWritesBlocked,
   * ResourceExhausted, AdmissionQueueOverflow, RateLimitExceeded, PooledConnectionAcquisitionRejected,
   * IngressRequestRateLimitExceeded, OutOfDiskSpace.
   */
  scarcity: [146, 208, 261, 264, 365, 371, 402, 433, 449, 450, 462, 14031],
};

const unavailableCodes: ReadonlySet<unknown> = new Set(Object.values(temporaryCodes).flat());

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

/** With these labels the driver or the server itself says that the error is temporary. */
const unavailableLabels = [
  "RetryableError",
  "RetryableWriteError",
  "SystemOverloadedError",
  "TransientTransactionError",
];

/** Whether the error means that the server did not answer, or that a write may or may not have been applied. */
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

/** A bulk error hides a network error in its server response. */
function isBulkUnavailable(error: MongoBulkWriteError): boolean {
  const response: unknown = error.errorResponse;
  return (
    isUnavailable(response) ||
    error.result?.getWriteConcernError() !== undefined ||
    writeErrorsOf(error).some(({ code }) => unavailableCodes.has(code)) ||
    (writeErrorsOf(error).length === 0 && unavailableCodes.has(error.code))
  );
}

/** Broken connections, which the driver sometimes passes on untranslated. Node names no syscall with EPIPE. */
const brokenCodes: ReadonlySet<unknown> = new Set(["ECONNRESET", "EPIPE", "ETIMEDOUT"]);

/** The resolver's errors arrive untranslated. An unreadable certificate file is not temporary. */
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

/**
 * The error as the port names it, with the driver's as its cause. An error that the port has no name for is returned
 * unchanged.
 */
export function translateError(error: unknown, context: ErrorContext): unknown {
  if (isUnavailable(error)) return unavailable(context, error);
  // Duplicates in a batch are part of the answer, so a bulk error is about something else, whatever came first.
  if (error instanceof MongoBulkWriteError || !(error instanceof MongoServerError)) return error;
  if (error.code !== duplicateKeyCode) return error;
  return new DuplicateKeyError(context.collection ?? "", indexNameOf(error, context), { cause: error });
}

/** The same for an update, which may not fit the stored document. */
export function translateUpdateError(error: unknown, context: ErrorContext): unknown {
  if (!isUnavailable(error) && error instanceof MongoServerError && isUpdateFault(error)) {
    return new UpdateError(error.message, { cause: error });
  }
  return translateError(error, context);
}

/** A missing index is a BadValue too, but not a fault of the document. */
export function isUpdateFault({ code, message }: { readonly code?: unknown; readonly message: string }): boolean {
  return updateErrorCodes.has(code) && !/\bhint\b/.test(message);
}

export function unavailable({ hosts }: ErrorContext, cause: unknown): StoreUnavailableError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StoreUnavailableError(`MongoDB at ${hosts} does not answer: ${reason}`, { cause });
}

/** The server names the index only in its message. Without a name there, the key is used. */
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

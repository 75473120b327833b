// The refusals of the service: the caller's mistakes and facts of the world, each with its reason code. Pure.
// Only rpc/errors.ts turns them into gRPC codes; its table says which.

export type Reason =
  | "LUCID_ERR_5000"
  | "LUCID_ERR_5001"
  | "LUCID_ERR_5002"
  | "LUCID_ERR_5003"
  | "LUCID_ERR_5004"
  | "LUCID_ERR_5005"
  | "LUCID_ERR_5006"
  | "LUCID_ERR_5007"
  | "LUCID_ERR_5008"
  | "LUCID_ERR_5009"
  | "LUCID_ERR_5010"
  | "LUCID_ERR_5011"
  | "LUCID_ERR_5012"
  | "LUCID_ERR_5013"
  | "LUCID_ERR_4001"
  | "LUCID_ERR_4011"
  | "LUCID_ERR_4031"
  | "LUCID_ERR_4291"
  | "LUCID_ERR_5031"
  | "LUCID_ERR_5999";

export interface FieldViolation {
  /** Path in proto names, such as "node.name". */
  readonly field: string;
  readonly description: string;
}

export interface FailureOptions {
  readonly cause?: unknown;
  /** Asks the caller to wait this long before trying again. */
  readonly retryAfterMs?: number;
  readonly violations?: readonly FieldViolation[];
  /** The requested position no longer exists: OUT_OF_RANGE in place of the reason's own code. */
  readonly outOfRange?: true;
  /**
   * The state of the resource forbids the request, which is itself correct: FAILED_PRECONDITION in place of the
   * reason's own code.
   */
  readonly failedPrecondition?: true;
  /** What the request needs is away for now: UNAVAILABLE in place of the reason's own code. */
  readonly unavailable?: true;
}

export class Failure extends Error {
  override readonly name = "Failure";
  readonly reason: Reason;
  readonly retryAfterMs: number | undefined;
  readonly violations: readonly FieldViolation[];
  readonly outOfRange: boolean;
  readonly failedPrecondition: boolean;
  readonly unavailable: boolean;

  constructor(reason: Reason, message: string, options: FailureOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.reason = reason;
    this.retryAfterMs = options.retryAfterMs;
    this.violations = options.violations ?? [];
    this.outOfRange = options.outOfRange ?? false;
    this.failedPrecondition = options.failedPrecondition ?? false;
    this.unavailable = options.unavailable ?? false;
  }
}

export const nodeNotFound = (nodeId: string) => new Failure("LUCID_ERR_5001", `Node ${nodeId} not found`);
export const poolNotFound = (poolId: string) => new Failure("LUCID_ERR_5002", `Pool ${poolId} not found`);
export const wrongStatus = (message: string) => new Failure("LUCID_ERR_5003", message);
export const poolFull = (poolId: string, maxNodes: number) =>
  new Failure("LUCID_ERR_5004", `Pool ${poolId} is full: max_nodes is ${maxNodes}`);
export const proofRefused = (message: string) => new Failure("LUCID_ERR_5005", message);
export const cannotProve = () =>
  new Failure("LUCID_ERR_5005", "Node not found or inactive", { failedPrecondition: true });
export const validationNotFound = (validationId: string) =>
  new Failure("LUCID_ERR_5001", `PoOT validation ${validationId} not found`);
/** The payout cannot be made, or not in its present state. */
export const payoutRefused = (message: string) => new Failure("LUCID_ERR_5006", message);
/** The chain cannot be asked now, so that nothing was done. */
export const gatewayAway = (message: string, retryAfterMs: number, cause?: unknown) =>
  new Failure("LUCID_ERR_5006", message, {
    unavailable: true,
    retryAfterMs,
    ...(cause === undefined ? {} : { cause }),
  });
export const payoutNotFound = (payoutId: string) => new Failure("LUCID_ERR_5011", `Payout ${payoutId} not found`);
export const payoutBatchNotFound = (batchId: string) =>
  new Failure("LUCID_ERR_5011", `Payout batch ${batchId} not found`);
export const transferNotFound = (txid: string) =>
  new Failure("LUCID_ERR_5011", `${txid} is not among the unknown transfers; GetPayoutQueue lists them`);
export const nodeExists = (message: string) => new Failure("LUCID_ERR_5007", message);
export const keyReused = () =>
  new Failure("LUCID_ERR_5007", "The idempotency key was used before for a different request");
export const retriedAlready = (payoutId: string, retry: string) =>
  new Failure("LUCID_ERR_5007", `Payout ${payoutId} was retried already, by ${retry}`);
export const poolExists = (name: string) => new Failure("LUCID_ERR_5008", `A pool named ${name} exists`);
export const limitReached = (message: string) => new Failure("LUCID_ERR_5004", message);
export const allocationMisfit = (field: string, description: string) =>
  new Failure("LUCID_ERR_5009", `${field}: ${description}`, { violations: [{ field, description }] });
export const allocationNotFound = (allocationId: string) =>
  new Failure("LUCID_ERR_5001", `Allocation ${allocationId} not found`);
export const versionMismatch = (expected: bigint, found: bigint) =>
  new Failure("LUCID_ERR_5012", `Version is ${found}, expected ${expected}`);
export const sessionSuperseded = (message = "A newer session of this node has taken over") =>
  new Failure("LUCID_ERR_5013", message);
export const malformed = (...violations: FieldViolation[]) =>
  new Failure("LUCID_ERR_4001", violations.map((v) => `${v.field}: ${v.description}`).join("; "), { violations });
export const unauthenticated = (message: string, cause?: unknown) =>
  new Failure("LUCID_ERR_4011", message, cause === undefined ? {} : { cause });
export const notAllowed = (message: string) => new Failure("LUCID_ERR_4031", message);
export const tooMany = (message: string, retryAfterMs: number) =>
  new Failure("LUCID_ERR_4291", message, { retryAfterMs });
export const unavailable = (message: string, retryAfterMs: number, cause?: unknown) =>
  new Failure("LUCID_ERR_5031", message, { retryAfterMs, ...(cause === undefined ? {} : { cause }) });

// Reads the details of this service's errors for programs.
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";

/** The reason, such as "LUCID_ERR_5001"; undefined if the error does not come from the service. */
export const lucidReason = (error: unknown): string | undefined =>
  ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason;

/** How long the service asks to wait before a retry, in milliseconds; undefined if it does not say. */
export function retryAfterMs(error: unknown): number | undefined {
  const delay = ConnectError.from(error).findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay === undefined ? undefined : durationMs(delay);
}

/**
 * Why a retry of the same call may succeed. The caller decides which reasons apply to its call: after "ended", "broken"
 * and "late" the service may already have done what it was asked.
 */
export type RetryReason = "away" | "limited" | "ended" | "broken" | "late";

const retryReasons: ReadonlyMap<Code, RetryReason> = new Map([
  // The service, or its store, cannot be reached; it comes back.
  [Code.Unavailable, "away"],
  // A limit is used up. RetryInfo says when there is room again; without it, the limit may be of another kind.
  [Code.ResourceExhausted, "limited"],
  // A connection that ends gives no reason; a call that the service itself ended has one.
  [Code.Aborted, "ended"],
  // A peer that vanishes in the middle of an answer causes one of these three.
  [Code.Canceled, "broken"],
  [Code.Internal, "broken"],
  [Code.Unknown, "broken"],
  // The answer was too late. The service may have done the work.
  [Code.DeadlineExceeded, "late"],
]);

/** Undefined if a retry would fail in the same way. */
export const retryReason = (error: unknown): RetryReason | undefined => retryReasons.get(ConnectError.from(error).code);

// What an error of this service says to programs.
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";

/** The reason, such as "LUCID_ERR_5001"; undefined for an error that does not come from the service. */
export const lucidReason = (error: unknown): string | undefined =>
  ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason;

/** How long the service asks to wait before trying again, in milliseconds; undefined when it does not say. */
export function retryAfterMs(error: unknown): number | undefined {
  const delay = ConnectError.from(error).findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay === undefined ? undefined : durationMs(delay);
}

/**
 * Why the same call may go well when it is made again. What of that holds for a call is the caller's to say: after "ended",
 * "broken" and "late" the service may have done what it was asked for.
 */
export type RetryReason = "away" | "limited" | "ended" | "broken" | "late";

const retryReasons: ReadonlyMap<Code, RetryReason> = new Map([
  // The service, or the store beneath it, cannot be reached; it comes back.
  [Code.Unavailable, "away"],
  // A limit is used up. RetryInfo says when there is room again; without it, the limit may be of another kind.
  [Code.ResourceExhausted, "limited"],
  // A connection that ends says so without a reason; the service, which ended the call itself, gives one.
  [Code.Aborted, "ended"],
  // A peer that goes in the middle of an answer leaves one of these three.
  [Code.Canceled, "broken"],
  [Code.Internal, "broken"],
  [Code.Unknown, "broken"],
  // The answer did not come in time, and may have been on its way.
  [Code.DeadlineExceeded, "late"],
]);

/** Undefined for an error that the same call would meet again. */
export const retryReason = (error: unknown): RetryReason | undefined => retryReasons.get(ConnectError.from(error).code);

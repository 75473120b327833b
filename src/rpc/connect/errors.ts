// Translates statuses to Connect's errors and back.
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import { Failure, malformed } from "../../failure.js";
import { BodyFault } from "../body/fault.js";
import { type Detail, type ErrorContext, type Status, toStatus, withReason } from "../errors.js";

/** Any thrown value as an error that may go on the wire. `cause` is the underlying error, for the log alone. */
export function toConnectError(thrown: unknown, context: ErrorContext): ConnectError {
  const foreign = isCancellation(thrown) ? new ConnectError("The call was cancelled", Code.Canceled) : thrown;
  if (!(foreign instanceof ConnectError) || foreign.isWireError) return spelled(toStatus(thrown, context));
  if (foreign.findDetails(ErrorInfoSchema).length > 0) return foreign;
  return spelled(withReason(statusOf(foreign), context), foreign.metadata);
}

/**
 * If the message breaks the contract, the error has details. Bytes that are not a message, and messages that are too
 * large, get only the protocol's own code.
 */
export function toBodyError(thrown: unknown, context: ErrorContext): ConnectError {
  if (thrown instanceof ConnectError) return thrown;
  if (!(thrown instanceof BodyFault)) return toConnectError(thrown, context);
  const { field, message: description } = thrown;
  if (thrown.shape && field !== "") return toConnectError(malformed({ field, description }), context);
  if (thrown.shape) return toConnectError(new Failure("LUCID_ERR_4001", description), context);
  return new ConnectError(field === "" ? description : `${field}: ${description}`, Code.InvalidArgument);
}

/** The status of an error of Connect's. */
export function statusOf(error: ConnectError): Status {
  const details = error.details.filter((detail): detail is Detail => "desc" in detail);
  return { code: error.code, message: error.rawMessage, details, cause: error.cause };
}

const spelled = ({ message, code, details, cause }: Status, metadata?: HeadersInit): ConnectError =>
  new ConnectError(message, code, metadata, [...details], cause);

/** Whether the client has gone: its stream was reset, or the connection broke while its message was read. */
function isCancellation(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  return thrown.name === "AbortError" || ("code" in thrown && thrown.code === "ERR_STREAM_PREMATURE_CLOSE");
}

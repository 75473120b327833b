// What a refused call says.
import { Code, ConnectError } from "@connectrpc/connect";
import { expect } from "vitest";
import { BadRequestSchema } from "../../../gen/google/rpc/error_details_pb.js";
import { lucidReason, retryAfterMs } from "../../../src/client/errors.js";

export interface Refusal {
  readonly code: string;
  readonly reason: string | undefined;
  readonly message: string;
  /** Fields named by BadRequest. */
  readonly fields: readonly string[];
  readonly retryAfterMs: number | undefined;
}

/** The refusal of a call that must not succeed. */
export async function refusalOf(call: PromiseLike<unknown>): Promise<Refusal> {
  const outcome = await call.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  if (outcome === undefined) throw new Error("the call was expected to be refused");
  return toRefusal(outcome.error);
}

export function toRefusal(thrown: unknown): Refusal {
  const error = ConnectError.from(thrown);
  return {
    code: Code[error.code],
    reason: lucidReason(error)?.replace("LUCID_ERR_", ""),
    message: error.rawMessage,
    fields: error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations.map(({ field }) => field)),
    retryAfterMs: retryAfterMs(error),
  };
}

/** Expects a refusal such as "NotFound 5001". */
export async function expectRefusal(call: PromiseLike<unknown>, expected: string): Promise<Refusal> {
  const refusal = await refusalOf(call);
  expect(`${refusal.code} ${refusal.reason ?? ""}`.trim(), refusal.message).toBe(expected);
  return refusal;
}

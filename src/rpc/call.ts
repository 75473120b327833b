// One RPC request as the gate, the errors and the observer see it, whichever transport carries it. The transport makes
// it when the request arrives, fills in what it learns, and passes it to handlers in the call's context (context.ts).
import type { DescMethod } from "@bufbuild/protobuf";
import type { Code } from "@connectrpc/connect";
import type { Caller } from "../access/caller.js";
import { nobody, type Peer } from "../port/peer.js";
import type { Status } from "./errors.js";

/** 0 is OK, as on the wire. */
export type Outcome = Code | 0;

/** How to count a call without a token, whose message is its credential. */
export interface Charge {
  proven: boolean;
  /** Counts the call against the subject that the credential has proved. @throws Failure 4291 */
  readonly good: (subject: string) => Promise<void>;
}

export interface Call {
  readonly requestId: string;
  /** Procedure or fixed route; "unmatched" for any other path. */
  readonly endpoint: string;
  /** Undefined if the request is not an RPC. */
  readonly method: DescMethod | undefined;
  readonly headers: Pick<Headers, "get">;
  /** The other end of the connection; `nobody` until an RPC is found, since nothing needs it before. */
  peer: Peer;
  /**
   * Aborts at the call's deadline, when its client goes, or at shutdown. The transport sets it before it asks the gate.
   */
  signal: AbortSignal;
  /** Set by the gate. */
  caller: Caller | undefined;
  /** Set by the gate; nothing has been counted yet. */
  charge: Charge | undefined;
  /** Set by the gate: whether the call counts as one of its address's streams without a token. */
  held: boolean;
  /** The outcome, if an interceptor has seen it. */
  outcome: Outcome | undefined;
  error: Status | undefined;
}

export const createCall = (target: Pick<Call, "requestId" | "endpoint" | "method" | "headers">): Call => ({
  ...target,
  peer: nobody,
  signal: never,
  caller: undefined,
  charge: undefined,
  held: false,
  outcome: undefined,
  error: undefined,
});

const never = new AbortController().signal;

/**
 * A handler that returns after its call was aborted may do so because of the abort. The wire then knows the outcome.
 */
export function noteSuccess(call: Call): void {
  if (!call.signal.aborted) call.outcome = 0;
}

/** Notes the error that answers the call. */
export function noteError(call: Call, error: Status): void {
  call.error = error;
  call.outcome = error.code;
}

// One request for an RPC, as the gate, the errors and the observer see it, whichever transport carries it. A transport makes
// it when the request comes, fills in what it learns, and hands it to handlers in the call's context (context.ts).
import type { DescMethod } from "@bufbuild/protobuf";
import type { Code } from "@connectrpc/connect";
import type { Caller } from "../access/caller.js";
import { nobody, type Peer } from "../port/peer.js";
import type { Status } from "./errors.js";

/** 0 is OK, as on the wire. */
export type Outcome = Code | 0;

/** What a call without a token, whose message is its credential, is counted by. */
export interface Charge {
  proven: boolean;
  /** Counts the call against the subject that its credential has proved. @throws Failure 4291 */
  readonly good: (subject: string) => Promise<void>;
}

export interface Call {
  readonly requestId: string;
  /** Procedure or fixed route; "unmatched" for any other path. */
  readonly endpoint: string;
  /** Undefined for what is no RPC. */
  readonly method: DescMethod | undefined;
  readonly headers: Pick<Headers, "get">;
  /** The other end; nobody until an RPC was found, for no one else needs to know. */
  peer: Peer;
  /** Aborts with the call's deadline, its client, or the service. Set by the transport before it asks the gate. */
  signal: AbortSignal;
  /** Set by the gate. */
  caller: Caller | undefined;
  /** Set by the gate: nobody is counted yet. */
  charge: Charge | undefined;
  /** Set by the gate: one of the streams without a token that its address may have open. */
  held: boolean;
  /** How it ended, as far as the interceptors saw. */
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

/** A handler that returns after its call was aborted may do so because of that; the wire knows what came of it. */
export function noteSuccess(call: Call): void {
  if (!call.signal.aborted) call.outcome = 0;
}

/** Notes the error a call is answered with. */
export function noteError(call: Call, error: Status): void {
  call.error = error;
  call.outcome = error.code;
}

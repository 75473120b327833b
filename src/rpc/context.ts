// How a handler reaches its call: the call travels in the transport's context.
import { type ContextKey, type ContextValues, createContextKey, createContextValues } from "@connectrpc/connect";
import type { Caller } from "../access/caller.js";
import { unauthenticated } from "../failure.js";
import { type Call, createCall } from "./call.js";

/** What a handler receives beside its message. */
interface Context {
  readonly values: ContextValues;
}

const callKey: ContextKey<Call> = createContextKey<Call>(
  createCall({ requestId: "", endpoint: "unmatched", method: undefined, headers: new Headers() }),
  { description: "call" },
);

export const contextOf = (call: Call): ContextValues => createContextValues().set(callKey, call);

export const callOf = ({ values }: Context): Call => values.get(callKey);

/** The caller of an RPC that is not open. The gate guarantees one, so this is an assertion. */
export function callerOf(context: Context): Caller {
  const { caller } = callOf(context);
  if (!caller) throw unauthenticated("A token is required");
  return caller;
}

// What is known of a call beside its message: put into the call's context at the port and by the gate, read by handlers.
import { type ContextKey, type ContextValues, createContextKey } from "@connectrpc/connect";
import type { Caller } from "../access/caller.js";
import { unauthenticated } from "../failure.js";
import type { Peer } from "../port/peer.js";

export const callerKey: ContextKey<Caller | undefined> = createContextKey<Caller | undefined>(undefined, {
  description: "caller",
});
export const peerKey: ContextKey<Peer> = createContextKey<Peer>(
  {
    address: "unknown",
    turnedAway: () => undefined,
    letIn: () => undefined,
    closeConnection: () => undefined,
    resetStream: () => undefined,
  },
  { description: "peer" },
);
export const requestIdKey: ContextKey<string> = createContextKey<string>("", { description: "request id" });

/** The caller of an RPC that is not open; an assertion, since the gate has let it pass. */
export function callerOf(context: { readonly values: ContextValues }): Caller {
  const caller = context.values.get(callerKey);
  if (!caller) throw unauthenticated("A token is required");
  return caller;
}

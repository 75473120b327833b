// Who calls: put into the call's context by the gate, read by handlers.
import { type ContextKey, type ContextValues, createContextKey } from "@connectrpc/connect";
import { unauthenticated } from "../failure.js";
import type { Role } from "./permission.js";

export interface Caller {
  /** The token's sub, named in logs, events and idempotency keys. */
  readonly subject: string;
  readonly role: Role;
  /** Only with a node's token. */
  readonly nodeId: string | undefined;
  readonly tokenType: "service_access" | "node_access" | "node_enrollment";
  readonly jti: string;
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  /** Of a node's token: the enrolment it belongs to, where the service made it. */
  readonly enrollmentEpoch: number | undefined;
}

/** The other end of the connection. */
export interface Peer {
  /** IP address without the IPv4-in-IPv6 prefix; "unknown" when the socket is gone. */
  readonly address: string;
  /** Notes against the connection that a call was not let in. */
  turnedAway(): void;
  /** Notes that the call has shown who calls, so that its connection does not give way to others. */
  letIn(): void;
  /** Lets the connection's streams end, then closes it (GOAWAY on HTTP/2), so that the next call dials anew. */
  closeConnection(): void;
  /** Ends the call at once, without an answer: for a reader that reads none. On HTTP/1.1 its connection goes with it. */
  resetStream(): void;
}

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

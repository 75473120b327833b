// The other end of a request's connection.
import { constants } from "node:http2";
import type { Connection, WireRequest, WireResponse } from "./exchange.js";
import { goAway } from "./keepalive.js";
import type { Proxies } from "./proxies.js";

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

export function peerOf(
  request: WireRequest,
  response: WireResponse,
  connection: Connection | undefined,
  proxies: Proxies,
): Peer {
  const forwarded = request.headers["x-forwarded-for"];
  const session = "stream" in request ? request.stream.session : undefined;
  const socket = session?.socket ?? request.socket;
  return {
    address: proxies.clientOf(addressOf(socket.remoteAddress), typeof forwarded === "string" ? forwarded : undefined),
    turnedAway: () => connection?.turnedAway(),
    letIn: () => connection?.letIn(),
    // On a later turn: closing a session while one of its streams is being handled confuses the session.
    closeConnection: () => {
      setImmediate(() => {
        if (session) goAway(session);
        // HTTP/1.1 has no word for it but the end of the connection, which comes when the answer is out.
        else if (response.writableFinished) socket.end();
        else response.once("finish", () => socket.end());
      });
    },
    resetStream: () => {
      if ("stream" in request) request.stream.close(constants.NGHTTP2_CANCEL);
      else socket.destroy();
    },
  };
}

/** In place of a peer that nobody has asked for. */
export const nobody: Peer = {
  address: "unknown",
  turnedAway: () => undefined,
  letIn: () => undefined,
  closeConnection: () => undefined,
  resetStream: () => undefined,
};

/** IPv4 as IPv4: a socket that listens on IPv6 sees `::ffff:192.0.2.1`. */
export function addressOf(remoteAddress: string | undefined): string {
  if (remoteAddress === undefined) return "unknown";
  return remoteAddress.startsWith("::ffff:") && remoteAddress.includes(".") ? remoteAddress.slice(7) : remoteAddress;
}

// The other end of a request's connection.
import { constants } from "node:http2";
import type { Connection, WireRequest, WireResponse } from "./exchange.js";
import { goAway } from "./keepalive.js";
import type { Proxies } from "./proxies.js";

/** The other end of the connection. */
export interface Peer {
  /** IP address without the IPv4-in-IPv6 prefix; "unknown" when the socket is gone. */
  readonly address: string;
  /** Notes on the connection that a call was refused entry. */
  turnedAway(): void;
  /** Notes that the caller is identified, so that the connection is not closed to make room. */
  letIn(): void;
  /** Lets the connection's streams end, then closes it (GOAWAY on HTTP/2), so that the next call reconnects. */
  closeConnection(): void;
  /**
   * Ends the call at once, without an answer, for a client that does not read. On HTTP/1.1 this closes its connection.
   */
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
        // HTTP/1.1 can only end the connection, once the answer is out.
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

/** Used before the peer of a request is needed. */
export const nobody: Peer = {
  address: "unknown",
  turnedAway: () => undefined,
  letIn: () => undefined,
  closeConnection: () => undefined,
  resetStream: () => undefined,
};

/** IPv4 in its own form: a socket that listens on IPv6 sees `::ffff:192.0.2.1`. */
export function addressOf(remoteAddress: string | undefined): string {
  if (remoteAddress === undefined) return "unknown";
  return remoteAddress.startsWith("::ffff:") && remoteAddress.includes(".") ? remoteAddress.slice(7) : remoteAddress;
}

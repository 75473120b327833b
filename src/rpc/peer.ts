// The other end of a request's connection.
import { constants } from "node:http2";
import type { Peer } from "./caller.js";
import { goAway } from "./keepalive.js";
import type { Proxies } from "./proxies.js";
import type { Connection, WireRequest, WireResponse } from "./wire.js";

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

/** IPv4 as IPv4: a socket that listens on IPv6 sees `::ffff:192.0.2.1`. */
export function addressOf(remoteAddress: string | undefined): string {
  if (remoteAddress === undefined) return "unknown";
  return remoteAddress.startsWith("::ffff:") && remoteAddress.includes(".") ? remoteAddress.slice(7) : remoteAddress;
}

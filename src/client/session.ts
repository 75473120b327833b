// Connections of our clients over HTTP/2.
import type { ClientHttp2Session } from "node:http2";
import { Http2SessionManager } from "@connectrpc/connect-node";
import { sessionOptions } from "./address.js";

type PingOptions = ConstructorParameters<typeof Http2SessionManager>[1];

/** One connection to the service at that URL, dialled when it is needed. */
export const createSession = (baseUrl: string, pings: PingOptions = {}): Http2SessionManager =>
  new GuardedSession(baseUrl, pings, sessionOptions(baseUrl));

/**
 * A connection that the service takes leave of while it is idle ends with an error, which comes a moment later; meanwhile
 * the manager may have turned to another connection, and no longer listens. An error that nobody listens for ends the
 * process. Whoever waits for an answer hears of it from the stream.
 */
class GuardedSession extends Http2SessionManager {
  readonly #guarded = new WeakSet<object>();

  override async request(...given: Parameters<Http2SessionManager["request"]>) {
    const stream = await super.request(...given);
    const session: ClientHttp2Session | undefined = stream.session as ClientHttp2Session | undefined;
    if (session !== undefined && !this.#guarded.has(session)) {
      this.#guarded.add(session);
      session.on("error", () => undefined);
    }
    return stream;
  }
}

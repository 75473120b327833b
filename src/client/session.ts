// Connections of our clients over HTTP/2.
import type { ClientHttp2Session } from "node:http2";
import { Http2SessionManager } from "@connectrpc/connect-node";
import { sessionOptions } from "./address.js";

type PingOptions = ConstructorParameters<typeof Http2SessionManager>[1];

/** One connection to the service at that URL, opened when needed. */
export const createSession = (baseUrl: string, pings: PingOptions = {}): Http2SessionManager =>
  new GuardedSession(baseUrl, pings, sessionOptions(baseUrl));

/**
 * When the service ends an idle connection, an error follows a moment later. Meanwhile the manager may have moved to
 * another connection and no longer listens, and an error without a listener ends the process. Callers that wait for an
 * answer learn of it from the stream.
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

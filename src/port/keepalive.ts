// HTTP/2 sessions: finds peers that vanished silently (frozen, unplugged, behind a NAT that forgot them), and sends
// away peers that should reconnect.
import type { Http2Session, ServerHttp2Session } from "node:http2";

export interface Keepalive {
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
}

interface Streams {
  open: number;
  leaving: boolean;
}

const streamsOf = new WeakMap<Http2Session, Streams>();

/** Pings the session while it lives, and destroys it when a ping is not answered in time. */
export function keepAlive(session: ServerHttp2Session, { pingIntervalMs, pingTimeoutMs }: Keepalive): void {
  countStreams(session);
  let timer: NodeJS.Timeout;
  const schedule = () => {
    timer = setTimeout(ping, pingIntervalMs);
    timer.unref();
  };
  const ping = () => {
    // A closed session cannot ping. It has no streams left and ends when its last bytes are out.
    if (session.destroyed || session.closed) return;
    let answered = false;
    timer = setTimeout(() => {
      // Answers already in the socket are read before this runs. Otherwise a server that stalled for longer than the
      // timeout would end all its sessions when it wakes up.
      setImmediate(() => {
        if (!answered && !session.destroyed) session.destroy();
      });
    }, pingTimeoutMs);
    session.ping((error) => {
      if (error) return;
      answered = true;
      clearTimeout(timer);
      schedule();
    });
  };
  session.once("close", () => clearTimeout(timer));
  schedule();
}

/**
 * Asks the peer to open no more streams here (GOAWAY), and closes the session when its last stream has ended.
 * `session.close()` is not used, since it also ends the pings: a peer that froze meanwhile would be kept forever.
 */
export function goAway(session: Http2Session): void {
  const streams = streamsOf.get(session);
  if (session.destroyed || session.closed || streams?.leaving) return;
  if (!streams || streams.open === 0) return void session.close();
  streams.leaving = true;
  session.goaway();
}

function countStreams(session: ServerHttp2Session): void {
  const streams: Streams = { open: 0, leaving: false };
  streamsOf.set(session, streams);
  session.on("stream", (stream) => {
    streams.open++;
    stream.once("close", () => {
      streams.open--;
      // On a later turn: a session must not be ended by the event of its own stream.
      if (streams.leaving && streams.open === 0) setImmediate(() => session.close());
    });
  });
}

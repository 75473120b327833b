// One port for HTTP/1.1 and HTTP/2, in cleartext or TLS: accepts, limits and ends connections, and knows nothing of RPCs.
import { createServer as createHttp1Server, type Server as Http1Server } from "node:http";
import {
  createServer as createHttp2Server,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from "node:tls";
import { type Log, silentLog } from "../telemetry/log.js";
import { goAway, type Keepalive, keepAlive } from "./keepalive.js";
import { type Protocol, sniff } from "./sniff.js";
import { createTlsReload, readTls, type TlsFiles, type TlsMaterial } from "./tls.js";
import { answer, type WireHandler, type WireRequest, type WireResponse } from "./wire.js";

export interface ListenerLimits extends Keepalive {
  /** Connections beyond this are closed at once. */
  readonly connectionsMax: number;
  readonly backlog: number;
  /** Until the first bytes that tell the protocol, and until a TLS handshake is done. */
  readonly firstBytesTimeoutMs: number;
  /** HTTP/1.1: until a request's headers are there. */
  readonly headersTimeoutMs: number;
  /** HTTP/1.1: until a request's body is there. */
  readonly requestTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  readonly headerBytesMax: number;
  /** HTTP/2, of one connection. */
  readonly concurrentStreamsMax: number;
  readonly sessionMemoryMaxMb: number;
  readonly streamWindowBytes: number;
  /** How long a client may leave its half of a stream open after the whole answer. */
  readonly lingerMs: number;
  /** How often replaced certificate files are looked for. */
  readonly tlsReloadMs: number;
}

const defaultListenerLimits: ListenerLimits = {
  connectionsMax: 25_000,
  backlog: 4_096,
  firstBytesTimeoutMs: 5_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  keepAliveTimeoutMs: 65_000,
  headerBytesMax: 16 * 1024,
  concurrentStreamsMax: 1_000,
  sessionMemoryMaxMb: 64,
  streamWindowBytes: 256 * 1024,
  lingerMs: 1_000,
  pingIntervalMs: 20_000,
  pingTimeoutMs: 10_000,
  tlsReloadMs: 10_000,
};

export interface ListenerOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly handler: WireHandler;
  readonly tls?: TlsFiles | undefined;
  readonly limits?: Partial<ListenerLimits>;
  readonly log?: Log;
}

export interface Listener extends AsyncDisposable {
  /** The port in use; 0 before `listen`. */
  readonly port: number;
  readonly connections: number;
  listen(): Promise<void>;
  /** Takes no new connections. */
  stopAccepting(): void;
  /**
   * Asks all clients to go (GOAWAY; the last answer on HTTP/1.1) and lets what runs end. True when all have gone before
   * the grace was over.
   */
  drain(graceMs: number): Promise<boolean>;
  /** Ends every connection now. */
  close(): Promise<void>;
  /** Looks at the certificate files now. */
  reloadTls(): Promise<void>;
}

type FrontServer = NetServer | TlsServer;

/** Holds the sockets of the port, and the two servers that speak over them. */
export function createListener(options: ListenerOptions): Listener {
  const limits = { ...defaultListenerLimits, ...options.limits };
  const log = (options.log ?? silentLog).module("listener");
  const stop = new AbortController();
  const connections = createConnections();
  const inner = createInnerServers(limits, guardedHandler(options.handler, connections, limits, log), connections);
  let front: FrontServer | undefined;
  let reload: () => Promise<void> = async () => undefined;

  const listen = async () => {
    const material = options.tls ? await readTls(options.tls) : undefined;
    front = material ? createTlsFront(material, limits, inner, connections) : createFront(limits, inner, connections);
    front.maxConnections = limits.connectionsMax;
    front.on("drop", () =>
      log.warn("connection refused, there are too many", { connections: connections.sockets.size }),
    );
    if (options.tls && material) {
      reload = createTlsReload(front as TlsServer, options.tls, material, log);
      void repeat(reload, limits.tlsReloadMs, stop.signal);
    }
    await bind(front, options.host, options.port, limits.backlog);
  };
  const close = async () => {
    stop.abort();
    for (const session of connections.sessions) session.destroy();
    for (const socket of connections.sockets) socket.destroy();
    inner.h1.close();
    inner.h2.close();
    await closed(front);
  };
  return {
    get port() {
      const address = front?.address() as AddressInfo | string | null | undefined;
      return typeof address === "object" && address ? address.port : 0;
    },
    get connections() {
      return connections.sockets.size;
    },
    listen,
    stopAccepting: () => void (front?.listening && front.close()),
    drain: (graceMs) => drain(connections, inner, graceMs),
    close,
    reloadTls: () => reload(),
    [Symbol.asyncDispose]: close,
  };
}

interface InnerServers {
  readonly h1: Http1Server;
  readonly h2: Http2Server;
}

interface Connections {
  readonly sockets: Set<Socket>;
  readonly sessions: Set<ServerHttp2Session>;
  draining: boolean;
  /** Called when a connection is gone. */
  gone: () => void;
  add(socket: Socket): void;
}

function createConnections(): Connections {
  const connections: Connections = {
    sockets: new Set(),
    sessions: new Set(),
    draining: false,
    gone: () => undefined,
    add: (socket) => {
      connections.sockets.add(socket);
      socket.once("close", () => {
        connections.sockets.delete(socket);
        connections.gone();
      });
    },
  };
  return connections;
}

/** The two servers do not listen: sockets are handed to them. */
function createInnerServers(limits: ListenerLimits, handler: WireHandler, connections: Connections): InnerServers {
  const h1 = createHttp1Server(
    {
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.min(limits.headersTimeoutMs, 5_000),
      maxHeaderSize: limits.headerBytesMax,
    },
    handler,
  );
  // Without this a server that does not listen enforces no timeout and knows no idle connections.
  h1.emit("listening");
  const h2 = createHttp2Server(
    {
      settings: {
        maxConcurrentStreams: limits.concurrentStreamsMax,
        initialWindowSize: limits.streamWindowBytes,
        maxHeaderListSize: limits.headerBytesMax,
      },
      maxSessionMemory: limits.sessionMemoryMaxMb,
    },
    handler,
  );
  h2.on("session", (session) => {
    connections.sessions.add(session);
    session.once("close", () => connections.sessions.delete(session));
    keepAlive(session, limits);
    if (connections.draining) goAway(session);
  });
  return { h1, h2 };
}

function hand(socket: Socket, protocol: Protocol, { h1, h2 }: InnerServers): void {
  // HTTP/1.1 clients may close their half after the request and still want the answer; an HTTP/2 session whose client
  // has gone would stay for ever.
  socket.allowHalfOpen = protocol === "h1";
  (protocol === "h1" ? h1 : h2).emit("connection", socket);
}

function createFront(limits: ListenerLimits, inner: InnerServers, connections: Connections): NetServer {
  return createNetServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    connections.add(socket);
    sniff(socket, limits.firstBytesTimeoutMs, (protocol) => hand(socket, protocol, inner));
  });
}

function createTlsFront(
  material: TlsMaterial,
  limits: ListenerLimits,
  inner: InnerServers,
  connections: Connections,
): TlsServer {
  const mutual = material.ca !== undefined;
  const server = createTlsServer(
    {
      ...material,
      minVersion: "TLSv1.2",
      ALPNProtocols: ["h2", "http/1.1"],
      requestCert: mutual,
      rejectUnauthorized: mutual,
      handshakeTimeout: limits.firstBytesTimeoutMs,
      noDelay: true,
      allowHalfOpen: true,
    },
    (socket: TLSSocket) => hand(socket, socket.alpnProtocol === "h2" ? "h2" : "h1", inner),
  );
  // The raw socket, counted before its handshake: one that never finishes it must be closed with the others.
  server.on("connection", (socket: Socket) => connections.add(socket));
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return server;
}

/** A request that makes the handler throw (a bad authority does) is answered 400 and ends nobody else's. */
function guardedHandler(handler: WireHandler, connections: Connections, limits: ListenerLimits, log: Log): WireHandler {
  return (request, response) => {
    // Streams fail when their client goes; whoever reads or writes them sees that too.
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    if ("stream" in request) {
      readBeforeAnswer(request, response as Http2ServerResponse);
      endAfterAnswer(request.stream, limits.lingerMs);
    }
    if (!("stream" in request) && connections.draining) response.setHeader("Connection", "close");
    try {
      handler(request, response);
    } catch (error) {
      log.debug("request refused", { error });
      refuse(request, response);
    }
  };
}

/**
 * Lets the rest of a request come in that nobody has read by the time its answer ends, as a refusal by the gate leaves it.
 * Node resets a stream that was never read, and the reset overtakes the answer: clients would see a broken stream.
 */
function readBeforeAnswer(request: Http2ServerRequest, response: Http2ServerResponse): void {
  const end: Http2ServerResponse["end"] = response.end.bind(response);
  response.end = ((...given: Parameters<typeof end>) => {
    if (!request.readableDidRead) request.resume();
    return end(...given);
  }) as typeof end;
}

/**
 * A stream lives until both sides have ended theirs. A client that is told the outcome and does not end its own would
 * hold the stream, and a connection that is asked to go, for as long as it likes.
 */
function endAfterAnswer(stream: ServerHttp2Stream, lingerMs: number): void {
  // The stream's event: that of the response comes when the stream is gone.
  stream.once("finish", () => {
    if (stream.destroyed || stream.readableEnded) return;
    const timer = setTimeout(() => stream.close(), lingerMs);
    stream.once("close", () => clearTimeout(timer));
  });
}

function refuse(request: WireRequest, response: WireResponse): void {
  if (response.headersSent) response.destroy();
  else answer(request, response, 400, { "content-type": "text/plain" }, "Bad Request");
}

async function drain(connections: Connections, { h1 }: InnerServers, graceMs: number): Promise<boolean> {
  connections.draining = true;
  const empty = Promise.withResolvers<boolean>();
  connections.gone = () => {
    if (connections.sockets.size === 0) empty.resolve(true);
  };
  for (const session of connections.sessions) goAway(session);
  h1.closeIdleConnections();
  connections.gone();
  const timer = setTimeout(() => empty.resolve(false), graceMs);
  const drained = await empty.promise;
  clearTimeout(timer);
  return drained;
}

function bind(server: FrontServer, host: string, port: number, backlog: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, backlog }, () => {
      server.off("error", reject);
      // An error of accepting (too many open files) is no reason to end the process.
      server.on("error", () => undefined);
      resolve();
    });
  });
}

function closed(server: FrontServer | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (!server) return resolve();
    server.close(() => resolve());
  });
}

async function repeat(work: () => Promise<void>, everyMs: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await delay(everyMs, undefined, { signal, ref: false }).catch(() => undefined);
    if (!signal.aborted) await work();
  }
}

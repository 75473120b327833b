// One port for HTTP/1.1 and HTTP/2, in cleartext or TLS: accepts, limits and ends connections, and knows nothing of RPCs.
import { createServer as createHttp1Server, type Server as Http1Server } from "node:http";
import {
  createServer as createHttp2Server,
  type Http2Server,
  Http2ServerRequest,
  Http2ServerResponse,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from "node:tls";
import { type Log, silentLog } from "../telemetry/log.js";
import { dropCall, endAfterAnswer, endUnread, readBeforeAnswer } from "./answers.js";
import {
  type ClosedFor,
  type ConnectionLimits,
  type Connections,
  createConnections,
  defaultConnectionLimits,
  resetsOfConnection,
} from "./connections.js";
import { answer, type Connection, type WireHandler, type WireRequest, type WireResponse } from "./exchange.js";
import { goAway, type Keepalive, keepAlive } from "./keepalive.js";
import { type Protocol, sniff } from "./sniff.js";
import { createTlsReload, readTls, type TlsFiles, type TlsMaterial } from "./tls.js";
import { createTurns } from "./turns.js";

export interface ListenerLimits extends Keepalive, ConnectionLimits {
  readonly backlog: number;
  /** Time for the first bytes, which tell the protocol, and for the TLS handshake. */
  readonly firstBytesTimeoutMs: number;
  /** HTTP/1.1: time for a request's headers. */
  readonly headersTimeoutMs: number;
  /** HTTP/1.1: time for a request's body. */
  readonly requestTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  readonly headerBytesMax: number;
  /** HTTP/2, per connection. */
  readonly concurrentStreamsMax: number;
  readonly sessionMemoryMaxMb: number;
  readonly streamWindowBytes: number;
  /** How long a client may keep its half of a stream open after the whole answer. */
  readonly lingerMs: number;
  /** How long a client may leave an answer unread. */
  readonly unreadMs: number;
  /** How often the certificate files are checked for changes. */
  readonly tlsReloadMs: number;
}

const defaultListenerLimits: ListenerLimits = {
  ...defaultConnectionLimits,
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
  unreadMs: 60_000,
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
  /** Called for each connection that was refused, or closed before its client wanted. */
  readonly closed?: (why: ClosedFor) => void;
  /** Whether the address is a trusted proxy's. */
  readonly isProxy?: (address: string) => boolean;
}

export interface Listener extends AsyncDisposable {
  /** The port in use; 0 before `listen`. */
  readonly port: number;
  readonly connections: number;
  listen(): Promise<void>;
  /** Takes no new connections. */
  stopAccepting(): void;
  /**
   * Asks all clients to leave (GOAWAY; the last answer on HTTP/1.1) and lets running calls end. True when all have left
   * within the grace.
   */
  drain(graceMs: number): Promise<boolean>;
  /** Ends every connection now. */
  close(): Promise<void>;
  /** Checks the certificate files now. */
  reloadTls(): Promise<void>;
}

type FrontServer = NetServer | TlsServer;

/** Owns the sockets of the port and the two servers that handle them. */
export function createListener(options: ListenerOptions): Listener {
  const limits = { ...defaultListenerLimits, ...options.limits };
  const log = (options.log ?? silentLog).module("listener");
  const stop = new AbortController();
  const refusals = createRefusals(log);
  const connections = createConnections(
    limits,
    () => performance.now(),
    options.isProxy ?? (() => false),
    (why, address) => {
      options.closed?.(why);
      refusals.note(why, address);
    },
  );
  const port: Port = { connections, limits, log, draining: false };
  const inner = createInnerServers(guardedHandler(options.handler, port), port);
  let front: FrontServer | undefined;
  let reload: () => Promise<void> = async () => undefined;

  const listen = async () => {
    const material = options.tls ? await readTls(options.tls) : undefined;
    front = material ? createTlsFront(material, inner, port) : createFront(inner, port);
    void repeat(async () => connections.tend(), limits.tendMs, stop.signal);
    void repeat(async () => refusals.tell(), refusalsTellMs, stop.signal);
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
      return connections.size;
    },
    listen,
    stopAccepting: () => void (front?.listening && front.close()),
    drain: (graceMs) => drain(port, inner, graceMs),
    close,
    reloadTls: () => reload(),
    [Symbol.asyncDispose]: close,
  };
}

interface InnerServers {
  readonly h1: Http1Server;
  readonly h2: Http2Server;
}

/** What the parts of one port share. */
interface Port {
  readonly connections: Connections;
  readonly limits: ListenerLimits;
  readonly log: Log;
  draining: boolean;
}

const refusalsTellMs = 10_000;

/** Logs one line now and then, however many connections a flood costs. */
function createRefusals(log: Log) {
  let counts: Partial<Record<ClosedFor, number>> = {};
  let addresses = new Set<string>();
  let toldMs = Number.NEGATIVE_INFINITY;
  const tell = (): void => {
    if (Object.keys(counts).length === 0 || performance.now() - toldMs < refusalsTellMs) return;
    toldMs = performance.now();
    log.warn("connections refused or closed", { ...counts, addresses: [...addresses].join(" ") });
    counts = {};
    addresses = new Set();
  };
  return {
    note: (why: ClosedFor, address: string): void => {
      if (why === "unused") return;
      counts[why] = (counts[why] ?? 0) + 1;
      if (addresses.size < 5) addresses.add(address);
      tell();
    },
    tell,
  };
}

/** The two servers do not listen: the port hands them sockets. */
function createInnerServers(handler: WireHandler, port: Port): InnerServers {
  const { connections, limits } = port;
  // Runs after all events of this turn, so that a stream reset at once is already gone and has cost almost nothing.
  const later = createTurns(callsPerTurn);
  const h1 = createHttp1Server(
    {
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.min(limits.headersTimeoutMs, 5_000),
      maxHeaderSize: limits.headerBytesMax,
    },
    (request, response) => {
      const { socket } = request;
      const connection = connections.of(socket);
      const call = connection?.began();
      response.once("close", () => call?.ended());
      // Node.js parses all requests of a read at once. A well-behaved client waits for some answers.
      if (connection && connection.open > pipelinedMax) return connections.refuse(socket, "strangers");
      later(socket, () => {
        if (!socket.destroyed) handler(request, response, call);
      });
    },
  );
  // Without this event, a server that does not listen enforces no timeouts and knows no idle connections.
  h1.emit("listening");
  const h2 = createHttp2Server({
    settings: {
      maxConcurrentStreams: limits.concurrentStreamsMax,
      initialWindowSize: limits.streamWindowBytes,
      maxHeaderListSize: limits.headerBytesMax,
    },
    maxSessionMemory: limits.sessionMemoryMaxMb,
  });
  h2.on("session", (session) => {
    const connection = connections.speaks(session);
    keepAlive(session, limits);
    if (port.draining) goAway(session);
    session.on("stream", (stream, headers, _flags, rawHeaders) => {
      stream.on("error", () => undefined);
      if (connection?.isOver) return;
      const call = connection?.began();
      connection?.watch(stream);
      stream.once("close", () => call?.ended());
      later(session, () => {
        if (!stream.destroyed && !stream.closed) answerStream(stream, headers, rawHeaders, handler, call);
      });
    });
  });
  return { h1, h2 };
}

/** Requests that an HTTP/1.1 client may send ahead of their answers. */
const pipelinedMax = 64;
/** Starting a call takes some hundred microseconds, so a turn with this many is still short. */
const callsPerTurn = 8;
/** The first bytes of a new connection take up to some milliseconds, without interruption. */
const connectionsPerTurn = 10;

/** Does what Node.js does for its request listener, but only for streams that still exist. */
function answerStream(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  rawHeaders: string[],
  handler: WireHandler,
  call: Connection | undefined,
): void {
  const request = new Http2ServerRequest(stream, headers, {}, rawHeaders);
  const response = new Http2ServerResponse(stream as never);
  // An empty body ended before the request listened for it.
  if (stream.readableEnded) request.push(null);
  if (headers.expect === "100-continue") response.writeContinue();
  handler(request, response, call);
}

function hand(socket: Socket, protocol: Protocol, { h1, h2 }: InnerServers): void {
  // HTTP/1.1 clients may close their half after the request and still want the answer. An HTTP/2 session whose client
  // has gone would stay forever.
  socket.allowHalfOpen = protocol === "h1";
  (protocol === "h1" ? h1 : h2).emit("connection", socket);
}

function createFront(inner: InnerServers, { connections, limits }: Port): NetServer {
  const later = createTurns(connectionsPerTurn);
  return createNetServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    if (!connections.add(socket)) return;
    later(socket, () => {
      if (socket.destroyed) return;
      sniff(socket, limits.firstBytesTimeoutMs, (protocol, resets) => {
        if (resets > resetsOfConnection.burst) connections.refuse(socket, "resets");
        else hand(socket, protocol, inner);
      });
    });
  });
}

function createTlsFront(material: TlsMaterial, inner: InnerServers, { connections, limits }: Port): TlsServer {
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
  // Count the raw socket before its handshake: a socket that never finishes it must be closed with the others.
  server.on("connection", (socket: Socket) => void connections.add(socket));
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return server;
}

/** A request that makes the handler throw (a bad authority does) is answered 400 and affects no other request. */
function guardedHandler(handler: WireHandler, port: Port): WireHandler {
  const { limits, log } = port;
  return (request, response, connection) => {
    // Streams fail when their client goes; their readers and writers see that too.
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    if ("stream" in request) {
      readBeforeAnswer(request, response as Http2ServerResponse);
      endAfterAnswer(request.stream, limits.lingerMs);
    }
    endUnread(response, () => dropCall(request), limits.unreadMs);
    if (!("stream" in request) && port.draining) response.setHeader("Connection", "close");
    try {
      handler(request, response, connection);
    } catch (error) {
      log.debug("request refused", { error });
      refuse(request, response);
    }
  };
}

function refuse(request: WireRequest, response: WireResponse): void {
  if (response.headersSent) response.destroy();
  else answer(request, response, 400, { "content-type": "text/plain" }, "Bad Request");
}

async function drain(port: Port, { h1 }: InnerServers, graceMs: number): Promise<boolean> {
  port.draining = true;
  const { connections } = port;
  const empty = Promise.withResolvers<boolean>();
  const look = () => {
    if (connections.size === 0) empty.resolve(true);
  };
  connections.onGone(look);
  for (const session of connections.sessions) goAway(session);
  h1.closeIdleConnections();
  look();
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
      // An error of accepting (too many open files) must not end the process.
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

// The connections of a port: how many each address holds, which ones waste calls, and which one closes when there is no
// room. A flood loses its own connections; those of others stay open.
import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import { constants } from "node:http2";
import type { Socket } from "node:net";
import { addressKey } from "./address.js";
import { type BudgetRate, createBudget } from "./budget.js";
import type { Connection } from "./exchange.js";
import { goAway } from "./keepalive.js";
import { addressOf } from "./peer.js";

export interface ConnectionLimits {
  /** Connections at once. Beyond them the one idle for longest closes, or else the new one. */
  readonly connectionsMax: number;
  /** Per address: an IPv4 address or an IPv6 /64. */
  readonly connectionsPerAddressMax: number;
  /** An HTTP/2 connection that has had no stream is asked to leave after this long. */
  readonly unusedMs: number;
  /** How long a connection must be idle before it may be closed to make room. */
  readonly idleMs: number;
  /** How long a client that was told to calm down may finish its last streams. */
  readonly calmMs: number;
  /** How often connections are checked. */
  readonly tendMs: number;
}

export const defaultConnectionLimits: ConnectionLimits = {
  connectionsMax: 25_000,
  connectionsPerAddressMax: 10_000,
  unusedMs: 60_000,
  idleMs: 1_000,
  calmMs: 1_000,
  tendMs: 5_000,
};

/** Why a connection was closed or refused: the label of the metric. */
export type ClosedFor = "too_many" | "address" | "idle" | "unused" | "resets" | "strangers";

/**
 * A stream that its client resets before its answer is wasted work. People and programs cancel now and then; a
 * connection that does so all the time is a flood (CVE-2023-44487).
 */
export const resetsOfConnection: BudgetRate = { perSecond: 20, burst: 60 };
const resetsOfAddress: BudgetRate = { perSecond: 200, burst: 1_000 };
/** Calls that were refused entry. A fleet behind one address may come back with expired tokens all at once. */
const strangersOfConnection: BudgetRate = { perSecond: 50, burst: 1_000 };
const strangersOfAddress: BudgetRate = { perSecond: 500, burst: 10_000 };
/** Pause after a search for a connection to close that found none. */
const fruitlessPauseMs = 50;
/** A later reset may have a good reason. */
const earlyResetMs = 1_000;
/** A connection that has used this share of its own budget is closed when its address is over its budget. */
const sharedBlame = 0.1;

/** A call as the listener sees it. */
export interface HeldCall extends Connection {
  ended(): void;
}

/** A connection as the listener sees it. */
export interface HeldConnection {
  /** A call begins. Until it is let in, its connection may still be closed to make room. */
  began(): HeldCall;
  /** Calls that have begun and not ended. */
  readonly open: number;
  /** Watches a stream for a reset by its client. */
  watch(stream: ServerHttp2Stream): void;
  /** Whether the connection is about to be closed, so that answers on it are pointless. */
  readonly isOver: boolean;
}

export interface Connections {
  readonly size: number;
  readonly sessions: ReadonlySet<ServerHttp2Session>;
  readonly sockets: ReadonlySet<Socket>;
  /** Adds a new socket; false when it was refused and is being closed. */
  add(socket: Socket): boolean;
  /** Closes a socket that was added. */
  refuse(socket: Socket, why: ClosedFor): void;
  /** The connection of an added socket, or of the TLS socket over it. */
  of(socket: Pick<Socket, "remoteAddress" | "remotePort">): HeldConnection | undefined;
  /** The connection of an HTTP/2 session, stored with the session. */
  speaks(session: ServerHttp2Session): HeldConnection | undefined;
  /** Sends away connections that were never used. Called every `tendMs`. */
  tend(): void;
  /** Called when a connection is gone. */
  onGone(gone: () => void): void;
}

interface Held extends HeldConnection {
  readonly socket: Socket;
  readonly id: string;
  readonly address: string;
  readonly isProxy: boolean;
  readonly sinceMs: number;
  session: ServerHttp2Session | undefined;
  /** The client was told to calm down; its connection closes when it has wasted more than this. */
  leavesAfter: number | undefined;
  /** Calls that were let in and have not ended. */
  calls: number;
  open: number;
  used: boolean;
  busyMs: number;
}

export function createConnections(
  limits: ConnectionLimits,
  nowMs: () => number,
  /** A proxy carries the connections and mistakes of many clients, so limits by address do not apply to it. */
  isProxy: (address: string) => boolean,
  closed: (why: ClosedFor, address: string) => void,
): Connections {
  const byEndpoint = new Map<string, Held>();
  const sockets = new Set<Socket>();
  const sessions = new Set<ServerHttp2Session>();
  const ofAddress = new Map<string, number>();
  const resets = createWaste("resets", resetsOfConnection, resetsOfAddress);
  const strangers = createWaste("strangers", strangersOfConnection, strangersOfAddress);
  let gone = () => {};
  /** The last search that found none: for one address, or undefined for all. */
  let fruitless: { readonly address: string | undefined; readonly atMs: number } | undefined;

  const forget = (held: Held): void => {
    if (byEndpoint.get(held.id) !== held) return;
    byEndpoint.delete(held.id);
    sockets.delete(held.socket);
    const left = (ofAddress.get(held.address) ?? 1) - 1;
    if (left === 0) ofAddress.delete(held.address);
    else ofAddress.set(held.address, left);
    gone();
  };

  const close = (held: Held, why: ClosedFor): void => {
    closed(why, held.address);
    forget(held);
    held.session?.destroy();
    held.socket.destroy();
  };

  /** The connection idle for longest, if it has been idle for long enough. Linear; used only when there is no room. */
  const idlest = (address?: string): Held | undefined => {
    // If no connection could close a moment ago, none can now: a flood must not cause a search each time. A search for
    // one address says nothing about the others.
    if (fruitless && fruitless.address === address && nowMs() - fruitless.atMs < fruitlessPauseMs) return undefined;
    let found: Held | undefined;
    for (const held of byEndpoint.values()) {
      if (address !== undefined && held.address !== address) continue;
      if (held.calls === 0 && (found === undefined || held.busyMs < found.busyMs)) found = held;
    }
    if (found !== undefined && nowMs() - found.busyMs >= limits.idleMs) return found;
    fruitless = { address, atMs: nowMs() };
    return undefined;
  };

  /** The waste budgets of a connection and its address. */
  function createWaste(why: ClosedFor, own: BudgetRate, all: BudgetRate) {
    const ofConnection = createBudget(own);
    const ofAll = createBudget(all);
    const wasted = new WeakMap<Held, number>();
    return (held: Held): void => {
      if (held.isOver || held.isProxy) return;
      const count = (wasted.get(held) ?? 0) + 1;
      wasted.set(held, count);
      const isOver = ofConnection.take(held.id, nowMs()) > 0;
      const addressIsOver = ofAll.take(held.address, nowMs()) > 0;
      // A connection that has wasted little is not closed for its neighbours.
      if (!isOver && !(addressIsOver && count > own.burst * sharedBlame)) return;
      if (held.leavesAfter === undefined) calmDown(held, why, count + own.burst);
      else if (count > held.leavesAfter) close(held, why);
    };
  }

  /**
   * Refuses new streams of a client that wastes them, tells it why (RFC 9113, 7), and closes the connection soon, or at
   * once if the client goes on.
   */
  const calmDown = (held: Held, why: ClosedFor, leavesAfter: number): void => {
    const { session } = held;
    if (!session || session.destroyed) return void close(held, why);
    held.leavesAfter = leavesAfter;
    session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    setTimeout(() => !held.isOver && close(held, why), limits.calmMs).unref();
  };

  const beginCall = (held: Held): HeldCall => {
    held.used = true;
    held.open++;
    held.busyMs = nowMs();
    let isIn = false;
    return {
      turnedAway: () => strangers(held),
      letIn: () => {
        if (isIn) return;
        isIn = true;
        held.calls++;
      },
      ended: () => {
        held.open--;
        if (isIn) held.calls--;
        held.busyMs = nowMs();
      },
    };
  };

  const hold = (socket: Socket, address: string, ofProxy: boolean): Held => {
    const now = nowMs();
    const held: Held = {
      ...{ socket, address, isProxy: ofProxy, id: endpointOf(socket), sinceMs: now, busyMs: now },
      ...{ session: undefined, leavesAfter: undefined, calls: 0, used: false },
      open: 0,
      began: () => beginCall(held),
      // Node.js reports a stream after all frames of its read, so it may have been reset already.
      watch: (stream) => {
        if (stream.aborted) return resets(held);
        const sinceMs = nowMs();
        // Not waste: a passed deadline, a stream that its client has ended, and a stream that we end.
        stream.once("aborted", () => {
          if (!stream.headersSent && nowMs() - sinceMs < earlyResetMs) resets(held);
        });
      },
      get isOver() {
        return byEndpoint.get(held.id) !== held;
      },
    };
    return held;
  };

  return {
    get size() {
      return byEndpoint.size;
    },
    sessions,
    sockets,
    add: (socket) => {
      // The socket was gone before it was accepted, so it has no address.
      if (socket.remoteAddress === undefined) {
        socket.destroy();
        return false;
      }
      const plain = addressOf(socket.remoteAddress);
      const address = addressKey(plain);
      const count = ofAddress.get(address) ?? 0;
      const refuse = (why: ClosedFor): false => {
        closed(why, address);
        socket.destroy();
        return false;
      };
      if (count >= limits.connectionsPerAddressMax && !isProxy(plain)) {
        const idle = idlest(address);
        if (!idle) return refuse("address");
        close(idle, "idle");
      }
      if (byEndpoint.size >= limits.connectionsMax) {
        const idle = idlest();
        if (!idle) return refuse("too_many");
        close(idle, "idle");
      }
      const held = hold(socket, address, isProxy(plain));
      byEndpoint.set(held.id, held);
      sockets.add(socket);
      ofAddress.set(address, (ofAddress.get(address) ?? 0) + 1);
      socket.once("close", () => forget(held));
      return true;
    },
    refuse: (socket, why) => {
      const held = byEndpoint.get(endpointOf(socket));
      if (held) close(held, why);
    },
    of: (socket) => byEndpoint.get(endpointOf(socket)),
    speaks: (session) => {
      sessions.add(session);
      session.once("close", () => sessions.delete(session));
      const held = byEndpoint.get(endpointOf(session.socket));
      if (held) held.session = session;
      return held;
    },
    tend: () => {
      const now = nowMs();
      for (const { session, used, sinceMs, address } of byEndpoint.values()) {
        if (!session || used || now - sinceMs < limits.unusedMs) continue;
        closed("unused", address);
        goAway(session);
      }
    },
    onGone: (listener) => {
      gone = listener;
    },
  };
}

/** The remote address and port: the same for a socket, the TLS socket over it, and an HTTP/2 session's view of it. */
const endpointOf = ({ remoteAddress, remotePort }: Pick<Socket, "remoteAddress" | "remotePort">): string =>
  `${remoteAddress} ${remotePort}`;

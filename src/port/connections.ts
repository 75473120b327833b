// The connections of a port: who holds how many, who wastes them, and which one goes when there is no room. A flood pays
// with its own connections; what others hold stays open.
import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import { constants } from "node:http2";
import type { Socket } from "node:net";
import { addressKey } from "./address.js";
import { type BudgetRate, createBudget } from "./budget.js";
import type { Connection } from "./exchange.js";
import { goAway } from "./keepalive.js";
import { addressOf } from "./peer.js";

export interface ConnectionLimits {
  /** Connections at once. Beyond them the one that has been idle for longest goes, or else the new one. */
  readonly connectionsMax: number;
  /** Of one address: an IPv4 address or an IPv6 /64. */
  readonly connectionsPerAddressMax: number;
  /** An HTTP/2 connection without any stream so far is asked to go after this long. */
  readonly unusedMs: number;
  /** Nothing of a connection must have happened for this long before it may be closed to make room. */
  readonly idleMs: number;
  /** How long a client that was told to calm down has for its last streams. */
  readonly calmMs: number;
  /** How often connections are looked at. */
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

/** Why a connection was closed or refused, as the metric names it. */
export type ClosedFor = "too_many" | "address" | "idle" | "unused" | "resets" | "strangers";

/**
 * A stream that its client resets before it has its answer is work for nothing. People and programs cancel now and then;
 * a connection that lives from it is a flood (CVE-2023-44487).
 */
export const resetsOfConnection: BudgetRate = { perSecond: 20, burst: 60 };
const resetsOfAddress: BudgetRate = { perSecond: 200, burst: 1_000 };
/** Calls that nobody let in. A fleet behind one address may come back with expired tokens all at once. */
const strangersOfConnection: BudgetRate = { perSecond: 50, burst: 1_000 };
const strangersOfAddress: BudgetRate = { perSecond: 500, burst: 10_000 };
/** Between two searches for a connection that can give way, after one that found none. */
const fruitlessPauseMs = 50;
/** A reset that comes later may have its reason. */
const earlyResetMs = 1_000;
/** A connection that has wasted this share of its own budget pays for a flood of its address. */
const sharedBlame = 0.1;

/** A call, as the listener sees it. */
export interface HeldCall extends Connection {
  ended(): void;
}

/** One connection, as the listener sees it. */
export interface HeldConnection {
  /** A call begins. Until it has been let in it does not keep its connection from giving way. */
  began(): HeldCall;
  /** Calls that have begun and not ended. */
  readonly open: number;
  /** Watches a stream for a reset by its client. */
  watch(stream: ServerHttp2Stream): void;
  /** Whether it is about to be closed, so that nothing on it is worth an answer. */
  readonly isOver: boolean;
}

export interface Connections {
  readonly size: number;
  readonly sessions: ReadonlySet<ServerHttp2Session>;
  readonly sockets: ReadonlySet<Socket>;
  /** Takes a new socket in; false when it was refused, and is closed. */
  add(socket: Socket): boolean;
  /** Closes a socket that was added. */
  refuse(socket: Socket, why: ClosedFor): void;
  /** The connection of a socket that was added, or of what speaks TLS over it. */
  of(socket: Pick<Socket, "remoteAddress" | "remotePort">): HeldConnection | undefined;
  /** The connection of an HTTP/2 session, which is remembered with it. */
  speaks(session: ServerHttp2Session): HeldConnection | undefined;
  /** Sends away what has never been used. Called every `tendMs`. */
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
  /** It was told to calm down, and is closed when it has wasted more than this. */
  leavesAfter: number | undefined;
  /** Calls that have been let in. */
  calls: number;
  open: number;
  used: boolean;
  busyMs: number;
}

export function createConnections(
  limits: ConnectionLimits,
  nowMs: () => number,
  /** A proxy carries the connections and the mistakes of many: limits by address are not for it. */
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

  /** The connection that has been idle for longest, if any has been for long enough. Linear; only where there is no room. */
  const idlest = (address?: string): Held | undefined => {
    // Where nobody could give way a moment ago, nobody can now: a flood must not pay for a search each time.
    // That one address has none says nothing of the others.
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

  /** What a connection and its address may waste together. */
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
   * Takes no new streams from a client that wastes them, tells it why (RFC 9113, 7), and closes the connection soon, or at
   * once when the client goes on all the same.
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
      // Node.js tells of a stream behind all frames of its read: by then it may have been reset already.
      watch: (stream) => {
        if (stream.aborted) return resets(held);
        const sinceMs = nowMs();
        // A deadline that passed, a stream that its client has ended, and what we end ourselves are no waste.
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
      // Gone before it was accepted: it has no name to be kept by.
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

/** The other end: the same for a socket, for what speaks TLS over it, and for an HTTP/2 session's view of it. */
const endpointOf = ({ remoteAddress, remotePort }: Pick<Socket, "remoteAddress" | "remotePort">): string =>
  `${remoteAddress} ${remotePort}`;

// Coordination by Redis, for any number of replicas. It may be lost, flushed, read-only or frozen at any moment: a call
// then rejects soon and whoever called decides what that means; nobody waits for Redis to come back but subscribers.
import { readFileSync } from "node:fs";
import { Redis, type RedisOptions, ReplyError } from "ioredis";
import { type Clock, systemClock } from "../clock.js";
import type { Log } from "../telemetry/log.js";
import { type Coordination, CoordinationUnavailableError } from "./coordination.js";

export interface RedisCoordinationOptions {
  /** See parseRedisUrl. */
  readonly url: string;
  readonly log?: Pick<Log, "info" | "warn" | "error">;
  /** Before every key and channel, so that several deployments may share one server. */
  readonly keyPrefix?: string;
  /** How long a command may take; a connection on which nothing comes for twice as long is given up for a new one. */
  readonly commandMs?: number;
  /** How long a connection may take to be made, its TLS handshake included. */
  readonly connectMs?: number;
  readonly clock?: Pick<Clock, "monotonicMs">;
}

const retryMinMs = 50;
const retryMaxMs = 1_000;
/** A connection that the server does not close by then, as a frozen one does not, is torn down. */
const closeMs = 200;

/**
 * Never fails because Redis is away, now or later: it connects in the background, for ever. Calls made before the first
 * attempt has ended wait for its end; later ones reject at once with a CoordinationUnavailableError while there is no
 * connection, and after `commandMs` when no answer comes. One that was sent may have taken effect all the same: then a
 * hit has counted, and a mark is set that nobody was told of.
 * @throws Error when the URL cannot be used; it does not repeat the URL, which may hold a password
 */
export function createRedisCoordination(options: RedisCoordinationOptions): Coordination {
  const { keyPrefix = "lucid:", log } = options;
  const address = parseRedisUrl(options.url);
  const outage = createOutage(`${address.host}:${address.port}`, log);
  const connect = (purpose: Purpose) => createConnection(purpose, address, options, outage);

  const commands = connect("commands");
  const scripts = defineScripts(commands.redis);
  // Databases divide keys but not channels.
  const channelPrefix = `${keyPrefix}channel:${address.db}:`;
  const subscriptions = createSubscriptions(() => connect("subscriptions"), log);
  let closed: Promise<void> | undefined;
  const assertOpen = () => {
    if (closed) throw new Error("The coordination is closed");
  };

  const ask = async <Answer>(command: () => Promise<Answer>): Promise<Answer> => {
    assertOpen();
    await commands.tried;
    assertOpen();
    if (commands.redis.status !== "ready") {
      throw new CoordinationUnavailableError("Redis is away", { cause: commands.lastError() });
    }
    try {
      return await command();
    } catch (error) {
      if (isRefusal(error)) throw new CoordinationUnavailableError("Redis refuses", { cause: bare(error) });
      // Why the connection went says more than that a command went with it.
      throw new CoordinationUnavailableError("Redis does not answer", { cause: commands.lastError() ?? error });
    }
  };
  /** A server may answer and yet take nothing: a replica, one out of memory, one whose disk is full. */
  const write = async <Answer>(command: () => Promise<Answer>): Promise<Answer> => {
    try {
      const answer = await ask(command);
      outage.ends("writes");
      return answer;
    } catch (error) {
      if (error instanceof CoordinationUnavailableError && isRefusal(error.cause)) outage.begins("writes", error.cause);
      throw error;
    }
  };

  return {
    engine: "redis",
    hit: async (key, limit, windowMs) => {
      assertDuration("windowMs", windowMs);
      const [count, resetMs] = await write(() => scripts.hit(`${keyPrefix}hit:${key}`, windowMs));
      return { allowed: count <= limit, count, resetMs };
    },
    addOnce: async (key, ttlMs) => {
      assertDuration("ttlMs", ttlMs);
      return (await write(() => commands.redis.set(`${keyPrefix}once:${key}`, "1", "PX", ttlMs, "NX"))) === "OK";
    },
    publish: async (channel, message) => {
      await ask(() => commands.redis.publish(channelPrefix + channel, message));
    },
    subscribe: async (channel, handler, signal) => {
      assertOpen();
      if (!signal.aborted) await subscriptions.add(channelPrefix + channel, handler, signal);
    },
    ping: async () => {
      subscriptions.probe();
      await ask(() => commands.redis.ping());
    },
    [Symbol.asyncDispose]: () => {
      closed ??= Promise.all([commands.close(), subscriptions.close()]).then(() => undefined);
      return closed;
    },
  };
}

interface Scripts {
  hit(key: string, windowMs: number): Promise<[count: number, leftMs: number]>;
}

/** Sent whole once a connection, then by digest, and whole again when the server has forgotten them. */
function defineScripts(redis: Redis): Scripts {
  const lua = readFileSync(new URL("./hit.lua", import.meta.url), "utf8");
  redis.defineCommand("hit", { lua, numberOfKeys: 1 });
  return redis as Redis & Scripts;
}

function assertDuration(name: string, ms: number): void {
  if (!Number.isSafeInteger(ms) || ms < 1) throw new RangeError(`${name} is a whole number from 1, not ${ms}`);
}

type Purpose = "commands" | "subscriptions";

interface Connection {
  readonly redis: Redis;
  /** Resolves when the first attempt has ended, however. */
  readonly tried: Promise<void>;
  /** Why there is none; undefined while there is. */
  lastError(): Error | undefined;
  /** Ends soon, whatever the server does; commands that wait for an answer reject. */
  close(): Promise<void>;
}

function createConnection(
  purpose: Purpose,
  address: RedisAddress,
  { commandMs = 500, connectMs = 2_000, clock = systemClock }: RedisCoordinationOptions,
  outage: Outage,
): Connection {
  let lastError: Error | undefined;
  // The first error of a connection says why it ended; those that follow are its echo.
  let explained = false;
  const explain = (error: Error): void => {
    if (!explained) lastError = bare(error);
    explained = true;
  };
  let renewedMs = Number.NEGATIVE_INFINITY;
  const tried = Promise.withResolvers<void>();
  const redis = new Redis({
    ...address,
    connectionName: `lucid-${purpose}`,
    disableClientInfo: true,
    connectTimeout: connectMs,
    commandTimeout: commandMs,
    // A command that times out leaves its connection standing. One that is dead is known by its silence only.
    socketTimeout: 2 * commandMs,
    disconnectTimeout: closeMs,
    retryStrategy: (attempt) => Math.min(retryMinMs * 2 ** (attempt - 1), retryMaxMs),
    maxLoadingRetryTime: retryMaxMs,
    // What waits for a connection to come back would keep callers waiting, and a hit sent twice counts twice.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // It forgets failures, and lets those of the second attempt end the process as unhandled.
    autoResubscribe: false,
    // A primary that was demoted stays up as a replica while its name leads elsewhere. Where it is the only server,
    // asking anew each time would be a storm.
    reconnectOnError: (error) => {
      const nowMs = clock.monotonicMs();
      if (!error.message.includes("READONLY") || nowMs - renewedMs < retryMaxMs) return false;
      renewedMs = nowMs;
      explain(error);
      return true;
    },
  });
  redis.on("connecting", () => {
    explained = false;
  });
  redis.on("error", (error: Error & { readonly command?: { readonly name: string } }) => {
    hearErrors(redis);
    // The driver would go on with database 0 where the one asked for does not exist.
    if (error.command?.name === "select") redis.disconnect(true);
    explain(error);
  });
  redis.on("ready", () => {
    lastError = undefined;
    outage.ends(purpose);
    tried.resolve();
  });
  let closing = false;
  redis.on("close", () => {
    if (closing) return;
    explain(new Error("The server closed the connection"));
    outage.begins(purpose, lastError);
    tried.resolve();
  });
  return {
    redis,
    tried: tried.promise,
    lastError: () => lastError,
    close: async () => {
      closing = true;
      tried.resolve();
      // Between two attempts there is nothing whose end could be told.
      const over = redis.status === "end" || redis.status === "reconnecting";
      hearErrors(redis);
      const ended = over ? undefined : new Promise<void>((resolve) => redis.once("end", () => resolve()));
      redis.disconnect();
      await ended;
    },
  };
}

/**
 * The driver listens for a socket's first error only, and one that nobody hears ends the process. Closed during a TLS
 * handshake in which the certificate is then refused, a socket has two.
 */
function hearErrors({ stream }: { readonly stream?: Redis["stream"] }): void {
  if (stream && !stream.listeners("error").includes(ignore)) stream.on("error", ignore);
}

const ignore = () => undefined;

interface Subscriptions {
  /** Resolves when the server has confirmed it, or the signal aborts. */
  add(channel: string, handler: (message: string) => void, signal: AbortSignal): Promise<void>;
  /** Sends something, so that a connection on which nothing comes any more is noticed. */
  probe(): void;
  close(): Promise<void>;
}

interface Subscription {
  hear(message: string): void;
  readonly confirmed: PromiseWithResolvers<void>;
}

interface Channel {
  readonly subscriptions: Set<Subscription>;
  /** Whether the server has confirmed it on the connection that stands. */
  live: boolean;
}

/** Each connection subscribes to all channels anew; one of its own, for those of old servers can do nothing else. */
function createSubscriptions(connect: () => Connection, log: RedisCoordinationOptions["log"]): Subscriptions {
  const channels = new Map<string, Channel>();
  let connection: Connection | undefined;
  let closed = false;

  const send = async (name: string, channel: Channel, { redis }: Connection): Promise<void> => {
    try {
      await redis.subscribe(name);
      channel.live = true;
      for (const { confirmed } of channel.subscriptions) confirmed.resolve();
    } catch (error) {
      if (isRefusal(error)) {
        log?.error("Redis refuses a subscription", { channel: name, error: bare(error) });
        const refused = new CoordinationUnavailableError("Redis refuses the subscription", { cause: bare(error) });
        for (const { confirmed } of channel.subscriptions) confirmed.reject(refused);
      } else if (redis.status === "ready") {
        // No answer in time: the next connection asks again, as it does when this one went away.
        redis.disconnect(true);
      }
    }
  };
  const open = (): Connection => {
    const opened = connect();
    opened.redis.on("ready", () => {
      for (const [name, channel] of channels) void send(name, channel, opened);
    });
    opened.redis.on("close", () => {
      for (const channel of channels.values()) channel.live = false;
    });
    opened.redis.on("message", (name: string, message: string) => {
      for (const subscription of [...(channels.get(name)?.subscriptions ?? [])]) subscription.hear(message);
    });
    return opened;
  };
  const join = (name: string, subscription: Subscription): void => {
    connection ??= open();
    const known = channels.get(name);
    if (known) {
      known.subscriptions.add(subscription);
      if (known.live) subscription.confirmed.resolve();
      return;
    }
    const channel: Channel = { subscriptions: new Set([subscription]), live: false };
    channels.set(name, channel);
    if (connection.redis.status === "ready") void send(name, channel, connection);
  };
  const leave = (name: string, subscription: Subscription): void => {
    const channel = channels.get(name);
    if (!channel?.subscriptions.delete(subscription) || channel.subscriptions.size > 0) return;
    channels.delete(name);
    // Where it fails there is no connection, hence nothing to leave.
    if (connection?.redis.status === "ready") connection.redis.unsubscribe(name).catch(() => undefined);
  };

  return {
    add: async (name, handler, signal) => {
      const confirmed = Promise.withResolvers<void>();
      const subscription: Subscription = {
        confirmed,
        hear: (message) => {
          if (signal.aborted) return;
          try {
            handler(message);
          } catch (error) {
            log?.error("A handler of messages failed", { channel: name, error });
          }
        },
      };
      const end = () => {
        leave(name, subscription);
        confirmed.resolve();
      };
      signal.addEventListener("abort", end, { once: true });
      join(name, subscription);
      try {
        await confirmed.promise;
      } catch (error) {
        signal.removeEventListener("abort", end);
        leave(name, subscription);
        throw error;
      }
    },
    probe: () => {
      if (connection?.redis.status === "ready") connection.redis.ping().catch(() => undefined);
    },
    close: async () => {
      if (closed) return;
      closed = true;
      const over = new Error("The coordination is closed");
      for (const { subscriptions } of channels.values()) {
        for (const { confirmed } of subscriptions) confirmed.reject(over);
      }
      channels.clear();
      await connection?.close();
    },
  };
}

interface Outage {
  begins(what: Purpose | "writes", error: Error | undefined): void;
  ends(what: Purpose | "writes"): void;
}

/** One line when something begins to fail and one when all serves again, however many commands fell in between. */
function createOutage(server: string, log: RedisCoordinationOptions["log"]): Outage {
  const failing = new Set<Purpose | "writes">();
  return {
    begins: (what, error) => {
      if (failing.size === 0) log?.warn("Redis does not serve; going on without", { server, what, error });
      failing.add(what);
    },
    ends: (what) => {
      if (failing.delete(what) && failing.size === 0) log?.info("Redis serves again", { server });
    },
  };
}

/** An answer of the server that says no. */
const isRefusal = (error: unknown): error is Error => error instanceof ReplyError;

/** Without the command that the driver hangs on it, whose arguments hold keys and, of the first one, the password. */
function bare(error: Error): Error {
  Reflect.deleteProperty(error, "command");
  return error;
}

type RedisAddress = Required<Pick<RedisOptions, "host" | "port" | "db">> &
  Pick<RedisOptions, "username" | "password" | "tls">;

/**
 * `redis://user:password@host:port/database`, or `rediss://` for TLS, which takes `?tlsCAFile=` as MongoDB's URLs do:
 * a PEM file of authorities to trust instead of the system's, read once. The server's name is always checked.
 */
function parseRedisUrl(text: string): RedisAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^rediss?:$/.test(url.protocol)) throw new Error("The URL of Redis begins with redis:// or rediss://");
  const secure = url.protocol === "rediss:";
  const unknown = [...url.searchParams.keys()].filter((name) => !(secure && name === "tlsCAFile"));
  if (unknown.length > 0) throw new Error(`The URL of Redis has parameters unknown here: ${unknown.join(", ")}`);
  const database = /^\/?(\d{0,4})$/.exec(url.pathname)?.[1];
  if (database === undefined) throw new Error("The URL of Redis ends with a database number, if with anything");
  const caFile = url.searchParams.get("tlsCAFile");
  return {
    host: url.hostname.replace(/^\[|\]$/g, "") || "localhost",
    port: Number(url.port || 6379),
    db: Number(database),
    ...(url.username === "" ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === "" ? {} : { password: decodeURIComponent(url.password) }),
    ...(secure ? { tls: caFile === null ? {} : { ca: readFileSync(caFile) } } : {}),
  };
}

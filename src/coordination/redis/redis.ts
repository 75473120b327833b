// Coordination by Redis, for any number of replicas. It may be lost, flushed, read-only or frozen at any moment: a call
// then rejects soon and whoever called decides what that means; nobody waits for Redis to come back but subscribers.
import { readFileSync } from "node:fs";
import { Redis, ReplyError } from "ioredis";
import { type Clock, systemClock } from "../../clock.js";
import type { Log } from "../../telemetry/log.js";
import { type Coordination, CoordinationRefusedError, CoordinationUnavailableError } from "../coordination.js";
import { parseRedisUrl, type RedisAddress } from "./address.js";
import { createOutage, type Outage } from "./outage.js";

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
  /** An outage counts as over when nothing has failed for so long: an outage that comes and goes is told of once. */
  readonly quietMs?: number;
  /** Between two attempts at a subscription that the server refuses. */
  readonly refusedRetryMs?: number;
  readonly clock?: Pick<Clock, "monotonicMs" | "sleep">;
}

const retryMinMs = 50;
const retryMaxMs = 1_000;
/** A connection that the server does not close by then, as a frozen one does not, is torn down. */
const closeMs = 200;

/**
 * Never fails because Redis is away, now or later: it connects in the background, for ever. Calls made before the first
 * attempt has ended wait for its end; later ones reject at once with a CoordinationUnavailableError while there is no
 * connection, and after `commandMs` when no answer comes. A hit that was sent may have counted all the same.
 * A server of a cluster and a Sentinel, which only watches others, are refused: calls reject with a
 * CoordinationUnavailableError whose cause is a CoordinationRefusedError.
 * @throws Error when the URL cannot be used; it does not repeat the URL, which may hold a password
 */
export function createRedisCoordination(options: RedisCoordinationOptions): Coordination {
  const { keyPrefix = "lucid:", log, quietMs = 5_000, refusedRetryMs = 10_000, clock = systemClock } = options;
  const address = parseRedisUrl(options.url);
  const server = `${address.host}:${address.port}`;
  const closing = new AbortController();
  const outage = createOutage({ server, log, quietMs, clock, signal: closing.signal });
  const connect = (purpose: Purpose, look?: (redis: Redis) => Promise<void>) =>
    createConnection(purpose, address, options, outage, look);
  /** Why this server cannot be used, as far as it has told. */
  let unfit: CoordinationRefusedError | undefined;
  const look = async (redis: Redis): Promise<void> => {
    const mode = await modeOf(redis);
    if (mode === undefined) return;
    unfit = mode === "standalone" ? undefined : unfitServer(server, mode);
    if (unfit) outage.begins("mode", unfit);
    else outage.ends("mode");
  };

  const commands = connect("commands", look);
  const scripts = defineScripts(commands.redis);
  // Databases divide keys but not channels.
  const channelPrefix = `${keyPrefix}channel:${address.db}:`;
  const retry = { afterMs: refusedRetryMs, clock, signal: closing.signal };
  const subscriptions = createSubscriptions(() => connect("subscriptions"), log, retry);
  let closed: Promise<void> | undefined;
  const assertOpen = () => {
    if (closed) throw new CoordinationUnavailableError("The coordination is closed");
  };

  const ask = async <Answer>(command: () => Promise<Answer>): Promise<Answer> => {
    assertOpen();
    await commands.tried;
    assertOpen();
    if (unfit) throw new CoordinationUnavailableError("Redis cannot be used", { cause: unfit });
    if (commands.redis.status !== "ready") {
      throw new CoordinationUnavailableError("Redis is away", { cause: commands.lastError() });
    }
    try {
      return await command();
    } catch (error) {
      if (isRefusal(error)) {
        if (isOfCluster(error)) unfit ??= unfitServer(server, "cluster");
        throw new CoordinationUnavailableError("Redis refuses", { cause: unfit ?? bare(error) });
      }
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
      const cause = error instanceof CoordinationUnavailableError ? error.cause : undefined;
      if (isRefusal(cause) || cause instanceof CoordinationRefusedError) outage.begins("writes", cause);
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
      closing.abort();
      closed ??= Promise.all([commands.close(), subscriptions.close()]).then(() => undefined);
      return closed;
    },
  };
}

/** "standalone", "cluster" or "sentinel"; undefined where the server does not say, as it does not to a user without +info. */
async function modeOf(redis: Redis): Promise<string | undefined> {
  const info = await redis.info("server").catch(() => "");
  return /^redis_mode:(\w+)/m.exec(info)?.[1];
}

function unfitServer(server: string, mode: string): CoordinationRefusedError {
  const reason =
    mode === "sentinel"
      ? "is a Sentinel, which holds no data: name the primary that it watches, or an address that leads to it"
      : "belongs to a Redis Cluster, which holds a part of the keys only: name a Redis that stands alone, with replicas or not";
  return new CoordinationRefusedError(`Redis at ${server} ${reason}`);
}

/** The key is elsewhere, or nowhere at the moment. */
const isOfCluster = ({ message }: Error): boolean => /^(MOVED|ASK|CLUSTERDOWN|CROSSSLOT) /.test(message);

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
  look: (redis: Redis) => Promise<void> = async () => undefined,
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
    void look(redis).finally(tried.resolve);
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

/**
 * Each connection subscribes to all channels again. It is a connection of its own, for old servers take nothing else on it.
 * A server that refuses a channel, because the user has no rights to it, is asked again from time to time: the listeners
 * poll besides.
 */
function createSubscriptions(
  connect: () => Connection,
  log: RedisCoordinationOptions["log"],
  retry: { readonly afterMs: number; readonly clock: Pick<Clock, "sleep">; readonly signal: AbortSignal },
): Subscriptions {
  const channels = new Map<string, Channel>();
  let connection: Connection | undefined;
  let closed = false;
  /** Channels that the server refuses; told of once. */
  const refused = new Set<string>();
  let isRetrying = false;

  const send = async (name: string, channel: Channel, { redis }: Connection): Promise<void> => {
    try {
      await redis.subscribe(name);
      channel.live = true;
      for (const { confirmed } of channel.subscriptions) confirmed.resolve();
      if (refused.delete(name) && refused.size === 0) log?.info("Redis takes subscriptions again", { channel: name });
    } catch (error) {
      if (isRefusal(error)) {
        if (refused.size === 0) {
          log?.error("Redis refuses a subscription; going on by polls", { channel: name, error: bare(error) });
        }
        refused.add(name);
        void askAgain();
      } else if (redis.status === "ready") {
        // No answer in time: the next connection asks again, as it does when this one went away.
        redis.disconnect(true);
      }
    }
  };
  /** Until nothing is refused any more. */
  const askAgain = async (): Promise<void> => {
    if (isRetrying) return;
    isRetrying = true;
    while (refused.size > 0 && !retry.signal.aborted) {
      await retry.clock.sleep(retry.afterMs, retry.signal);
      if (retry.signal.aborted) return;
      for (const name of [...refused]) {
        const channel = channels.get(name);
        if (channel === undefined) refused.delete(name);
        else if (connection?.redis.status === "ready") await send(name, channel, connection);
      }
    }
    isRetrying = false;
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
      const over = new CoordinationUnavailableError("The coordination is closed");
      for (const { subscriptions } of channels.values()) {
        for (const { confirmed } of subscriptions) confirmed.reject(over);
      }
      channels.clear();
      await connection?.close();
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

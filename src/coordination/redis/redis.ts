// Coordination by Redis, for any number of replicas. Redis may be lost, flushed, read-only or frozen at any moment: a
// call then rejects soon, and its caller decides what that means. Only subscribers wait for Redis to come back.
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
  /** Prefix of every key and channel, so that several deployments can share one server. */
  readonly keyPrefix?: string;
  /** How long a command may take. A connection that receives nothing for twice as long is replaced. */
  readonly commandMs?: number;
  /** How long connecting may take, including the TLS handshake. */
  readonly connectMs?: number;
  /** An outage is over when nothing has failed for this long, so that an outage that comes and goes is logged once. */
  readonly quietMs?: number;
  /** Time between two attempts at a subscription that the server refuses. */
  readonly refusedRetryMs?: number;
  readonly clock?: Pick<Clock, "monotonicMs" | "sleep">;
}

const retryMinMs = 50;
const retryMaxMs = 1_000;
/** A connection that the server has not closed after this time, such as a frozen one, is destroyed. */
const closeMs = 200;

/**
 * Never fails because Redis is away, now or later: it connects in the background, without end. Calls made before the
 * first attempt has ended wait for its end. Later ones reject with a CoordinationUnavailableError: at once while there
 * is no connection, and after `commandMs` if no answer comes. A hit that was sent may have been counted even so.
 * A cluster's server and a Sentinel, which only watches others, are refused: calls reject with a
 * CoordinationUnavailableError whose cause is a CoordinationRefusedError.
 * @throws Error when the URL cannot be used, without repeating it, since it may contain a password
 */
export function createRedisCoordination(options: RedisCoordinationOptions): Coordination {
  const { keyPrefix = "lucid:", log, quietMs = 5_000, refusedRetryMs = 10_000, clock = systemClock } = options;
  const address = parseRedisUrl(options.url);
  const server = `${address.host}:${address.port}`;
  const closing = new AbortController();
  const outage = createOutage({ server, log, quietMs, clock, signal: closing.signal });
  const connect = (purpose: Purpose, look?: (redis: Redis) => Promise<void>) =>
    createConnection(purpose, address, options, outage, look);
  /** Why this server cannot be used; undefined while no reason is known. */
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
  // Redis databases separate keys, but not channels.
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
      // The reason for the lost connection says more than the failed command.
      throw new CoordinationUnavailableError("Redis does not answer", { cause: commands.lastError() ?? error });
    }
  };
  /** A server may answer and still refuse writes: a replica, or a server without memory or disk. */
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

/** "standalone", "cluster" or "sentinel"; undefined if the server does not say, for example to a user without +info. */
async function modeOf(redis: Redis): Promise<string | undefined> {
  const info = await redis.info("server").catch(() => "");
  return /^redis_mode:(\w+)/m.exec(info)?.[1];
}

function unfitServer(server: string, mode: string): CoordinationRefusedError {
  const reason =
    mode === "sentinel"
      ? "is a Sentinel, which holds no data: name the primary that it watches, or an address that leads to it"
      : "belongs to a Redis Cluster, which splits the keys over its servers: name a single Redis server, with or without replicas";
  return new CoordinationRefusedError(`Redis at ${server} ${reason}`);
}

/** The key is on another server, or currently on none. */
const isOfCluster = ({ message }: Error): boolean => /^(MOVED|ASK|CLUSTERDOWN|CROSSSLOT) /.test(message);

interface Scripts {
  hit(key: string, windowMs: number): Promise<[count: number, leftMs: number]>;
}

/** Sent as text once per connection, then by digest, and as text again if the server has forgotten them. */
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
  /** Resolves when the first attempt has ended, successfully or not. */
  readonly tried: Promise<void>;
  /** Why there is no connection; undefined while there is one. */
  lastError(): Error | undefined;
  /** Ends soon, whatever the server does. Commands that wait for an answer reject. */
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
  // The first error of a connection explains its end; later ones are consequences.
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
    // A command that times out leaves its connection open. Only silence reveals a dead connection.
    socketTimeout: 2 * commandMs,
    disconnectTimeout: closeMs,
    retryStrategy: (attempt) => Math.min(retryMinMs * 2 ** (attempt - 1), retryMaxMs),
    maxLoadingRetryTime: retryMaxMs,
    // A queue would keep callers waiting for a connection, and a hit sent twice would count twice.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // The driver's own resubscription forgets failures, and failures of its second attempt end the process as
    // unhandled.
    autoResubscribe: false,
    // A demoted primary stays up as a replica while its name leads elsewhere, so reconnect. If it is the only server,
    // reconnecting after every error would be a storm.
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
    // If the database does not exist, the driver would go on with database 0.
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
      // Between two attempts there is no connection whose end could be reported.
      const over = redis.status === "end" || redis.status === "reconnecting";
      hearErrors(redis);
      const ended = over ? undefined : new Promise<void>((resolve) => redis.once("end", () => resolve()));
      redis.disconnect();
      await ended;
    },
  };
}

/**
 * The driver listens only for a socket's first error, and an error without a listener ends the process. A socket that
 * is closed during a TLS handshake, whose certificate is then refused, emits two errors.
 */
function hearErrors({ stream }: { readonly stream?: Redis["stream"] }): void {
  if (stream && !stream.listeners("error").includes(ignore)) stream.on("error", ignore);
}

const ignore = () => undefined;

interface Subscriptions {
  /** Resolves when the server has confirmed the subscription, or the signal aborts. */
  add(channel: string, handler: (message: string) => void, signal: AbortSignal): Promise<void>;
  /** Sends something, so that a silent connection is noticed. */
  probe(): void;
  close(): Promise<void>;
}

interface Subscription {
  hear(message: string): void;
  readonly confirmed: PromiseWithResolvers<void>;
}

interface Channel {
  readonly subscriptions: Set<Subscription>;
  /** Whether the server has confirmed it on the current connection. */
  live: boolean;
}

/**
 * Each connection subscribes to all channels again. Subscriptions have their own connection, since old servers accept
 * nothing else on it. If a server refuses a channel, because the user has no rights to it, it is asked again from time
 * to time; the listeners poll meanwhile.
 */
function createSubscriptions(
  connect: () => Connection,
  log: RedisCoordinationOptions["log"],
  retry: { readonly afterMs: number; readonly clock: Pick<Clock, "sleep">; readonly signal: AbortSignal },
): Subscriptions {
  const channels = new Map<string, Channel>();
  let connection: Connection | undefined;
  let closed = false;
  /** Channels that the server refuses; logged once. */
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
        // No answer in time: the next connection subscribes again, as after a lost connection.
        redis.disconnect(true);
      }
    }
  };
  /** Repeats until nothing is refused. */
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
    // If it fails there is no connection, so there is no subscription to end.
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

/** Whether the server answered with a refusal. */
const isRefusal = (error: unknown): error is Error => error instanceof ReplyError;

/**
 * Removes the command that the driver attaches, since its arguments contain keys and, in the first command, the
 * password.
 */
function bare(error: Error): Error {
  Reflect.deleteProperty(error, "command");
  return error;
}

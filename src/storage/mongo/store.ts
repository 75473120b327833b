// The document store at a MongoDB server or replica set: for production and for more than one replica.
// MongoDB need not run when the service starts: the store waits for it in the background.
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { type Document, MongoClient, MongoCompatibilityError, MongoServerError } from "mongodb";
import { systemClock } from "../../clock.js";
import {
  type Collection,
  type CollectionDefinition,
  DuplicateKeyError,
  type Store,
  type StoredDocument,
  StoreRefusedError,
  StoreUnavailableError,
} from "../collection.js";
import { assertDefinition } from "../supported.js";
import { createCollection } from "./collection.js";
import { createDeadline, type Deadline } from "./deadline.js";
import { isUnavailable, translateError, unavailable } from "./errors.js";
import { ensureIndexes } from "./indexes.js";
import type { Stored } from "./query.js";

export interface MongoLog {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

export interface MongoStoreOptions {
  /** mongodb:// or mongodb+srv://, including credentials and TLS options. Never logged. */
  readonly url: string;
  readonly database: string;
  readonly log?: MongoLog | undefined;
  /** How long to look for a writable server; 2000 ms when absent. */
  readonly serverSelectionMs?: number | undefined;
  /**
   * Limit of one operation in all: finding a server, waiting for a connection, the attempt and its retry. 5000 ms when
   * absent. Nothing is sent after the limit. A write sent before it may still be applied, within the same time again.
   */
  readonly operationMs?: number | undefined;
  /** For tests: called with each command that is sent. */
  readonly onCommand?: ((command: Document) => void) | undefined;
}

interface Opened {
  readonly definition: CollectionDefinition;
  readonly collection: Promise<Collection<StoredDocument>>;
}

interface Connection {
  readonly client: MongoClient;
  readonly hosts: string;
  readonly database: string;
  readonly log: MongoLog | undefined;
  readonly operationMs: number;
  /** For one operation. */
  readonly deadline: Deadline;
  /** Aborted when the store closes. */
  readonly closing: AbortSignal;
  /** Operations that have not ended yet. */
  readonly running: Set<Promise<unknown>>;
  /** Why the server does not answer; undefined once it has answered for the first time. */
  away: { readonly error: unknown } | undefined;
}

/**
 * A server's waiting threads are expensive, and Node sends from one thread: more connections would only queue there.
 */
const connectionsMax = 50;
const retryEveryMs = 250;

/**
 * Opens the database. If the server does not answer, the store logs one warning and retries in the background. Until it
 * answers, operations reject with StoreUnavailableError, each within about `serverSelectionMs`.
 * Disposing waits for running operations, within `operationMs`; later operations reject with StoreUnavailableError.
 * @throws StoreRefusedError when the server is older than MongoDB 5.0; Error when the URL cannot be parsed (without
 * quoting it), or when a file that it names cannot be read
 */
export async function openMongoStore(options: MongoStoreOptions): Promise<Store> {
  const { serverSelectionMs = 2000, operationMs = 5000, database, log } = options;
  const client = createClient(options, serverSelectionMs, operationMs);
  const control = new AbortController();
  const { signal: closing } = control;
  const hosts = hostsOf(client);
  const connection: Connection = {
    client,
    hosts,
    database,
    log,
    operationMs,
    deadline: createDeadline(operationMs),
    closing,
    running: new Set(),
    away: undefined,
  };
  await firstContact(connection);
  const opened = new Map<string, Opened>();
  const pingDeadline = createDeadline(serverSelectionMs);
  const admin = async (command: Document, deadline: Deadline, signal?: AbortSignal) => {
    signal?.throwIfAborted();
    return run(connection, deadline, async (late) => {
      try {
        const ended = signal ? AbortSignal.any([signal, late]) : late;
        return await client.db("admin").command(command, { signal: ended });
      } catch (error) {
        signal?.throwIfAborted();
        throw translateError(error, { hosts });
      }
    });
  };
  return {
    engine: "mongodb",
    collection: async <T extends StoredDocument>(definition: CollectionDefinition) => {
      assertOpen(connection);
      const known = opened.get(definition.name) ?? open(connection, definition);
      assert(isDeepStrictEqual(known.definition, definition), `${definition.name} is open with another definition`);
      opened.set(definition.name, known);
      known.collection.catch(() => opened.delete(definition.name));
      return (await known.collection) as unknown as Collection<T>;
    },
    now: async () => {
      const { localTime } = await admin({ hello: 1 }, connection.deadline);
      assert(localTime instanceof Date, "a server tells its time");
      return localTime;
    },
    ping: async (signal) => {
      await admin({ ping: 1 }, pingDeadline, signal);
    },
    [Symbol.asyncDispose]: async () => {
      if (closing.aborted) return;
      control.abort();
      await Promise.allSettled(connection.running);
      for (const deadline of [connection.deadline, pingDeadline]) deadline.end();
      await client.close();
    },
  };
}

/**
 * The driver's own limit for a whole operation (timeoutMS) does nothing in release 7, so `run` bounds it by a signal.
 * The driver does retries, sessions and monitoring.
 */
function createClient(
  { url, onCommand }: MongoStoreOptions,
  serverSelectionTimeoutMS: number,
  operationMs: number,
): MongoClient {
  try {
    const client = new MongoClient(url, {
      appName: "lucid-node",
      maxPoolSize: connectionsMax,
      maxConnecting: 4,
      waitQueueTimeoutMS: operationMs,
      serverSelectionTimeoutMS,
      connectTimeoutMS: serverSelectionTimeoutMS,
      socketTimeoutMS: operationMs,
      // A server that comes back is noticed within about a second.
      heartbeatFrequencyMS: 1000,
      minHeartbeatFrequencyMS: 500,
      readPreference: "primary",
      ignoreUndefined: true,
      promoteValues: true,
      monitorCommands: onCommand !== undefined,
    });
    if (onCommand) client.on("commandStarted", ({ command }) => onCommand(command));
    return client;
  } catch (error) {
    const reason = error instanceof Error && !/[@/]/.test(error.message) ? `: ${error.message}` : "";
    // The driver's error quotes the URL, and so the password. It must not become a cause.
    throw new Error(`The URL of MongoDB cannot be read${reason}`);
  }
}

function hostsOf({ options }: MongoClient): string {
  return options.srvHost ?? options.hosts.map(String).join(",");
}

/** MongoDB 5.0. The driver accepts older servers, but those refuse some of our indexes. */
const wireVersionMin = 13;
const commandNotFound = 59;

/** @throws StoreRefusedError when the server is too old */
async function connect({ client, hosts }: Connection): Promise<void> {
  try {
    await client.connect();
  } catch (error) {
    throw isTooOld(error) ? tooOld(hosts, error) : error;
  }
  const { maxWireVersion } = await client
    .db("admin")
    .command({ hello: 1 })
    .catch((error: unknown) => {
      throw error instanceof MongoServerError && error.code === commandNotFound ? tooOld(hosts, error) : error;
    });
  if (!(Number(maxWireVersion) >= wireVersionMin)) throw tooOld(hosts, `its wire version is ${maxWireVersion}`);
}

/** When the driver itself refuses a server, it reports it as not found. */
const isTooOld = (error: unknown): boolean =>
  error instanceof Error &&
  (error instanceof MongoCompatibilityError || /wire version/.test(error.message) || isTooOld(error.cause));

function tooOld(hosts: string, why: unknown): StoreRefusedError {
  const reason = why instanceof Error ? why.message : String(why);
  return new StoreRefusedError(`MongoDB at ${hosts} is too old: MongoDB 5.0 or later is needed (${reason})`);
}

/** @throws StoreRefusedError, or any error other than the server's absence, such as an unreadable certificate */
async function firstContact(connection: Connection): Promise<void> {
  const { client, hosts, log } = connection;
  try {
    await connect(connection);
  } catch (error) {
    if (!isUnavailable(error)) {
      await client.close();
      throw error;
    }
    const reason = error instanceof Error ? error.message : String(error);
    log?.warn(`MongoDB at ${hosts} does not answer: ${reason}; trying again`);
    connection.away = { error };
    const waiting = awaitServer(connection);
    connection.running.add(waiting);
    waiting.finally(() => connection.running.delete(waiting));
  }
}

/**
 * The driver gives up on a server that it has never reached, and monitors it only after the first contact. So retry
 * here until then.
 */
async function awaitServer(connection: Connection): Promise<void> {
  const { hosts, log, closing } = connection;
  while (!closing.aborted) {
    try {
      await connect(connection);
      connection.away = undefined;
      log?.info(`MongoDB at ${hosts} answers`);
      return;
    } catch (error) {
      if (error instanceof StoreRefusedError && !(connection.away?.error instanceof StoreRefusedError)) {
        log?.warn(error.message);
      }
      connection.away = { error };
      await systemClock.sleep(retryEveryMs, closing);
    }
  }
}

function open(connection: Connection, definition: CollectionDefinition): Opened {
  assertDefinition(definition);
  const { client, database, hosts, log, operationMs, deadline, closing } = connection;
  const collection = client.db(database).collection<Stored>(definition.name, concerns(definition, operationMs));
  const context = { hosts, collection: definition.name, indexes: definition.indexes };
  const prepare = once(() =>
    ensureIndexes(collection, definition).catch((error: unknown) => {
      throw closing.aborted ? closed() : translateError(error, context);
    }),
  );
  let isTold = false;
  // A failed index build must not surface as a failure of the operation itself, so report the store as unavailable.
  const ready = () =>
    prepare()?.catch((error: unknown) => {
      if (error instanceof StoreRefusedError && !isTold) {
        isTold = true;
        log?.warn(error.message);
      }
      throw error instanceof StoreUnavailableError ? error : unavailable(context, error);
    });
  const made = createCollection<StoredDocument>({
    definition,
    collection,
    hosts,
    maxTimeMS: operationMs,
    run: (work) =>
      run(connection, deadline, async (signal) => {
        const preparing = ready();
        if (preparing) await preparing;
        signal.throwIfAborted();
        return work(signal);
      }),
  });
  const prepared = connection.away ? Promise.resolve() : Promise.resolve(prepare());
  return { definition, collection: prepared.then(() => made) };
}

/**
 * Durable: a majority has the write on disk before it is acknowledged, and reads never return data that can be rolled
 * back. A single server is its own majority.
 */
function concerns({ durability }: CollectionDefinition, wtimeoutMS: number) {
  if (durability === "relaxed") return { writeConcern: { w: 1 }, readConcern: { level: "local" } } as const;
  return {
    writeConcern: { w: "majority", journal: true, wtimeoutMS },
    readConcern: { level: "majority" },
  } as const;
}

/** Runs the work once at a time until it has succeeded. Returns the running attempt, or undefined when it is done. */
function once(work: () => Promise<void>): () => Promise<void> | undefined {
  let isDone = false;
  let attempt: Promise<void> | undefined;
  return () => {
    if (isDone) return undefined;
    attempt ??= work().then(
      () => {
        isDone = true;
      },
      (error: unknown) => {
        attempt = undefined;
        throw error;
      },
    );
    return attempt;
  };
}

/**
 * The work's result, unless it takes longer than the deadline. The driver then stops waiting for a connection, does not
 * retry, and drops the connection on which it waits for an answer. So nothing is sent after the caller has been told.
 * Whether an earlier write is applied is as unknown as after a broken connection.
 */
async function run<Result>(
  connection: Connection,
  deadline: Deadline,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  assertOpen(connection);
  const outcome = deadline.within(work, () => unavailable(connection, "no answer in time"));
  connection.running.add(outcome);
  try {
    return await outcome;
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error;
    if (connection.closing.aborted) throw closed();
    // Between two attempts to reach a server the driver only says that it is closed. The server's own error says more.
    throw connection.away && !isAnswer(error.cause) ? unavailable(connection, connection.away.error) : error;
  } finally {
    connection.running.delete(outcome);
  }
}

const isAnswer = (cause: unknown): boolean =>
  [MongoServerError, DuplicateKeyError, StoreRefusedError].some((kind) => cause instanceof kind);

function assertOpen({ closing }: Connection): void {
  if (closing.aborted) throw closed();
}

const closed = () => new StoreUnavailableError("The store is closed");

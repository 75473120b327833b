// What a fleet of replicas has left behind: the state of its nodes, whether its history is whole, what a watcher heard.
import { setTimeout as delay } from "node:timers/promises";
import { Http2SessionManager } from "@connectrpc/connect-node";
import type { Db } from "mongodb";
import { expect } from "vitest";
import type { LogEntry } from "../../../src/nodes/history/log.js";
import type { NodeDocument } from "../../../src/nodes/node.js";
import { clientsOf } from "../world/world.js";
import type { Replicas } from "./replicas.js";
import { type Watcher, watchNodes } from "./watcher.js";

const nodesOf = (database: Db) => database.collection<NodeDocument>("nodes");

/**
 * For `eventually`: all simulated nodes of that prefix are CONNECTED, on replicas that run. With a moment, they have
 * also been heard since.
 */
export const connectedAgain =
  ({ database, replicaIds }: Pick<Replicas, "database" | "replicaIds">, prefix: string, count: number, since?: Date) =>
  async (): Promise<true | string> => {
    const found = await nodesOf(database).countDocuments({
      ...namedLike(prefix),
      connectivity: "connected",
      session_replica: { $in: replicaIds() },
      ...(since === undefined ? {} : { last_heartbeat: { $gte: since } }),
    });
    return found === count || `${found} of ${count}`;
  };

const namedLike = (prefix: string) => ({ live: true as const, name: { $gte: `${prefix}-`, $lt: `${prefix}.` } });

/** The live nodes whose names begin with that prefix and a hyphen. */
export const nodesNamed = (database: Db, prefix: string): Promise<NodeDocument[]> =>
  nodesOf(database).find(namedLike(prefix)).toArray();

export const historyIn = (database: Db): Promise<LogEntry[]> =>
  database.collection<LogEntry>("node_log").find({}).sort({ _id: 1 }).toArray();

/** For `eventually`: no change waits to be logged any more. */
export const allLogged = (database: Db) => async (): Promise<true | string> => {
  const waiting = await nodesOf(database).countDocuments({ "unlogged.change": { $exists: true } });
  return waiting === 0 || `${waiting} nodes have changes that are not logged`;
};

/**
 * Expects that the log is dense, and holds each change of each node once, in the node's own order, without a gap in its
 * versions, up to the stored version. Answers the log.
 */
export async function expectSoundHistory(database: Db): Promise<LogEntry[]> {
  const log = await historyIn(database);
  expect(log.map(({ _id }) => Number(_id))).toEqual(log.map((_, place) => place + 1));
  const told = Map.groupBy(log, ({ node_id }) => node_id);
  const unsound = (await nodesOf(database).find({}).toArray()).flatMap(({ _id, version, change }) => {
    const entries = told.get(_id) ?? [];
    const counts = entries.map(({ change: number }) => number);
    const versions = entries.map(({ version: number }) => number);
    const dense = counts.every((number, place) => number === place + 1) && counts.length === change;
    const first = version - entries.length;
    const whole = versions.every((number, place) => number === first + place + 1) && first >= 0 && first <= 1;
    return dense && whole ? [] : [{ _id, version, change, counts, versions }];
  });
  expect(unsound).toEqual([]);
  return log;
}

/** The reasons of that node's entries, in order. */
export const reasonsOf = (log: readonly LogEntry[], nodeId: string): string[] =>
  log.filter(({ node_id }) => node_id === nodeId).map(({ reason }) => reason);

/** The entry in the form in which a watcher keeps what it heard. */
export const asHeard = ({ node_id, version, status, connectivity }: LogEntry): string =>
  `${node_id} ${version} ${status.toUpperCase()} ${connectivity.toUpperCase()}`;

export interface LastingWatch extends AsyncDisposable {
  /** What it has heard on all its streams, in order. */
  readonly heard: readonly string[];
  /** How often it went on with a token. */
  readonly resumed: number;
}

/** Watches all nodes. Whenever its stream ends it goes on from its last token, at any replica. */
export async function watchThroughout(baseUrl: string, token: string): Promise<LastingWatch> {
  const past: string[] = [];
  let resumed = 0;
  let over = false;
  let connection = new Http2SessionManager(baseUrl);
  const first = watchNodes(clientsOf(baseUrl, connection, token));
  await first.untilSnapshot();
  let current: Watcher = first;
  const watching = (async () => {
    for (;;) {
      await current.ended(86_400_000);
      connection.abort();
      if (over) return;
      // Nobody may be there to take it in just now.
      await delay(50);
      connection = new Http2SessionManager(baseUrl);
      const next = watchNodes(clientsOf(baseUrl, connection, token), { resumeToken: current.token });
      past.push(...current.changes);
      current = next;
      resumed++;
    }
  })();
  return {
    get heard() {
      return [...past, ...current.changes];
    },
    get resumed() {
      return resumed;
    },
    [Symbol.asyncDispose]: async () => {
      over = true;
      current.cancel();
      connection.abort();
      await watching;
    },
  };
}

// T4, T25 real: replicas are restarted one after the other under a fleet that beats. No node is disconnected, a watcher
// hears each change once, and what only time ends is ended once.
// SIMULATED_NODES: how many nodes beat.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeAll, describe, expect, test } from "vitest";
import type { LucidClient } from "../../src/client/client.js";
import type { LogEntry } from "../../src/nodes/history/log.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import {
  allLogged,
  asHeard,
  connectedAgain,
  expectSoundHistory,
  historyIn,
  nodesNamed,
  reasonsOf,
  watchThroughout,
} from "../support/fleet/history.js";
import { historyOf } from "../support/fleet/look.js";
import {
  canStartReplicas,
  eventually,
  openReplicas,
  type Replicas,
  type ReplicaUnderTest,
  sizeOf,
} from "../support/fleet/replicas.js";
import { aNode } from "../support/world/builders.js";
import { inParallel } from "../support/world/until.js";
import { requireBuilt } from "./built.js";

const nodes = sizeOf("SIMULATED_NODES", 60);
/** The surrogate of the database carries some fifty beats a second beside everything else. */
const intervalMs = Math.max(2, Math.ceil(nodes / 50)) * 1000;
const graceMs = Math.max(intervalMs, 10_000);
const drainMs = 2_000;
const boundMs = 2 * intervalMs + graceMs + drainMs;
/** Longer than a leader needs to notice a silent node whose replica went away meanwhile. */
const silentMs = 2 * intervalMs + graceMs + 30_000;
const victims = 3;
/** How many nodes without an agent have maintenance that ends during each restart. */
const idle = 4;

const settings = {
  NODE_HEARTBEAT_INTERVAL: String(intervalMs / 1000),
  HEARTBEAT_GRACE: String(graceMs / 1000),
  DRAIN_WINDOW: String(drainMs / 1000),
  // Shorter than the time to notice silence, so that starting a node that is gone ends by the command's deadline.
  NODE_COMMAND_TIMEOUT: "4",
};

beforeAll(requireBuilt);

describe.skipIf(!canStartReplicas("rolling restarts"))("T4 real: three replicas restarted one after the other", () => {
  test(
    `${nodes} nodes that beat stay CONNECTED, and a watcher hears each change once`,
    async () => {
      await using fleet = await openReplicas({ count: 3, settings });
      const admin = fleet.client();
      await using watch = await watchThroughout(fleet.balancer.baseUrl, fleet.adminToken);
      fleet.simulate(nodes, "sim", Math.max(5, Math.ceil(nodes / 100)));
      const victim = fleet.simulate(victims, "victim", 1);
      const joinMs = await eventually(connectedAgain(fleet, "sim", nodes), "all nodes join", 120_000 + nodes * 300);
      await eventually(connectedAgain(fleet, "victim", victims), "the victims join", 30_000);

      const spells: Spell[] = [];
      const resting: string[] = [];
      for (const [place, replica] of fleet.all.entries()) {
        if (place === 1) {
          victim.kill("SIGKILL");
          const [node] = await nodesNamed(fleet.database, "victim");
          await admin.nodes.startNode({ nodeId: node?._id ?? "" });
        }
        resting.push(...(await restInMaintenance(admin)));
        spells.push(await restart(fleet, replica));
      }
      const restartedAt = new Date();
      await eventually(connectedAgain(fleet, "sim", nodes, restartedAt), "all have beaten since", boundMs * 2);
      await eventually(() => silentVictims(fleet), "the victims are found", silentMs);
      await eventually(() => atWork(fleet, resting), "maintenance has ended everywhere", 60_000);
      await eventually(allLogged(fleet.database), "all changes are in the log", 20_000 + nodes * 50);

      const log = await expectSoundHistory(fleet.database);
      await eventually(
        async () => watch.heard.length >= log.length || `${watch.heard.length}`,
        "all is heard",
        20_000 + nodes * 20,
      );
      console.log(
        `rolling restart: ${nodes} nodes, beat each ${intervalMs / 1000} s, joined in ${seconds(joinMs)}; ` +
          `CONNECTED again ${spells.map(({ movedMs }) => seconds(movedMs)).join(", ")} after SIGTERM ` +
          `(bound ${seconds(boundMs)}); process gone after ${spells.map(({ endedMs }) => seconds(endedMs)).join(", ")}, ` +
          `serving again after ${spells.map(({ startedMs }) => seconds(startedMs)).join(", ")}; ` +
          `log ${log.length} entries, watcher heard ${watch.heard.length} on ${watch.resumed + 1} streams`,
      );
      for (const line of oddLives(log, await nodesNamed(fleet.database, "sim"))) console.log(line);
      for (const { movedMs } of spells) expect(movedMs).toBeLessThan(boundMs);
      expect(watch.heard).toEqual(log.map(asHeard));
      expect(watch.resumed).toBeGreaterThan(0);

      const beating = await nodesNamed(fleet.database, "sim");
      const histories = await inParallel(beating, 16, ({ _id }) => historyOf(admin, _id));
      const lives = Object.groupBy(histories, (history) => history.map(({ reason }) => reason).join());
      expect(Object.entries(lives).map(([life, found]) => `${found?.length} ${life}`)).toEqual([
        `${nodes} created,connected`,
      ]);
      await expectEnds(fleet, resting);
    },
    600_000 + nodes * 400,
  );
});

/** What else than connecting happened to nodes that beat, and when. */
const oddLives = (log: readonly LogEntry[], beating: readonly NodeDocument[]): string[] => {
  const ids = new Set(beating.map(({ _id }) => _id));
  const told = Map.groupBy(
    log.filter(({ node_id }) => ids.has(node_id)),
    ({ node_id }) => node_id,
  );
  return [...told]
    .filter(([, entries]) => entries.length > 2)
    .map(([id, entries]) => `${id}: ${entries.map(({ reason, at }) => `${reason} ${at.toISOString()}`).join(", ")}`);
};

/** Times of one restart, in milliseconds. */
interface Spell {
  /** From SIGTERM until other replicas hold all nodes. */
  readonly movedMs: number;
  /** From SIGTERM until the process is gone. */
  readonly endedMs: number;
  /** From its start until it serves. */
  readonly startedMs: number;
}

async function restart(fleet: Replicas, replica: ReplicaUnderTest): Promise<Spell> {
  console.log(`${new Date().toISOString()} ${replica.name} is told to end`);
  const beganMs = performance.now();
  const gone = replica.end().then((code) => ({ code, endedMs: performance.now() - beganMs }));
  const what = `all are CONNECTED again after the end of ${replica.name}`;
  const movedMs = await eventually(connectedAgain(fleet, "sim", nodes), what, 4 * boundMs);
  const { code, endedMs } = await gone;
  expect(code).toBe(0);
  const startsMs = performance.now();
  await replica.start();
  return { movedMs, endedMs, startedMs: performance.now() - startsMs };
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

/** Creates nodes in maintenance, which ends for one node after the other, from now on. */
async function restInMaintenance(admin: LucidClient): Promise<string[]> {
  return inParallel(Array.from({ length: idle }), 2, async (_, place) => {
    const { nodeId } = await aNode(admin.nodes);
    await admin.nodes.startNode({ nodeId });
    const deadline = timestampFromDate(new Date(Date.now() + 1_000 + place * 1_500));
    await admin.nodes.enterMaintenance({ nodeId, reason: "a rest", deadline });
    return nodeId;
  });
}

const silentVictims = async ({ database }: Replicas): Promise<true | string> => {
  const found = await nodesNamed(database, "victim");
  const connectivity = found.map((node) => node.connectivity).join();
  return found.every((node) => node.connectivity === "disconnected") || connectivity;
};

const atWork = async ({ database }: Replicas, nodeIds: readonly string[]): Promise<true | string> => {
  const log = await historyIn(database);
  const waiting = nodeIds.filter((nodeId) => !reasonsOf(log, nodeId).includes("maintenance deadline passed"));
  return waiting.length === 0 || waiting.join();
};

/** Expects that each silence, start and maintenance ended exactly once. */
async function expectEnds({ database }: Replicas, resting: readonly string[]): Promise<void> {
  const log = await historyIn(database);
  for (const nodeId of resting) {
    expect(reasonsOf(log, nodeId)).toEqual([
      "created",
      "start requested",
      "start completed without a connection",
      "a rest",
      "maintenance deadline passed",
    ]);
  }
  const [asked, ...others] = await nodesNamed(database, "victim");
  const late = "The node did not answer start in time";
  expect(reasonsOf(log, asked?._id ?? "")).toEqual(["created", "connected", "start requested", late, "silent"]);
  for (const { _id } of others) expect(reasonsOf(log, _id)).toEqual(["created", "connected", "silent"]);
}

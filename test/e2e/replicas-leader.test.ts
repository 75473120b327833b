// The leader freezes for longer than its lease, and comes back to a fleet that another replica leads: it does nothing
// that only a leader may do.
// PAUSE_SECONDS: how long. LEADER_NODES: how many nodes beat.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeAll, describe, expect, test } from "vitest";
import type { LucidClient } from "../../src/client/client.js";
import { allLogged, connectedAgain, expectSoundHistory, nodesNamed, reasonsOf } from "../support/fleet/history.js";
import {
  canStartReplicas,
  eventually,
  openReplicas,
  type Replicas,
  type ReplicaUnderTest,
  sizeOf,
} from "../support/fleet/replicas.js";
import { aNode } from "../support/world/builders.js";
import { until } from "../support/world/until.js";
import { requireBuilt } from "./built.js";

/** Longer than the lease (10 s), and longer than the leader waits for a silent replica (10 s). */
const pauseMs = sizeOf("PAUSE_SECONDS", 14) * 1000;
const nodes = sizeOf("LEADER_NODES", 40);
const intervalMs = 2_000;
const graceMs = 5_000;
const victims = 3;
const idle = 6;
/** The rest of a lease, the wait for a dead replica, its nodes' grace, and the turns between; twice, for load. */
const orphanedMs = 2 * (10_000 + 10_000 + 1.1 * intervalMs + graceMs + 3_000);
/** A node's interval and grace, its wait for a Welcome that does not come, its backoff; twice, for load. */
const backMs = 2 * (intervalMs + graceMs + 15_000 + 8_000);

const settings = {
  NODE_HEARTBEAT_INTERVAL: String(intervalMs / 1000),
  HEARTBEAT_GRACE: String(graceMs / 1000),
  DRAIN_WINDOW: "1",
};

interface Leader {
  readonly holder: string;
  readonly token: number;
}

beforeAll(requireBuilt);

describe.skipIf(!canStartReplicas("a paused leader"))("a leader that stands still", () => {
  test(
    `for ${pauseMs / 1000} s finds another one in its place, and nothing is done twice`,
    async () => {
      await using fleet = await openReplicas({ count: 3, settings });
      const admin = fleet.client();
      fleet.simulate(nodes, "sim", 3);
      const victim = fleet.simulate(victims, "victim", 1);
      await eventually(connectedAgain(fleet, "sim", nodes), "all nodes join", 120_000);
      await eventually(connectedAgain(fleet, "victim", victims), "the victims join", 60_000);

      const before = await leaderOf(fleet);
      const frozen = fleet.all.find(({ replicaId }) => replicaId === before.holder);
      const dying = fleet.all.find((replica) => replica !== frozen);
      if (frozen === undefined || dying === undefined) throw new Error("nobody leads");
      // Maintenance ends, and orphans are to be judged, while nobody leads or another replica does.
      const claims = claimsOf(frozen);
      const resting = await restInMaintenance(admin);
      victim.kill("SIGKILL");
      await dying.kill();
      const frozenAt = performance.now();
      await frozen.freeze();
      await until(() => performance.now() - frozenAt > pauseMs, "the pause is over", pauseMs + 10_000);
      const during = await leaderOf(fleet);
      const movedMeanwhile = await heldElsewhere(fleet, frozen.replicaId);
      frozen.thaw();
      const thawed = new Date();
      await dying.start();

      const backAfterMs = await eventually(connectedAgain(fleet, "sim", nodes, thawed), "all nodes are heard", backMs);
      await eventually(() => victimsFound(fleet), "the victims are found", orphanedMs);
      const log = await finalLog(fleet, resting);
      const after = await leaderOf(fleet);
      const given = log.filter(({ reason }) => reason === "silent" || reason === "heard again");
      console.log(
        `paused leader: ${pauseMs / 1000} s, ${nodes} nodes; leader ${before.holder} (token ${before.token}), then ` +
          `${during.holder} (${during.token}), at the end ${after.holder} (${after.token}); ${movedMeanwhile} of ${nodes} ` +
          `nodes on another replica before it went on, all heard ${(backAfterMs / 1000).toFixed(1)} s after; ` +
          `${given.length - victims} changes of connectivity of nodes that beat`,
      );
      expect(during.holder).not.toBe(before.holder);
      expect(during.token).toBeGreaterThan(before.token);
      expect(after.token).toBeGreaterThanOrEqual(during.token);
      expect(fleet.replicaIds()).toContain(after.holder);
      // The old leader has not acted as leader since, unless it got the lease again.
      if (after.holder !== before.holder) expect(claimsOf(frozen)).toBe(claims);
      for (const { _id } of await nodesNamed(fleet.database, "victim")) {
        expect(reasonsOf(log, _id)).toEqual(["created", "connected", "silent"]);
      }
      for (const nodeId of resting) {
        expect(reasonsOf(log, nodeId).filter((reason) => reason === "maintenance deadline passed")).toHaveLength(1);
      }
      // It serves again: it answers a direct call, and takes nodes that dial it.
      const direct = fleet.client(`http://127.0.0.1:${frozen.port}`);
      await aNode(direct.nodes);
      const sessions = await frozen.metric("lucid_node_management_heartbeat_sessions_total");
      fleet.simulate(9, "late", 1);
      await eventually(connectedAgain(fleet, "late", 9), "late nodes join", 60_000);
      expect(await frozen.metric("lucid_node_management_heartbeat_sessions_total")).toBeGreaterThan(sessions);
    },
    300_000 + 2 * pauseMs,
  );
});

async function leaderOf({ database }: Replicas): Promise<Leader> {
  const lease = await database.collection<Leader & { _id: string }>("leases").findOne({ _id: "fleet" });
  if (lease === null) throw new Error("there is no lease");
  return { holder: lease.holder, token: lease.token };
}

/** How often the replica has said that it leads. */
const claimsOf = ({ output }: ReplicaUnderTest): number => output.split('"message":"This replica leads"').length - 1;

const heldElsewhere = async ({ database }: Replicas, replicaId: string): Promise<number> => {
  const held = await nodesNamed(database, "sim");
  return held.filter(({ session_replica: replica }) => replica !== replicaId).length;
};

async function restInMaintenance({ nodes: service }: LucidClient): Promise<string[]> {
  const resting: string[] = [];
  for (let place = 0; place < idle; place++) {
    const { nodeId } = await aNode(service);
    await service.startNode({ nodeId });
    const deadline = timestampFromDate(new Date(Date.now() + 2_000 + (place * pauseMs) / idle));
    await service.enterMaintenance({ nodeId, reason: "a rest", deadline });
    resting.push(nodeId);
  }
  return resting;
}

const victimsFound = async ({ database }: Replicas): Promise<true | string> => {
  const found = (await nodesNamed(database, "victim")).map(({ connectivity }) => connectivity);
  return found.every((connectivity) => connectivity === "disconnected") || found.join();
};

async function finalLog(fleet: Replicas, resting: readonly string[]) {
  const ended = async () => {
    const waiting = await fleet.database.collection("nodes").countDocuments({ status: "maintenance" });
    return waiting === 0 || `${waiting} of ${resting.length} in maintenance`;
  };
  await eventually(ended, "maintenance has ended", 60_000);
  await eventually(allLogged(fleet.database), "all changes are in the log", 30_000);
  return expectSoundHistory(fleet.database);
}

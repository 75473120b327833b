// Replicas and the database are killed at random moments under load. Nothing that was acknowledged is lost, nothing is
// done twice, and all nodes connect again.
// FLEET_KILLS: how often. FLEET_SEED: replays the choices. FLEET_NODES: how many nodes beat.
import { setTimeout as delay } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import type { NodeDocument } from "../../src/nodes/node.js";
import { allLogged, connectedAgain, expectSoundHistory } from "../support/fleet/history.js";
import { canStartReplicas, eventually, openReplicas, type Replicas, sizeOf } from "../support/fleet/replicas.js";
import { startWriters } from "../support/fleet/writers.js";
import { aPool } from "../support/world/builders.js";
import { randomFrom } from "../support/world/random.js";
import { requireBuilt } from "./built.js";

const kills = sizeOf("FLEET_KILLS", 4);
const seed = sizeOf("FLEET_SEED", Date.now() % 1_000_000);
const nodes = sizeOf("FLEET_NODES", 40);
const intervalMs = 2_000;
const graceMs = 8_000;
/** A node waits up to 8 s after its third failed attempt. If it is refused, it is told to wait up to 5 s more. */
const backoffMs = 13_000;
/** Time for a few failed attempts, a write to the store and the next flush, while everybody comes back at once. */
const storeMs = 30_000;
/**
 * Counted from the moment when all processes serve again. A node notices the death of its stream at once, or after
 * interval + grace; it dials again after its backoff, and beats within an interval; the next flush writes the beat.
 */
const boundMs = 1.1 * intervalMs + graceMs + backoffMs + intervalMs + storeMs;
const lostAfterMs = 40_000;
/**
 * The lease of a dead leader, the first look of its successor, then a restart's grace for its nodes. A node that is
 * DISCONNECTED after that has until it would be LOST. All of it twice, for load.
 */
const forgottenMs = 2 * (10_000 + 10_000 + lostAfterMs);
const poolMax = 12;

const settings = {
  NODE_HEARTBEAT_INTERVAL: String(intervalMs / 1000),
  HEARTBEAT_GRACE: String(graceMs / 1000),
  HEARTBEAT_LOST_AFTER: String(lostAfterMs / 1000),
  NODE_COMMAND_TIMEOUT: "5",
  DRAIN_WINDOW: "1",
};

beforeAll(requireBuilt);

describe.skipIf(!canStartReplicas("random kills"))("random kills", () => {
  test(
    `after ${kills} kills of replicas and database nothing acknowledged is lost and nothing done twice`,
    async () => {
      console.log(`random kills: FLEET_SEED=${seed} FLEET_KILLS=${kills} FLEET_NODES=${nodes}`);
      const random = randomFrom(seed);
      await using fleet = await openReplicas({ count: 3, settings, durable: true });
      const admin = fleet.client();
      const { poolId } = await aPool(admin.pools, { maxNodes: poolMax });
      fleet.simulate(nodes, "sim", 5);
      await eventually(connectedAgain(fleet, "sim", nodes), "all nodes join", 120_000);

      await using writers = startWriters(fleet, poolId, random);
      const recoveries: number[] = [];
      for (let kill = 0; kill < kills; kill++) {
        const before = writers.acknowledged;
        await eventually(async () => writers.acknowledged > before + 3 || "few", "writers are at work", 120_000);
        // The test varies the moment of the kill: it may fall anywhere in the processes' work.
        await delay(random() * 1_000);
        await (kill % 2 === 0 ? killReplica(fleet, random) : killDatabase(fleet, random));
        const back = new Date();
        const what = `all nodes are heard again after kill ${kill}`;
        recoveries.push(await eventually(connectedAgain(fleet, "sim", nodes, back), what, boundMs));
      }
      const told = await writers.stop();
      await eventually(() => nothingUnderWay(fleet), "each start and stop has ended", 60_000);
      await eventually(allLogged(fleet.database), "all changes are in the log", 30_000);
      const forgotten = await eventually(() => onlyLiving(fleet), "only the living are in the roster", forgottenMs);
      console.log(
        `random kills: ${kills} kills, ${nodes} nodes, all heard again after ` +
          `${recoveries.map((ms) => (ms / 1000).toFixed(1)).join(", ")} s (bound ${boundMs / 1000} s); ` +
          `${told.created.length} creates, ${told.versions.length} versions acknowledged, ${told.retried} calls repeated; ` +
          `roster clean after ${(forgotten / 1000).toFixed(1)} s`,
      );
      expect(told.unexpected).toEqual([]);
      await expectKept(fleet, told);
      await expectPool(fleet, poolId);
    },
    240_000 + kills * (boundMs + 30_000),
  );
});

async function killReplica({ all }: Replicas, random: () => number): Promise<void> {
  const replica = all[Math.floor(random() * all.length)];
  await replica?.kill();
  await delay(random() * 1_500);
  await replica?.start();
}

async function killDatabase({ mongo }: Replicas, random: () => number): Promise<void> {
  await mongo.kill();
  await delay(random() * 1_500);
  await mongo.restart();
}

const nothingUnderWay = async ({ database }: Replicas): Promise<true | string> => {
  const waiting = await database
    .collection("nodes")
    .countDocuments({ $or: [{ status: "starting" }, { status: "stopping" }, { transition: { $exists: true } }] });
  return waiting === 0 || `${waiting} under way`;
};

const onlyLiving = async ({ database, replicaIds }: Replicas): Promise<true | string> => {
  const records = await database.collection<{ _id: string }>("replicas").find({}).toArray();
  const known = records.map(({ _id }) => _id).sort();
  return known.join() === replicaIds().sort().join() || known.join();
};

type Told = Awaited<ReturnType<ReturnType<typeof startWriters>["stop"]>>;

async function expectKept({ database }: Replicas, told: Told): Promise<void> {
  const log = await expectSoundHistory(database);
  const entries = new Map(log.map((entry) => [`${entry.node_id} ${entry.version}`, entry]));
  const stored = await database.collection<NodeDocument>("nodes").find({}).toArray();
  const versions = new Map(stored.map(({ _id, version }) => [_id, version]));
  const named = Map.groupBy(stored, ({ name }) => name);

  for (const { name, nodeId } of told.created) {
    const found = named.get(name)?.map(({ _id }) => _id);
    expect(found, `the one node that ${name} has made`).toEqual([nodeId]);
  }
  const lost = told.versions.filter(({ nodeId, version, status }) => {
    const entry = entries.get(`${nodeId} ${version}`);
    return entry === undefined || entry.status !== status || (versions.get(nodeId) ?? 0) < version;
  });
  expect(lost, "acknowledged versions that history does not hold").toEqual([]);
  const ids = stored.flatMap(({ idempotency_id: id }) => (id === undefined ? [] : [id]));
  expect(new Set(ids).size).toBe(ids.length);
}

async function expectPool({ database }: Replicas, poolId: string): Promise<void> {
  const members = await database.collection<NodeDocument>("nodes").find({ pool_id: poolId }).toArray();
  const slots = members.map(({ pool_slot: slot }) => slot ?? 0);
  expect(new Set(slots).size).toBe(slots.length);
  expect(slots.filter((slot) => slot < 1 || slot > poolMax)).toEqual([]);
}

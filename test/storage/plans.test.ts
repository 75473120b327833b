// Every query of the stores finds its documents by an index: no scan where an equality could seek, no sort of its own.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTokens } from "../../src/admin/tokens.js";
import type { NodeId } from "../../src/ids.js";
import { createNodeLog } from "../../src/nodes/log.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { createNodeRepository, type NodeOrder } from "../../src/nodes/repository.js";
import { labelFilter } from "../../src/nodes/selector.js";
import { createPoolRepository } from "../../src/pools/repository.js";
import { createPootRepository } from "../../src/poot/repository.js";
import { counted, newStanding } from "../../src/poot/standing.js";
import { type Proof, reusedVerdict, verdictOf } from "../../src/poot/verdict.js";
import { createLease } from "../../src/replicas/lease.js";
import { createRoster } from "../../src/replicas/roster.js";
import { createAlertRepository } from "../../src/resources/alerts.js";
import { createAllocator } from "../../src/resources/allocator.js";
import { createResourceRepository } from "../../src/resources/repository.js";
import type { Store } from "../../src/storage/collection.js";
import { openSqliteStore } from "../../src/storage/sqlite.js";
import { createTestClock } from "../support/clock.js";
import { planFault } from "../support/plans.js";
import { until } from "../support/until.js";

const now = new Date("2026-01-01T00:00:00Z");
const aDocument = (place: number): NodeDocument => ({
  _id: `node_${place}`,
  name: `name-${place}`,
  name_scope: "pool_1",
  status: "active",
  status_reason: "",
  node_type: "worker",
  pool_id: "pool_1",
  pool_slot: place,
  pool_priority: 50,
  configuration_version: 0,
  configuration_applied: 0,
  labels: { zone: "a" },
  connectivity: "connected",
  last_heartbeat: now,
  poot_score: -1,
  agent_version: "",
  banned: false,
  transition: { operation_id: "op", operation: "start", deadline: now },
  maintenance_until: now,
  session_epoch: 1,
  live: true,
  idempotency_id: `key-${place}`,
  version: 1,
  change: 1,
  unlogged: [],
  unlogged_since: now,
  created_at: now,
  updated_at: now,
});

describe("query plans of the stores", () => {
  const directory = mkdtempSync(join(tmpdir(), "lucid-plans-"));
  const statements = new Map<string, readonly string[]>();
  let store: Store;

  beforeAll(async () => {
    store = await openSqliteStore({ dir: directory, onStatement: (sql, plan) => statements.set(sql, plan) });
  });
  afterAll(async () => {
    await store[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  it("every method of every repository seeks", async () => {
    const clock = createTestClock(now);
    const nodes = await createNodeRepository(store);
    for (let place = 1; place <= 30; place++) await nodes.insert(aDocument(place));
    const orders: NodeOrder[] = ["created_at", "name", "poot_score", "last_heartbeat"];
    const labels = labelFilter("zone=a,!other");
    for (const order of orders) {
      for (const descending of [false, true]) {
        for (const filter of [
          {},
          { poolId: "pool_1" },
          { status: "active" },
          { connectivity: "connected" },
          { ...(labels && { labels }) },
        ]) {
          const first = await nodes.list(filter, { order, descending, limit: 5, skip: 2 });
          const after = first.next;
          if (after !== undefined) await nodes.list(filter, { order, descending, limit: 5, skip: 0, after });
          await nodes.countOf(filter);
        }
      }
    }
    const node = await nodes.get("node_1");
    await nodes.findByIdempotencyId("key-1");
    await nodes.takenSlots("pool_1");
    await nodes.openSession("node_1" as NodeId, { bootId: "boot", replica: "one", at: now });
    await nodes.flush([{ nodeId: "node_1", epoch: 2, at: now }]);
    await nodes.findMany(["node_1", "node_2"]);
    await nodes.heldBy("one", "connected");
    await nodes.makeUnary("node_1" as NodeId, 2);
    await nodes.membersOf("pool_1");
    await nodes.byConnectivity("connected");
    const moving = await nodes.inTransition(5);
    await nodes.inTransition(5, moving.next);
    await nodes.maintenanceOver(now, 5);
    await nodes.unlogged(5);
    await nodes.unloggedAmong(["node_1", "node_2"]);
    await nodes.countByStatus("active");
    const event = { type: "updated", reason: "test", actor: "test" } as const;
    await nodes.compareAndSet(node, { set: { name: "other" }, event }, now, { guard: { session_epoch: 2 }, fence: 1 });
    await nodes.markLogged(await nodes.get("node_1"));

    const log = await createNodeLog({ store, repository: nodes, clock, appended: () => undefined });
    await log.eventsOf("node_1", { since: now, descending: true, limit: 5, skip: 0 });
    await log.countOf("node_1", now);
    await log.tail();
    await log.head();
    await log.after(0, 5);

    const pools = await createPoolRepository(store);
    await pools.list({ limit: 5, skip: 0 });
    await pools.count();
    await pools.findByIdempotencyId("none");
    await pools.find("pool_1");
    await pools.disrupted();
    await pools.setDisrupted("pool_1", true, now, 1);
    await pools.setDisrupted("pool_1", false, now, 1);
    await pools.reopen("pool_1", now);
    await pools.remove("pool_1", now);

    const poot = await createPootRepository(store);
    const proof = (place: number): Proof => ({
      nodeId: "node_1",
      outputHash: `hash-${place % 3}`,
      sizeBytes: 1,
      at: { seconds: 1, nanos: 0 },
      nonce: `nonce-${place}`,
    });
    const circumstances = (place: number) => ({ id: `poot_val_${place}`, now, tookMs: 1, batchId: "batch_1", place });
    const verdicts = Array.from({ length: 30 }, (_, place) =>
      verdictOf(proof(place), { history: [], duplicate: false }, circumstances(place)),
    );
    await poot.insertMany(verdicts);
    await poot.insert(reusedVerdict(proof(0), circumstances(100)));
    await poot.spenderOf("node_1", "nonce-1");
    await poot.reusedOf(proof(0));
    await poot.hasSpent("node_1", ["nonce-1", "none"]);
    await poot.hasProved("node_1", ["hash-1", "none"], now);
    await poot.sharedBy("hash-1", "node_2", now);
    await poot.find("poot_val_1");
    const spans = [{}, { since: new Date(0) }, { since: new Date(0), until: new Date(now.getTime() + 1) }];
    for (const span of spans) {
      for (const of of [{}, { nodeId: "node_1" }, { batchId: "batch_1" }, { outcome: "invalid" as const }]) {
        const first = await poot.list({ ...span, ...of }, { limit: 5, skip: 2 });
        if (first.next !== undefined) await poot.list({ ...span, ...of }, { limit: 5, skip: 0, after: first.next });
        await poot.countOf({ ...span, ...of });
      }
    }
    await poot.uncountedOf("node_1", 5);
    const left = await poot.uncountedBefore(new Date(now.getTime() + 1), 5);
    await poot.uncountedBefore(new Date(now.getTime() + 1), 5, left.next);
    await poot.mark(["poot_val_1"]);
    const standing = counted(newStanding("node_1"), verdicts, 1, now);
    await poot.replaceStanding(standing);
    await poot.replaceStanding(counted(standing, verdicts, 1, now));
    for (let place = 2; place < 9; place++) {
      await poot.replaceStanding(counted(newStanding(`node_${place}`), verdicts, 0, now));
    }
    await poot.standingOf("node_1");
    await poot.standingsOf(["node_1", "node_2"]);
    const best = await poot.best(5);
    await poot.best(5, best.next);
    await nodes.setPootScore("node_1", 80, 1);

    const resources = await createResourceRepository(store, 5);
    const point = { at: now.getTime(), cpu: 1, mem: 1, mem_total: 1, disk: 1, disk_total: 1 };
    await resources.append([{ nodeId: "node_1", point }]);
    await resources.append([{ nodeId: "node_1", point }]);
    const [fromMs, toMs] = [now.getTime() - 3_600_000, now.getTime() + 3_600_000];
    expect(await resources.read("node_1", 60_000, fromMs, toMs)).toHaveLength(1);
    expect(await resources.read("node_1", 3_600_000, fromMs, toMs)).toHaveLength(1);
    expect((await resources.latest(["node_1", "node_2"], now, now)).size).toBe(1);
    await resources.deletePoints(now);
    await resources.deleteHours(now);

    const alerts = await createAlertRepository(store);
    const dates = { raised_at: now, updated_at: now };
    const figures = { value_percent: 99, threshold_percent: 95, severity: "critical", resource: "cpu" } as const;
    const alert = { _id: "alert_1", node_id: "node_1", active: true, ...figures, ...dates } as const;
    await alerts.raise(alert);
    await alerts.raise({ ...alert, _id: "alert_2" });
    for (const filter of [{}, { nodeId: "node_1" }]) {
      for (const activeOnly of [false, true]) {
        const first = await alerts.list({ ...filter, activeOnly }, { limit: 1, skip: 0 });
        if (first.next) await alerts.list({ ...filter, activeOnly }, { limit: 1, skip: 0, after: first.next });
        await alerts.countOf({ ...filter, activeOnly });
      }
    }
    await alerts.active();
    await alerts.activeOf("node_1");
    await alerts.countActive("critical");
    await alerts.change("alert_1", { ...figures, updated_at: now });
    await alerts.clear("alert_1", now);
    await alerts.deleteCleared(now);

    const allocator = await createAllocator({
      store,
      nodes,
      clock,
      poolLimits: async () => undefined,
      changed: () => undefined,
    });
    const amounts = { cpu_percent: 1, memory_bytes: 0, disk_bytes: 0, network_mbps: 0 };
    const ask = { nodeId: "node_3", amounts, ttlMs: 1000, meaning: "m", actor: "test" };
    await allocator.allocate({ ...ask, idempotencyId: undefined });
    const { allocation } = await allocator.allocate({ ...ask, idempotencyId: "key-1" });
    await allocator.release(allocation.allocation_id, "test");

    const rings = { common: [{ kid: "1", secret: "x".repeat(32) }], privileged: undefined };
    const tokens = await createTokens({ store, clock, rings, onRevoked: () => undefined });
    await tokens.revoke("jti");
    await tokens.load();
    await tokens.spendChallenge("hash", now);

    const self = { store, clock, log: { info: () => undefined } };
    const lease = await createLease({ ...self, name: "fleet", owner: "one", exclusive: false });
    const roster = await createRoster({ ...self, replicaId: "one", coordination: "redis", exclusive: false });
    const signal = new AbortController().signal;
    await roster.join(1000, signal);
    for (const replica of await roster.look()) await roster.forget(replica);
    await roster.countAlive();
    await roster.leave();
    const end = new AbortController();
    const leading = lease.task(end.signal);
    await until(() => lease.leadership() !== undefined, "the lease is held");
    end.abort();
    await leading;

    const faults = [...statements].map(([sql, plan]) => planFault(sql, plan)).filter((fault) => fault !== undefined);
    expect(statements.size).toBeGreaterThan(40);
    expect(faults).toEqual([]);
  });
});

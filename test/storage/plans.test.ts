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
import { createLease } from "../../src/replicas/lease.js";
import { createRoster } from "../../src/replicas/roster.js";
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

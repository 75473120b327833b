// Makes every statement of every repository at least once, for tests of how stores find documents.
import assert from "node:assert/strict";
import { createTokens, tokensCollection } from "../../../src/access/tokens.js";
import type { NodeId } from "../../../src/ids.js";
import { createNodeLog, nodeLogCollection } from "../../../src/nodes/history/log.js";
import { labelFilter } from "../../../src/nodes/labels.js";
import type { NodeDocument } from "../../../src/nodes/node.js";
import { createNodeRepository, type NodeOrder, nodesCollection } from "../../../src/nodes/repository.js";
import { createResets } from "../../../src/nodes/resets.js";
import type { BatchDocument } from "../../../src/payouts/document.js";
import { noFaults } from "../../../src/payouts/gateway/faults.js";
import { createSandboxGateway } from "../../../src/payouts/gateway/sandbox.js";
import { sandboxChainCollection, sandboxTransactionsCollection } from "../../../src/payouts/gateway/sandbox-head.js";
import { created, queuePlaces, taken } from "../../../src/payouts/payout.js";
import { createPayoutRepository, payoutBatchesCollection, payoutsCollection } from "../../../src/payouts/repository.js";
import { createPoolRepository, poolsCollection } from "../../../src/pools/repository.js";
import { createPootRepository, standingsCollection, validationsCollection } from "../../../src/poot/repository.js";
import { counted, newStanding } from "../../../src/poot/standing.js";
import { type Proof, reusedVerdict, verdictOf } from "../../../src/poot/verdict.js";
import { createLease } from "../../../src/replicas/lease.js";
import { createRoster } from "../../../src/replicas/roster.js";
import { createAlertRepository, resourceAlertsCollection } from "../../../src/resources/alerts/repository.js";
import { createAllocator, resourceAllocationsCollection } from "../../../src/resources/allocations/allocator.js";
import {
  createResourceRepository,
  resourceHoursCollection,
  resourceMetricsCollection,
} from "../../../src/resources/samples/repository.js";
import type { CollectionDefinition, Store } from "../../../src/storage/collection.js";
import { silentLog } from "../../../src/telemetry/log.js";
import { createTestClock } from "../world/clock.js";
import { until } from "../world/until.js";

const now = new Date("2026-01-01T00:00:00Z");
/** A node in everything that a query may ask for. */
const aNode = (place: number): NodeDocument => ({
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
  // Only a few nodes have these, however many there are: each replica keeps all of them in memory.
  ...(place <= 5 ? { enrollment_reset_at: now, enrollment_epoch_at: now } : {}),
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

/** Methods that look at memory alone. */
const asksNothing: ReadonlySet<string> = new Set(["allocator.unexpired", "lease.leadership", "tokens.isRevoked"]);

/**
 * Calls each method of each repository with each kind of query that it knows, one after the other. `onCall` hears of
 * each call before it begins, such as "nodes.unlogged [5]".
 */
export async function everyStatement(store: Store, onCall: (name: string) => void = () => undefined): Promise<void> {
  const clock = createTestClock(now);
  const uncalled = new Set<string>();
  const named = <Repository extends object>(name: string, repository: Repository): Repository => {
    for (const [method, value] of Object.entries(repository)) {
      if (typeof value === "function") uncalled.add(`${name}.${method}`);
    }
    return new Proxy(repository, {
      get: (target, method) => {
        const found: unknown = Reflect.get(target, method);
        if (typeof found !== "function") return found;
        return (...given: unknown[]) => {
          uncalled.delete(`${name}.${String(method)}`);
          onCall(`${name}.${String(method)} ${JSON.stringify(given, plainly)}`);
          return found.apply(target, given);
        };
      },
    });
  };
  const nodes = named("nodes", await createNodeRepository(store));
  for (let place = 1; place <= 30; place++) await nodes.insert(aNode(place));
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
  await nodes.countPlaces("pool_1", 3);
  await nodes.nextPool("");
  await nodes.nextPool("pool_1");
  await nodes.openSession("node_1" as NodeId, { epoch: 1, bootId: "boot", replica: "one", at: now });
  await nodes.flush([{ nodeId: "node_1", epoch: 2, at: now }]);
  await nodes.findMany(["node_1", "node_2"]);
  await nodes.heldBy("one", "connected");
  await nodes.makeUnary("node_1" as NodeId, 2);
  await nodes.membersOf("pool_1");
  await nodes.byConnectivity("connected");
  const moving = await nodes.inTransition(5);
  await nodes.inTransition(5, moving.next);
  await nodes.maintenanceOver(now, 5);
  await nodes.resetSince(now, (await nodes.resetSince(now)).next);
  await nodes.unlogged(5);
  await nodes.unloggedAmong(["node_1", "node_2"]);
  await nodes.countByStatus("active");
  const event = { type: "updated", reason: "test", actor: "test" } as const;
  await nodes.compareAndSet(node, { set: { name: "other" }, event }, now, { guard: { session_epoch: 2 }, fence: 1 });
  await nodes.markLogged([{ nodeId: "node_1", change: 1, deleted: false }], now);
  await nodes.markLogged([{ nodeId: "node_29", change: 1, deleted: true }], now);

  const log = named("log", await createNodeLog({ store, repository: nodes, clock, logger: silentLog }));
  await log.eventsOf("node_1", { since: now, descending: true, limit: 5, skip: 0 });
  await log.countOf("node_1", now);
  await log.tail();
  await log.head();
  await log.after(0, 5);
  await log.settle([await nodes.get("node_3")]);
  log.wake("node_3");

  const pools = named("pools", await createPoolRepository(store));
  const pool = { description: "", max_nodes: 100, auto_scaling: false, version: 1, created_at: now, updated_at: now };
  await pools.insert({ _id: "pool_1", name: "pool", ...pool });
  await pools.get("pool_1");
  await pools.change(
    "pool_1",
    () => now,
    () => ({ set: { name: "other" } }),
  );
  await pools.close("pool_1", now);
  await pools.list({ limit: 5, skip: 0 });
  await pools.count();
  await pools.findByIdempotencyId("none");
  await pools.find("pool_1");
  await pools.disrupted();
  await pools.highestFence();
  await pools.claim("pool_1", 1);
  await pools.setDisrupted("pool_1", true, now, 1);
  await pools.setDisrupted("pool_1", false, now, 1);
  await pools.reopen("pool_1", now);
  await pools.remove("pool_1", now);

  const poot = named("poot", await createPootRepository(store));
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
  await poot.areUncounted(["poot_val_1", "poot_val_2"]);
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

  await everyPayoutStatement(store, named);
  await everySandboxStatement(store, named);

  const resources = named("resources", await createResourceRepository(store, 5));
  const point = { at: now.getTime(), cpu: 1, mem: 1, mem_total: 1, disk: 1, disk_total: 1 };
  await resources.append([{ nodeId: "node_1", point }]);
  await resources.append([{ nodeId: "node_1", point }]);
  const [fromMs, toMs] = [now.getTime() - 3_600_000, now.getTime() + 3_600_000];
  assert.equal((await resources.read("node_1", 60_000, fromMs, toMs)).length, 1);
  assert.equal((await resources.read("node_1", 3_600_000, fromMs, toMs)).length, 1);
  assert.equal((await resources.latest(["node_1", "node_2"], now, now)).size, 1);
  await resources.deletePoints(now);
  await resources.deleteHours(now);

  const alerts = named("alerts", await createAlertRepository(store));
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

  const allocator = named(
    "allocator",
    await createAllocator({
      store,
      nodes,
      clock,
      poolLimits: async () => undefined,
    }),
  );
  const amounts = { cpu_percent: 1, memory_bytes: 0, disk_bytes: 0, network_mbps: 0 };
  const ask = { nodeId: "node_3", amounts, ttlMs: 1000, meaning: "m", actor: "test" };
  await allocator.allocate({ ...ask, idempotencyId: undefined });
  const { allocation } = await allocator.allocate({ ...ask, idempotencyId: "key-1" });
  await allocator.release(allocation.allocation_id, "test");
  allocator.nodeChanged({ ...(await nodes.get("node_3")), deleted_at: now });
  await allocator.settleDeleted();

  const rings = { common: [{ kid: "1", secret: "x".repeat(32) }], privileged: undefined };
  const resets = createResets({ repository: nodes, storeNow: store.now, clock });
  const tokens = named(
    "tokens",
    await createTokens({ store, clock, rings, resets, ttlMaxMs: 86_400_000, log: silentLog }),
  );
  await tokens.revoke("jti");
  await tokens.load();
  await tokens.spendChallenge("hash", now);
  const { accessToken, refreshToken } = await tokens.issue({ subject: "admin", role: "admin", nodeId: undefined });
  await tokens.verify(accessToken);
  await tokens.refresh(
    refreshToken,
    async () => undefined,
    async () => ({ role: "worker", enrollmentEpoch: 0 }),
  );
  await tokens.refresh(
    refreshToken,
    async () => undefined,
    async () => ({ role: "worker", enrollmentEpoch: 0 }),
  );
  const enrolled = await tokens.issueEnrollment({
    subject: "admin",
    role: "worker",
    nodeId: "node_1",
    enrollmentEpoch: 0,
  });
  await (await tokens.enrollment(enrolled.token)).spend("fingerprint");

  const self = { store, clock, log: silentLog };
  const lease = named(
    "lease",
    await createLease({ ...self, name: "fleet", owner: "one", exclusive: false, highestFence: nodes.highestFence }),
  );
  const roster = named(
    "roster",
    await createRoster({ ...self, replicaId: "one", coordination: "redis", exclusive: false }),
  );
  const signal = new AbortController().signal;
  await roster.join(1000, signal);
  for (const replica of await roster.look()) await roster.forget(replica);
  await roster.countAlive();
  await roster.leave();
  await roster.report(now, 1000);
  await lease.take();
  for (const { task } of [lease, roster, log, tokens]) {
    const end = new AbortController();
    const asleep = clock.sleepers;
    const running = task(end.signal);
    await until(() => clock.sleepers > asleep, "a task has done its turn");
    end.abort();
    await running;
  }
  const unasked = [...uncalled].filter((method) => !asksNothing.has(method));
  assert.deepEqual(unasked, [], "every method of every repository is called here");
}

/** Amounts as text. */
const plainly = (_: string, value: unknown) => (typeof value === "bigint" ? `${value}` : value);

type Named = <Repository extends object>(name: string, repository: Repository) => Repository;

const act = { at: now, actor: "test" };
const aPayout = (place: number, holds: Parameters<typeof created>[1] = {}) =>
  created(
    {
      ...{ _id: `payout_${place}`, node_id: "node_1", currency: "USDT", amount_minor: "1", priority: "normal" },
      ...{ created_by: "test", max_retries: 3, recipient: "sealed", recipient_fingerprint: "print" },
      ...{ recipient_masked: "T", idempotency_id: `key-${place}`, idempotency_meaning: "m" },
      ...{ batch_id: "batch_1", batch_index: place, ...(place === 9 ? { retry_of: "payout_8" } : {}) },
    },
    holds,
    act,
  );
const aBatch: BatchDocument = {
  ...{ _id: "batch_1", version: 1, entries: [], unmoved: true, idempotency_meaning: "m", items: [] },
  ...{ priority: "normal", created_by: "test", created_at: now, updated_at: now, max_retries: 3, expanding: true },
};

async function everyPayoutStatement(store: Store, named: Named): Promise<void> {
  const repository = await createPayoutRepository(store);
  const payouts = named("payouts", repository);
  const batches = named("payouts.batches", repository.batches);
  const sending = named("payouts.sending", repository.sending);
  const days = named("payouts.days", repository.days);
  await payouts.now();
  await payouts.insert(aPayout(0));
  await payouts.insertMany(Array.from({ length: 20 }, (_, place) => aPayout(place + 1)));
  const payout = aPayout(0);
  await payouts.replace(payout, taken(payout, "one", now, act));
  await payouts.find("payout_1");
  await payouts.findByKey("key-1");
  await payouts.findByTxid("none", "nobody");
  await payouts.findRetryOf("payout_8");
  for (const place of ["held", "moving", ...queuePlaces]) await payouts.due("USDT", place, now, 5);
  for await (const _ of payouts.moving("USDT"));
  const later = new Date(now.getTime() + 1);
  const spans = [{}, { since: now }, { since: now, until: later }];
  const filters = [{}, { nodeId: "node_1" }, { batchId: "batch_1" }, { status: "pending" as const }];
  for (const span of spans) {
    for (const of of [...filters, { currency: "USDT" as const }]) {
      const first = await payouts.list({ ...span, ...of }, { limit: 5, skip: 2 });
      if (first.next !== undefined) await payouts.list({ ...span, ...of }, { limit: 5, skip: 0, after: first.next });
      await payouts.countOf({ ...span, ...of });
    }
  }
  for (const of of [{ nodeId: "node_1" }, { batchId: "batch_1" }, { status: "pending" as const }, { since: later }]) {
    for await (const _ of payouts.all(of));
  }
  await payouts.depth("queued");
  await payouts.hasOpen("node_1");
  await payouts.hasAt("USDT", "queued:2");
  await payouts.openLike({ recipientFingerprint: "print", currency: "USDT", amountMinor: "1" });
  await batches.insert(aBatch);
  await batches.find("batch_1");
  await batches.replace(aBatch, { ...aBatch, version: 2 });
  await batches.expanding(5);
  const first = await batches.list({ limit: 5, skip: 0 });
  await batches.list({ limit: 5, skip: 0, after: first.next });
  await batches.countOf();
  const known = await sending.get();
  await sending.replace(known, { ...known, version: known.version + 1, unmoved: true });
  const day = { _id: "USDT:2026-01-01", version: 1, sum_minor: "0", reserved: {} };
  await days.replace(null, day);
  await days.replace(await days.get("USDT", "2026-01-01"), { ...day, version: 2 });
  await payouts.forgetEntries(await payouts.unmoved(5));
}

/** A chain that pays, lets a transaction die, and is read from before its last block that is not empty. */
async function everySandboxStatement(store: Store, named: Named): Promise<void> {
  let nowMs = now.getTime();
  const moved: Store = { ...store, now: async () => new Date(nowMs) };
  const parts = { currency: "USDT", faults: noFaults, random: () => 0.5, log: silentLog } as const;
  await createSandboxGateway({ ...parts, store: moved, blockMs: 1000 });
  const sandbox = named("sandbox", await createSandboxGateway({ ...parts, store: moved, blockMs: 3000 }));
  const transfer = { recipient: "recipient", amountMinor: 1n };
  sandbox.recipientProblem(transfer.recipient);
  for (let stamp = 0; stamp < 6; stamp++) {
    const draft = await sandbox.draft(transfer, stamp);
    const signed = { ...draft, signature: await sandbox.sign(draft) };
    if (stamp % 2 === 0) await sandbox.send(signed);
    nowMs += 3000;
    await sandbox.judge({ ...draft, ...transfer });
    nowMs += 60 * 3000;
    await sandbox.send(signed);
    await sandbox.judge({ ...draft, ...transfer });
  }
  await sandbox.preflight(transfer);
  await sandbox.balance();
  const { number } = await sandbox.solid();
  await sandbox.transfersAfter(number - 100);
}

/** Adds documents to each collection. They resemble what everyStatement asks for, but no statement names them. */
export async function putOthers(store: Store, count: number): Promise<void> {
  const put = async (definition: CollectionDefinition, documentOf: (place: number) => object): Promise<void> => {
    const all = await store.collection(definition);
    for (let from = 0; from < count; from += 1000) {
      const places = Array.from({ length: Math.min(1000, count - from) }, (_, n) => from + n);
      await all.insertMany(places.map((place) => ({ _id: `other_${place}`, ...documentOf(place) })));
    }
  };
  const nodeOf = (place: number) => `other_${place}`;
  await put(nodesCollection, (place) => ({
    ...aNode(place),
    ...{ _id: nodeOf(place), name: `other-${place}`, name_scope: "other", idempotency_id: `other-${place}` },
    ...{ pool_id: "other", session_replica: "one", fence: 1 },
    // The log's task settles all nodes that wait, so each store has equally many of them.
    unlogged_since: place < 50 ? now : undefined,
  }));
  const at = now;
  await put(nodeLogCollection, (place) => ({
    _id: String(place + 1).padStart(16, "0"),
    ...{ node_id: nodeOf(place), change: 1, type: "updated", at },
  }));
  await put(poolsCollection, (place) => ({
    ...{ name: nodeOf(place), disrupted_since: at, created_at: at, updated_at: at, version: 1, fence: 1 },
  }));
  await put(validationsCollection, (place) => ({
    ...{ node_id: nodeOf(place), output_hash: `hash-${place % 3}`, spent_nonce: `nonce-${place}`, batch_id: "other" },
    ...{ outcome: "invalid", is_valid: false, uncounted: true, created_at: at, place },
  }));
  await put(payoutsCollection, (place) => ({
    ...{ node_id: nodeOf(place), currency: "USDT", amount_minor: "1", status: "completed", phase: "done", version: 1 },
    ...{ idempotency_id: nodeOf(place), txid: nodeOf(place), retry_of: nodeOf(place), batch_id: "other" },
    ...{ batch_index: place, recipient_fingerprint: "print", created_at: at, updated_at: at, entries: [] },
  }));
  await put(sandboxChainCollection, () => ({ era: 1, eras: [], height: 0, block: [], spent: "0" }));
  await put(sandboxTransactionsCollection, (place) => ({
    ...{ chain: place % 2 === 0 ? "USDT" : "other", state: "included", due: 0, block: -1 - place, block_id: "id" },
    ...{ recipient: nodeOf(place), amount_minor: "1", result: "SUCCESS" },
  }));
  await put(payoutBatchesCollection, () => ({ version: 1, entries: [], items: [], created_at: at, updated_at: at }));
  await put(standingsCollection, (place) => ({
    ...{
      version: 1,
      taken: [],
      recent: [],
      valid: place,
      invalid: 0,
      rejected: 0,
      mean_score: 50,
      hours: [],
      days: [],
    },
  }));
  await put(tokensCollection, () => ({ kind: "refresh", at, expires_at: at }));
  await put(resourceMetricsCollection, (place) => ({ node_id: nodeOf(place), slot: at, at: [] }));
  await put(resourceHoursCollection, (place) => ({ node_id: nodeOf(place), hour: at, last_at: at }));
  await put(resourceAlertsCollection, (place) => ({
    ...{ node_id: nodeOf(place), resource: "cpu", severity: "critical", active: true, raised_at: at, updated_at: at },
  }));
  await put(resourceAllocationsCollection, (place) => ({
    ...{ node_id: nodeOf(place), idempotency_id: nodeOf(place), created_at: at },
  }));
}

// Alerts: samples raise and clear them, one at a time, across restarts and other replicas.

import { describe, expect, test } from "vitest";
import { AlertSeverity, MetricType, type ResourceAlert } from "../../../gen/lucid/node/v1/node_service_pb.js";
import { createAlertRepository } from "../../../src/resources/alerts/repository.js";
import { StoreUnavailableError } from "../../../src/storage/collection.js";
import { historyOf } from "../../support/fleet/look.js";
import { aNode } from "../../support/world/builders.js";
import { expectRefusal } from "../../support/world/refusal.js";
import { until } from "../../support/world/until.js";
import { openClockedFleet, openClockedWorld, type World } from "../../support/world/world.js";
import { aTeller, flushedMs, tellAll } from "../samples.js";

const alertsOf = async (world: World, nodeId: string, activeOnly = false): Promise<ResourceAlert[]> =>
  (await world.nodes.listResourceAlerts({ nodeId, activeOnly, limit: 100 })).alerts;
const inWords = ({ metricType, severity, active }: ResourceAlert): string => {
  const nameOf = (names: Readonly<Record<string, unknown>>, value: number) =>
    Object.keys(names).find((name) => names[name] === value);
  return `${nameOf(MetricType, metricType)} ${nameOf(AlertSeverity, severity)} ${active ? "active" : "cleared"}`;
};
const wordsOf = async (world: World, nodeId: string) => (await alertsOf(world, nodeId)).map(inWords);
const hot = { cpu: 99 };
const warm = { cpu: 85 };
const cool = { cpu: 10 };

describe("thresholds", () => {
  test("are the defaults until set, all at once, and kept in the node's history", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const defaults = {
      cpuWarnPercent: 80,
      cpuCriticalPercent: 95,
      memoryWarnPercent: 80,
      memoryCriticalPercent: 95,
      diskWarnPercent: 80,
      diskCriticalPercent: 90,
    };
    expect((await world.nodes.getResourceThresholds({ nodeId })).thresholds).toMatchObject(defaults);
    const set = (thresholds: Partial<typeof defaults>) => world.nodes.setResourceThresholds({ nodeId, thresholds });
    const changed = { ...defaults, cpuWarnPercent: 50, diskCriticalPercent: 99.5 };
    expect((await set({ cpuWarnPercent: 50, diskCriticalPercent: 99.5 })).thresholds).toMatchObject(changed);
    await world.restart("crash");
    expect((await world.nodes.getResourceThresholds({ nodeId })).thresholds).toMatchObject(changed);
    expect((await historyOf(world, nodeId)).at(-1)).toMatchObject({
      type: "UPDATED",
      reason: "thresholds changed",
      actor: "admin-1",
    });
    expect((await set({ cpuWarnPercent: 60 })).thresholds).toMatchObject({ ...defaults, cpuWarnPercent: 60 });
  });

  test("out of range, or warn not below critical, are refused by field and change nothing", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const fields = async (thresholds: Record<string, number>) =>
      (await expectRefusal(world.nodes.setResourceThresholds({ nodeId, thresholds }), "InvalidArgument 4001")).fields;
    for (const wrong of [0, -1, 100.1, Number.NaN]) {
      expect(await fields({ memoryWarnPercent: wrong })).toEqual(["thresholds.memory_warn_percent"]);
    }
    expect(await fields({ cpuWarnPercent: 95 })).toEqual(["thresholds.cpu_warn_percent"]);
    expect(await fields({ diskWarnPercent: 50, diskCriticalPercent: 50 })).toEqual(["thresholds.disk_warn_percent"]);
    await expectRefusal(world.nodes.setResourceThresholds({ nodeId }), "InvalidArgument 4001");
    const unknown = { nodeId: "node_unknown", thresholds: {} };
    await expectRefusal(world.nodes.setResourceThresholds(unknown), "NotFound 5001");
    await expectRefusal(world.nodes.getResourceThresholds(unknown), "NotFound 5001");
    expect((await world.nodes.getNode({ nodeId })).node?.version).toBe(1n);
  });
});

describe("an alert", () => {
  test("is raised by two samples in a row, grows, shrinks, and is cleared by two", async () => {
    await using world = await openClockedWorld();
    const teller = await aTeller(world);
    const { nodeId } = teller;
    await tellAll(world, teller, [warm, cool, warm]);
    expect(await alertsOf(world, nodeId)).toEqual([]);
    await tellAll(world, teller, [warm]);
    const [raised] = await alertsOf(world, nodeId, true);
    expect(raised).toMatchObject({
      nodeId,
      metricType: MetricType.CPU,
      severity: AlertSeverity.WARN,
      valuePercent: 85,
      thresholdPercent: 80,
      active: true,
    });
    expect(raised?.alertId).toMatch(/^alert_[0-9a-hjkmnp-tv-z]{26}$/);
    expect(raised?.clearedAt).toBeUndefined();
    await tellAll(world, teller, [hot, hot]);
    expect((await alertsOf(world, nodeId)).map((alert) => [alert.alertId, inWords(alert)])).toEqual([
      [raised?.alertId, "CPU CRITICAL active"],
    ]);
    await tellAll(world, teller, [{ cpu: 76 }, { cpu: 76 }]);
    expect(await wordsOf(world, nodeId)).toEqual(["CPU WARN active"]);
    await tellAll(world, teller, [cool, cool]);
    expect(await wordsOf(world, nodeId)).toEqual(["CPU WARN cleared"]);
    expect((await alertsOf(world, nodeId))[0]?.clearedAt).toBeDefined();
    expect(await alertsOf(world, nodeId, true)).toEqual([]);
    await tellAll(world, teller, [warm, warm]);
    expect(await wordsOf(world, nodeId)).toEqual(["CPU WARN active", "CPU WARN cleared"]);
  });

  test("is not raised by one sample, however like the last one before a long silence", async () => {
    await using world = await openClockedWorld();
    const teller = await aTeller(world);
    await tellAll(world, teller, [hot]);
    await world.pass(600_000, 60_000);
    await tellAll(world, teller, [hot]);
    expect(await alertsOf(world, teller.nodeId)).toEqual([]);
    await tellAll(world, teller, [hot]);
    expect(await wordsOf(world, teller.nodeId)).toEqual(["CPU CRITICAL active"]);
  });

  test("stands for each resource by itself, under thresholds that hold from the next sample on", async () => {
    await using world = await openClockedWorld();
    const teller = await aTeller(world);
    const { nodeId } = teller;
    await tellAll(world, teller, [
      { cpu: 40, memory: 99 },
      { cpu: 40, memory: 99 },
    ]);
    expect(await wordsOf(world, nodeId)).toEqual(["MEMORY CRITICAL active"]);
    const thresholds = {
      cpuWarnPercent: 40,
      memoryWarnPercent: 99.5,
      memoryCriticalPercent: 99.9,
      diskWarnPercent: 25,
    };
    await world.nodes.setResourceThresholds({ nodeId, thresholds });
    await tellAll(world, teller, [
      { cpu: 40, memory: 50 },
      { cpu: 40, memory: 50 },
    ]);
    expect((await wordsOf(world, nodeId)).sort()).toEqual([
      "CPU WARN active",
      "DISK WARN active",
      "MEMORY CRITICAL cleared",
    ]);
  });

  test("outlives a crash, and is cleared afterwards", async () => {
    await using world = await openClockedWorld();
    const teller = await aTeller(world);
    await tellAll(world, teller, [hot, hot]);
    await world.restart("crash");
    const again = await aTeller(world, teller.nodeId);
    await tellAll(world, again, [hot, hot]);
    expect(await wordsOf(world, teller.nodeId)).toEqual(["CPU CRITICAL active"]);
    await tellAll(world, again, [cool, cool]);
    expect(await wordsOf(world, teller.nodeId)).toEqual(["CPU CRITICAL cleared"]);
  });

  test("that could not be written is raised by the next sample", async () => {
    await using world = await openClockedWorld();
    const teller = await aTeller(world);
    await tellAll(world, teller, [hot]);
    await teller.tell(hot);
    let refused = 0;
    world.beforeStore(async (operation) => {
      if (operation !== "insertOne") return;
      refused++;
      throw new StoreUnavailableError("away");
    });
    await world.pass(flushedMs);
    world.beforeStore(undefined);
    expect(refused).toBeGreaterThan(0);
    expect(await wordsOf(world, teller.nodeId)).toEqual([]);
    await tellAll(world, teller, [hot]);
    expect(await wordsOf(world, teller.nodeId)).toEqual(["CPU CRITICAL active"]);
  });

  test("of a node that is deleted is cleared, by a replica that died before it could, too", async () => {
    await using world = await openClockedWorld({ settings: { RESOURCE_CLEANUP_INTERVAL: "5" } });
    const alerts = await createAlertRepository(world.store);
    const raised = async (nodeId: string) => {
      const now = world.clock.now();
      const dates = { raised_at: now, updated_at: now };
      const figures = { value_percent: 99, threshold_percent: 95, severity: "critical", resource: "cpu" } as const;
      await alerts.raise({ _id: `alert_${nodeId}`, node_id: nodeId, active: true, ...figures, ...dates });
    };
    const { nodeId } = await aNode(world.nodes);
    await raised(nodeId);
    await raised("node_gone_long_ago");
    await world.nodes.deleteNode({ nodeId });
    await world.pass(10_000);
    expect((await alerts.active()).items).toEqual([]);
    const { alerts: all } = await world.nodes.listResourceAlerts({});
    expect(all.map(inWords)).toEqual(["CPU CRITICAL cleared", "CPU CRITICAL cleared"]);
  });

  test("is counted by severity, and deleted when it was cleared longer ago than retention", async () => {
    await using world = await openClockedWorld({
      settings: { RESOURCE_CLEANUP_INTERVAL: "5", RESOURCE_RETENTION_DAYS: "1" },
    });
    const teller = await aTeller(world);
    const count = (severity: string) => world.count("lucid_node_management_resource_alerts_active", { severity });
    await tellAll(world, teller, [
      { ...hot, memory: 85 },
      { ...hot, memory: 85 },
    ]);
    await world.pass(6_000);
    expect([await count("warn"), await count("critical")]).toEqual([1, 1]);
    await tellAll(world, teller, [cool, cool]);
    await world.pass(6_000);
    expect([await count("warn"), await count("critical")]).toEqual([0, 0]);
    const alerts = await createAlertRepository(world.store);
    const ago = new Date(world.clock.now().getTime() - 86_400_001);
    const figures = { value_percent: 99, threshold_percent: 95, severity: "critical", resource: "disk" } as const;
    const dates = { raised_at: ago, updated_at: ago, cleared_at: ago };
    await alerts.raise({ _id: "alert_old", node_id: teller.nodeId, ...figures, ...dates });
    expect(await wordsOf(world, teller.nodeId)).toHaveLength(3);
    await world.pass(6_000);
    expect((await wordsOf(world, teller.nodeId)).sort()).toEqual(["CPU CRITICAL cleared", "MEMORY WARN cleared"]);
  });
});

describe("two replicas", () => {
  test("raise one alert between them; the one that takes the node over clears what the other raised", async () => {
    await using fleet = await openClockedFleet(2);
    const [one, two] = fleet.replicas as [World, World];
    const teller = await aTeller(one);
    const { nodeId } = teller;
    const tell = async (world: World, from: typeof teller, cpu: number) => {
      await from.tell({ cpu });
      await fleet.pass(flushedMs);
      return wordsOf(world, nodeId);
    };
    await tell(one, teller, 99);
    expect(await tell(one, teller, 99)).toEqual(["CPU CRITICAL active"]);
    const moved = await aTeller(two, nodeId);
    await until(() => teller.stream.end !== undefined, "the older stream ends");
    await tell(two, moved, 99);
    expect(await tell(two, moved, 99)).toEqual(["CPU CRITICAL active"]);
    await tell(two, moved, 10);
    expect(await tell(two, moved, 10)).toEqual(["CPU CRITICAL cleared"]);
    // Thresholds that were set on one replica hold on the other.
    await one.nodes.setResourceThresholds({ nodeId, thresholds: { cpuWarnPercent: 5 } });
    await fleet.pass(2_000);
    await tell(two, moved, 10);
    expect(await tell(two, moved, 10)).toEqual(["CPU WARN active", "CPU CRITICAL cleared"]);
  });
});

describe("the list of alerts", () => {
  test("is paged newest first, by node or over all, active ones or all, and a token serves its own filters only", async () => {
    await using world = await openClockedWorld();
    const alerts = await createAlertRepository(world.store);
    const nodeIds = [(await aNode(world.nodes)).nodeId, (await aNode(world.nodes)).nodeId];
    const startMs = world.clock.now().getTime();
    for (let place = 0; place < 30; place++) {
      const at = new Date(startMs - place * 1000);
      const state = place < 2 ? { active: true as const } : { cleared_at: at };
      const figures = { value_percent: 99, threshold_percent: 95, severity: "critical", resource: "cpu" } as const;
      const dates = { raised_at: at, updated_at: at };
      const node_id = nodeIds[place % 2] ?? "";
      await alerts.raise({ _id: `alert_${String(place).padStart(2, "0")}`, node_id, ...figures, ...dates, ...state });
    }
    const idsOf = (list: readonly ResourceAlert[]) => list.map(({ alertId }) => Number(alertId.slice(6)));
    const range = (from: number, to: number, step = 1) =>
      Array.from({ length: Math.ceil((to - from) / step) }, (_, place) => from + place * step);
    const first = await world.nodes.listResourceAlerts({ limit: 12 });
    expect(idsOf(first.alerts)).toEqual(range(0, 12));
    expect(first.pagination).toMatchObject({ total: 30, pages: 3, page: 1 });
    const pageToken = first.pagination?.nextPageToken ?? "";
    const second = await world.nodes.listResourceAlerts({
      limit: 12,
      position: { case: "pageToken", value: pageToken },
    });
    expect(idsOf(second.alerts)).toEqual(range(12, 24));
    const ofNode = await world.nodes.listResourceAlerts({ nodeId: nodeIds[1] ?? "", limit: 100 });
    expect(idsOf(ofNode.alerts)).toEqual(range(1, 30, 2));
    expect(idsOf((await world.nodes.listResourceAlerts({ activeOnly: true })).alerts)).toEqual([0, 1]);
    expect(idsOf(await alertsOf(world, nodeIds[1] ?? "", true))).toEqual([1]);
    const stolen = { activeOnly: true, position: { case: "pageToken", value: pageToken } } as const;
    await expectRefusal(world.nodes.listResourceAlerts(stolen), "InvalidArgument 4001");
    await expectRefusal(world.nodes.listResourceAlerts({ nodeId: "node_unknown" }), "NotFound 5001");
    const self = world.as(await world.nodeToken(nodeIds[0] ?? ""));
    await expectRefusal(self.nodes.listResourceAlerts({}), "PermissionDenied 4031");
    expect((await self.nodes.listResourceAlerts({ nodeId: nodeIds[0] ?? "" })).alerts).toHaveLength(15);
  });
});

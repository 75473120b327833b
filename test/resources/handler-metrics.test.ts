// Metrics of nodes: beats report them, outages and restarts keep them, and a naive computation confirms their buckets.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  Granularity,
  MetricType,
  type ResourceFigures,
  type ResourceMetricPoint,
  TimeRange,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import { createResourceRepository } from "../../src/resources/samples/repository.js";
import type { Point } from "../../src/resources/samples/sample.js";
import { onProductionEngines } from "../support/engines/engines.js";
import { aNode } from "../support/world/builders.js";
import { expectRefusal } from "../support/world/refusal.js";
import { type ClockedWorld, openClockedWorld } from "../support/world/world.js";
import { figuresOf, naiveBuckets } from "./samples/naive.js";
import { aTeller, aWeek, flushedMs, metricsOf, tellAll, timeOf } from "./samples.js";

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const dated = (ms: number) => timestampFromDate(new Date(ms));

let world: ClockedWorld;
beforeAll(async () => {
  world = await openClockedWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

const closeTo = (found: number | undefined, expected: number) =>
  expect(Math.abs((found ?? Number.NaN) - expected)).toBeLessThanOrEqual(Math.abs(expected) * 1e-9 + 1e-9);

/** Expects the same figures; averages may differ by the order in which floats were added. */
function sameFigures(
  found: Pick<ResourceFigures, "min" | "avg" | "max" | "last"> | undefined,
  naive: ReturnType<typeof figuresOf>,
) {
  expect(found === undefined).toBe(naive === undefined);
  if (found === undefined || naive === undefined) return;
  expect({ min: found.min, max: found.max, last: found.last }).toEqual({
    min: naive.min,
    max: naive.max,
    last: naive.last,
  });
  closeTo(found.avg, naive.avg);
}

describe("a week of samples", () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  let nodeId: string;
  let points: Point[];
  let nowMs: number;

  beforeAll(async () => {
    ({ nodeId } = await aNode(world.nodes));
    nowMs = world.clock.now().getTime();
    // One point a minute, or a tenth of them where the stand-in for MongoDB would take minutes to write so many.
    points = aWeek(seed, world.clock.now(), onProductionEngines ? 10 : 1);
    const resources = await createResourceRepository(world.store, 120);
    // The points of an hour are written one after the other, as beats bring them; the hours are written in parallel.
    const hours = Map.groupBy(points, ({ at }) => Math.floor(at / hour));
    await Promise.all(
      [...hours.values()].map(async (inHour) => {
        for (const point of inHour) await resources.append([{ nodeId, point }]);
      }),
    );
  }, 300_000);

  const between = (fromMs: number, toMs: number) => points.filter(({ at }) => at >= fromMs && at < toMs);

  test.each<[string, TimeRange, number, number]>([
    ["1H", TimeRange.TIME_RANGE_1H, hour, minute],
    ["6H", TimeRange.TIME_RANGE_6H, 6 * hour, 5 * minute],
    ["24H", TimeRange.TIME_RANGE_24H, day, 15 * minute],
    ["7D", TimeRange.TIME_RANGE_7D, 7 * day, hour],
  ])(
    `GetNodeResources over %s says what a naive computation says (seed ${seed})`,
    async (_, timeRange, spanMs, bucketMs) => {
      const answer = await world.nodes.getNodeResources({ nodeId, timeRange });
      const fromMs = Math.floor((nowMs - spanMs) / bucketMs) * bucketMs;
      const inside = between(fromMs, nowMs);
      const expected = naiveBuckets(inside, bucketMs);
      expect(answer).toMatchObject({ nodeId, timeRange });
      expect(answer.metrics.map(({ at, count }) => [timeOf(at), count])).toEqual(
        expected.map(({ at, points: { length } }) => [at, length]),
      );
      for (const [place, point] of answer.metrics.entries()) {
        const naive = expected[place];
        closeTo(point.cpuPercent, naive?.of("cpu")?.avg ?? 0);
        closeTo(point.memoryUsedBytes, naive?.of("mem")?.avg ?? 0);
        closeTo(point.diskUsedBytes, naive?.of("disk")?.avg ?? 0);
        expect(point).toMatchObject({ memoryTotalBytes: 16e9, diskTotalBytes: 1e12 });
        const [rx, tx] = [naive?.of("rx"), naive?.of("tx")];
        expect(point.networkRxBytesPerSecond === undefined).toBe(rx === undefined);
        if (rx !== undefined) closeTo(point.networkRxBytesPerSecond, rx.avg);
        if (tx !== undefined) closeTo(point.networkTxBytesPerSecond, tx.avg);
      }
      expect(answer.summary?.count).toBe(inside.length);
      sameFigures(answer.summary?.cpuPercent, figuresOf(inside, "cpu"));
      sameFigures(answer.summary?.memoryUsedBytes, figuresOf(inside, "mem"));
      sameFigures(answer.summary?.diskUsedBytes, figuresOf(inside, "disk"));
      sameFigures(answer.summary?.networkRxBytesPerSecond, figuresOf(inside, "rx"));
      sameFigures(answer.summary?.networkTxBytesPerSecond, figuresOf(inside, "tx"));
    },
  );

  const granularities: [string, Granularity, number, number][] = [
    ["1M over 6.9 days", Granularity.GRANULARITY_1M, minute, 6.9 * day],
    ["5M over the week", Granularity.GRANULARITY_5M, 5 * minute, 7 * day],
    ["15M over the week", Granularity.GRANULARITY_15M, 15 * minute, 7 * day],
    ["1H over the week", Granularity.GRANULARITY_1H, hour, 7 * day],
    ["1M over 7 minutes and a bit", Granularity.GRANULARITY_1M, minute, 7.4 * minute],
  ];
  const types = [
    ["cpu", MetricType.CPU],
    ["mem", MetricType.MEMORY],
    ["disk", MetricType.DISK],
    ["rx", MetricType.NETWORK],
  ] as const;
  const totals = { cpu: undefined, mem: 16e9, disk: 1e12, rx: undefined } as const;

  test.each(granularities)(
    `GetResourceMetrics by %s says what a naive computation says (seed ${seed})`,
    async (_, granularity, bucketMs, spanMs) => {
      const startMs = nowMs - spanMs;
      const fromMs = Math.floor(startMs / bucketMs) * bucketMs;
      for (const [name, metricType] of types) {
        const request = { nodeId, metricType, granularity, startTime: dated(startMs), endTime: dated(nowMs) };
        const answer = await world.nodes.getResourceMetrics(request);
        const expected = naiveBuckets(between(fromMs, nowMs), bucketMs).filter(({ of }) => of(name) !== undefined);
        expect(answer.points.map(({ at, count, total }: ResourceMetricPoint) => [timeOf(at), count, total])).toEqual(
          expected.map(({ at, of }) => [at, of(name)?.count, totals[name]]),
        );
        for (const [place, point] of answer.points.entries()) {
          sameFigures(point, expected[place]?.of(name));
          sameFigures(point.sent, name === "rx" ? expected[place]?.of("tx") : undefined);
        }
      }
    },
  );

  test("answers the last hour by 5 minutes unless asked for more", async () => {
    const answer = await world.nodes.getResourceMetrics({ nodeId, metricType: MetricType.CPU });
    expect(answer).toMatchObject({ granularity: Granularity.GRANULARITY_5M, metricType: MetricType.CPU });
    const inside = naiveBuckets(between(nowMs - hour, nowMs), 5 * minute);
    expect(answer.points.map(({ at }) => timeOf(at))).toEqual(inside.map(({ at }) => at));
    const { timeRange } = await world.nodes.getNodeResources({ nodeId });
    expect(timeRange).toBe(TimeRange.TIME_RANGE_1H);
  });

  test("written once more, as after an answer that was lost, says the same", async () => {
    const resources = await createResourceRepository(world.store, 120);
    const before = await world.nodes.getNodeResources({ nodeId, timeRange: TimeRange.TIME_RANGE_7D });
    const minutes = await world.nodes.getNodeResources({ nodeId });
    for (const point of points.slice(-70)) await resources.append([{ nodeId, point }]);
    expect(await world.nodes.getNodeResources({ nodeId, timeRange: TimeRange.TIME_RANGE_7D })).toEqual(before);
    expect(await world.nodes.getNodeResources({ nodeId })).toEqual(minutes);
  });
});

describe("a query that cannot be answered", () => {
  const ask = async (tweaks: { granularity?: Granularity; startMs?: number; endMs?: number; nodeId?: string }) => {
    const { nodeId } = tweaks.nodeId === undefined ? await aNode(world.nodes) : { nodeId: tweaks.nodeId };
    const { granularity = Granularity.GRANULARITY_1M, startMs, endMs } = tweaks;
    return world.nodes.getResourceMetrics({
      nodeId,
      metricType: MetricType.CPU,
      granularity,
      ...(startMs === undefined ? {} : { startTime: dated(startMs) }),
      ...(endMs === undefined ? {} : { endTime: dated(endMs) }),
    });
  };
  const fieldsOf = async (call: Promise<unknown>) => (await expectRefusal(call, "InvalidArgument 4001")).fields;
  const now = () => world.clock.now().getTime();

  test("for more than 10,000 points is refused and says what would fit; the most is answered", async () => {
    const refusal = await expectRefusal(ask({ startMs: now() - 10_001 * minute }), "InvalidArgument 4001");
    expect(refusal.fields).toEqual(["granularity"]);
    expect(refusal.message).toMatch(/10001 .* 10000.*166 hours/);
    await ask({ startMs: now() - 10_000 * minute });
    expect(await fieldsOf(ask({ startMs: 0, granularity: Granularity.GRANULARITY_1H }))).toEqual(["granularity"]);
  });

  test("that ends before it starts, or in the future, is refused", async () => {
    expect(await fieldsOf(ask({ startMs: now(), endMs: now() }))).toEqual(["start_time"]);
    expect(await fieldsOf(ask({ startMs: now() - 1, endMs: now() - 2 }))).toEqual(["start_time"]);
    expect(await fieldsOf(ask({ endMs: now() + 61_000 }))).toEqual(["end_time"]);
    await ask({ endMs: now() + 59_000 });
  });

  test("finer than an hour for what is older than retention is refused; by the hour it is answered", async () => {
    const old = { startMs: now() - 92 * day, endMs: now() - 91.9 * day };
    expect(await fieldsOf(ask(old))).toEqual(["start_time"]);
    expect((await ask({ ...old, granularity: Granularity.GRANULARITY_1H })).points).toEqual([]);
  });

  test("of an unknown node is 5001; without a metric, or with an unknown one, 4001", async () => {
    await expectRefusal(ask({ nodeId: "node_unknown" }), "NotFound 5001");
    await expectRefusal(world.nodes.getNodeResources({ nodeId: "node_unknown" }), "NotFound 5001");
    const { nodeId } = await aNode(world.nodes);
    expect(await fieldsOf(world.nodes.getResourceMetrics({ nodeId }))).toEqual(["metric_type"]);
    expect(await fieldsOf(world.nodes.getResourceMetrics({ nodeId, metricType: 9 as MetricType }))).toEqual([
      "metric_type",
    ]);
    expect(await fieldsOf(world.nodes.getNodeResources({ nodeId, timeRange: 9 as TimeRange }))).toEqual(["time_range"]);
  });
});

describe("a node's samples", () => {
  const memory = (percent: number) => percent * 1e8;

  test("show with rates between them, and a restart of the machine has none", async () => {
    const teller = await aTeller(world);
    await tellAll(world, teller, [
      { cpu: 10, memory: 20, rx: 1_000n, tx: 50n },
      { cpu: 30, memory: 40, rx: 1_000n + 6_000n, tx: 50n + 600n },
      { cpu: 20, memory: 30, rx: 5n, tx: 5n },
    ]);
    const { summary, metrics } = await world.nodes.getNodeResources({ nodeId: teller.nodeId });
    expect(summary).toMatchObject({
      count: 3,
      cpuPercent: { min: 10, avg: 20, max: 30, last: 20 },
      memoryUsedBytes: { min: memory(20), avg: memory(30), max: memory(40), last: memory(30) },
      memoryTotalBytes: 1e10,
      networkRxBytesPerSecond: { min: 1_000, avg: 1_000, max: 1_000, last: 1_000 },
      networkTxBytesPerSecond: { min: 100, max: 100 },
    });
    expect(metrics.reduce((sum, { count }) => sum + count, 0)).toBe(3);
  });

  test("by unary reports show, too", async () => {
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    await nodes.reportHeartbeat({ nodeId, bootId: "one", beat: { sequence: 1n, metrics: metricsOf({ cpu: 42 }) } });
    await world.pass(flushedMs);
    expect((await nodes.getNodeResources({ nodeId })).summary?.cpuPercent?.last).toBe(42);
  });

  test("that come too often are left out, and counted", async () => {
    const teller = await aTeller(world);
    const [taken, dropped] = ["samples_total", "samples_dropped_total"].map(
      (name) => `lucid_node_management_resource_${name}`,
    );
    const before = [await world.count(taken ?? ""), await world.count(dropped ?? "")];
    for (let cpu = 1; cpu <= 5; cpu++) await teller.tell({ cpu });
    await world.pass(flushedMs);
    expect((await world.nodes.getNodeResources({ nodeId: teller.nodeId })).summary).toMatchObject({
      count: 1,
      cpuPercent: { last: 1 },
    });
    expect([await world.count(taken ?? ""), await world.count(dropped ?? "")]).toEqual([
      (before[0] ?? 0) + 1,
      (before[1] ?? 0) + 4,
    ]);
  });

  test("that are no numbers, negative or above the whole are refused, and leave nothing", async () => {
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    const fine = metricsOf({});
    const bad = [
      ["cpu_percent", { cpuPercent: Number.NaN }],
      ["cpu_percent", { cpuPercent: Number.POSITIVE_INFINITY }],
      ["cpu_percent", { cpuPercent: -1 }],
      ["cpu_percent", { cpuPercent: 100.1 }],
      ["memory_used_bytes", { memoryUsedBytes: -1n }],
      ["disk_total_bytes", { diskTotalBytes: -1n }],
      ["network_rx_bytes", { networkRxBytes: -1n }],
    ] as const;
    for (const [field, wrong] of bad) {
      const beat = { sequence: 1n, metrics: { ...fine, ...wrong } };
      const unary = await expectRefusal(nodes.reportHeartbeat({ nodeId, bootId: "one", beat }), "InvalidArgument 4001");
      expect(unary.fields).toEqual([`beat.metrics.${field}`]);
      const { stream } = await aTeller(world);
      stream.send({ message: { case: "beat", value: beat } });
      expect((await stream.ended())?.rawMessage).toContain(field);
    }
    await world.pass(flushedMs);
    expect(await nodes.getNodeResources({ nodeId })).toMatchObject({ metrics: [], allocations: [] });
  });

  test("with more in use than there is are refused, and leave nothing; a total of 0 is unknown", async () => {
    const { nodeId } = await aNode(world.nodes);
    const { nodes } = world.as(await world.nodeToken(nodeId));
    const fine = metricsOf({});
    const most = 2n ** 63n - 1n;
    const bad = [
      ["memory", { memoryUsedBytes: fine.memoryTotalBytes + 1n }],
      ["memory", { memoryUsedBytes: most, memoryTotalBytes: 1n }],
      ["disk", { diskUsedBytes: fine.diskTotalBytes + 1n }],
      ["disk", { diskUsedBytes: most, diskTotalBytes: most - 1n }],
    ] as const;
    for (const [name, wrong] of bad) {
      const beat = { sequence: 1n, metrics: { ...fine, ...wrong } };
      const unary = await expectRefusal(nodes.reportHeartbeat({ nodeId, bootId: "one", beat }), "InvalidArgument 4001");
      expect(unary.fields).toEqual(["beat.metrics"]);
      const { stream } = await aTeller(world);
      stream.send({ message: { case: "beat", value: beat } });
      expect((await stream.ended())?.rawMessage).toContain(`${name}_used_bytes`);
    }
    await world.pass(flushedMs);
    expect(await nodes.getNodeResources({ nodeId })).toMatchObject({ metrics: [], allocations: [] });
    const unknown = { ...fine, diskUsedBytes: 5n, diskTotalBytes: 0n, memoryUsedBytes: fine.memoryTotalBytes };
    await nodes.reportHeartbeat({ nodeId, bootId: "one", beat: { sequence: 1n, metrics: unknown } });
    await world.pass(flushedMs);
    const { summary } = await nodes.getNodeResources({ nodeId });
    expect(summary).toMatchObject({ memoryUsedBytes: { last: Number(fine.memoryTotalBytes) }, diskTotalBytes: 0 });
    expect(summary?.diskUsedBytes).toBeUndefined();
  });

  test("that know a total now and then keep the one that they told", async () => {
    const teller = await aTeller(world);
    const fine = metricsOf({});
    const blind = { ...fine, diskUsedBytes: 0n, diskTotalBytes: 0n };
    for (const metrics of [blind, fine, blind]) {
      await teller.stream.beat(undefined, metrics);
      await world.pass(flushedMs);
    }
    const { nodeId } = teller;
    const told = { diskUsedBytes: { last: Number(fine.diskUsedBytes), min: Number(fine.diskUsedBytes) } };
    const total = { diskTotalBytes: Number(fine.diskTotalBytes) };
    expect((await world.nodes.getNodeResources({ nodeId })).summary).toMatchObject({ count: 3, ...told, ...total });
    const hours = await world.nodes.getNodeResources({ nodeId, timeRange: TimeRange.TIME_RANGE_7D });
    expect(hours.summary).toMatchObject({ count: 3, ...told, ...total });
  });

  test("as large as the wire carries are kept", async () => {
    const teller = await aTeller(world);
    const most = 2n ** 63n - 1n;
    const metrics = { ...metricsOf({}), diskUsedBytes: most, diskTotalBytes: most };
    await teller.stream.beat(undefined, metrics);
    await world.pass(flushedMs);
    await teller.stream.beat(undefined, metrics);
    await world.pass(flushedMs);
    const { summary } = await world.nodes.getNodeResources({ nodeId: teller.nodeId });
    expect(summary?.diskUsedBytes).toMatchObject({ max: Number(most), avg: Number(most) });
  });

  test("are the node's own to read, and nobody else's", async () => {
    const [one, other] = [await aNode(world.nodes), await aNode(world.nodes)];
    const { nodes } = world.as(await world.nodeToken(one.nodeId));
    await nodes.getNodeResources({ nodeId: one.nodeId });
    await expectRefusal(nodes.getNodeResources({ nodeId: other.nodeId }), "PermissionDenied 4031");
    const cpu = { nodeId: one.nodeId, metricType: MetricType.CPU };
    await expectRefusal(nodes.getResourceMetrics(cpu), "PermissionDenied 4031");
  });
});

describe("samples that wait", () => {
  test("cost the store nothing by themselves, and are written together", async () => {
    await using own = await openClockedWorld();
    const tellers = await Promise.all([aTeller(own), aTeller(own), aTeller(own)]);
    // After this the writes that opened the sessions are done.
    await own.pass(2_000);
    const written: string[] = [];
    own.beforeStore(async (operation) => void written.push(operation));
    for (const teller of tellers) await teller.tell({});
    expect(written.filter((operation) => operation !== "findOne" && operation !== "now")).toEqual([]);
    own.beforeStore(undefined);
    await own.pass(flushedMs);
    for (const { nodeId } of tellers) expect((await own.nodes.getNodeResources({ nodeId })).summary?.count).toBe(1);
  });

  test("are written at shutdown", async () => {
    await using own = await openClockedWorld();
    const teller = await aTeller(own);
    await teller.tell({ cpu: 77 });
    await own.restart("stop");
    const { summary } = await own.nodes.getNodeResources({ nodeId: teller.nodeId });
    expect(summary).toMatchObject({ count: 1, cpuPercent: { last: 77 } });
  });

  test("outlast a store that is away, in order and once each", async () => {
    await using own = await openClockedWorld({ settings: { NODE_HEARTBEAT_INTERVAL: "60" } });
    const teller = await aTeller(own);
    own.storeAway(true);
    for (const cpu of [1, 2, 3, 4]) {
      await teller.tell({ cpu });
      await own.pass(flushedMs);
    }
    own.storeAway(false);
    await own.pass(flushedMs);
    const { summary } = await own.nodes.getNodeResources({ nodeId: teller.nodeId });
    expect(summary).toMatchObject({ count: 4, cpuPercent: { min: 1, avg: 2.5, max: 4, last: 4 } });
  });
});

describe("retention", () => {
  test("takes points away after RESOURCE_RETENTION_DAYS, and hours after a year", async () => {
    await using own = await openClockedWorld({
      settings: { RESOURCE_RETENTION_DAYS: "2", RESOURCE_CLEANUP_INTERVAL: "5" },
    });
    const { nodeId } = await aNode(own.nodes);
    const resources = await createResourceRepository(own.store, 120);
    const nowMs = own.clock.now().getTime();
    const ages = [0, 1.9, 2.1, 364, 366].map((days) => Math.round(days * day));
    const point = (at: number): Point => ({ at, cpu: 1, mem: 1, mem_total: 1, disk: 1, disk_total: 1 });
    for (const age of ages) await resources.append([{ nodeId, point: point(nowMs - age) }]);
    await own.pass(10_000);
    const left = async (bucketMs: number) =>
      (await resources.read(nodeId, bucketMs, nowMs - 400 * day, nowMs + hour)).map(({ lastAt }) => nowMs - lastAt);
    expect(await left(5 * minute)).toEqual([1.9 * day, 0]);
    expect(await left(hour)).toEqual([364 * day, 2.1 * day, 1.9 * day, 0]);
  });
});

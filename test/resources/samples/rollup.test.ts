// Buckets of points equal those of a naive computation over the same points, whatever gaps there are.
import { describe, expect, test } from "vitest";
import type { Sample } from "../../../src/nodes/sessions/session.js";
import {
  averageOf,
  createRollup,
  floorTo,
  hourMs,
  metricNames,
  minuteMs,
  summaryOf,
} from "../../../src/resources/samples/rollup.js";
import { type Point, toPoint } from "../../../src/resources/samples/sample.js";
import { randomFrom } from "../../support/world/random.js";
import { naiveBuckets } from "./naive.js";

const start = Date.UTC(2026, 0, 1, 10, 0, 0);
const aPoint = (at: number, tweaks: Partial<Point> = {}): Point => ({
  at,
  cpu: 10,
  mem: 4,
  mem_total: 16,
  disk: 5,
  disk_total: 50,
  ...tweaks,
});

/** Points about a minute apart, with stretches of silence, and some without rates. */
function somePoints(seed: number, count: number): Point[] {
  const random = randomFrom(seed);
  let at = start + Math.floor(random() * hourMs);
  return Array.from({ length: count }, () => {
    at += random() < 0.02 ? Math.floor(random() * 4 * hourMs) : 30_000 + Math.floor(random() * minuteMs);
    const rates = random() < 0.1 ? {} : { rx: random() * 1e9, tx: random() * 1e6 };
    return aPoint(at, { cpu: random() * 100, mem: Math.floor(random() * 16e9), disk: random() * 1e12, ...rates });
  });
}

const rolledUp = (points: readonly Point[], bucketMs: number) => {
  const rollup = createRollup(bucketMs);
  for (const point of points) rollup.addPoint(point);
  return rollup.buckets();
};

describe("a rollup", () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

  test.each([1, 5, 15, 60])(
    `says what a naive computation says, in buckets of %i minutes (seed ${seed})`,
    (minutes) => {
      const bucketMs = minutes * minuteMs;
      for (let round = 0; round < 5; round++) {
        const points = somePoints(seed + round, 300);
        const buckets = rolledUp(points, bucketMs);
        const expected = naiveBuckets(points, bucketMs);
        expect(buckets.map(({ at }) => at)).toEqual(expected.map(({ at }) => at));
        for (const [place, { of }] of expected.entries()) {
          for (const name of metricNames) {
            const found = buckets[place]?.figures[name];
            const naive = of(name);
            expect(found === undefined).toBe(naive === undefined);
            if (found === undefined || naive === undefined) continue;
            expect(found).toMatchObject({ count: naive.count, min: naive.min, max: naive.max, last: naive.last });
            expect(averageOf(found)).toBeCloseTo(naive.avg, 4);
          }
        }
      }
    },
  );

  test("of rollups is the rollup of their points, in whatever order they come", () => {
    const points = somePoints(seed, 500);
    const byMinute = rolledUp(points, minuteMs);
    const shuffled = createRollup(hourMs);
    for (const bucket of [...byMinute].reverse()) shuffled.add(bucket);
    const direct = rolledUp(points, hourMs);
    for (const [place, bucket] of shuffled.buckets().entries()) {
      const { figures, ...rest } = bucket;
      expect({ ...rest, at: floorTo(bucket.at, hourMs) }).toEqual({
        at: direct[place]?.at,
        lastAt: direct[place]?.lastAt,
        memTotal: 16,
        diskTotal: 50,
      });
      expect(figures.cpu).toMatchObject({
        count: direct[place]?.figures.cpu?.count,
        min: direct[place]?.figures.cpu?.min,
        max: direct[place]?.figures.cpu?.max,
        last: direct[place]?.figures.cpu?.last,
      });
    }
  });

  test("puts a point at the edge into the bucket that begins there", () => {
    const points = [aPoint(start - 1, { cpu: 1 }), aPoint(start, { cpu: 2 }), aPoint(start + hourMs - 1, { cpu: 3 })];
    const buckets = rolledUp(points, hourMs);
    expect(buckets.map(({ at, figures }) => [at, figures.cpu?.last])).toEqual([
      [start - hourMs, 1],
      [start, 3],
    ]);
  });

  test("of one point is that point, and of none is nothing", () => {
    const point = aPoint(start, { cpu: 7 });
    expect(rolledUp([point], hourMs)[0]?.figures.cpu).toEqual({ count: 1, sum: 7, min: 7, max: 7, last: 7 });
    expect(rolledUp([], hourMs)).toEqual([]);
    expect(summaryOf([])).toBeUndefined();
  });

  test("keeps the latest value as the last one, though it comes first", () => {
    const [later, earlier] = [aPoint(start + 9, { cpu: 1, mem_total: 32 }), aPoint(start, { cpu: 2 })];
    const summary = summaryOf([later, earlier].flatMap((point) => rolledUp([point], 1)));
    expect(summary).toMatchObject({ lastAt: start + 9, memTotal: 32, figures: { cpu: { last: 1, min: 1, max: 2 } } });
  });
});

describe("a sample", () => {
  const aSample = (rx: bigint, tx: bigint): Sample => ({
    cpuPercent: 1,
    memoryUsedBytes: 1n,
    memoryTotalBytes: 2n,
    diskUsedBytes: 3n,
    diskTotalBytes: 4n,
    networkRxBytes: rx,
    networkTxBytes: tx,
  });
  const rates = (sample: Sample, nowMs: number, former?: { atMs: number; rx: bigint; tx: bigint }) => {
    const { rx, tx } = toPoint(sample, new Date(start), nowMs, former);
    return rx === undefined && tx === undefined ? undefined : [rx, tx];
  };

  test("has rates per second beside a former one", () => {
    expect(rates(aSample(70_000n, 1_000n), 90_000, { atMs: 30_000, rx: 10_000n, tx: 1_000n })).toEqual([1_000, 0]);
  });

  test("has none alone, after a restart of the machine, at the same time and after a long silence", () => {
    const sample = aSample(100n, 100n);
    expect(rates(sample, 1_000)).toBeUndefined();
    expect(rates(sample, 1_000, { atMs: 0, rx: 101n, tx: 0n })).toBeUndefined();
    expect(rates(sample, 1_000, { atMs: 0, rx: 0n, tx: 101n })).toBeUndefined();
    expect(rates(sample, 1_000, { atMs: 1_000, rx: 0n, tx: 0n })).toBeUndefined();
    expect(rates(sample, 900_001, { atMs: 0, rx: 0n, tx: 0n })).toBeUndefined();
    expect(rates(sample, 900_000, { atMs: 0, rx: 10n, tx: 10n })).toEqual([0.1, 0.1]);
  });
});

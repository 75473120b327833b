// Buckets as one would compute them on paper: each from the list of its points.
import type { Point } from "../../../src/resources/samples/sample.js";

type Name = "cpu" | "mem" | "disk" | "rx" | "tx";

export interface NaiveBucket {
  readonly at: number;
  readonly points: readonly Point[];
  of(name: Name): { count: number; min: number; avg: number; max: number; last: number } | undefined;
}

/** The points must be in the order of time. */
export function naiveBuckets(points: readonly Point[], bucketMs: number): NaiveBucket[] {
  const groups = Map.groupBy(points, ({ at }) => at - (at % bucketMs));
  return [...groups].map(([at, inside]) => ({ at, points: inside, of: (name) => figuresOf(inside, name) }));
}

export function figuresOf(points: readonly Point[], name: Name) {
  const values = points.map((point) => point[name]).filter((value) => value !== undefined);
  const [first] = values;
  if (first === undefined) return undefined;
  return {
    count: values.length,
    min: Math.min(...values),
    avg: values.reduce((sum, value) => sum + value, 0) / values.length,
    max: Math.max(...values),
    last: values.at(-1) ?? first,
  };
}

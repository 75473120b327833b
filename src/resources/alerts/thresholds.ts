// From which use on a node raises alerts, and when they are raised and cleared. Pure.
import type { ThresholdSettings } from "../../nodes/node.js";
import type { Point } from "../samples/sample.js";

export const watchedNames = ["cpu", "memory", "disk"] as const;
export type Watched = (typeof watchedNames)[number];
export type Severity = "warn" | "critical";

export interface Pair {
  readonly warn: number;
  readonly critical: number;
}
export type Thresholds = Readonly<Record<Watched, Pair>>;

const defaults: Thresholds = {
  cpu: { warn: 80, critical: 95 },
  memory: { warn: 80, critical: 95 },
  disk: { warn: 80, critical: 90 },
};
/** An alert is cleared only this far below its threshold, so that use that hovers there raises one alert and not many. */
const hysteresisPoints = 5;

/** What holds, defaults filled in. */
export function thresholdsOf(settings: ThresholdSettings | undefined): Thresholds {
  const pair = (name: Watched): Pair => ({
    warn: settings?.[`${name}_warn_percent`] ?? defaults[name].warn,
    critical: settings?.[`${name}_critical_percent`] ?? defaults[name].critical,
  });
  return { cpu: pair("cpu"), memory: pair("memory"), disk: pair("disk") };
}

/** Fields that cannot stand together with the others, defaults filled in. */
export function thresholdProblems(settings: ThresholdSettings): { field: string; description: string }[] {
  const holding = thresholdsOf(settings);
  return watchedNames.flatMap((name) => {
    const { warn, critical } = holding[name];
    if (warn < critical) return [];
    const field = `thresholds.${name}_warn_percent`;
    return [{ field, description: `must be below ${name}_critical_percent: ${warn} is not below ${critical}` }];
  });
}

/** Use in percent of what there is; undefined where the node did not tell how much there is. */
export function percentOf(name: Watched, point: Point): number | undefined {
  if (name === "cpu") return point.cpu;
  const [used, total] = name === "memory" ? [point.mem, point.mem_total] : [point.disk, point.disk_total];
  return used !== undefined && total > 0 ? (used / total) * 100 : undefined;
}

/**
 * The severity after a sample, undefined for none: raised where two samples in a row are at or above a threshold, lowered
 * where two in a row are more than 5 points below it.
 */
export function severityAfter(
  severity: Severity | undefined,
  previous: number | undefined,
  value: number,
  { warn, critical }: Pair,
): Severity | undefined {
  if (previous === undefined) return severity;
  const low = Math.min(previous, value);
  const high = Math.max(previous, value);
  if (low >= critical) return "critical";
  if (severity === "critical" && high >= critical - hysteresisPoints) return "critical";
  if (low >= warn) return "warn";
  return severity !== undefined && high >= warn - hysteresisPoints ? "warn" : undefined;
}

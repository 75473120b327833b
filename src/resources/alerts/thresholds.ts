// Usage thresholds per node, and when an alert is raised or cleared. Pure.
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
/**
 * An alert is cleared only this far below its threshold, so that usage around the threshold raises one alert and not
 * many.
 */
const hysteresisPoints = 5;

/** The thresholds that apply, with defaults filled in. */
export function thresholdsOf(settings: ThresholdSettings | undefined): Thresholds {
  const pair = (name: Watched): Pair => ({
    warn: settings?.[`${name}_warn_percent`] ?? defaults[name].warn,
    critical: settings?.[`${name}_critical_percent`] ?? defaults[name].critical,
  });
  return { cpu: pair("cpu"), memory: pair("memory"), disk: pair("disk") };
}

/** Fields that contradict each other once defaults are filled in. */
export function thresholdProblems(settings: ThresholdSettings): { field: string; description: string }[] {
  const holding = thresholdsOf(settings);
  return watchedNames.flatMap((name) => {
    const { warn, critical } = holding[name];
    if (warn < critical) return [];
    const field = `thresholds.${name}_warn_percent`;
    return [{ field, description: `must be below ${name}_critical_percent: ${warn} is not below ${critical}` }];
  });
}

/** Usage in percent of the total; undefined when the node did not report the total. */
export function percentOf(name: Watched, point: Point): number | undefined {
  if (name === "cpu") return point.cpu;
  const [used, total] = name === "memory" ? [point.mem, point.mem_total] : [point.disk, point.disk_total];
  return used !== undefined && total > 0 ? (used / total) * 100 : undefined;
}

/**
 * The severity after a sample, undefined for none. It rises when two samples in a row are at or above a threshold, and
 * falls when two in a row are more than 5 points below it.
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

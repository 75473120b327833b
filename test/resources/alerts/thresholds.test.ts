// When alerts are raised, changed and cleared.
import { expect, test } from "vitest";
import {
  percentOf,
  type Severity,
  severityAfter,
  thresholdProblems,
  thresholdsOf,
} from "../../../src/resources/alerts/thresholds.js";

const pair = { warn: 80, critical: 95 };

/** The severity after each of these values; "-" is none. */
function course(values: readonly number[], began?: Severity): string[] {
  let severity = began;
  return values.map((value, place) => {
    severity = severityAfter(severity, values[place - 1], value, pair);
    return severity ?? "-";
  });
}

test.each<[string, readonly number[], readonly string[]]>([
  ["one sample alone raises nothing", [100], ["-"]],
  ["two in a row raise", [80, 80], ["-", "warn"]],
  ["one below in between raises nothing", [81, 79.9, 81, 79], ["-", "-", "-", "-"]],
  [
    "what hovers below the threshold keeps it, and clears only below 75",
    [85, 85, 76, 75, 74, 75, 74, 74],
    ["-", "warn", "warn", "warn", "warn", "warn", "warn", "-"],
  ],
  ["two at critical raise at once to critical", [95, 95], ["-", "critical"]],
  ["one at critical and one at warn is warn", [95, 85], ["-", "warn"]],
  [
    "it grows and shrinks with the use",
    [85, 85, 96, 96, 91, 89, 89, 70, 70],
    ["-", "warn", "warn", "critical", "critical", "critical", "warn", "warn", "-"],
  ],
  ["from critical straight to nothing", [99, 99, 1, 1], ["-", "critical", "critical", "-"]],
])("%s", (_, values, expected) => {
  expect(course(values)).toEqual(expected);
});

test("goes on where another replica left it, one sample later", () => {
  expect(course([10, 10], "critical")).toEqual(["critical", "-"]);
  expect(course([90, 90], "warn")).toEqual(["warn", "warn"]);
});

test("what is not set is the default, and warn must be below critical with the defaults filled in", () => {
  expect(thresholdsOf(undefined)).toEqual({
    cpu: { warn: 80, critical: 95 },
    memory: { warn: 80, critical: 95 },
    disk: { warn: 80, critical: 90 },
  });
  expect(thresholdProblems({ cpu_warn_percent: 94.9, disk_critical_percent: 80.1 })).toEqual([]);
  const problems = thresholdProblems({ cpu_warn_percent: 95, memory_critical_percent: 80, disk_warn_percent: 90 });
  expect(problems.map(({ field }) => field)).toEqual([
    "thresholds.cpu_warn_percent",
    "thresholds.memory_warn_percent",
    "thresholds.disk_warn_percent",
  ]);
});

test("use is a share of what there is, and unknown where that is unknown", () => {
  const point = { at: 0, cpu: 12, mem: 1, mem_total: 4, disk: 1, disk_total: 0 };
  expect([percentOf("cpu", point), percentOf("memory", point), percentOf("disk", point)]).toEqual([12, 25, undefined]);
});

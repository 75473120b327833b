// The machine of this process, for the health report and the metric.
import type { Metrics } from "../telemetry/metrics.js";
import type { MachineSample } from "./machine.js";

/**
 * In percent, and as ratios in the metrics. A figure that could not be read is undefined here and has no series there.
 */
export function machineUsage(
  sample: Pick<
    MachineSample,
    "cpuPercent" | "memoryUsedBytes" | "memoryTotalBytes" | "diskUsedBytes" | "diskTotalBytes"
  >,
  metrics: Pick<Metrics, "resourceUsage">,
) {
  const percent = (used: number | undefined, total: number | undefined) =>
    used === undefined || total === undefined || total <= 0 ? undefined : (used / total) * 100;
  const cpu = sample.cpuPercent;
  const memory = percent(sample.memoryUsedBytes, sample.memoryTotalBytes);
  const disk = percent(sample.diskUsedBytes, sample.diskTotalBytes);
  for (const [type, value] of Object.entries({ cpu, memory, disk })) {
    const labels = { resource_type: type, unit: "ratio" };
    if (value === undefined) metrics.resourceUsage.remove(labels);
    else metrics.resourceUsage.set(labels, value / 100);
  }
  return { cpuPercent: cpu, memoryPercent: memory, diskPercent: disk };
}

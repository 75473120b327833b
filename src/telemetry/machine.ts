// The machine of this process: what the health report says of it, and the metric.
import type { Metrics } from "./metrics.js";

interface MachineSample {
  readonly cpuPercent: number;
  readonly memoryUsedBytes: number;
  readonly memoryTotalBytes: number;
  readonly diskUsedBytes: number;
  readonly diskTotalBytes: number;
}

/** In percent, and into the metrics as ratios. */
export function machineUsage(sample: MachineSample, metrics: Pick<Metrics, "resourceUsage">) {
  const share = (used: number, total: number) => (total > 0 ? used / total : 0);
  const cpu = sample.cpuPercent / 100;
  const memory = share(sample.memoryUsedBytes, sample.memoryTotalBytes);
  const disk = share(sample.diskUsedBytes, sample.diskTotalBytes);
  for (const [type, ratio] of Object.entries({ cpu, memory, disk })) {
    metrics.resourceUsage.set({ resource_type: type, unit: "ratio" }, ratio);
  }
  return { cpuPercent: cpu * 100, memoryPercent: memory * 100, diskPercent: disk * 100 };
}

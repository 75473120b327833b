// How the use of this process's machine is told: in percent in the report, as ratios in the metrics.
import { expect, test } from "vitest";
import { machineUsage } from "../../src/machine/usage.js";
import { createMetrics } from "../../src/telemetry/metrics.js";

const unread = {
  ...{ cpuPercent: undefined, memoryUsedBytes: undefined, memoryTotalBytes: undefined },
  ...{ diskUsedBytes: undefined, diskTotalBytes: undefined },
};
const read = { cpuPercent: 25, memoryUsedBytes: 3, memoryTotalBytes: 4, diskUsedBytes: 1, diskTotalBytes: 10 };

test.each([
  ["that was read", read, [25, 75, 10]],
  ["of which nothing could be read", unread, [undefined, undefined, undefined]],
  ["without a total", { ...read, memoryTotalBytes: 0, diskTotalBytes: undefined }, [25, undefined, undefined]],
])("a machine %s", async (_, sample, [cpu, memory, disk]) => {
  const metrics = createMetrics({ service: "s", version: "1", environment: "test" });
  // A value that can no longer be read goes away; the last one does not stay.
  machineUsage(read, metrics);
  expect(machineUsage(sample, metrics)).toEqual({ cpuPercent: cpu, memoryPercent: memory, diskPercent: disk });
  const { values } = await metrics.resourceUsage.get();
  const known = Object.entries({ cpu, memory, disk }).filter(([, percent]) => percent !== undefined);
  expect(values.map(({ labels, value }) => [labels.resource_type, value * 100]).sort()).toEqual(known.sort());
  metrics.close();
});

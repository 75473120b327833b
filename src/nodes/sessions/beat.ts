// The shape of a beat, checked by hand: beats arrive more often than anything else, and the general validator would
// cost as much as the rest of the work on a beat. A property test keeps it equal to the constraints in the .proto.
import {
  type Beat,
  type HeartbeatRequest,
  HeartbeatRequestSchema,
  type NodeMetrics,
} from "../../../gen/lucid/node/v1/node_service_pb.js";
import type { FieldViolation } from "../../failure.js";
import { plainCheck } from "../../rpc/validate.js";

const none: readonly FieldViolation[] = [];

/** Undefined when the message is not a beat: the general validator checks it. */
export function beatViolations(request: HeartbeatRequest): readonly FieldViolation[] | undefined {
  if (request.message.case !== "beat") return undefined;
  const beat: Beat = request.message.value;
  const wrong: FieldViolation[] = [];
  if (beat.sequence < 1n) wrong.push({ field: "beat.sequence", description: "must be greater than or equal to 1" });
  if (beat.metrics !== undefined) wrong.push(...metricsViolations(beat.metrics));
  return wrong.length === 0 ? none : wrong;
}

function metricsViolations(metrics: NodeMetrics): FieldViolation[] {
  const wrong: FieldViolation[] = [];
  const counters: [string, bigint][] = [
    ["memory_used_bytes", metrics.memoryUsedBytes],
    ["memory_total_bytes", metrics.memoryTotalBytes],
    ["disk_used_bytes", metrics.diskUsedBytes],
    ["disk_total_bytes", metrics.diskTotalBytes],
    ["network_rx_bytes", metrics.networkRxBytes],
    ["network_tx_bytes", metrics.networkTxBytes],
  ];
  // Written so that NaN is refused, too.
  if (!(metrics.cpuPercent >= 0 && metrics.cpuPercent <= 100)) {
    wrong.push({ field: "beat.metrics.cpu_percent", description: "must be from 0 to 100" });
  }
  for (const [name, value] of counters) {
    if (value < 0n) wrong.push({ field: `beat.metrics.${name}`, description: "must be greater than or equal to 0" });
  }
  const uses = [
    ["memory", metrics.memoryUsedBytes, metrics.memoryTotalBytes],
    ["disk", metrics.diskUsedBytes, metrics.diskTotalBytes],
  ] as const;
  for (const [name, used, total] of uses) {
    if (total <= 0n || used <= total) continue;
    const description = `${name}_used_bytes must be at most ${name}_total_bytes, unless the total is 0, which means unknown`;
    wrong.push({ field: "beat.metrics", description });
  }
  return wrong;
}

export const beatCheck = plainCheck(HeartbeatRequestSchema, beatViolations);

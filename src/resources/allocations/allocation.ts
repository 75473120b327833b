// How much of a node's resources is set aside, and how much may be. Pure.
import { allocationMisfit, limitReached, wrongStatus } from "../../failure.js";
import type { Allocation, Json, NodeDocument, Patch } from "../../nodes/node.js";

export const dimensions = ["cpu_percent", "memory_bytes", "disk_bytes", "network_mbps"] as const;
export type Dimension = (typeof dimensions)[number];
export type Amounts = Pick<Allocation, Dimension>;

const allocationsMax = 256;
/** Percentages of a processor are added as floats. */
const tolerance = 1e-9;

/** The allocations that have not expired. */
export const unexpired = (node: Pick<NodeDocument, "allocations">, now: Date): Allocation[] =>
  (node.allocations ?? []).filter(({ expires_at }) => expires_at === undefined || expires_at > now);

/**
 * The most that may be set aside of a dimension: the least of the limits of hardware, configuration and pool. Undefined
 * when none of them gives a limit.
 */
export function ceilingOf(node: NodeDocument, poolLimits: Json | undefined, dimension: Dimension): number | undefined {
  const limits = [
    hardwareOf(node.hardware_info, dimension),
    limitOf(node.configuration?.resource_limits, dimension),
    limitOf(poolLimits, dimension),
  ].filter((limit) => limit !== undefined);
  return limits.length === 0 ? undefined : Math.min(...limits);
}

/**
 * Sets an allocation aside; undefined when the node has it already.
 * @throws Failure 5003 when the node takes none now, 5009 when it can never fit, 5004 when it does not fit beside the
 * others
 */
export function allocate(
  node: NodeDocument,
  poolLimits: Json | undefined,
  wanted: Allocation,
  now: Date,
  actor: string,
): Patch | undefined {
  const others = unexpired(node, now);
  if (others.some(({ allocation_id }) => allocation_id === wanted.allocation_id)) return undefined;
  if (node.banned) throw wrongStatus("Cannot allocate resources of a banned node");
  if (node.status !== "active") throw wrongStatus(`Cannot allocate resources of a node in status: ${node.status}`);
  const asked = dimensions.filter((dimension) => wanted[dimension] > 0);
  if (asked.length === 0) throw allocationMisfit("cpu_percent", "one of the resources must be above 0");
  const ceilings = asked.map((dimension) => ({ dimension, ceiling: ceilingOf(node, poolLimits, dimension) }));
  for (const { dimension, ceiling } of ceilings) requireBelow(dimension, wanted[dimension], ceiling);
  for (const { dimension, ceiling = Number.POSITIVE_INFINITY } of ceilings) {
    const left = ceiling - others.reduce((sum, other) => sum + other[dimension], 0);
    if (wanted[dimension] > left + tolerance) {
      throw limitReached(`${dimension} ${wanted[dimension]} does not fit: ${Math.max(0, left)} of ${ceiling} is left`);
    }
  }
  if (others.length >= allocationsMax)
    throw limitReached(`The node has ${allocationsMax} allocations, which is the limit`);
  return {
    set: { allocations: [...others, wanted] },
    event: { type: "updated", reason: "resources allocated", actor },
  };
}

/** Takes an allocation away, and expired ones with it; undefined when the node does not have it. */
export function release(node: NodeDocument, allocationId: string, now: Date, actor: string): Patch | undefined {
  const others = unexpired(node, now).filter(({ allocation_id }) => allocation_id !== allocationId);
  if (!(node.allocations ?? []).some(({ allocation_id }) => allocation_id === allocationId)) return undefined;
  return { set: { allocations: others }, event: { type: "updated", reason: "resources released", actor } };
}

/** Network speed is often unknown, so limits alone bound it. Memory and disk are refused when no capacity is known. */
function requireBelow(dimension: Dimension, wanted: number, ceiling: number | undefined): void {
  if (ceiling === undefined && dimension !== "network_mbps") {
    throw allocationMisfit(dimension, "neither the node's hardware nor a limit says how much there is");
  }
  if (ceiling !== undefined && wanted > ceiling + tolerance) {
    throw allocationMisfit(dimension, `${wanted} is above the node's ceiling of ${ceiling}`);
  }
}

/** Undefined when the node has not reported it. */
function hardwareOf(hardware: Json | undefined, dimension: Dimension): number | undefined {
  switch (dimension) {
    case "cpu_percent":
      return 100;
    case "memory_bytes":
      return numberAt(hardware?.memory, "total_bytes");
    case "disk_bytes":
      return listAt(hardware, "storage", "total_bytes").reduce<number | undefined>(
        (sum, bytes) => (sum ?? 0) + bytes,
        undefined,
      );
    case "network_mbps": {
      const speeds = listAt(hardware, "network", "speed_mbps").filter((speed) => speed > 0);
      return speeds.length === 0 ? undefined : Math.max(...speeds);
    }
    default:
      return dimension satisfies never;
  }
}

const limitOf = (limits: unknown, dimension: Dimension): number | undefined => numberAt(limits, dimension);

const isFields = (value: unknown): value is Json => typeof value === "object" && value !== null;

/** The JSON form of a message has 64-bit numbers as text. */
function numberAt(fields: unknown, name: string): number | undefined {
  const value = isFields(fields) ? fields[name] : undefined;
  return typeof value === "number" || typeof value === "string" ? Number(value) : undefined;
}

function listAt(fields: Json | undefined, list: string, name: string): number[] {
  const items = fields?.[list];
  if (!Array.isArray(items)) return [];
  return items.map((item) => numberAt(item, name)).filter((value) => value !== undefined);
}

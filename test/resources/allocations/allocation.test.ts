// How much of a node may be set aside.
import { describe, expect, test } from "vitest";
import { Failure } from "../../../src/failure.js";
import type { Allocation, Json, NodeDocument } from "../../../src/nodes/node.js";
import { allocate, ceilingOf, release, unexpired } from "../../../src/resources/allocations/allocation.js";

const now = new Date("2026-01-01T00:00:00Z");
const hardware: Json = {
  memory: { total_bytes: "16000000000" },
  storage: [{ total_bytes: "100" }, { total_bytes: "50" }],
  network: [{ interface: "a", speed_mbps: 100 }, { interface: "b" }, { interface: "c", speed_mbps: 1000 }],
};
const aNode = (tweaks: Partial<NodeDocument> = {}): NodeDocument =>
  ({ _id: "node_1", status: "active", banned: false, hardware_info: hardware, ...tweaks }) as NodeDocument;
let made = 0;
const anAllocation = (tweaks: Partial<Allocation> = {}): Allocation => ({
  allocation_id: `alloc_${++made}`,
  cpu_percent: 0,
  memory_bytes: 0,
  disk_bytes: 0,
  network_mbps: 0,
  created_at: now,
  ...tweaks,
});
const reasonOf = (work: () => unknown): string => {
  try {
    work();
    return "ok";
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return `${error.reason.slice(-4)} ${error.violations[0]?.field ?? ""}`.trim();
  }
};
const tried = (wanted: Partial<Allocation>, node = aNode(), pool?: Json) =>
  reasonOf(() => allocate(node, pool, anAllocation(wanted), now, "me"));

describe("a ceiling", () => {
  test("is the processor's whole, all memory, all disks together, the fastest network", () => {
    const ceilings = (["cpu_percent", "memory_bytes", "disk_bytes", "network_mbps"] as const).map((dimension) =>
      ceilingOf(aNode(), undefined, dimension),
    );
    expect(ceilings).toEqual([100, 16e9, 150, 1000]);
  });

  test("is lowered by the configuration and by the pool, whichever is less", () => {
    const node = aNode({ configuration: { resource_limits: { cpu_percent: 60, disk_bytes: "120" } } });
    expect(ceilingOf(node, { cpu_percent: 50, disk_bytes: "130" }, "cpu_percent")).toBe(50);
    expect(ceilingOf(node, { cpu_percent: 70, disk_bytes: "130" }, "cpu_percent")).toBe(60);
    expect(ceilingOf(node, { disk_bytes: "1000" }, "disk_bytes")).toBe(120);
  });
});

describe("an allocation", () => {
  test("that alone is above the ceiling, or of nothing, never fits: 5009 with its dimension", () => {
    expect(tried({ cpu_percent: 100 })).toBe("ok");
    expect(tried({ cpu_percent: 50.1 }, aNode(), { cpu_percent: 50 })).toBe("5009 cpu_percent");
    expect(tried({ memory_bytes: 16e9 + 1 })).toBe("5009 memory_bytes");
    expect(tried({ disk_bytes: 151 })).toBe("5009 disk_bytes");
    expect(tried({ network_mbps: 1001 })).toBe("5009 network_mbps");
    expect(tried({})).toBe("5009 cpu_percent");
  });

  test("beside others that leave too little is 5004, and fits when these have expired", () => {
    const expires_at = new Date(now.getTime() + 1000);
    const allocations = [
      anAllocation({ cpu_percent: 60, expires_at }),
      anAllocation({ cpu_percent: 30, disk_bytes: 150 }),
    ];
    const node = aNode({ allocations });
    expect(tried({ cpu_percent: 10 }, node)).toBe("ok");
    expect(tried({ cpu_percent: 10.5 }, node)).toBe("5004");
    expect(tried({ disk_bytes: 1 }, node)).toBe("5004");
    const patch = allocate(node, undefined, anAllocation({ cpu_percent: 70 }), expires_at, "me");
    expect(patch?.set?.allocations?.map(({ cpu_percent }) => cpu_percent)).toEqual([30, 70]);
  });

  test("in tenths fills the whole in spite of how floats add up", () => {
    let node = aNode();
    for (let place = 0; place < 100; place++) {
      const patch = allocate(node, { cpu_percent: 10 }, anAllocation({ cpu_percent: 0.1 }), now, "me");
      node = { ...node, ...patch?.set };
    }
    expect(unexpired(node, now)).toHaveLength(100);
    expect(tried({ cpu_percent: 0.1 }, node, { cpu_percent: 10 })).toBe("5004");
  });

  test("needs a node at work that is not banned", () => {
    for (const status of ["inactive", "starting", "stopping", "maintenance", "error"] as const) {
      expect(tried({ cpu_percent: 1 }, aNode({ status }))).toBe("5003");
    }
    expect(tried({ cpu_percent: 1 }, aNode({ banned: true }))).toBe("5003");
  });

  test("of what nobody knows is refused, but for the network, whose speed is often unknown", () => {
    const { hardware_info: _, ...unknown } = aNode();
    expect(tried({ memory_bytes: 1 }, unknown)).toBe("5009 memory_bytes");
    expect(tried({ disk_bytes: 1 }, unknown)).toBe("5009 disk_bytes");
    expect(tried({ memory_bytes: 1 }, unknown, { memory_bytes: "1" })).toBe("ok");
    expect(tried({ network_mbps: 1_000_000 }, unknown)).toBe("ok");
    expect(tried({ network_mbps: 11 }, unknown, { network_mbps: 10 })).toBe("5009 network_mbps");
  });

  test("is the 256th at most", () => {
    const allocations = Array.from({ length: 256 }, () => anAllocation({ cpu_percent: 0.01 }));
    expect(tried({ cpu_percent: 1 }, aNode({ allocations: allocations.slice(1) }))).toBe("ok");
    expect(tried({ cpu_percent: 1 }, aNode({ allocations }))).toBe("5004");
  });

  test("that stands is not made again, and one that is gone is not released again", () => {
    const one = anAllocation({ cpu_percent: 100 });
    const node = aNode({ allocations: [one] });
    expect(allocate(node, undefined, one, now, "me")).toBeUndefined();
    expect(release(node, one.allocation_id, now, "me")?.set).toEqual({ allocations: [] });
    expect(release(node, "alloc_other", now, "me")).toBeUndefined();
  });
});

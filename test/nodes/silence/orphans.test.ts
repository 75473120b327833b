// Nodes without a stream on a living replica: which the leader watches, from when it times them, which it gives up.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { NodeDocument } from "../../../src/nodes/node.js";
import { type NodeRepository, unaryReplica } from "../../../src/nodes/repository.js";
import type { Expiry, Silent } from "../../../src/nodes/silence/expire.js";
import { createOrphans } from "../../../src/nodes/silence/orphans.js";
import type { Leadership } from "../../../src/replicas/lease.js";
import type { Replica } from "../../../src/replicas/roster.js";
import { StoreUnavailableError } from "../../../src/storage/collection.js";
import { silentLog } from "../../../src/telemetry/log.js";
import { createTestClock, type TestClock } from "../../support/world/clock.js";
import { aNodeDocument } from "../../support/world/documents.js";
import { within } from "../../support/world/until.js";

const timing = { intervalMs: 30_000, graceMs: 30_000, lostAfterMs: 300_000, rateMax: 2_000 };
const silentMs = 60_000;
/** The judge's turns are a second apart, so a verdict comes up to a second late. */
const turnMs = 1_000;

let clock: TestClock;
let nodes: Map<string, NodeDocument>;
let replicas: Replica[];
let leading: Leadership | undefined;
/** The verdicts that the leader asked to write: the node, its new connectivity, and the fence. */
let verdicts: string[];
let forgotten: string[];
let isAway: boolean;
/** How the write of a verdict ends. By default it succeeds. */
let outcomeOf: (silent: Silent, to: "disconnected" | "lost", stillSilent: () => boolean) => Expiry;
let over: AbortController;
let ended: Promise<void>;

const lead = (token: number): Leadership => ({ token, holds: () => leading?.token === token });

const written = ({ nodeId }: Silent, connectivity: "disconnected" | "lost"): Expiry => {
  const node = aNodeDocument({ ...nodes.get(nodeId), connectivity });
  nodes.set(nodeId, node);
  return { kind: "expired", node };
};

const aReplica = (id: string, tweaks: Partial<Replica> = {}): Replica => ({
  ...{ id, alive: true, watermark: new Date(0), turns: 1, intervalMs: timing.intervalMs },
  ...tweaks,
});

/** Stores a connected node of this replica. */
const put = (id: string, replica: string, tweaks: Partial<NodeDocument> = {}): void => {
  const session = { session_epoch: 1, session_replica: replica, last_heartbeat: clock.now() };
  nodes.set(id, aNodeDocument({ _id: id, connectivity: "connected", ...session, ...tweaks }));
};
/** Writes a beat of the node to the store. */
const beat = (id: string): void => {
  nodes.set(id, aNodeDocument({ ...nodes.get(id), connectivity: "connected", last_heartbeat: clock.now() }));
};

/** Reads pages of 50 nodes; the real store has pages of 1000. */
const heldBy: NodeRepository["heldBy"] = async (replica, connectivity, after) => {
  const from = Number(after?.[0] ?? 0);
  const held = [...nodes.values()].filter(
    (node) => node.session_replica === replica && node.connectivity === connectivity,
  );
  const items = held.slice(from, from + 50);
  return { items, ...(held.length > from + 50 ? { next: [from + 50] } : {}) };
};

beforeEach(async () => {
  clock = createTestClock();
  nodes = new Map();
  replicas = [aReplica("judge")];
  leading = lead(1);
  verdicts = [];
  forgotten = [];
  isAway = false;
  outcomeOf = written;
  over = new AbortController();
  const orphans = createOrphans({
    repository: { heldBy, find: async (id: string) => nodes.get(id) ?? null } as NodeRepository,
    expire: async (silent, to, stillSilent, fence) => {
      verdicts.push(`${silent.nodeId} ${to} ${fence}`);
      return outcomeOf(silent, to, stillSilent);
    },
    leadership: () => leading,
    look: async () => replicas,
    forgetReplica: async ({ id }) => {
      forgotten.push(id);
      replicas = replicas.filter((replica) => replica.id !== id);
    },
    storeNow: async () => {
      if (isAway) throw new StoreUnavailableError("away");
      return clock.now();
    },
    clock,
    timing,
    log: silentLog,
  });
  ended = orphans.task(over.signal);
  await clock.advance(0);
});
afterEach(async () => {
  over.abort();
  await within(ended, "the judge ends");
});

const die = (id: string): void => {
  replicas = replicas.map((replica) => (replica.id === id ? { ...replica, alive: false } : replica));
};
const revive = (id: string): void => {
  replicas = replicas.map((replica) => (replica.id === id ? { ...replica, alive: true } : replica));
};
/** Lets time pass in which the living replicas have written every beat that they took. */
const passWatermarked = async (ms: number): Promise<void> => {
  for (let passed = 0; passed < ms; passed += turnMs) {
    replicas = replicas.map((replica) => (replica.alive ? { ...replica, watermark: clock.now() } : replica));
    await clock.advance(turnMs);
  }
};

describe("the nodes of a replica", () => {
  test("that lives are its own to judge", async () => {
    replicas.push(aReplica("other"));
    put("node", "other");
    await clock.advance(1_000_000);
    expect(verdicts).toEqual([]);
  });

  test("that died are timed from the moment the leader sees them, however long ago they beat", async () => {
    replicas.push(aReplica("gone"));
    put("node", "gone", { last_heartbeat: new Date(0) });
    await clock.advance(100_000);
    die("gone");
    await clock.advance(silentMs);
    expect(verdicts).toEqual([]);
    await clock.advance(turnMs);
    expect(verdicts).toEqual(["node disconnected 1"]);
    await clock.advance(300_000 - silentMs - turnMs);
    expect(verdicts).toHaveLength(1);
    await clock.advance(turnMs);
    expect(verdicts).toEqual(["node disconnected 1", "node lost 1"]);
  });

  test("that is back are its own again, and timed anew when it dies once more", async () => {
    replicas.push(aReplica("flaky"));
    put("node", "flaky");
    die("flaky");
    await clock.advance(50_000);
    revive("flaky");
    await clock.advance(50_000);
    expect(verdicts).toEqual([]);
    die("flaky");
    await clock.advance(silentMs);
    expect(verdicts).toEqual([]);
    await clock.advance(turnMs);
    expect(verdicts).toEqual(["node disconnected 1"]);
  });

  test("are waited for before the replica is forgotten, those too that it opened after it was looked at", async () => {
    replicas.push(aReplica("gone", { alive: false }));
    put("node", "gone");
    await clock.advance(turnMs);
    put("late", "gone");
    await clock.advance(299_000);
    expect(forgotten).toEqual([]);
    await clock.advance(2 * turnMs);
    expect(verdicts).toEqual(["node disconnected 1", "node lost 1"]);
    expect(forgotten).toEqual([]);
    await clock.advance(302_000);
    expect(verdicts.slice(2)).toEqual(["late disconnected 1", "late lost 1"]);
    expect(forgotten).toEqual(["gone"]);
  });

  test("of which it had none are not waited for", async () => {
    replicas.push(aReplica("gone", { alive: false }));
    await clock.advance(turnMs);
    expect(forgotten).toEqual(["gone"]);
  });

  test("are given the longest interval that any replica has told its nodes", async () => {
    replicas.push(aReplica("gone", { alive: false, intervalMs: 90_000 }));
    put("node", "gone");
    await clock.advance(120_000);
    expect(verdicts).toEqual([]);
    await clock.advance(2 * turnMs);
    expect(verdicts).toEqual(["node disconnected 1"]);
  });

  test("are written down 50 a turn at the most", async () => {
    replicas.push(aReplica("gone", { alive: false }));
    for (let count = 0; count < 120; count++) put(`node_${count}`, "gone");
    await clock.advance(silentMs);
    expect(verdicts).toEqual([]);
    for (const sum of [50, 100, 120, 120]) {
      await clock.advance(turnMs);
      expect(verdicts).toHaveLength(sum);
    }
  });
});

describe("a node that reports by unary calls", () => {
  test("is timed anew by each beat, and silent by the last one as the leader saw it", async () => {
    put("node", unaryReplica);
    for (let beats = 0; beats < 5; beats++) {
      await passWatermarked(40_000);
      beat("node");
    }
    expect(verdicts).toEqual([]);
    // The leader reads connected and disconnected nodes in alternate turns, so it sees a beat up to two turns late.
    await passWatermarked(silentMs);
    expect(verdicts).toEqual([]);
    await passWatermarked(4 * turnMs);
    expect(verdicts).toEqual(["node disconnected 1"]);
  });

  test("is found on whatever page it is, one page a turn", async () => {
    for (let count = 0; count < 120; count++) put(`node_${count}`, unaryReplica);
    await passWatermarked(silentMs + 20_000);
    expect(new Set(verdicts).size).toBe(120);
  });

  test("that is connected again by a beat of the same time is timed anew", async () => {
    put("node", unaryReplica);
    await passWatermarked(silentMs + 4 * turnMs);
    expect(verdicts).toEqual(["node disconnected 1"]);
    nodes.set("node", aNodeDocument({ ...nodes.get("node"), connectivity: "connected" }));
    await passWatermarked(silentMs);
    expect(verdicts).toHaveLength(1);
    await passWatermarked(4 * turnMs);
    expect(verdicts).toEqual(["node disconnected 1", "node disconnected 1"]);
  });

  test.each([
    ["is not judged past a living replica's watermark", (): Date => new Date(0), true, []],
    ["is judged past a dead one's", () => new Date(0), false, ["node disconnected 1"]],
    [
      "is judged by a watermark that was written after the leader asked for the time",
      () => ahead(9_000),
      true,
      ["node disconnected 1"],
    ],
    ["is not judged by one from before the store's clock stepped back", () => ahead(3_600_000), true, []],
  ])("%s", async (_, watermark, alive, expected) => {
    put("node", unaryReplica);
    replicas.push(aReplica("gone", { alive: false }));
    put("held", "gone");
    await clock.advance(turnMs);
    for (let passed = 0; passed < silentMs + 10_000; passed += turnMs) {
      replicas = [aReplica("judge", { watermark: clock.now() }), aReplica("gone", { alive, watermark: watermark() })];
      await clock.advance(turnMs);
    }
    expect(verdicts.filter((verdict) => verdict.startsWith("node"))).toEqual(expected);
  });

  test("is timed anew when a replica dies, which may have taken beats of it that it never wrote", async () => {
    replicas.push(aReplica("gone"));
    put("node", unaryReplica);
    await passWatermarked(50_000);
    die("gone");
    await passWatermarked(silentMs);
    expect(verdicts).toEqual([]);
    await passWatermarked(4 * turnMs);
    expect(verdicts).toEqual(["node disconnected 1"]);
  });
});

const ahead = (ms: number): Date => new Date(clock.now().getTime() + ms);

describe("the leader", () => {
  beforeEach(() => {
    replicas.push(aReplica("gone", { alive: false }));
    put("node", "gone");
  });

  test("alone judges", async () => {
    leading = undefined;
    await clock.advance(1_000_000);
    expect(verdicts).toEqual([]);
  });

  test("that took over times everybody from then on, under its own fence", async () => {
    await clock.advance(50_000);
    leading = lead(2);
    await clock.advance(silentMs);
    expect(verdicts).toEqual([]);
    await clock.advance(turnMs);
    expect(verdicts).toEqual(["node disconnected 2"]);
  });

  test("that was cut off from the store gives everybody a restart's grace", async () => {
    await clock.advance(50_000);
    isAway = true;
    await clock.advance(20_000);
    isAway = false;
    await clock.advance(silentMs);
    expect(verdicts).toEqual([]);
    await clock.advance(turnMs);
    expect(verdicts).toEqual(["node disconnected 1"]);
  });

  test("that no longer holds its lease says so to the write that is on its way", async () => {
    const asked: boolean[] = [];
    outcomeOf = (_silent, _to, stillSilent) => {
      asked.push(stillSilent());
      leading = lead(2);
      asked.push(stillSilent());
      return { kind: "moved" };
    };
    await clock.advance(silentMs + turnMs);
    expect(asked).toEqual([true, false]);
  });
});

describe("a verdict that is", () => {
  beforeEach(async () => {
    replicas.push(aReplica("gone", { alive: false }));
    put("node", "gone");
    await clock.advance(turnMs);
  });
  /** Lets the first verdict fall due and its write end with `outcome`. Later writes succeed. */
  const due = async (outcome: Expiry, then: () => void = () => undefined) => {
    outcomeOf = (silent, to) => {
      outcomeOf = written;
      then();
      return verdicts.length === 1 ? outcome : written(silent, to);
    };
    await clock.advance(silentMs);
    expect(verdicts).toEqual(["node disconnected 1"]);
  };

  test("withheld for its pool has the node timed from the pool's recovery", async () => {
    await due({ kind: "withheld", agoMs: 10_000 });
    await clock.advance(silentMs - 10_000 - turnMs);
    expect(verdicts).toHaveLength(1);
    await clock.advance(2 * turnMs);
    expect(verdicts).toHaveLength(2);
  });

  test("foreign leaves the node to others", async () => {
    await due({ kind: "foreign", node: undefined }, () => put("node", "judge"));
    await clock.advance(1_000_000);
    expect(verdicts).toHaveLength(1);
  });

  test("overtaken by a beat has the node timed from the beat", async () => {
    await due({ kind: "moved" }, () => beat("node"));
    await clock.advance(silentMs - turnMs);
    expect(verdicts).toHaveLength(1);
    await clock.advance(2 * turnMs);
    expect(verdicts).toHaveLength(2);
  });

  test("overtaken by a change that is no beat is tried again", async () => {
    await due({ kind: "moved" });
    await clock.advance(turnMs);
    expect(verdicts).toHaveLength(2);
  });

  test.each([
    ["by a session on another replica", () => put("node", "judge")],
    ["by the node's farewell and loss", () => put("node", "gone", { connectivity: "lost" })],
    ["by the node's deletion", () => void nodes.delete("node")],
  ])("overtaken %s is dropped", async (_, then) => {
    await due({ kind: "moved" }, then);
    await clock.advance(1_000_000);
    expect(verdicts).toHaveLength(1);
  });
});

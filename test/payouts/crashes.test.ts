// One payout on each way that it can go, and one fault at each of its writes and effects: the process dies or freezes
// before or after it, or the answer is lost. Nothing is sampled: every combination is run. Only where the same kind of
// write comes again and again (looks at the chain, sends of the same bytes), a process freezes at the first two of a kind
// and comes back after the first of a kind that another has done meanwhile; with SOAK=1 at each and after each.
import { afterAll, describe, expect, it } from "vitest";
import type { PayoutDocument, Status } from "../../src/payouts/document.js";
import type { Preflight } from "../../src/payouts/gateway/gateway.js";
import { randomFrom } from "../support/world/random.js";
import type { Fault, Point, Process } from "./world/process.js";
import { type Conditions, createPayoutWorld, type Limits, type World } from "./world/world.js";

/** A way that a payout can go. What the network does depends on the transaction, not on how often somebody asks. */
interface Way {
  readonly name: string;
  /** How it ends without a fault, and how else it may end with one. */
  readonly ends: Status;
  readonly mayEnd?: readonly Status[];
  /** What happens to a send: of the first transaction or a later one, the first time or again. */
  readonly send?: (attempt: number, time: number) => Fault | undefined;
  readonly reverts?: (attempt: number) => { code: string; retryable: boolean } | undefined;
  /** What the gateway says before the first transaction, by how often it was asked. */
  readonly preflight?: (time: number) => Preflight;
  /** A caller wants it cancelled as soon as this holds. */
  readonly cancelWhen?: (payout: PayoutDocument) => boolean;
  /** The network gives up its newest blocks as soon as this holds. */
  readonly forkWhen?: (world: World, payout: PayoutDocument) => boolean;
  readonly limits?: Limits;
  readonly maxRetries?: number;
}

const dropped: Fault = { kind: "lost", applied: false, blindMs: 0 };
const says = (word: "refused" | "dry" | "known", code: string): Fault => ({
  kind: "lie",
  applied: false,
  answer: { class: word, code },
});
const either: readonly Status[] = ["cancelled", "completed"];
const firstOnly = (fault: Fault) => (attempt: number) => (attempt === 1 ? fault : undefined);

const ways: readonly Way[] = [
  { name: "paid at once", ends: "completed" },
  {
    name: "paid, and nobody answered",
    ends: "completed",
    send: firstOnly({ kind: "lost", applied: true, blindMs: 0 }),
  },
  {
    name: "paid by the second send of the same bytes",
    ends: "completed",
    ...{ maxRetries: 0, send: (_, time) => (time === 1 ? dropped : undefined) },
  },
  { name: "paid by bytes that arrive late", ends: "completed", send: firstOnly({ kind: "late", ms: 50_000 }) },
  { name: "sent and lost, built again, paid", ends: "completed", send: firstOnly(dropped) },
  { name: "called known and never taken, built again, paid", ends: "completed", send: firstOnly(says("known", "DUP")) },
  {
    name: "taken while the node says that it is refused",
    ends: "completed",
    send: firstOnly({ ...says("refused", "EXPIRED"), applied: true } as Fault),
  },
  {
    name: "lost as often as it may be tried",
    ...{ ends: "failed", mayEnd: ["completed"], send: () => dropped, maxRetries: 1 },
  },
  {
    name: "refused by the node for ever",
    ends: "failed",
    mayEnd: ["completed"],
    send: firstOnly(says("refused", "SIGERROR")),
  },
  { name: "a wallet that is dry, then paid", ends: "completed", send: firstOnly(says("dry", "BANDWITH_ERROR")) },
  {
    name: "reverted, built again, paid",
    ends: "completed",
    reverts: (attempt) => (attempt === 1 ? { code: "OUT_OF_ENERGY", retryable: true } : undefined),
  },
  { name: "reverted for good", ends: "failed", reverts: () => ({ code: "REVERT", retryable: false }) },
  {
    name: "in a block that is given up, sent again, paid",
    ends: "completed",
    forkWhen: (world, { live_txid: txid }) => txid !== undefined && world.chain.find(txid) !== undefined,
  },
  {
    name: "refused before a transaction exists",
    ends: "failed",
    preflight: () => ({ kind: "refused", code: "BLACKLISTED", message: "The token refuses the recipient" }),
  },
  {
    name: "put off, then paid",
    ends: "completed",
    preflight: (time) => (time <= 2 ? { kind: "waits", code: "ENERGY", message: "Not now" } : { kind: "ready" }),
  },
  { name: "paid within a daily limit", ends: "completed", limits: { dailyMax: 1_000_000n } },
  {
    name: "lost within a daily limit, and its reservation given back",
    ...{ ends: "failed", mayEnd: ["completed"], send: () => dropped, maxRetries: 0 },
    limits: { dailyMax: 1_000_000n, walletFloor: 1n },
  },
  { name: "cancelled in the queue", ends: "cancelled", mayEnd: either, cancelWhen: ({ phase }) => phase === "queued" },
  {
    name: "cancelled while it is built",
    ...{ ends: "cancelled", mayEnd: either },
    cancelWhen: ({ phase, live_txid: txid }) => phase === "building" && txid === undefined,
  },
  {
    name: "cancelled between its transaction and the send",
    ...{ ends: "cancelled", mayEnd: either },
    cancelWhen: ({ phase, live_txid: txid }) => phase === "building" && txid !== undefined,
  },
  {
    name: "cancelled too late",
    ...{ ends: "completed", mayEnd: either },
    cancelWhen: ({ phase }) => phase === "sending",
  },
  {
    name: "cancelled after it was sent and lost",
    ...{ ends: "cancelled", mayEnd: either, send: () => dropped },
    cancelWhen: ({ phase }) => phase === "settling",
  },
  {
    name: "cancelled after it was sent, and reverted",
    ...{ ends: "cancelled", mayEnd: ["cancelled"], reverts: () => ({ code: "REVERT", retryable: true }) },
    cancelWhen: ({ phase }) => phase === "settling",
  },
];

/** One fault at the n-th write or effect of the workers. `thawAt`: the place of another worker's write or effect. */
interface Plan {
  readonly at: number;
  readonly fault: Fault;
  /** What a frozen process waits for: so many writes and effects of others. */
  readonly thawAfter?: number;
}

interface Ran {
  /** The writes and effects of all workers, in their order. */
  readonly points: readonly string[];
  /** Those of others while the first was frozen. */
  readonly others: readonly string[];
  readonly payout: PayoutDocument;
}

const isSoak = process.env.SOAK !== undefined;
const key = "one";
const minutes = 60_000;

async function run(way: Way, plan?: Plan): Promise<Ran> {
  const points: string[] = [];
  const attempts: string[] = [];
  const sends = new Map<string, number>();
  let asked = 0;
  let isCancelled = false;
  let isForked = false;
  let frozen: Process | undefined;
  const others: string[] = [];
  const attemptOf = (txid: string): number => {
    if (!attempts.includes(txid)) attempts.push(txid);
    return attempts.indexOf(txid) + 1;
  };

  const byWay = ({ name, txid = "" }: Point): Fault | undefined => {
    if (name !== "gateway send") return undefined;
    const time = (sends.get(txid) ?? 0) + 1;
    sends.set(txid, time);
    return way.send?.(attemptOf(txid), time);
  };
  const byPlan = ({ kind, name, process }: Point): Fault | undefined => {
    if (kind === "read" || !process.name.startsWith("worker")) return undefined;
    points.push(name);
    if (frozen?.state === "frozen" && process !== frozen && others.push(name) === plan?.thawAfter) frozen.thaw();
    if (points.length !== plan?.at) return undefined;
    if (plan.fault.kind === "freeze") frozen = process;
    return plan.fault;
  };
  const conditions: Conditions = {
    ...{
      random: randomFrom(1),
      everyMs: 12_000,
      claimMs: 10_000,
      matchingRests: 6,
      unknownForMs: 0,
      limits: way.limits ?? {},
    },
    weather: {
      delayMs: () => 5,
      fault: (point) => {
        const usual = byWay(point);
        return byPlan(point) ?? usual;
      },
    },
    reverts: (_, txid) => way.reverts?.(attemptOf(txid)),
    preflight: () => way.preflight?.(++asked) ?? { kind: "ready" },
  };
  const world = createPayoutWorld(conditions);
  const caller = await world.startCaller("c");
  const first = await world.startWorker("a");
  let second: Process | undefined;
  void caller.create({ key, maxRetries: way.maxRetries ?? 3 });

  const look = (): boolean => {
    const payout = world.payout(key);
    if (first.state !== "alive" && second === undefined) {
      second = first;
      void world.startWorker("b").then((started) => {
        second = started;
      });
    }
    if (payout === undefined) return false;
    if (!isCancelled && way.cancelWhen?.(payout) === true) {
      isCancelled = true;
      void caller.cancel(key);
    }
    if (!isForked && way.forkWhen?.(world, payout) === true) {
      isForked = true;
      world.chain.fork(3, false);
    }
    return payout.phase === "done";
  };
  await world.until(look, 60 * minutes);
  // The end is no end for a process that still sleeps, nor for bytes that are still under way.
  for (const process of world.processes) if (process !== frozen) process.crash();
  frozen?.thaw();
  await world.pass(1 * minutes);
  frozen?.crash();
  await world.pass(5 * minutes);
  const payout = world.payout(key);
  if (payout?.phase !== "done") world.auditor.accuse("I9", `payout_${key}`, `it is ${payout?.phase}`);
  const may = plan === undefined ? [way.ends] : [way.ends, ...(way.mayEnd ?? [])];
  if (payout !== undefined && !may.includes(payout.status)) {
    world.auditor.accuse("its end", payout._id, `${payout.status} instead of ${may.join(" or ")}`);
  }
  world.finish();
  return { points, others, payout: payout as PayoutDocument };
}

const sides = ["before", "after"] as const;
/** Faults without a second process that comes back. */
const simple: readonly (readonly [string, Fault])[] = [
  ...sides.map((when) => [`dies ${when}`, { kind: "crash", when }] as const),
  ["answer lost", { kind: "lost", applied: true, blindMs: 0 }],
  ["answer lost, and no second look", { kind: "lost", applied: true, blindMs: 4_000 }],
  ["call lost", { kind: "lost", applied: false, blindMs: 0 }],
  ["call lost, and no second look", { kind: "lost", applied: false, blindMs: 4_000 }],
  ["call late", { kind: "late", ms: 4_000 }],
  ["call later than the claim", { kind: "late", ms: 25_000 }],
];

const counts = new Map<string, number>();
const kinds = new Set<string>();
const count = (name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);

async function attempt(way: Way, plan: Plan, name: string): Promise<Ran> {
  count(name);
  try {
    return await run(way, plan);
  } catch (error) {
    const told = `${way.name}: ${name} at write or effect ${plan.at}, thaw after ${plan.thawAfter}`;
    throw new Error(`${told}\n${(error as Error).message}`);
  }
}

describe("one payout with one fault", () => {
  it.each(ways.map((way) => [way.name, way] as const))(
    "%s",
    { timeout: isSoak ? 1_200_000 : 120_000 },
    async (_, way) => {
      const { points } = await run(way);
      for (const point of points) kinds.add(point);
      for (let at = 1; at <= points.length; at++) {
        for (const [name, fault] of simple) await attempt(way, { at, fault }, name);
        const sameBefore = points.slice(0, at - 1).filter((point) => point === points[at - 1]).length;
        if (!isSoak && sameBefore >= 2) continue;
        for (const when of sides) {
          for (const lost of [false, true]) {
            const fault: Fault = { kind: "freeze", when, lost };
            const name = `freezes ${when}, answer ${lost ? "lost" : "known"}, another takes over`;
            // First it comes back after the end; then after the writes and effects of the other that were met meanwhile.
            const { others } = await attempt(way, { at, fault }, name);
            for (const [place, point] of others.entries()) {
              if (isSoak || others.indexOf(point) === place)
                await attempt(way, { at, fault, thawAfter: place + 1 }, name);
            }
          }
        }
      }
    },
  );

  it("has met every kind of write and effect", () => {
    const effects = ["gateway sign", "gateway send"];
    const steps = ["claim", "take", "defer", "refuse", "draft", "drop", "send", "answer", "resend"];
    const ends = ["complete", "revert", "bury"];
    const others = ["payout_days insert", "payout_sending insert", "payout_sending change", "payouts wait"];
    const all = [...effects, ...[...steps, ...ends].map((step) => `payouts ${step}`), ...others];
    expect([...kinds].sort()).toEqual(all.sort());
    // A run that stands for many must not vanish unnoticed.
    expect(counts.size).toBe(simple.length + 4);
    expect(Math.min(...counts.values())).toBeGreaterThan(300);
  });
});

afterAll(() => {
  const sum = [...counts.values()].reduce((all, runs) => all + runs, 0);
  const lines = [...counts, [`runs over ${ways.length} ways`, sum] as const].map(
    ([name, runs]) => `${String(runs).padStart(6)} ${name}`,
  );
  console.log(lines.join("\n"));
});

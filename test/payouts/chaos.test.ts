// Many payouts, six workers, and everything goes wrong at once: processes die, freeze and come back, calls and answers
// are lost, late or repeated, nodes lag, lie and forget, blocks are given up, clocks jump, callers cancel and pause.
// Workers poll, and nothing wakes them, so that a wake-up cannot be lost. A failing run prints its seed and the story of
// the payout: PAYOUT_SEED=n runs it again.
import { expect, it } from "vitest";
import type { Answer } from "../../src/payouts/gateway/gateway.js";
import { randomFrom } from "../support/world/random.js";
import type { Fault, Point, Process } from "./world/process.js";
import { createPayoutWorld, type Wish, type World } from "./world/world.js";

const minute = 60_000;
const hour = 60 * minute;
const given = process.env.PAYOUT_SEED;
const firstSeed = given === undefined ? Math.floor(Math.random() * 1e9) : Number(given);
/** 1,000 payouts, with SOAK=1 10,000. A world of 250 is as wild as one of 1,000, and a failing one is told sooner. */
const size = 250;
const worlds = given !== undefined ? 1 : process.env.SOAK === undefined ? 4 : 40;

type Random = () => number;
const upTo = (random: Random, most: number) => Math.floor(random() * most);
const pick = <Item>(random: Random, items: readonly Item[]): Item => items[upTo(random, items.length)] as Item;

const lies: readonly Answer[] = [
  { class: "accepted", code: "SUCCESS" },
  { class: "known", code: "DUP_TRANSACTION_ERROR" },
  { class: "busy", code: "SERVER_BUSY" },
  { class: "refused", code: "TRANSACTION_EXPIRATION_ERROR" },
  { class: "refused", code: "CONTRACT_VALIDATE_ERROR" },
  { class: "dry", code: "BANDWITH_ERROR" },
  { class: "unanswered", code: "999" },
];

function faultOf(random: Random, { kind, name, process }: Point): Fault | undefined {
  const isWorker = process.name.startsWith("worker");
  const chance = kind === "read" ? (name.startsWith("gateway") ? 0.03 : 0.002) : name === "gateway send" ? 0.5 : 0.03;
  if (random() >= chance) return undefined;
  const applied = random() < 0.5;
  if (kind === "read") return { kind: "lost", applied, blindMs: 0 };
  const ms = pick(random, [200, 5_000, 20_000, 70_000, 200_000]);
  const when = random() < 0.5 ? "before" : "after";
  const dice = random();
  if (isWorker && dice < 0.12) return { kind: "crash", when };
  if (isWorker && dice < 0.24) return { kind: "freeze", when, lost: random() < 0.5 };
  if (dice < 0.55) return { kind: "lost", applied, blindMs: pick(random, [0, 0, 3_000]) };
  // A write that is applied a minute later than its caller believes is stranger than any store that we know.
  if (name !== "gateway send" || dice < 0.65) return { kind: "late", ms };
  if (dice < 0.75) return { kind: "twice", ms };
  return { kind: "lie", applied, answer: pick(random, lies) };
}

const wishesOf = (random: Random, count: number): Wish[] =>
  Array.from({ length: count }, (_, n) => ({
    key: `k${n}`,
    // Few recipients and amounts, so that many transactions differ by their stamp alone.
    recipient: `recipient ${upTo(random, count / 20)}`,
    amountMinor: BigInt(1 + upTo(random, 3)),
    currency: pick(random, ["USDT", "LUCID"]),
    priority: pick(random, ["urgent", "high", "normal", "low"]),
  }));

interface Chaos {
  readonly world: World;
  readonly random: Random;
  /** While it is true things go wrong. */
  isWild: boolean;
  readonly counts: Map<string, number>;
}

function openChaos(seed: number, dailyMax: bigint): Chaos {
  const random = randomFrom(seed);
  const counts = new Map<string, number>();
  const state = { isWild: true };
  const wild = (chance: number) => random() < chance && state.isWild;
  const world = createPayoutWorld({
    random,
    // A quarter of an hour before a day ends.
    startMs: Date.UTC(2026, 0, 5, 23, 45),
    weather: {
      delayMs: () => (wild(0.01) ? upTo(random, 4_000) : 1 + upTo(random, 20)),
      fault: (point) => {
        const fault = state.isWild ? faultOf(random, point) : undefined;
        if (fault !== undefined) {
          const name = `${point.kind} ${fault.kind}${"applied" in fault ? (fault.applied ? "" : ", not applied") : ""}`;
          counts.set(name, (counts.get(name) ?? 0) + 1);
        }
        return fault;
      },
    },
    ...{ stamps: 40, currencies: ["USDT", "LUCID"], limits: { dailyMax }, claimMs: 20_000, everyMs: 3_000 },
    ...{ matchingRests: 3, batchSize: 20 },
    reverts: () => {
      if (wild(0.06)) return { code: "OUT_OF_ENERGY", retryable: true };
      return wild(0.02) ? { code: "REVERT", retryable: false } : undefined;
    },
    misses: () => wild(0.05),
    node: () => ({ lag: wild(0.15) ? upTo(random, 40) : 0 }),
    preflight: () => {
      if (wild(0.02)) return { kind: "waits", code: "ENERGY", message: "Not now" };
      return wild(0.005) ? { kind: "refused", code: "BLACKLISTED", message: "Never" } : { kind: "ready" };
    },
  });
  return {
    world,
    random,
    counts,
    get isWild() {
      return state.isWild;
    },
    set isWild(wanted) {
      state.isWild = wanted;
    },
  };
}

/** Keeps six workers at work: a new one for each that died, and the frozen ones go on after a while. */
function keepWorkers({ world, random }: Chaos, isOver: () => boolean): void {
  let started = 0;
  const workers: Process[] = [];
  const thawing = new Set<Process>();
  const start = () => {
    started++;
    void world.startWorker(`${started}`, started % 3 === 1).then((worker) => workers.push(worker));
  };
  const look = (): void => {
    if (isOver()) return;
    for (const [place, worker] of [...workers.entries()].reverse()) {
      if (worker.state === "dead") {
        workers.splice(place, 1);
        world.scheduler.after(upTo(random, 20_000), start);
      }
      if (worker.state === "frozen" && !thawing.has(worker)) {
        thawing.add(worker);
        world.scheduler.after(pick(random, [500, 5_000, 30_000, 90_000, 300_000]), () => {
          thawing.delete(worker);
          worker.thaw();
        });
      }
    }
    world.scheduler.after(1_000, look);
  };
  for (let count = 0; count < 6; count++) start();
  look();
}

/** What people and the machines do meanwhile. */
async function disturb(chaos: Chaos, keys: readonly string[]): Promise<void> {
  const { world, random } = chaos;
  const [first, second] = await Promise.all([world.startCaller("x"), world.startCaller("y")]);
  for (const key of keys) {
    if (random() < 0.12)
      world.scheduler.after(upTo(random, 15 * minute), () => void pick(random, [first, second]).cancel(key));
  }
  const during = (ms: number, work: () => void) => world.scheduler.after(ms, () => chaos.isWild && work());
  for (let at = 0; at < 40; at++) {
    during(upTo(random, 20 * minute), () => world.chain.fork(1 + upTo(random, 25), random() < 0.7));
    if (at % 4 === 0) during(upTo(random, 20 * minute), () => world.chain.forgetPool());
    during(upTo(random, 20 * minute), () => pick(random, world.processes).clock.jump(pick(random, [-hour, hour])));
  }
  for (let at = 1; at <= 3; at++) {
    const person = { at: new Date(0), actor: "a person" };
    const ignore = () => undefined;
    during(at * 4 * minute, () => void first.sending.pause("to look", person).catch(ignore));
  }
  // Whoever pauses forgets to resume; somebody else does it every minute.
  const resume = (): void => {
    void second.sending.resume({ at: new Date(0), actor: "another person" }).catch(() => undefined);
    if (world.scheduler.nowMs() < Date.UTC(2026, 0, 6, 12)) world.scheduler.after(minute, resume);
  };
  resume();
}

async function runChaos(seed: number): Promise<Chaos> {
  const wishes = wishesOf(randomFrom(seed + 1), size);
  const sumOf = (currency: string) =>
    wishes.filter((wish) => wish.currency === currency).reduce((all, { amountMinor = 0n }) => all + amountMinor, 0n);
  // No day can pay for all.
  const chaos = openChaos(seed, (sumOf("USDT") * 4n) / 10n);
  const { world, random } = chaos;
  let isOver = false;
  keepWorkers(chaos, () => isOver);

  const single = wishes.slice(0, Math.floor(size * 0.7));
  const batched = wishes.slice(single.length);
  const callers = await Promise.all(["a", "b", "c"].map((name) => world.startCaller(name)));
  for (const wish of single) {
    // Many ask twice, at about the same time and through different replicas.
    const asks = 1 + upTo(random, 3);
    for (let ask = 0; ask < asks; ask++) {
      world.scheduler.after(upTo(random, 6 * minute), () => void pick(random, callers).create(wish));
    }
  }
  for (let from = 0; from < batched.length; from += 15) {
    const items = batched.slice(from, from + 15);
    for (const caller of callers.slice(0, 2)) {
      world.scheduler.after(upTo(random, 6 * minute), () => void caller.createBatch(`batch_${from}`, items));
    }
  }
  await disturb(
    chaos,
    single.map(({ key }) => key),
  );
  const jumpAt = upTo(random, 8 * minute);
  world.scheduler.after(jumpAt, () => world.jumpStoreClock(hour));
  world.scheduler.after(jumpAt + upTo(random, 4 * minute), () => world.jumpStoreClock(-hour));

  const all = () => [...world.payouts().values()];
  const isDone = () => all().length === size && all().every(({ phase }) => phase === "done");
  await world.until(isDone, 25 * minute);
  chaos.isWild = false;
  world.tell("the world", "all", "grows calm");
  // A release replaces all workers. Those that started while the store's clock was an hour ahead would wait for that long
  // before they send anything.
  for (const process of world.processes) process.thaw();
  await world.pass(minute);
  for (const process of world.processes) if (process.name.startsWith("worker")) process.crash();
  // The store's clock was an hour ahead for a while, and what was put off then waits for that hour. What the limit of a
  // day holds waits for the next one.
  const isHeld = () => all().every(({ phase, reason }) => phase === "done" || reason?.code === "DAILY_LIMIT");
  for (let day = 0; day < 8 && !isDone(); day++) {
    await world.until(() => isDone() || isHeld(), 2 * hour);
    if (isDone() || !isHeld()) continue;
    world.jumpStoreClock(24 * hour);
    await world.pass(3 * minute);
  }
  isOver = true;
  for (const process of world.processes) process.thaw();
  await world.pass(10 * minute);
  world.finish();
  return chaos;
}

it.each(Array.from({ length: worlds }, (_, n) => firstSeed + 2 * n))(
  `pays ${size} payouts once each, whatever happens (PAYOUT_SEED=%i)`,
  { timeout: 300_000 },
  async (seed) => {
    console.log(`PAYOUT_SEED=${seed}`);
    const { world, counts } = await runChaos(seed).catch((error: unknown) => {
      throw new Error(`PAYOUT_SEED=${seed}\n${error instanceof Error ? error.message : String(error)}`);
    });
    const ends = new Map<string, number>();
    for (const { status } of world.payouts().values()) ends.set(status, (ends.get(status) ?? 0) + 1);
    console.log([...ends, ...counts].map(([name, count]) => `${count} ${name}`).join("; "));
    expect(ends.get("completed") ?? 0).toBeGreaterThan(size / 2);
  },
);

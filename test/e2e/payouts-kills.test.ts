// Services that pay are killed at random moments, again and again. Afterwards the chain holds one transfer for each
// completed payout, to the minor unit, and no other; nothing is stuck; each payout's story is whole and told once.
// PAYOUT_KILLS, PAYOUT_FLEET_KILLS: how often. PAYOUT_COUNT: how many payouts. PAYOUT_SEED: replays the choices.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import { beforeAll, describe, expect, test } from "vitest";
import { Currency } from "../../gen/lucid/node/v1/common_pb.js";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { type Payout, type PayoutEvent, PayoutPhase, PayoutStatus } from "../../gen/lucid/node/v1/payout_service_pb.js";
import type { LucidClient } from "../../src/client/client.js";
import { lucidReason } from "../../src/client/errors.js";
import { isLegal, type Step } from "../../src/payouts/payout.js";
import { canStartReplicas, eventually, openReplicas, openSingle, sizeOf } from "../support/fleet/replicas.js";
import { randomFrom } from "../support/world/random.js";
import { requireBuilt } from "./built.js";

const seed = sizeOf("PAYOUT_SEED", Date.now() % 1_000_000);
const kills = sizeOf("PAYOUT_KILLS", 30);
const fleetKills = sizeOf("PAYOUT_FLEET_KILLS", 10);
const count = sizeOf("PAYOUT_COUNT", 500);
const fleetCount = 150;
const recipient = "TYE3wALUCdopQkYWyMyU2HJFtNzMvaqxjm";

const settings = {
  SANDBOX_BLOCK_TIME: "50",
  // Each payout is settled by the chain alone, whatever the network says.
  SANDBOX_FAULTS: "unanswered=0.1,busy=0.05,lost=0.03",
  PAYOUT_CLAIM_SECONDS: "5",
  DRAIN_WINDOW: "1",
};

beforeAll(requireBuilt);

/** Repeats a call until it is answered: the service may be down. Each call is safe to repeat. */
async function insisting<Answer>(call: () => Promise<Answer>): Promise<Answer> {
  for (let tries = 0; ; tries++) {
    try {
      return await call();
    } catch (error) {
      const reason = lucidReason(error);
      if ((reason !== undefined && reason !== "LUCID_ERR_5031") || tries > 200) throw error;
      await delay(100);
    }
  }
}

const cents = (place: number): string =>
  `${1 + (place % 7)}.${
    String(place % 1000)
      .padStart(6, "0")
      .replace(/0+$/, "") || "5"
  }`;

async function aNodeToPay(client: LucidClient): Promise<string> {
  const request = { name: "paid", nodeType: NodeType.WORKER, payoutAddress: recipient, idempotencyKey: "paid" };
  const { node } = await insisting(() => client.nodes.createNode(request));
  return node?.nodeId ?? "";
}

/** Half one by one, half in batches of 50, and one in twenty is asked to be cancelled. */
async function orderPayouts(
  client: LucidClient,
  nodeId: string,
  wanted: number,
  random: () => number,
): Promise<string[]> {
  const ids: string[] = [];
  for (let place = 0; place < wanted / 2; place++) {
    const money = { currency: Currency.USDT, amount: cents(place) };
    const key = `order-${place}`;
    const { payout } = await insisting(() => client.payouts.createPayout({ nodeId, money, idempotencyKey: key }));
    const payoutId = payout?.payoutId ?? "";
    ids.push(payoutId);
    if (random() < 0.05) await insisting(() => client.payouts.cancelPayout({ payoutId }));
  }
  for (let from = Math.ceil(wanted / 2), batch = 0; from < wanted; from += 50, batch++) {
    const payoutRequests = Array.from({ length: Math.min(50, wanted - from) }, (_, place) => ({
      ...{ nodeId, money: { currency: Currency.USDT, amount: cents(from + place) } },
    }));
    await insisting(() => client.payouts.createBatchPayout({ batchId: `batch_kills_${batch}`, payoutRequests }));
  }
  return ids;
}

async function allPayouts(client: LucidClient): Promise<Payout[]> {
  const found: Payout[] = [];
  for (let token = ""; ; ) {
    const position = token === "" ? ({ case: undefined } as const) : ({ case: "pageToken", value: token } as const);
    const { payouts, pagination } = await client.payouts.listPayouts({ limit: 100, position });
    found.push(...payouts);
    token = pagination?.nextPageToken ?? "";
    if (token === "") return found;
  }
}

const allDone = (client: LucidClient, wanted: number) => async (): Promise<true | string> => {
  const payouts = await insisting(() => allPayouts(client));
  const open = payouts.filter(({ phase }) => phase !== PayoutPhase.DONE);
  return (payouts.length === wanted && open.length === 0) || `${payouts.length} payouts, ${open.length} open`;
};

/** The story of one payout: versions in order, each step legal and continuing where the former ended. */
function expectWholeStory(payout: Payout, events: readonly PayoutEvent[]): void {
  const phases = new Map<unknown, string>(
    Object.entries(PayoutPhase).map(([name, value]) => [value, name.toLowerCase()]),
  );
  let phase = "none";
  let version = 0n;
  for (const event of events) {
    expect(event.version, `${payout.payoutId} tells each step once`).toBeGreaterThan(version);
    const to = phases.get(event.to) as Parameters<typeof isLegal>[2];
    const step = event.step as Step;
    if (step !== "create") expect(phases.get(event.from), `${payout.payoutId} ${step}`).toBe(phase);
    expect(isLegal(step, phase as Parameters<typeof isLegal>[1], to), `${step} from ${phase} to ${to}`).toBe(true);
    ({ version } = event);
    phase = to;
  }
  expect(phase, `${payout.payoutId} tells its end`).toBe("done");
}

async function expectPaidOnce(client: LucidClient, wanted: number, singles: readonly string[]) {
  const payouts = await allPayouts(client);
  expect(new Set(payouts.map(({ payoutId }) => payoutId)).size).toBe(wanted);
  const by = (status: PayoutStatus) => payouts.filter((payout) => payout.status === status);
  expect(by(PayoutStatus.FAILED).map(({ errorMessage }) => errorMessage)).toEqual([]);
  expect(by(PayoutStatus.COMPLETED).length + by(PayoutStatus.CANCELLED).length).toBe(wanted);
  const hashes = by(PayoutStatus.COMPLETED).map(({ transactionHash }) => transactionHash);
  expect(new Set(hashes).size, "no transaction pays two payouts").toBe(hashes.length);
  expect(singles.filter((id) => !payouts.some(({ payoutId }) => payoutId === id))).toEqual([]);
  for (const payout of payouts) {
    const { events } = await client.payouts.listPayoutEvents({ payoutId: payout.payoutId, limit: 100 });
    expectWholeStory(payout, events);
  }
  // The newest transfers must be solid to be compared; they are, since their payouts are completed.
  const { report } = await client.payouts.reconcilePayouts({});
  expect(report).toMatchObject({ matched: BigInt(hashes.length), missing: 0n, orphan: 0n, wrong: 0n });
  const attempts = payouts.reduce((sum, payout) => sum + payout.attempts.length, 0);
  return { completed: hashes.length, cancelled: by(PayoutStatus.CANCELLED).length, attempts };
}

describe("a service that is killed while it pays", () => {
  test(`T28 pays ${count} payouts once over ${kills} kills`, { retry: 0, timeout: 600_000 }, async () => {
    console.log(`payouts: PAYOUT_SEED=${seed} PAYOUT_KILLS=${kills} PAYOUT_COUNT=${count}`);
    const random = randomFrom(seed);
    const directory = mkdtempSync(join(tmpdir(), "lucid-payouts-"));
    try {
      await using single = await openSingle(directory, settings);
      const client = single.client();
      const nodeId = await aNodeToPay(client);
      const ordering = orderPayouts(client, nodeId, count, random);
      ordering.catch(() => undefined);
      for (let kill = 0; kill < kills; kill++) {
        // The test varies the moment of the kill: it may fall anywhere in the service's work.
        await delay(random() * 1_500);
        await single.replica.kill();
        await single.replica.start();
      }
      const singles = await ordering;
      await eventually(allDone(client, count), "all payouts are done", 180_000);
      const told = await expectPaidOnce(client, count, singles);
      console.log(`payouts: ${kills} kills, ${JSON.stringify(told)}`);
      expect(told.completed).toBeGreaterThan(count * 0.8);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe.skipIf(!canStartReplicas("payouts of two replicas"))("two replicas that pay from one queue", () => {
  test(`T29 pay ${fleetCount} payouts once over ${fleetKills} kills, a death of the database and a flush of Redis`, {
    retry: 0,
    timeout: 900_000,
  }, async () => {
    console.log(`payouts: PAYOUT_SEED=${seed} PAYOUT_FLEET_KILLS=${fleetKills}`);
    const random = randomFrom(seed);
    await using fleet = await openReplicas({ count: 2, settings, durable: true });
    const client = fleet.client();
    const nodeId = await aNodeToPay(client);
    const ordering = orderPayouts(client, nodeId, fleetCount, random);
    ordering.catch(() => undefined);
    for (let kill = 0; kill < fleetKills; kill++) {
      await delay(random() * 2_000);
      if (kill === Math.floor(fleetKills / 2)) {
        await fleet.mongo.kill();
        await delay(random() * 1_500);
        await fleet.mongo.restart();
      }
      if (kill === Math.floor(fleetKills / 3)) await flush(fleet.redisUrl);
      const replica = fleet.all[Math.floor(random() * fleet.all.length)];
      await replica?.kill();
      await delay(random() * 1_000);
      await replica?.start();
    }
    const singles = await ordering;
    await eventually(allDone(client, fleetCount), "all payouts are done", 240_000);
    const told = await expectPaidOnce(client, fleetCount, singles);
    console.log(`payouts of two replicas: ${fleetKills} kills, ${JSON.stringify(told)}`);
  });
});

async function flush(url: string): Promise<void> {
  const redis = new Redis(url);
  await redis.flushall();
  redis.disconnect();
}

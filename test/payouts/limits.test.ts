// The limits that hold the queue, against workers that reserve at the same time.
import { expect, it } from "vitest";
import type { PayoutDocument } from "../../src/payouts/document.js";
import type { Gateway } from "../../src/payouts/gateway/gateway.js";
import { createLimitKeeper, dayOf } from "../../src/payouts/limits.js";
import { created, type Order } from "../../src/payouts/payout.js";
import { createPayoutRepository } from "../../src/payouts/repository.js";
import { createMemoryStore } from "./world/memory-store.js";

const morning = new Date("2026-01-31T08:00:00Z");
const evening = new Date("2026-01-31T23:59:59.999Z");
const nextDay = new Date("2026-02-01T00:00:00Z");
const payout = (name: string, amount: bigint, changes: Partial<PayoutDocument> = {}): PayoutDocument => ({
  ...created(
    {
      ...{ _id: `payout_${name}`, node_id: "node_1", currency: "USDT", amount_minor: `${amount}`, priority: "normal" },
      ...{ max_retries: 1, created_by: "ann", recipient: "sealed", recipient_fingerprint: "p", recipient_masked: "T…" },
    } satisfies Order,
    {},
    { at: morning, actor: "ann" },
  ),
  ...changes,
});

async function open({ dailyLimit = undefined as bigint | undefined, floor = undefined as bigint | undefined }) {
  const store = createMemoryStore({ now: () => morning });
  const replica = async () => {
    const repository = await createPayoutRepository(store);
    const walletFloor = { USDT: floor, LUCID: undefined };
    return createLimitKeeper({ repository, dailyLimit: { USDT: dailyLimit, LUCID: undefined }, walletFloor });
  };
  const repository = await createPayoutRepository(store);
  return { repository, one: await replica(), other: await replica() };
}

it("counts a day from midnight to midnight, UTC", () => {
  expect([morning, evening, nextDay].map(dayOf)).toEqual(["2026-01-31", "2026-01-31", "2026-02-01"]);
});

it("reserves up to the limit, once a payout, and says why the next one waits", async () => {
  const { one } = await open({ dailyLimit: 10n });
  expect(await one.reserve(payout("a", 6n), morning)).toBe("2026-01-31");
  expect(await one.reserve(payout("a", 6n), evening)).toBe("2026-01-31");
  expect(await one.reserve(payout("b", 5n), evening)).toMatchObject({ code: "DAILY_LIMIT" });
  expect(await one.reserve(payout("c", 4n), evening)).toBe("2026-01-31");
  expect(await one.reserve(payout("b", 5n), nextDay)).toBe("2026-02-01");
});

it("is never passed by replicas that reserve at once", async () => {
  const { one, other, repository } = await open({ dailyLimit: 10n });
  const asked = Array.from({ length: 30 }, (_, n) => (n % 2 === 0 ? one : other).reserve(payout(`p${n}`, 1n), morning));
  const answers = await Promise.all(asked);
  expect(answers.filter((answer) => answer === "2026-01-31")).toHaveLength(10);
  expect((await repository.days.get("USDT", "2026-01-31"))?.sum_minor).toBe("10");
});

it("gives back what moved no money, and keeps what did", async () => {
  const { one, repository } = await open({ dailyLimit: 10n });
  const [paid, failed] = [payout("a", 6n), payout("b", 4n)];
  for (const one of [paid, failed]) await repository.insert(one);
  await one.reserve(paid, morning);
  await one.reserve(failed, morning);
  const ended = { phase: "done", reserved_on: "2026-01-31" } as const;
  await one.settle({ ...paid, ...ended, status: "completed" });
  await one.settle({ ...failed, ...ended, status: "failed" });
  await one.settle({ ...failed, ...ended, status: "failed" });
  expect((await repository.days.get("USDT", "2026-01-31"))?.sum_minor).toBe("6");
  expect(await one.reserve(payout("c", 5n), morning)).toMatchObject({ code: "DAILY_LIMIT" });
  expect(await one.reserve(payout("d", 4n), morning)).toBe("2026-01-31");
});

it("finds a reservation whose end was never told", async () => {
  const { one, repository } = await open({ dailyLimit: 10n });
  const lost = payout("a", 10n);
  await one.reserve(lost, morning);
  await repository.insert({ ...lost, phase: "done", status: "cancelled", reserved_on: "2026-01-31" });
  expect(await one.reserve(payout("b", 3n), morning)).toBe("2026-01-31");
});

it("leaves the wallet its floor, against payouts that begin at the same time", async () => {
  const { one, other } = await open({ floor: 50n });
  const gateway = { balance: async () => 100n } as Gateway;
  const begun = Array.from({ length: 10 }, (_, n) =>
    (n % 2 === 0 ? one : other).belowFloor(payout(`p${n}`, 10n), gateway),
  );
  const answers = await Promise.all(begun);
  expect(answers.filter((answer) => answer === undefined)).toHaveLength(5);
  expect(answers.filter((answer) => answer?.code === "WALLET_FLOOR")).toHaveLength(5);
});

it("holds nothing where there is no limit", async () => {
  const { one } = await open({});
  expect(await one.reserve(payout("a", 10n ** 30n), morning)).toBeUndefined();
  expect(await one.belowFloor(payout("a", 10n ** 30n), { balance: async () => 0n } as Gateway)).toBeUndefined();
});

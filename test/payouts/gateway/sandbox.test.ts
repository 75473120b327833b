// The sandbox: the contract of gateways, and a chain in the store that no crash, no second replica and no clock breaks.
import { describe, expect, test } from "vitest";
import { addressProblem } from "../../../src/payouts/address.js";
import { type Faults, faultNames, noFaults } from "../../../src/payouts/gateway/faults.js";
import type { Draft, Gateway, Sought } from "../../../src/payouts/gateway/gateway.js";
import { createSandboxGateway } from "../../../src/payouts/gateway/sandbox.js";
import { sandboxTransactionsCollection } from "../../../src/payouts/gateway/sandbox-head.js";
import { type Currency, currencies } from "../../../src/payouts/money.js";
import {
  type Collection,
  type Store,
  type StoredDocument,
  StoreUnavailableError,
} from "../../../src/storage/collection.js";
import { silentLog } from "../../../src/telemetry/log.js";
import { describeGateway } from "../../contract/gateway.js";
import { openEngines } from "../../support/engines/engines.js";
import { createTestClock } from "../../support/world/clock.js";
import { randomFrom } from "../../support/world/random.js";
import { until } from "../../support/world/until.js";

const seed = Number(process.env.SEED ?? 7);
const recipients = ["TJCnKsPa7y5okkXvQAidZBzqx3QyQ6sxMW", "TEkxiTehnzSmSe2XqrBj4w32RUN966rdz8"] as const;
const blockMs = 3000;

/** A store under a clock that the test moves in any direction, and whatever else of it is replaced. */
async function openWorld() {
  const engines = await openEngines(createTestClock());
  const { store: inner, coordination } = await engines.open();
  let nowMs = Date.parse("2026-01-01T00:00:00Z");
  const store: Store = { ...inner, now: async () => new Date(nowMs) };
  return {
    store,
    advance: (ms: number) => {
      nowMs += ms;
    },
    close: async () => {
      await coordination[Symbol.asyncDispose]();
      await inner[Symbol.asyncDispose]();
      engines.remove();
    },
  };
}
type World = Awaited<ReturnType<typeof openWorld>>;

const aGateway = (store: Store, given: Partial<Parameters<typeof createSandboxGateway>[0]> = {}): Promise<Gateway> =>
  createSandboxGateway({
    ...{ store, currency: "USDT", blockMs, faults: noFaults, random: () => 0.5, log: silentLog },
    ...given,
  });

describeGateway("the sandbox", async () => {
  const world = await openWorld();
  const faults: Record<string, number> = { ...noFaults };
  const given = { faults: faults as Faults, random: randomFrom(seed) };
  const gateway = await aGateway(world.store, given);
  // A chain that has some history.
  world.advance(100 * blockMs);
  return {
    ...{ gateway, other: await aGateway(world.store), blockMs, recipients },
    advance: async (ms) => world.advance(ms),
    suffer: (...names) => {
      for (const name of faultNames) faults[name] = names.includes(name) ? 1 : 0;
    },
    close: world.close,
  };
});

async function inWorld(run: (world: World) => Promise<void>): Promise<void> {
  const world = await openWorld();
  try {
    await run(world);
  } finally {
    await world.close();
  }
}

const wanted = { recipient: recipients[0], amountMinor: 1_000_000n };
const soughtOf = ({ txid, refBlock, expiresAtMs }: Draft): Sought => ({ ...wanted, txid, refBlock, expiresAtMs });
async function pay(gateway: Gateway, stamp: number) {
  const draft = await gateway.draft(wanted, stamp);
  const answer = await gateway.send({ ...draft, signature: await gateway.sign(draft) });
  return { draft, answer, sought: soughtOf(draft) };
}

/** A store whose operations pass a gate first: it may hold them, refuse them, or lose their answers. */
function gated(
  store: Store,
  gate: (name: string, collection: string, apply: () => Promise<unknown>) => Promise<unknown>,
): Store {
  return {
    ...store,
    collection: async <T extends StoredDocument>(definition: Parameters<Store["collection"]>[0]) =>
      new Proxy(await store.collection<T>(definition), {
        get: (target, name) => {
          const found: unknown = Reflect.get(target, name);
          if (typeof found !== "function") return found;
          return (...given: unknown[]) =>
            gate(String(name), definition.name, async () => Reflect.apply(found, target, given));
        },
      }) as Collection<T>,
  };
}
const isWrite = (name: string): boolean => !["findOne", "page", "count"].includes(name);

describe("the sandbox chain", () => {
  test.each([...currencies])("pays %s from an address that can be none of the fleet's", (currency) =>
    inWorld(async ({ store }) => {
      const gateway = await aGateway(store, { currency });
      expect(addressProblem(gateway.wallet)).toBeUndefined();
      const never: Record<Currency, string[]> = {
        USDT: ["TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb"],
        LUCID: [`0x${"0".repeat(40)}`, gateway.wallet.toUpperCase().replace("0X", "0x")],
      };
      for (const recipient of [...never[currency], gateway.wallet]) {
        expect(gateway.recipientProblem(recipient), recipient).toBeDefined();
      }
      expect(gateway).toMatchObject({ name: "sandbox", currency, unknownForMs: 0, solidAfterMs: 21 * blockMs });
      const { draft } = await pay(gateway, 1);
      expect(draft.txid).toMatch(/^sandbox:[0-9a-f]{64}$/);
    }),
  );

  test("each currency has a chain of its own", () =>
    inWorld(async ({ store, advance }) => {
      const [usdt, lucid] = [await aGateway(store), await aGateway(store, { currency: "LUCID" })];
      const before = await lucid.balance();
      await pay(usdt, 1);
      advance(30 * blockMs);
      expect((await usdt.transfersAfter(0)).transfers.length).toBe(1);
      expect((await lucid.transfersAfter(0)).transfers).toEqual([]);
      expect(await lucid.balance()).toBe(before);
    }));

  test("goes on after a restart where it was", () =>
    inWorld(async ({ store, advance }) => {
      const { sought } = await pay(await aGateway(store), 1);
      advance(60 * blockMs);
      const again = await aGateway(store);
      // The block is where it would be if somebody had looked in time.
      expect(await again.judge(sought)).toMatchObject({ kind: "landed", block: { number: 1 } });
    }));

  test("writes nothing while nothing is paid, and nothing after all is settled", () =>
    inWorld(async ({ store, advance }) => {
      let writes = 0;
      const watched = gated(store, (name, _, apply) => {
        if (isWrite(name)) writes++;
        return apply();
      });
      const gateway = await aGateway(watched);
      const idle = async () => {
        writes = 0;
        for (let turn = 0; turn < 5; turn++) {
          advance(100 * blockMs);
          const { number } = await gateway.solid();
          await gateway.transfersAfter(number);
          await gateway.balance();
          await gateway.preflight(wanted);
        }
        return writes;
      };
      expect(await idle()).toBe(0);
      const { sought } = await pay(gateway, 1);
      advance(30 * blockMs);
      // A transaction that only the chain knows is told, too, though nobody asks for it.
      const before = await gateway.solid();
      expect((await gateway.transfersAfter(0)).transfers.map(({ txid }) => txid)).toEqual([sought.txid]);
      expect(before.number).toBeGreaterThan(0);
      expect(await idle()).toBe(0);
      expect((await gateway.judge(sought)).kind).toBe("landed");
    }));

  test("a store whose clock steps back opens no closed slot", () =>
    inWorld(async ({ store, advance }) => {
      const gateway = await aGateway(store);
      advance(100 * blockMs);
      const draft = await gateway.draft(wanted, 1);
      const sought = soughtOf(draft);
      advance(60 * blockMs);
      const dead = await gateway.judge(sought);
      expect(dead.kind).toBe("dead");
      advance(-60 * blockMs);
      // The bytes would have been in time.
      const answer = await gateway.send({ ...draft, signature: await gateway.sign(draft) });
      expect(answer.code).toBe("TRANSACTION_EXPIRATION_ERROR");
      for (let turn = 0; turn < 10; turn++) {
        advance(20 * blockMs);
        expect((await gateway.judge(sought)).kind).toBe("dead");
      }
      expect((await pay(gateway, 2)).answer.class).toBe("accepted");
    }));

  test("another block time holds from the next block on and changes no fate", () =>
    inWorld(async ({ store, advance }) => {
      const slow = await aGateway(store);
      advance(100 * blockMs);
      const landed = (await pay(slow, 1)).sought;
      advance(30 * blockMs);
      const before = await slow.judge(landed);
      const draft = await slow.draft(wanted, 2);
      const fast = await aGateway(store, { blockMs: 10 });
      expect(await fast.judge(landed)).toEqual(before);
      const next = await pay(fast, 3);
      advance(10 * 30);
      expect(await fast.judge(next.sought)).toMatchObject({ kind: "landed" });
      expect((await fast.judge(soughtOf(draft))).kind).toBe("open");
      advance(draft.expiresAtMs - draft.refBlock.timeMs);
      expect((await fast.judge(soughtOf(draft))).kind).toBe("dead");
      expect(await slow.judge(landed)).toEqual(before);
    }));

  test("a wallet without enough reverts what it cannot pay, and pays what it can", () =>
    inWorld(async ({ store, advance }) => {
      const gateway = await aGateway(store, { startMinor: 2_500_000n });
      const sent = [await pay(gateway, 1), await pay(gateway, 2), await pay(gateway, 3)];
      advance(30 * blockMs);
      const kinds = await Promise.all(sent.map(async ({ sought }) => (await gateway.judge(sought)).kind));
      expect(kinds.sort()).toEqual(["landed", "landed", "reverted"]);
      expect(await gateway.balance()).toBe(500_000n);
    }));

  test("a full block leaves the rest to the next ones, and thousands of transfers are told in pieces", () =>
    inWorld(async ({ store, advance }) => {
      const gateway = await aGateway(store);
      const draft = await gateway.draft(wanted, 1);
      const transactions = await store.collection<StoredDocument & { due: number }>(sandboxTransactionsCollection);
      const waiting = Array.from({ length: 1700 }, (_, place) => ({
        ...{ _id: `sandbox:${place}`, chain: "USDT", state: "pending", due: place < 1300 ? 1 : 4, recipient: "A" },
        ...{ expires_at_ms: draft.expiresAtMs, amount_minor: "1", fee_limit: "100000000", holds_token: false },
      }));
      for (const part of [waiting.slice(0, 1000), waiting.slice(1000)]) await transactions.insertMany(part);
      advance(40 * blockMs);
      const told = [];
      const sizes = new Map<number, number>();
      for (let from = 0; ; ) {
        const { transfers, to } = await gateway.transfersAfter(from);
        expect(transfers.length).toBeLessThanOrEqual(1000);
        told.push(...transfers.map(({ txid }) => txid));
        for (const { block } of transfers) sizes.set(block.number, (sizes.get(block.number) ?? 0) + 1);
        if (to.number === (await gateway.solid()).number) break;
        from = to.number;
      }
      expect(new Set(told).size).toBe(1700);
      expect(told.length).toBe(1700);
      expect([...sizes]).toEqual([...[1, 2, 3].map((number) => [number, number < 3 ? 500 : 300]), [4, 400]]);
    }));
});

describe("a chain of two replicas", () => {
  /** A gateway whose next block waits to be written until `release` is called. */
  const aStalling = async (store: Store) => {
    let held: PromiseWithResolvers<void> | undefined;
    let isHeld = false;
    const slowStore = gated(store, async (name, collection, apply) => {
      if (name === "findOneAndUpdate" && collection === "sandbox_chain" && held !== undefined) {
        isHeld = true;
        await held.promise;
      }
      return apply();
    });
    return {
      gateway: await aGateway(slowStore),
      /** Holds what `begin` writes until `act` is done. */
      stall: async (act: () => Promise<unknown>, begin: () => Promise<unknown>) => {
        held = Promise.withResolvers();
        const begun = begin();
        await until(() => isHeld, "the slow producer is about to write");
        await act();
        held.resolve();
        await begun;
      },
    };
  };

  test("a producer that stood still cannot change a block that was read", () =>
    inWorld(async ({ store, advance }) => {
      const slow = await aStalling(store);
      const quick = await aGateway(store);
      advance(100 * blockMs);
      const { sought } = await pay(quick, 1);
      advance(blockMs);
      // The slow one has read what waits.
      let told: unknown;
      await slow.stall(
        async () => {
          advance(60 * blockMs);
          told = [await quick.judge(sought), await quick.solid(), await quick.balance()];
        },
        () => slow.gateway.judge(sought),
      );
      expect([await quick.judge(sought), await quick.solid(), await quick.balance()]).toEqual(told);
      expect((await quick.transfersAfter(0)).transfers.length).toBe(1);
    }));

  test("a producer that stood still while others paid takes nothing of it back", () =>
    inWorld(async ({ store, advance }) => {
      const slow = await aStalling(store);
      const quick = await aGateway(store);
      advance(100 * blockMs);
      let told: unknown;
      // The slow one has read that nothing waits, and is about to close the slots up to here.
      await slow.stall(
        async () => {
          const { sought } = await pay(quick, 1);
          advance(60 * blockMs);
          told = [(await quick.judge(sought)).kind, await quick.solid(), await quick.balance()];
        },
        () => slow.gateway.draft(wanted, 2),
      );
      expect(["landed", await quick.solid(), await quick.balance()]).toEqual(told);
      expect((await quick.transfersAfter(0)).transfers.length).toBe(1);
    }));

  test("a producer that knows an older block time closes no slot that is still to come", () =>
    inWorld(async ({ store, advance }) => {
      let reading: PromiseWithResolvers<void> | undefined;
      const now = async () => {
        await reading?.promise;
        return store.now();
      };
      const old = await aGateway({ ...store, now }, { blockMs: 10 });
      reading = Promise.withResolvers();
      // The old one has read the block time, and stands before it reads the clock.
      const looking = old.draft(wanted, 1);
      const young = await aGateway(store, { blockMs: 3000 });
      advance(100_000);
      reading.resolve();
      await looking;
      advance(blockMs);
      const { refBlock } = await young.draft(wanted, 2);
      expect(refBlock.number).toBe(34 - 19);
    }));

  test(`both tell the same blocks, whoever makes them (seed ${seed})`, () =>
    inWorld(async ({ store, advance }) => {
      const random = randomFrom(seed);
      const pair = [await aGateway(store), await aGateway(store)] as const;
      const any = () => pair[random() < 0.5 ? 0 : 1];
      const sent: Awaited<ReturnType<typeof pay>>[] = [];
      const dead = new Set<string>();
      for (let turn = 0; turn < 40; turn++) {
        advance(Math.floor(random() * 3 * blockMs));
        const stamps = [turn * 2, turn * 2 + 1];
        sent.push(...(await Promise.all(stamps.map((stamp) => pay(any(), stamp)))));
        const old = sent.slice(-6);
        for (const { draft } of old) await any().send({ ...draft, signature: await any().sign(draft) });
        await Promise.all(old.map(({ sought }) => any().judge(sought)));
        expect(await pair[0].solid()).toEqual(await pair[1].solid());
      }
      advance(60 * blockMs);
      for (const { sought } of sent) {
        const [one, two] = [await pair[0].judge(sought), await pair[1].judge(sought)];
        expect(one).toEqual(two);
        if (one.kind === "dead") dead.add(sought.txid);
        else expect(one.kind).toBe("landed");
      }
      const { transfers } = await pair[0].transfersAfter(0);
      const paid = new Set(transfers.map(({ txid }) => txid));
      expect(paid.size).toBe(transfers.length);
      for (const { sought } of sent) expect(paid.has(sought.txid)).toBe(!dead.has(sought.txid));
      expect(await pair[1].balance()).toBe(10n ** 15n - 1_000_000n * BigInt(transfers.length));
    }));
});

/** What goes wrong with one write, and with all after it in a crash. */
const mishaps = ["crash before", "crash after", "not applied", "answer lost"] as const;

/** A replica sends three transactions, of which one expires, and judges them; one of its writes goes wrong. */
async function mishap(world: World, place: number, kind: (typeof mishaps)[number]): Promise<number> {
  let writes = 0;
  let isOver = false;
  const store = gated(world.store, async (name, _, apply) => {
    if (isOver) throw new StoreUnavailableError("the process is gone");
    if (!isWrite(name) || ++writes !== place) return apply();
    isOver = kind.startsWith("crash");
    if (kind === "crash after" || kind === "answer lost") await apply();
    throw new StoreUnavailableError(kind);
  });
  const known: Sought[] = [];
  const judged = new Map<string, string>();
  const look = async (gateway: Gateway) => {
    for (const sought of known) {
      const { kind: verdict } = await gateway.judge(sought);
      const before = judged.get(sought.txid) ?? "open";
      // A verdict that was told is never taken back.
      if (before !== "open") expect(verdict).toBe(before);
      judged.set(sought.txid, verdict);
    }
  };
  const run = async () => {
    const gateway = await aGateway(store);
    for (let stamp = 0; stamp < 3; stamp++) {
      const draft = await gateway.draft(wanted, stamp);
      known.push(soughtOf(draft));
      if (stamp === 1) world.advance(60 * blockMs);
      await gateway.send({ ...draft, signature: await gateway.sign(draft) });
      world.advance(blockMs);
      await look(gateway);
    }
    world.advance(25 * blockMs);
    await look(gateway);
  };
  await run().catch((error: unknown) => {
    if (!(error instanceof StoreUnavailableError) && !(error instanceof Error && error.name === "GatewayAwayError")) {
      throw error;
    }
  });
  // Another replica finds what the first one left, and the first one's writes are over.
  isOver = true;
  const after = await aGateway(world.store);
  await look(after);
  world.advance(60 * blockMs);
  await look(after);
  const { transfers } = await after.transfersAfter(0);
  const paid = transfers.map(({ txid }) => txid);
  expect(new Set(paid).size).toBe(paid.length);
  for (const { txid } of known) expect(judged.get(txid)).toBe(paid.includes(txid) ? "landed" : "dead");
  expect(await after.balance()).toBe(10n ** 15n - wanted.amountMinor * BigInt(paid.length));
  return writes;
}

describe("a write of the chain goes wrong", () => {
  test("and each transaction still has one fate, whichever write it was", async () => {
    let runs = 0;
    let most = 0;
    for (const kind of mishaps) {
      for (let place = 1; ; place++) {
        const world = await openWorld();
        const writes = await mishap(world, place, kind).finally(world.close);
        if (writes < place) break;
        runs++;
        most = Math.max(most, writes);
      }
    }
    expect(most).toBeGreaterThan(8);
    expect(runs).toBeGreaterThan(4 * 8);
  });
});

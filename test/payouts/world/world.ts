// The simulated world of payouts: one store, one chain, any number of workers and callers, and an auditor who watches.
// Everything that is left to chance comes from arguments, so a run can be told again from its seed.

import type { Vault } from "../../../src/crypto.js";
import { maskAddress } from "../../../src/payouts/address.js";
import { createBatches } from "../../../src/payouts/batches.js";
import type {
  BatchDocument,
  Entry,
  PayoutDocument,
  Phase,
  Priority,
  SendingDocument,
} from "../../../src/payouts/document.js";
import type { Gateway, Preflight, Signed } from "../../../src/payouts/gateway/gateway.js";
import { createLimitKeeper } from "../../../src/payouts/limits.js";
import { createMatching } from "../../../src/payouts/matching.js";
import type { Currency } from "../../../src/payouts/money.js";
import { type Act, cancelAsked, cancelled, created, type Order } from "../../../src/payouts/payout.js";
import { createPayoutRepository, type DayDocument, type PayoutRepository } from "../../../src/payouts/repository.js";
import { createSending, type Sending } from "../../../src/payouts/sending.js";
import { createSteps } from "../../../src/payouts/steps.js";
import { createStory, type EventDocument } from "../../../src/payouts/story.js";
import { createWorker } from "../../../src/payouts/worker.js";
import type { Collection, CollectionDefinition, Store, StoredDocument } from "../../../src/storage/collection.js";
import { DuplicateKeyError, StoreUnavailableError } from "../../../src/storage/collection.js";
import { insertUnlessThere } from "../../../src/storage/insert.js";
import { isOutage } from "../../../src/task.js";
import { silentLog } from "../../../src/telemetry/log.js";
import { createAuditor } from "./auditor.js";
import { createChain, type Wanted } from "./chain.js";
import { away, createWorldGateway, lifeMs, type Node, unanswered } from "./gateway.js";
import { createMemoryStore } from "./memory-store.js";
import { call, createProcess, type Point, type Process, type Weather } from "./process.js";
import { createScheduler } from "./scheduler.js";

/** What the world is like. Nothing goes wrong unless it is told here. */
export interface Conditions {
  readonly startMs?: number;
  readonly weather: Weather;
  /** In [0, 1), for backoff and stamps. */
  readonly random: () => number;
  /** Few of them make two payouts to one recipient meet in one txid. */
  readonly stamps?: number;
  readonly currencies?: readonly Currency[];
  readonly wallet?: bigint;
  readonly limits?: Limits;
  readonly claimMs?: number;
  readonly everyMs?: number;
  readonly batchSize?: number;
  /** How much longer than its own time the comparison of transfers rests: it costs most of the time of an idle world. */
  readonly matchingRests?: number;
  readonly reverts?: (wanted: Wanted, txid: string) => { code: string; retryable: boolean } | undefined;
  readonly misses?: () => boolean;
  readonly node?: () => Node;
  /** As in the port of gateways. */
  readonly unknownForMs?: number;
  readonly preflight?: (recipient: string) => Preflight;
  readonly nodeProblem?: (nodeId: string) => { code: string; message: string } | undefined;
}

/** In minor units, for each currency. */
export interface Limits {
  readonly dailyMax?: bigint;
  readonly walletFloor?: bigint;
}

export interface Wish {
  readonly key: string;
  readonly recipient?: string;
  readonly amountMinor?: bigint;
  readonly currency?: Currency;
  readonly priority?: Priority;
  readonly maxRetries?: number;
}

export interface Caller {
  readonly process: Process;
  /** Creates the payout; asks again until it is answered. */
  create(wish: Wish): Promise<void>;
  /** Creates a batch; its items become payouts without a key. */
  createBatch(batchId: string, wishes: readonly Wish[]): Promise<void>;
  /** Cancels it, or asks for it; asks again until it is answered. */
  cancel(key: string): Promise<void>;
  readonly sending: Sending;
  readonly repository: PayoutRepository;
}

/** The real one takes a tenth of the time of a run, and nothing here depends on its secrets. */
const vault: Vault = {
  seal: (text) => `sealed:${text}`,
  open: (sealed) => sealed.slice("sealed:".length),
  fingerprint: (text) => `print of ${text}`,
};
const never = { began: () => undefined, ended: () => undefined };
const outageOf = () => new StoreUnavailableError("The store did not answer");

export type World = ReturnType<typeof createPayoutWorld>;

export function createPayoutWorld(conditions: Conditions) {
  const { weather, random, currencies = ["USDT"], limits = {} } = conditions;
  const scheduler = createScheduler(conditions.startMs ?? Date.UTC(2026, 0, 5, 12));
  const trace: { readonly atMs: number; readonly who: string; readonly about: string; readonly what: string }[] = [];
  const mistakes: unknown[] = [];
  const processes: Process[] = [];
  const accepted = new Set<string>();
  const acceptedBatches = new Map<string, readonly Wish[]>();
  let storeOffsetMs = 0;
  let writer: Process | undefined;

  const tell = (who: string, about: string, what: string): void => {
    trace.push({ atMs: scheduler.nowMs(), who, about, what });
  };
  const storeNow = () => new Date(scheduler.nowMs() + storeOffsetMs);

  const auditor = createAuditor({
    chain: () => chain,
    openRaw: vault.open,
    openRecipient: vault.open,
    dailyMax: () => limits.dailyMax,
    floor: () => limits.walletFloor,
  });
  const chain = createChain({
    nowMs: scheduler.nowMs,
    startMs: scheduler.nowMs(),
    wallet: new Map(currencies.map((currency) => [currency, conditions.wallet ?? 10n ** 18n])),
    reverts: conditions.reverts ?? (() => undefined),
    misses: conditions.misses ?? (() => false),
    mined: (block) => {
      for (const { txid, revert } of block.included) {
        tell("chain", txid, `block ${block.id}${revert === undefined ? "" : `, reverted: ${revert.code}`}`);
      }
      auditor.mined(block);
    },
    solidified: auditor.solidified,
  });
  const store = createMemoryStore({
    now: storeNow,
    // The contract of the store has been tested at the gate; here it would take a third of the time.
    gate: false,
    changed: (collection, before, after) => {
      if (collection !== "payouts" || after === null) return;
      const [former, next] = [before as PayoutDocument | null, after as PayoutDocument];
      const isWorker = writer?.name.startsWith("worker") ?? false;
      tell(writer?.name ?? "nobody", next._id, storyOf(next));
      auditor.wrote(former, next, isWorker ? writer?.name : undefined, storeNow());
    },
  });

  const startProcess = (name: string): Process => {
    const process = createProcess(name, scheduler, (what) => tell(name, "all", what));
    processes.push(process);
    return process;
  };

  const sky = { scheduler, weather };

  /** The store as one process reaches it. */
  const storeOf = (process: Process): Store => {
    const ask = <T>(kind: Point["kind"], name: string, apply: () => Promise<T>): Promise<T> =>
      call(
        sky,
        { process, kind, name },
        {
          apply: () => {
            writer = process;
            try {
              return apply();
            } finally {
              writer = undefined;
            }
          },
          unanswered: outageOf,
        },
      );
    return {
      ...store,
      now: async () => storeNow(),
      collection: async <T extends StoredDocument>(definition: CollectionDefinition): Promise<Collection<T>> => {
        const inner = await store.collection<T>(definition);
        const { name } = definition;
        return {
          insertOne: (document) => ask("write", `${name} insert`, () => inner.insertOne(document)),
          insertMany: (...args) => ask("write", `${name} insert`, () => inner.insertMany(...args)),
          findOne: (...args) => ask("read", `${name} find`, () => inner.findOne(...args)),
          page: (...args) => ask("read", `${name} page`, () => inner.page(...args)),
          count: (...args) => ask("read", `${name} count`, () => inner.count(...args)),
          updateOne: (...args) => ask("write", `${name} update`, () => inner.updateOne(...args)),
          findOneAndUpdate: (...args) =>
            ask("write", `${name} ${stepNamed(args[1].$set)}`, () => inner.findOneAndUpdate(...args)),
          bulkUpdate: (...args) => ask("write", `${name} bulk`, () => inner.bulkUpdate(...args)),
          deleteMany: (...args) => ask("write", `${name} delete`, () => inner.deleteMany(...args)),
        };
      },
    };
  };

  const gatewayOf = (process: Process, currency: Currency): Gateway =>
    createWorldGateway({
      currency,
      chain,
      read: (name, apply) => call(sky, { process, kind: "read", name: `gateway ${name}` }, { apply, unanswered: away }),
      sign: (txid, apply) =>
        call(
          sky,
          { process, kind: "effect", name: "gateway sign" },
          { apply, unanswered: away, departs: () => auditor.signs(txid) },
        ),
      send: (signed: Signed, apply) =>
        call(
          sky,
          { process, kind: "effect", name: "gateway send", txid: signed.txid },
          {
            departs: () => {
              tell(process.name, signed.txid, "leaves");
              auditor.leaves(signed);
            },
            apply: async () => {
              const answer = await apply();
              tell(process.name, signed.txid, `arrives: ${answer.code}`);
              return answer;
            },
            unanswered: () => unanswered,
            lied: (answer) => answer,
          },
        ),
      unknownForMs: conditions.unknownForMs ?? lifeMs,
      node: conditions.node ?? (() => ({ lag: 0 })),
      preflight: conditions.preflight ?? (() => ({ kind: "ready" })),
    });

  const run = (process: Process, task: (signal: AbortSignal) => Promise<void>): void => {
    task(process.control.signal).catch((error: unknown) => mistakes.push(error));
  };

  /** Starts a worker with an owner of its own. `tells`: it moves the entries of all payouts into the log as well. */
  const startWorker = async (name: string, tells = false): Promise<Process> => {
    const process = startProcess(`worker ${name}`);
    const { clock } = process;
    const repository = await createPayoutRepository(storeOf(process));
    const gateways = new Map(currencies.map((currency) => [currency, gatewayOf(process, currency)]));
    const keeper = createLimitKeeper({
      repository,
      dailyLimit: { USDT: limits.dailyMax, LUCID: limits.dailyMax },
      walletFloor: { USDT: limits.walletFloor, LUCID: limits.walletFloor },
    });
    const sending = createSending({ repository, clock });
    const steps = createSteps({
      ...{ repository, gateways, sending, limits: keeper, vault, random, owner: process.name },
      nodeProblem: async (nodeId) => conditions.nodeProblem?.(nodeId),
      stamp: (bound) => Math.floor(random() * Math.min(bound, conditions.stamps ?? bound)),
      witness: { answered: () => undefined, wrong: () => undefined },
    });
    const worker = createWorker({
      ...{ repository, steps, gateways, sending, limits: keeper, owner: process.name, clock, log: silentLog },
      ...{ batchSize: conditions.batchSize ?? 10, claimMs: conditions.claimMs ?? 30_000 },
      ...{ everyMs: conditions.everyMs ?? 1_000, away: never, done: () => undefined },
    });
    const rests = conditions.matchingRests ?? 1;
    const slow = { ...clock, sleep: (ms: number, signal: AbortSignal) => clock.sleep(ms * rests, signal) };
    const matching = createMatching({ repository, gateways, sending, vault, clock: slow, log: silentLog, away: never });
    if (tells) {
      const record = async () => undefined;
      const story = await createStory({ store: storeOf(process), repository, record, clock, away: never });
      run(process, story.task);
      run(process, createBatches({ repository, clock, away: never, added: () => undefined }).task);
    }
    run(process, worker.task);
    run(process, matching.task);
    return process;
  };

  const startCaller = async (name: string): Promise<Caller> => {
    const process = startProcess(`caller ${name}`);
    const repository = await createPayoutRepository(storeOf(process));
    const batchesOf = { insertOne: repository.batches.insert };
    const act = (): Act => ({ at: storeNow(), actor: process.name });
    /** As a client does: the same request again, until there is an answer. */
    const insist = async <T>(work: () => Promise<T>): Promise<T> => {
      for (;;) {
        try {
          return await work();
        } catch (error) {
          if (!isOutage(error)) throw error;
          await process.clock.sleep(500, process.control.signal);
        }
      }
    };
    return {
      process,
      repository,
      sending: createSending({ repository, clock: process.clock }),
      create: async (wish) => {
        await insist(async () => {
          if ((await repository.findByKey(wish.key)) !== null) return;
          try {
            const order = { ...orderOf(wish), _id: `payout_${wish.key}_${name}` };
            await repository.insert(created(order, {}, act()));
          } catch (error) {
            if (!(error instanceof DuplicateKeyError)) throw error;
          }
        });
        accepted.add(wish.key);
      },
      createBatch: async (batchId, wishes) => {
        await insist(() => insertUnlessThere(batchesOf, batchOf(batchId, wishes, act())));
        acceptedBatches.set(batchId, wishes);
      },
      cancel: (key) =>
        insist(async () => {
          for (;;) {
            const payout = await repository.findByKey(key);
            if (payout === null || payout.phase === "done" || payout.cancel_requested === true) return;
            const waits = payout.phase === "queued" || payout.phase === "held";
            const next = waits ? cancelled(payout, "a wish", act()) : cancelAsked(payout, "a wish", act());
            if (await repository.replace(payout, next)) return;
          }
        }),
    };
  };

  const payouts = () => store.all<PayoutDocument>("payouts");
  const hasFailed = () => auditor.broken.length > 0 || mistakes.length > 0;

  return {
    scheduler,
    chain,
    store,
    auditor,
    mistakes,
    accepted,
    processes,
    startWorker,
    startCaller,
    payouts,
    payout: (key: string) => [...payouts().values()].find((payout) => payout.idempotency_id === key),
    tell,
    jumpStoreClock: (ms: number) => {
      tell("store", "all", `its clock jumps by ${ms} ms`);
      storeOffsetMs += ms;
    },
    /** Lets time pass until the condition holds, a promise is broken, or so many milliseconds are over. */
    until: async (holds: () => boolean, withinMs: number): Promise<boolean> => {
      await scheduler.runUntil(() => hasFailed() || holds(), scheduler.nowMs() + withinMs);
      return !hasFailed() && holds();
    },
    pass: (ms: number) => scheduler.runUntil(hasFailed, scheduler.nowMs() + ms),
    /** Checks what holds at the end. @throws Error with the broken promises and the story of the accused */
    finish: (): void => {
      for (const process of processes) process.control.abort();
      chain.solid();
      if (!hasFailed()) {
        auditor.finish(payouts().values(), accepted);
        for (const [batchId, wishes] of acceptedBatches) checkBatch(batchId, wishes);
        checkStory();
        checkDays();
        for (const { unknown } of store.all<SendingDocument>("payout_sending").values()) {
          for (const { txid, kind } of unknown)
            auditor.accuse("I3", txid, `it is called ${kind}, and stops all sending`);
        }
      }
      if (!hasFailed()) return;
      const accused = new Set([...auditor.accused].slice(0, 2));
      const told = trace.filter(({ about }) => about === "all" || accused.has(about) || isOf(about, accused));
      const lines = told.slice(-200).map(({ atMs, who, about, what }) => {
        return `${new Date(atMs).toISOString().slice(5, 23)} ${who}: ${about.slice(0, 14)} ${what}`;
      });
      const errors = mistakes.map((error) => (error instanceof Error ? error.stack : String(error)));
      throw new Error([...auditor.broken, ...errors, "", ...lines].join("\n"));
    },
  };

  /** I5: the payouts of a batch are its items, each once. */
  function checkBatch(batchId: string, wishes: readonly Wish[]): void {
    const made = [...payouts().values()].filter((payout) => payout.batch_id === batchId);
    const sorted = made.sort((a, b) => (a.batch_index ?? 0) - (b.batch_index ?? 0));
    const wanted = wishes.map((wish, index) => `${index}: ${orderOf(wish).amount_minor}`);
    const found = sorted.map((payout) => `${payout.batch_index}: ${payout.amount_minor}`);
    if (wanted.join() !== found.join()) auditor.accuse("I5", batchId, `its payouts are ${found.join()}`);
  }

  /** A day has counted at least what it spent. Workers that came back too late may have made it count more. */
  function checkDays(): void {
    const spent = new Map<string, bigint>();
    for (const { currency, reserved_on: day, amount_minor: minor, status } of payouts().values()) {
      const name = `${currency}:${day}`;
      if (status === "completed") spent.set(name, (spent.get(name) ?? 0n) + BigInt(minor));
    }
    for (const { _id, sum_minor: sum } of store.all<DayDocument>("payout_days").values()) {
      if (BigInt(sum) < (spent.get(_id) ?? 0n)) auditor.accuse("daily limit", _id, `it has counted only ${sum}`);
    }
  }

  /** Entries in the log and in the documents tell each payout's way from its beginning to its end, each step once. */
  function checkStory(): void {
    const told = new Map<string, Entry[]>();
    for (const event of store.all<EventDocument>("payout_events").values()) {
      told.set(event.subject, [...(told.get(event.subject) ?? []), event]);
    }
    for (const payout of payouts().values()) {
      const known = new Map(
        [...(told.get(payout._id) ?? []), ...payout.entries].map((entry) => [entry.version, entry]),
      );
      const story = [...known.values()].sort((a, b) => a.version - b.version);
      let phase: Phase | undefined;
      for (const { from, to, step } of story) {
        // A payout that waits goes to and fro between these two; only the first time and the last are told.
        const waits = phase !== undefined && ["queued", "building"].includes(phase);
        const follows = from === phase || (waits && from !== undefined && ["queued", "building"].includes(from));
        if (!follows) auditor.accuse("its story", payout._id, `${step} from ${from} follows ${phase}`);
        phase = to;
      }
      if (phase !== payout.phase) auditor.accuse("its story", payout._id, `it is told to be ${phase}`);
    }
  }

  function isOf(txid: string, accused: ReadonlySet<string>): boolean {
    return [...accused].some((payoutId) =>
      payouts()
        .get(payoutId)
        ?.attempts.some((one) => one.txid === txid),
    );
  }
}

const orderOf = (wish: Wish): Order => {
  const { key, recipient = `recipient of ${key}`, amountMinor = 1_000_000n, currency = "USDT" } = wish;
  return {
    ...{ _id: `payout_${key}`, idempotency_id: key, idempotency_meaning: key, node_id: `node of ${key}`, currency },
    ...{ amount_minor: `${amountMinor}`, recipient: vault.seal(recipient), recipient_masked: maskAddress(recipient) },
    ...{ recipient_fingerprint: vault.fingerprint(recipient), priority: wish.priority ?? "normal" },
    ...{ created_by: "a caller", max_retries: wish.maxRetries ?? 3 },
  };
};

const batchOf = (batchId: string, wishes: readonly Wish[], { at, actor }: Act): BatchDocument => ({
  ...{ _id: batchId, version: 1, entries: [{ version: 1, at, step: "create", actor }], unmoved: true },
  items: wishes.map((wish) => {
    const { node_id, currency, amount_minor, recipient, recipient_fingerprint, recipient_masked } = orderOf(wish);
    return { node_id, currency, amount_minor, recipient, recipient_fingerprint, recipient_masked };
  }),
  ...{ idempotency_meaning: batchId, priority: "normal", created_by: actor, max_retries: 3, expanding: true },
  ...{ created_at: at, updated_at: at },
});

/** What a write does, by the story's last entry; a write without one is a silent step. */
const stepNamed = (set: Readonly<Record<string, unknown>> | undefined): string => {
  const entries = set?.entries as readonly Entry[] | undefined;
  const last = entries?.at(-1);
  if (last !== undefined) return last.step;
  if (set !== undefined && "claim_token" in set) return "take";
  if (set !== undefined && "phase" in set) return "defer";
  return set !== undefined && "waits" in set ? "wait" : "change";
};

const storyOf = ({
  version,
  phase,
  status,
  claim_owner: owner,
  claim_token: token,
  reason,
  entries,
}: PayoutDocument) => {
  const last = entries.at(-1);
  const step =
    last?.version === version ? `${last.step}${last.reason === undefined ? "" : ` (${last.reason})`}` : "...";
  return `v${version} ${step} -> ${phase}/${status} ${owner ?? "nobody"}#${token} ${reason?.code ?? ""}`;
};

// Three replicas work while the primary steps down again and again. STEP_DOWNS: how often. SEED: replays the choices.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/clock.js";
import { Failure } from "../../src/failure.js";
import type { NodeId } from "../../src/ids.js";
import { createNodeLog } from "../../src/nodes/history/log.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { createNodeRepository } from "../../src/nodes/repository.js";
import { createPoolRepository } from "../../src/pools/repository.js";
import { createCounting } from "../../src/poot/counting.js";
import { createPootRepository } from "../../src/poot/repository.js";
import type { StandingDocument } from "../../src/poot/standing.js";
import { type ValidationDocument, verdictOf } from "../../src/poot/verdict.js";
import { createLease } from "../../src/replicas/lease.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { openMongoStore } from "../../src/storage/mongo/store.js";
import { runTasks } from "../../src/task.js";
import { silentLog } from "../../src/telemetry/log.js";
import { type GivenMongo, isMongoGiven, openGivenMongo } from "../support/engines/mongo-given.js";
import { allLogged, expectSoundHistory } from "../support/fleet/history.js";
import { aNodeDocument } from "../support/world/documents.js";
import { randomFrom } from "../support/world/random.js";
import { until } from "../support/world/until.js";

const tests = "test/mongodb/step-downs.test.ts";
const stepDowns = Number(process.env.STEP_DOWNS ?? 5);
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const nodeIds = Array.from({ length: 12 }, (_, place) => `node_${String(place).padStart(26, "0")}`);

/** What the store acknowledged to the replicas; all of it must be there in the end. */
interface Told {
  /** The highest version of each node whose change was acknowledged. */
  readonly versions: Map<string, number>;
  readonly verdicts: string[];
  /** Epochs that were given, "node epoch". */
  readonly epochs: string[];
  /** Which replicas led in each term. */
  readonly leaders: Map<number, Set<string>>;
  readonly faults: string[];
}

async function openReplica(mongo: GivenMongo, name: string) {
  const closing = new AsyncDisposableStack();
  const store = closing.use(await openMongoStore({ url: mongo.url, database: mongo.database.databaseName }));
  const clock = systemClock;
  const repository = await createNodeRepository(store);
  const pools = await createPoolRepository(store);
  const poot = await createPootRepository(store);
  const log = await createNodeLog({ store, repository, clock, logger: silentLog });
  const highestFence = async () => Math.max(await repository.highestFence(), await pools.highestFence());
  const lease = await createLease({
    ...{ store, clock, name: "fleet", owner: name, exclusive: false, highestFence },
    log: silentLog,
  });
  const counting = createCounting({
    ...{ repository: poot, leadership: lease.leadership, clock, log: silentLog },
    setNodeScore: repository.setPootScore,
  });
  const tasks = runTasks({ log: log.task, lease: lease.task, counting: counting.task });
  closing.defer(tasks.stop);
  return { name, repository, poot, log, lease, counting, [Symbol.asyncDispose]: () => closing.disposeAsync() };
}

type Replica = Awaited<ReturnType<typeof openReplica>>;

/** The result of the work; undefined if the store was away, since then nobody knows whether the work took place. */
async function attempt<Result>(work: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StoreUnavailableError || error instanceof Failure) return undefined;
    throw error;
  }
}

/** Works with one replica until the signal aborts. */
function startLoad(replica: Replica, told: Told, random: () => number, signal: AbortSignal): Promise<unknown> {
  const { name, repository, poot, log, lease, counting } = replica;
  const aNode = () => nodeIds[Math.floor(random() * nodeIds.length)] as NodeId;
  const again = async (work: (turn: number) => Promise<void>) => {
    for (let turn = 0; !signal.aborted; turn++) {
      await work(turn);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const change = () =>
    again(async (turn) => {
      const id = aNode();
      const event = { type: "updated", reason: `${name} ${turn}`, actor: name } as const;
      const set = { labels: { turn: String(turn) } };
      const changed = await attempt(() => repository.change(id, systemClock.now, () => ({ set, event })));
      if (changed === undefined) return;
      log.wake(id);
      told.versions.set(id, Math.max(told.versions.get(id) ?? 0, changed.version));
      const found = await attempt(() => repository.get(id));
      // The replica reads its own writes, also from the next primary.
      if (found && found.version < changed.version)
        told.faults.push(`${id}: wrote ${changed.version}, read ${found.version}`);
    });
  const open = () =>
    again(async () => {
      const id = aNode();
      const found = await attempt(() => repository.get(id));
      if (found === undefined) return;
      const session = { epoch: found.session_epoch, bootId: name, replica: name, at: new Date() };
      const opened = await attempt(() => repository.openSession(id, session));
      if (opened) told.epochs.push(`${id} ${opened.session_epoch}`);
    });
  const prove = () =>
    again(async (turn) => {
      const nodeId = aNode();
      const id = `poot_val_${name}_${turn}`;
      const proof = { nodeId, outputHash: id, sizeBytes: 1, at: { seconds: 1, nanos: 0 }, nonce: id };
      const circumstances = { id, now: new Date(), tookMs: 1, batchId: undefined, place: 0 };
      const verdict = verdictOf(proof, { history: [], duplicate: false }, circumstances);
      const isIn = await attempt(async () => {
        await poot.insert(verdict);
        return true;
      });
      if (isIn) told.verdicts.push(id);
      await attempt(() => counting.count(nodeId));
    });
  const lead = () =>
    again(async () => {
      const token = lease.leadership()?.token;
      if (token === undefined) return;
      const leaders = told.leaders.get(token) ?? new Set();
      told.leaders.set(token, leaders.add(name));
    });
  return Promise.all([change(), change(), open(), prove(), lead()]);
}

describe.skipIf(!isMongoGiven(tests))("MongoDB whose primary steps down under load", () => {
  let mongo: GivenMongo;
  beforeAll(async () => {
    mongo = await openGivenMongo();
  });
  afterAll(() => mongo[Symbol.asyncDispose]());

  it("loses and doubles nothing", { timeout: 600_000 }, async () => {
    process.stdout.write(`${tests}: SEED=${seed} STEP_DOWNS=${stepDowns}, ${mongo.name}\n`);
    const random = randomFrom(seed);
    const told: Told = { versions: new Map(), verdicts: [], epochs: [], leaders: new Map(), faults: [] };
    await using closing = new AsyncDisposableStack();
    const replicas: Replica[] = [];
    for (const name of ["one", "two", "three"]) replicas.push(closing.use(await openReplica(mongo, name)));
    const [first] = replicas as [Replica];
    for (const _id of nodeIds) await first.repository.insert(aNodeDocument({ _id, name: _id, change: 0 }));

    const control = new AbortController();
    const loads = replicas.map((replica) => startLoad(replica, told, random, control.signal));
    const progress = () => told.epochs.length + told.verdicts.length;
    for (let round = 0; round < stepDowns; round++) {
      const before = progress();
      await until(() => progress() > before + 50, "work is done before a step down", 60_000);
      await mongo.stepDown();
      const after = progress();
      await until(() => progress() > after + 50, "work is done after a step down", 60_000);
    }
    control.abort();
    await Promise.all(loads);

    const { database } = mongo;
    await until(async () => (await allLogged(database)()) === true, "all changes are in the log", 60_000);
    await expectSoundHistory(database);
    expect(told.faults).toEqual([]);
    expect(told.epochs.length).toBe(new Set(told.epochs).size);
    expect([...told.leaders].filter(([, leaders]) => leaders.size > 1)).toEqual([]);
    const nodes = await database.collection<NodeDocument>("nodes").find({}).toArray();
    const lost = nodes.filter(({ _id, version }) => version < (told.versions.get(_id) ?? 0));
    expect(lost.map(({ _id }) => _id)).toEqual([]);

    const verdicts = database.collection<ValidationDocument>("poot_validations");
    await until(async () => (await verdicts.countDocuments({ uncounted: true })) === 0, "all are counted", 60_000);
    const ids = new Set((await verdicts.find({}).toArray()).map(({ _id }) => _id));
    expect(told.verdicts.filter((id) => !ids.has(id))).toEqual([]);
    for (const node_id of nodeIds) {
      const standing = await database.collection<StandingDocument>("poot_scores").findOne({ _id: node_id });
      const counted = (standing?.valid ?? 0) + (standing?.invalid ?? 0);
      expect({ node_id, counted }).toEqual({ node_id, counted: await verdicts.countDocuments({ node_id }) });
    }
  });
});

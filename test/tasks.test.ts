// All long-lived tasks of a running service: no task takes a mistake in this program for an outage, and each task logs
// an outage once when it begins and once when it ends.
import { afterEach, describe, expect, test } from "vitest";
import type { Coordination } from "../src/coordination/coordination.js";
import { StoreUnavailableError } from "../src/storage/collection.js";
import { TaskError } from "../src/task.js";
import { createLogger } from "../src/telemetry/log.js";
import { type Engines, embeddedEngines } from "./support/engines/engines.js";
import { aNode } from "./support/world/builders.js";
import { createTestClock } from "./support/world/clock.js";
import { within } from "./support/world/until.js";
import { type BeforeStore, openClockedFleet, openWorld, type World } from "./support/world/world.js";

type Call = Parameters<BeforeStore>;

/** Matches a read of a page of this collection by this index. */
const pageOf =
  (name: string, index: string) =>
  ([operation, given, collection]: Call): boolean =>
    operation === "page" && collection === name && (given[1] as { index?: string }).index === index;

/** Matches an update of the replica's record that writes this field. */
const recordOf =
  (operator: "$set" | "$inc", field: string) =>
  ([operation, given, collection]: Call): boolean =>
    operation === "updateOne" &&
    collection === "replicas" &&
    field in ((given[1] as Record<string, object>)[operator] ?? {});

/** For each task that keeps asking the store: a call that no other task makes while nothing else happens. */
const callOf: Readonly<Record<string, (call: Call) => boolean>> = {
  lease: ([operation, , collection]) => operation === "findOne" && collection === "leases",
  roster: recordOf("$inc", "turns"),
  sweeper: recordOf("$set", "watermark"),
  orphans: pageOf("nodes", "idx_session_replica"),
  reconciler: pageOf("nodes", "idx_transition_deadline"),
  disruption: pageOf("node_pools", "idx_disrupted_since"),
  strays: pageOf("nodes", "idx_pool_slot"),
  log: pageOf("nodes", "idx_unlogged_since"),
  // The log reads its newest entry; only the feed reads entries after a place.
  feed: (call) => pageOf("node_log", "_id_")(call) && "_id" in (call[1][0] as object),
  counting: pageOf("poot_validations", "idx_uncounted"),
  tokens: pageOf("tokens", "idx_kind_at"),
  monitor: pageOf("resource_alerts", "idx_active_node_id"),
  retention: ([operation, , collection]) => operation === "count" && collection === "resource_alerts",
  health: ([operation]) => operation === "ping",
  payouts: pageOf("payouts", "idx_due"),
  // While nothing is paid, only the comparison asks the chain.
  payoutMatching: ([operation, , collection]) => operation === "findOne" && collection === "sandbox_chain",
  payoutBatches: pageOf("payout_batches", "idx_expanding"),
  payoutEvents: pageOf("payouts", "idx_unmoved"),
  payoutGauges: pageOf("payouts", "idx_open_phase"),
};
/** Tasks that end when their work is done; each has a test of its own. */
const endingTasks = ["joining", "listen", "payoutWakeups"];

/** Longer than the longest wait between two turns. */
const roundMs = 35_000;

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

/** A replica that leads, and the lines of its log, exceptions included. */
async function aReplica(settings: Readonly<Record<string, string>> = {}) {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  const log = createLogger({ level: "INFO", format: "standard", service: "tasks", version: "0", write });
  const fleet = await openClockedFleet(1, { log, settings });
  open.push(fleet);
  const [world] = fleet.replicas as [World];
  return { world, lines, pass: fleet.pass, clock: fleet.clock };
}

/** Deletes a node that leaves traces: the next flush of samples looks for its alerts. */
async function leaveTraces({ nodes }: World): Promise<void> {
  const { nodeId } = await aNode(nodes);
  await nodes.deleteNode({ nodeId });
}

const failureOf = (world: World): Promise<unknown> =>
  within(
    world.server.failed.catch((error: unknown) => error),
    "the service fails",
  );

describe("a mistake of this program", () => {
  test("has a test here for each task of the server", async () => {
    const { world } = await aReplica();
    expect([...world.server.tasks.names].sort()).toEqual([...Object.keys(callOf), ...endingTasks].sort());
  });

  test.each(Object.keys(callOf))("ends the process when %s meets it once", async (name) => {
    const { world, clock } = await aReplica();
    const mistake = new TypeError(`a mistake in ${name}`);
    let met = 0;
    world.beforeStore((...call) => {
      if (callOf[name]?.(call) && met++ === 0) throw mistake;
      return undefined;
    });
    await leaveTraces(world);
    for (let ms = 0; ms < roundMs && met === 0; ms += 1_000) await clock.advance(1_000);
    const failure = await failureOf(world);
    expect(failure).toBeInstanceOf(TaskError);
    expect(failure).toMatchObject({ task: name, cause: mistake });
    expect(world.server.tasks.running()).toEqual([]);
  });

  /** Engines whose store or coordination the test changes before the service uses them. */
  const changed = (
    engines: Engines,
    change: (given: Awaited<ReturnType<Engines["open"]>>) => typeof given,
  ): Engines => ({
    ...engines,
    open: async () => change(await engines.open()),
  });

  test("ends the process when it is met in joining the other replicas", async () => {
    const clock = createTestClock();
    const mistake = new TypeError("a mistake in joining");
    let tries = 0;
    const engines = changed(embeddedEngines(clock), ({ store, coordination }) => ({
      coordination,
      store: {
        ...store,
        collection: async (definition) => {
          const inner = await store.collection(definition);
          if (definition.name !== "replicas") return inner as never;
          const updateOne: typeof inner.updateOne = async (...given) => {
            if (++tries > 2) return inner.updateOne(...given);
            throw tries === 1 ? new StoreUnavailableError("away at the start") : mistake;
          };
          return { ...inner, updateOne } as never;
        },
      },
    }));
    const world = await openWorld({ engines, clock });
    open.push(world);
    expect(await failureOf(world)).toMatchObject({ task: "joining", cause: mistake });
  });

  test.each([
    ["listen", "node-log"],
    ["payoutWakeups", "payouts"],
  ])("ends the process when it is met in %s, listening to the other replicas", async (task, wanted) => {
    const clock = createTestClock();
    const mistake = new TypeError("a mistake in listening");
    const engines = changed(embeddedEngines(clock), ({ store, coordination }) => {
      const subscribe: Coordination["subscribe"] = (channel, ...rest) =>
        channel === wanted ? Promise.reject(mistake) : coordination.subscribe(channel, ...rest);
      return { store, coordination: { ...coordination, subscribe } };
    });
    const world = await openWorld({ engines, clock });
    open.push(world);
    expect(await failureOf(world)).toMatchObject({ task, cause: mistake });
  });
});

/** What each task logs when an outage begins and when it ends. */
const wordsOf: Readonly<Record<keyof typeof callOf, readonly [began: string, ended: string]>> = {
  lease: ["The leader's lease cannot be taken or renewed now", "The leader's lease can be taken or renewed again"],
  roster: ["This replica cannot write its sign of life", "This replica writes its sign of life again"],
  sweeper: ["Heartbeats cannot be written; nobody is judged until they can", "Heartbeats are written again"],
  orphans: ["Orphans cannot be judged now", "Orphans are judged again"],
  reconciler: [
    "Overdue starts, stops and maintenance are not ended now",
    "Overdue starts, stops and maintenance are ended again",
  ],
  disruption: ["Silent pools are not looked for now", "Silent pools are looked for again"],
  strays: [
    "Nodes that do not fit into their pool are not looked for now",
    "Nodes that do not fit into their pool are looked for again",
  ],
  log: [
    "The history of nodes is not moved to the log now; nothing of it is lost",
    "The history of nodes is moved to the log again",
  ],
  feed: ["Changes to nodes on other replicas are not read now", "Changes to nodes on other replicas are read again"],
  counting: ["Verdicts are not counted now; they are kept", "Verdicts are counted again"],
  tokens: ["New revocations are not read now; known ones stay in force", "New revocations are read again"],
  monitor: ["Samples cannot be written; they wait", "Samples are written again"],
  retention: [
    "Old samples are not deleted and alerts not counted now",
    "Old samples are deleted and alerts counted again",
  ],
  health: ["Health check failed: database", "Health check passes again: database"],
  payouts: ["Payouts wait for the store", "Payouts go on"],
  payoutMatching: [
    "The wallets' transfers cannot be compared: the store is away",
    "The wallets' transfers are compared again",
  ],
  payoutBatches: ["Batches wait for the store", "Batches go on"],
  payoutEvents: ["Payout events wait for the store", "Payout events are moved again"],
  payoutGauges: ["The queue cannot be measured", "The queue is measured again"],
};

test("an outage of the store is told once by each task when it begins, and once when it is over", async () => {
  const { world, lines, pass } = await aReplica({ RESOURCE_CLEANUP_INTERVAL: "1" });
  const timesTold = (words: string) => lines.filter((line) => line.split("\n")[0]?.includes(`: ${words}`)).length;
  /** The tasks that did not log it exactly `times` times, each with its own count. */
  const notTold = (place: 0 | 1, times: number) =>
    Object.entries(wordsOf).flatMap(([name, words]) => {
      const told = timesTold(words[place]);
      return told === times ? [] : [`${name}: ${told}`];
    });
  await pass(roundMs);
  await leaveTraces(world);
  world.storeAway(true);
  // Longer than the lease: this replica no longer leads when the store comes back.
  await pass(roundMs);
  expect([notTold(0, 1), notTold(1, 0)]).toEqual([[], []]);
  world.storeAway(false);
  await pass(roundMs);
  expect([notTold(0, 1), notTold(1, 1)]).toEqual([[], []]);
  expect(Object.keys(wordsOf)).toEqual(Object.keys(callOf));
});

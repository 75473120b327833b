// Each verdict is counted once, although the store may answer with old data: after a MongoDB election a majority read
// may be older than the read before it.

import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createCounting } from "../../src/poot/counting.js";
import { createPootRepository, type PootRepository } from "../../src/poot/repository.js";
import { type ValidationDocument, verdictOf } from "../../src/poot/verdict.js";
import type { Collection, Store, StoredDocument } from "../../src/storage/collection.js";
import { openSqliteStore } from "../../src/storage/sqlite/store.js";
import { silentLog } from "../../src/telemetry/log.js";
import { createTestClock } from "../support/world/clock.js";
import { randomFrom } from "../support/world/random.js";

const now = new Date("2026-01-01T00:00:00Z");
const verdict = (nodeId: string, place: number): ValidationDocument =>
  verdictOf(
    { nodeId, outputHash: `hash-${place}`, sizeBytes: 1, at: { seconds: 1, nanos: 0 }, nonce: `nonce-${place}` },
    { history: [], duplicate: false },
    { id: `poot_val_${nodeId}_${place}`, now, tookMs: 1, batchId: undefined, place },
  );

/**
 * The same store, but its reads may repeat an earlier answer: `recall` says how many answers back, given how many there
 * are. Its writes act on the current data.
 */
function forgetful(store: Store, recall: (collection: string, known: number) => number): Store {
  const answered = new Map<string, unknown[]>();
  const aged =
    <Given extends unknown[], Answer>(name: string, read: (...given: Given) => Promise<Answer>) =>
    async (...given: Given): Promise<Answer> => {
      const key = `${name} ${JSON.stringify(given)}`;
      const answers = answered.get(key) ?? [];
      answered.set(key, answers);
      answers.push(await read(...given));
      const back = Math.min(recall(name, answers.length), answers.length - 1);
      return answers[answers.length - 1 - back] as Answer;
    };
  return {
    ...store,
    collection: async <T extends StoredDocument>(definition: Parameters<Store["collection"]>[0]) => {
      const inner: Collection<T> = await store.collection<T>(definition);
      return {
        ...inner,
        findOne: aged(definition.name, inner.findOne),
        page: aged(definition.name, inner.page),
      };
    },
  };
}

describe("counting by reads that go back in time", () => {
  let directory: string;
  let store: Store;
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "lucid-counting-"));
    store = await openSqliteStore({ dir: directory });
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  const countOf = async (repository: PootRepository, nodeId: string): Promise<number> => {
    const standing = await repository.standingOf(nodeId);
    return (standing?.valid ?? 0) + (standing?.invalid ?? 0);
  };
  const countingBy = (repository: PootRepository) =>
    createCounting({
      ...{ repository, clock: createTestClock(now), leadership: () => undefined, log: silentLog },
      setNodeScore: async () => undefined,
    });

  it("counts no verdict again that an old answer shows as uncounted", async () => {
    let back = 0;
    const stale = forgetful(store, (collection) => (collection === "poot_validations" ? back : 0));
    const repository = await createPootRepository(stale);
    const counting = countingBy(repository);
    for (const place of [1, 2, 3]) {
      await repository.insert(verdict("node_1", place));
      await counting.count("node_1");
    }
    expect(await countOf(repository, "node_1")).toBe(3);
    // Reads return their oldest answers: the first verdict still waits, while the standing has the third as its last.
    back = Number.POSITIVE_INFINITY;
    await counting.count("node_1");
    back = 0;
    expect(await countOf(repository, "node_1")).toBe(3);

    back = Number.POSITIVE_INFINITY;
    await repository.insert(verdict("node_1", 4));
    await counting.count("node_1");
    back = 0;
    await counting.count("node_1");
    expect(await countOf(repository, "node_1")).toBe(4);
  });

  it("counts each of many once, by several counters, whatever the reads remember", { timeout: 60_000 }, async () => {
    const seed = Number(process.env.SEED ?? randomInt(2 ** 31));
    process.stdout.write(`counting.test.ts: SEED=${seed}\n`);
    const random = randomFrom(seed);
    let honest = false;
    const stale = forgetful(store, (_, known) => (honest || random() < 0.5 ? 0 : Math.floor(random() * known)));
    const repositories = await Promise.all([1, 2, 3].map(() => createPootRepository(stale)));
    const counters = repositories.map(countingBy);
    const [repository] = repositories as [PootRepository];
    const nodes = ["node_1", "node_2"];
    const each = 40;
    for (let place = 0; place < each; place++) {
      for (const node of nodes) await repository.insert(verdict(node, place));
      await Promise.all(nodes.map((node) => counters[Math.floor(random() * counters.length)]?.count(node)));
      if (random() < 0.3) await Promise.all(counters.map((counter) => counter.countMany(nodes)));
    }
    honest = true;
    for (const node of nodes) {
      await counters[0]?.count(node);
      expect(await countOf(repository, node)).toBe(each);
      expect((await repository.uncountedOf(node, 10)).items).toEqual([]);
    }
  });
});

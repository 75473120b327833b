// A process that writes is killed again and again; every write that was acknowledged to it is there.
// CRASH_KILLS: how often. SEED: replays the moments of the kills.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, expect, it } from "vitest";
import type { Collection } from "../../../src/storage/collection.js";
import { pages } from "../../../src/storage/pages.js";
import { openSqliteStore } from "../../../src/storage/sqlite/store.js";
import { startChild } from "../../support/fleet/child.js";
import { counterIds, crashing, type Written } from "../crash-data.js";

const kills = Number(process.env.CRASH_KILLS ?? 50);
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const dir = mkdtempSync(join(tmpdir(), "lucid-crash-"));
const random = randomFrom(seed);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

it(
  `keeps every acknowledged write over ${kills} kills`,
  async () => {
    console.log(`crash.test.ts: SEED=${seed} CRASH_KILLS=${kills}`);
    let acknowledged = 0;
    const versions = new Map<string, number>(counterIds.map((id) => [id, 0]));
    for (let run = 0; run < kills; run++) {
      const acks = await writeAndKill(run, 20 + Math.floor(random() * 180));
      acknowledged += acks.length;
      await using store = await openSqliteStore({ dir });
      const all = await store.collection<Written>(crashing);
      await checkInserts(all, wordsOf(acks, "insert"));
      await checkBatches(all, run, wordsOf(acks, "batch"));
      await checkCounters(all, versions, acks);
    }
    console.log(`crash.test.ts: ${acknowledged} acknowledged writes found`);
    expect(acknowledged).toBeGreaterThan(kills);
    expect(integrity()).toBe("ok");
  },
  60_000 + kills * 2000,
);

/** Lets the writer live for a while once it is ready, then kills it; answers the acknowledgements from the pipe. */
async function writeAndKill(run: number, lifeMs: number): Promise<readonly string[]> {
  const child = startChild(new URL("../crash-writer.ts", import.meta.url), { args: [dir, String(run)] });
  await child.line((line) => line === "ready");
  // The test varies the moment of the kill; this does not wait for a condition.
  await delay(lifeMs);
  await child.kill();
  return child.lines;
}

function wordsOf(acks: readonly string[], kind: string): string[] {
  return acks.flatMap((line) => (line.startsWith(`${kind} `) ? line.slice(kind.length + 1) : []));
}

async function checkInserts(all: Collection<Written>, ids: readonly string[]): Promise<void> {
  for (const _id of ids) {
    expect(await all.findOne({ _id }), `acknowledged ${_id}`).toMatchObject({ _id, body: _id.repeat(10) });
  }
}

/** An acknowledged batch is there whole. Of any other the start may be there: a turn may end within it. */
async function checkBatches(all: Collection<Written>, run: number, acknowledged: readonly string[]): Promise<void> {
  const parts = new Map<string, number[]>();
  const filter = { batch: { $exists: true, $gte: `b-${run}-`, $lt: `b-${run}.` } } as const;
  for await (const documents of pages((after) => all.page(filter, { index: "idx_batch", limit: 1000, after }))) {
    for (const { _id, batch = "" } of documents) {
      parts.set(batch, [...(parts.get(batch) ?? []), Number(_id.slice(batch.length + 1))]);
    }
  }
  for (const batch of acknowledged) expect(parts.get(batch), `acknowledged ${batch}`).toHaveLength(20);
  for (const [batch, found] of parts) {
    const prefix = Array.from({ length: found.length }, (_, part) => part);
    expect(
      found.sort((one, other) => one - other),
      batch,
    ).toEqual(prefix);
  }
}

/** Checks that no version was won twice, no acknowledged version is lost, and both fields moved together. */
async function checkCounters(
  all: Collection<Written>,
  versions: Map<string, number>,
  acks: readonly string[],
): Promise<void> {
  for (const [counter, before] of versions) {
    const won = wordsOf(acks, `count ${counter}`).map(Number);
    expect(new Set(won).size).toBe(won.length);
    expect(Math.min(before + 1, ...won), "no version goes back").toBe(before + 1);
    const found = await all.findOne({ _id: counter });
    const version = found?.version ?? 0;
    expect(version).toBeGreaterThanOrEqual(Math.max(before, ...won));
    expect(found?.total).toBe(version * 3);
    versions.set(counter, version);
  }
}

function integrity(): unknown {
  const database = new DatabaseSync(join(dir, "lucid.db"));
  const found = database.prepare("PRAGMA integrity_check").get()?.integrity_check;
  database.close();
  return found;
}

/** A linear congruential generator: the same numbers for the same seed, 0 to 1. */
function randomFrom(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

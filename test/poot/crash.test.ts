// A process that proves is killed at random moments, some of them between verdict and count.
// CRASH_KILLS: how often. SEED: replays the moments of the kills.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { openSqliteStore } from "../../src/storage/sqlite/store.js";
import { startChild } from "../support/fleet/child.js";
import { randomFrom } from "../support/world/random.js";
import { expectCountedOnce, sendAgain } from "./crash-check.js";
import { createProver } from "./prover.js";

const kills = Number(process.env.CRASH_KILLS ?? 10);
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const dir = mkdtempSync(join(tmpdir(), "lucid-poot-crash-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test(`over ${kills} kills every proof keeps its one verdict and counts once`, {
  timeout: 60_000 + kills * 6_000,
}, async () => {
  console.log(`poot/crash.test.ts: SEED=${seed} CRASH_KILLS=${kills}`);
  const random = randomFrom(seed);
  await using first = await openSqliteStore({ dir });
  await (await createProver(first)).addNodes();
  await first[Symbol.asyncDispose]();
  let told = 0;
  let uncounted = 0;
  for (let run = 0; run < kills; run++) {
    const child = startChild(new URL("crash-prover.ts", import.meta.url), { args: [dir, "", `r${run}`] });
    await child.line((line) => line.startsWith("verdict"));
    // This wait sets the random moment of the kill; the test waits for no condition here.
    await delay(Math.floor(random() * 120));
    await child.kill();
    await using store = await openSqliteStore({ dir });
    uncounted += (await (await createProver(store)).repository.uncountedBefore(new Date(Date.now() + 1000), 100)).items
      .length;
    told += await sendAgain(store, child.lines);
    await expectCountedOnce(store);
  }
  console.log(`poot/crash.test.ts: ${told} verdicts told, ${uncounted} verdicts found stored and not counted`);
  expect(told).toBeGreaterThanOrEqual(kills);
});

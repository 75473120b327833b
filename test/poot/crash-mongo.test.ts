// Two processes prove for the same nodes over one MongoDB; each in turn is killed at a random moment.
// CRASH_KILLS: how often, at most 20. SEED: replays the moments of the kills.
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { openMongoStore } from "../../src/storage/mongo/store.js";
import { hasMongoProgram, startMongo } from "../support/engines/mongo.js";
import { startChild } from "../support/fleet/child.js";
import { randomFrom } from "../support/world/random.js";
import { expectCountedOnce, sendAgain } from "./crash-check.js";
import { createProver } from "./prover.js";

const kills = Math.min(20, Number(process.env.CRASH_KILLS ?? 5));
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

describe.skipIf(!hasMongoProgram("test/poot/crash-mongo.test.ts"))("two replicas over MongoDB", () => {
  test(`over ${kills} kills every proof keeps its one verdict and counts once`, {
    timeout: 120_000 + kills * 20_000,
  }, async () => {
    console.log(`poot/crash-mongo.test.ts: SEED=${seed} CRASH_KILLS=${kills}`);
    const random = randomFrom(seed);
    await using mongo = await startMongo({ durable: true });
    const database = mongo.freshDatabase();
    await using store = await openMongoStore({ url: mongo.url, database, operationMs: 60_000 });
    await (await createProver(store)).addNodes();
    let runs = 0;
    const start = async () => {
      const child = startChild(new URL("crash-prover.ts", import.meta.url), {
        args: [mongo.url, database, `m${runs++}`],
      });
      await child.line((line) => line.startsWith("verdict"), 60_000);
      return child;
    };
    let standing = await start();
    const lines: string[] = [];
    try {
      for (let kill = 0; kill < kills; kill++) {
        const next = await start();
        await delay(Math.floor(random() * 300));
        await standing.kill();
        lines.push(...standing.lines);
        standing = next;
      }
    } finally {
      await standing.kill();
    }
    lines.push(...standing.lines);
    const told = await sendAgain(store, lines);
    await expectCountedOnce(store);
    console.log(`poot/crash-mongo.test.ts: ${told} verdicts told`);
    expect(told).toBeGreaterThanOrEqual(kills);
  });
});

// T24: runs the same operations on both engines at once. Every answer, every kind of error, and at the end every
// document must be the same. DIFFERENTIAL_OPERATIONS: how many. DIFFERENTIAL_SEED: replays them.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect, isDeepStrictEqual } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { type Collection, DuplicateKeyError } from "../../src/storage/collection.js";
import { openMongoStore } from "../../src/storage/mongo/store.js";
import { openSqliteStore } from "../../src/storage/sqlite/store.js";
import { hasMongo, sharedMongo } from "../support/engines/mongo.js";
import { randomFrom } from "../support/world/random.js";
import { createGenerator, type Made, type Operation, universe } from "./differential-operations.js";

const operationCount = Number(process.env.DIFFERENTIAL_OPERATIONS ?? 20_000);
const seed = Number(process.env.DIFFERENTIAL_SEED ?? Date.now() % 1_000_000);
/** How many collections are worked on at once. Each takes one operation at a time. */
const lanes = 8;
const directory = mkdtempSync(join(tmpdir(), "lucid-differential-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface Both {
  readonly embedded: Collection<Made>;
  readonly mongodb: Collection<Made>;
}

describe.skipIf(!hasMongo("test/storage/differential.test.ts"))("both engines", () => {
  it(`answer ${operationCount} operations alike`, { timeout: 120_000 + operationCount * 20 }, async () => {
    console.log(`differential.test.ts: DIFFERENTIAL_SEED=${seed} DIFFERENTIAL_OPERATIONS=${operationCount}`);
    await using mongo = await sharedMongo();
    await using embedded = await openSqliteStore({ dir: directory });
    await using mongodb = await openMongoStore({
      url: mongo.url,
      database: mongo.freshDatabase(),
      operationMs: 30_000,
    });
    const tally = new Map<string, number>();
    const work = Array.from({ length: lanes }, async (_, lane) => {
      const definition = { ...universe, name: `things_${lane}` };
      const both = {
        embedded: await embedded.collection<Made>(definition),
        mongodb: await mongodb.collection<Made>(definition),
      };
      const generator = createGenerator(randomFrom(seed * lanes + lane));
      for (let number = 1; number <= operationCount / lanes; number++) {
        const operation = generator.next();
        const answer = await compare(both, operation, `lane ${lane}, operation ${number}`);
        tally.set(answer, (tally.get(answer) ?? 0) + 1);
        if (number % 250 === 0)
          await compare(both, everything, `lane ${lane}, all documents after operation ${number}`);
      }
      await compare(both, everything, `lane ${lane}, all documents at the end`);
    });
    await Promise.all(work);
    // Enough random operations come to every kind of end.
    for (const kind of [
      "an answer",
      "AssertionError",
      "DuplicateKeyError _id_",
      "DuplicateKeyError idx_code",
      "UpdateError",
    ]) {
      expect(tally.get(kind), kind).toBeGreaterThan(operationCount / 1000);
    }
  });
});

const everything: Operation = {
  what: "page",
  given: [],
  run: (all) => all.page({}, { index: "_id_", limit: 1000 }),
};

/** Answers what kind of end the operation came to. @throws Error with both answers when they differ */
async function compare({ embedded, mongodb }: Both, operation: Operation, place: string): Promise<string> {
  const [one, other] = await Promise.all([outcomeOf(operation, embedded), outcomeOf(operation, mongodb)]);
  if (isDeepStrictEqual(one, other)) return one.kind;
  const show = (value: unknown) => inspect(value, { depth: 20, breakLength: 140, sorted: true });
  throw new Error(
    [
      `DIFFERENTIAL_SEED=${seed}, ${place}: ${operation.what} ${show(operation.given)}`,
      `embedded: ${show(one)}`,
      `mongodb:  ${show(other)}`,
      `first at ${firstDifference(one, other).map(show).join("\n  ")}`,
    ].join("\n"),
  );
}

/** The path to the first difference, and both values there. */
function firstDifference(one: unknown, other: unknown, path = "answer"): [string, unknown, unknown] {
  const [left, right] = [fieldsOf(one), fieldsOf(other)];
  const name = Object.keys({ ...left, ...right }).find((name) => !isDeepStrictEqual(left[name], right[name]));
  return name === undefined ? [path, one, other] : firstDifference(left[name], right[name], `${path}.${name}`);
}

const fieldsOf = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null && !(value instanceof Date) ? { ...value } : {};

interface Outcome {
  readonly kind: string;
  readonly answer?: unknown;
}

async function outcomeOf(operation: Operation, all: Collection<Made>): Promise<Outcome> {
  try {
    return { kind: "an answer", answer: plain(await operation.run(all)) };
  } catch (error) {
    if (error instanceof DuplicateKeyError) return { kind: `DuplicateKeyError ${error.index}` };
    if (!(error instanceof Error)) throw error;
    return error.name === "AssertionError"
      ? { kind: error.name, answer: error.message }
      : { kind: error.name, ...(error.name !== "UpdateError" && { answer: error }) };
  }
}

/** Without field order, which nobody promises. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([name, field]) => [name, plain(field)]),
  );
}

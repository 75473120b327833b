// A process that writes until it is killed. It reports each acknowledged write on its standard output.
// Arguments: the directory, and a name that no other run has.
import { writeSync } from "node:fs";
import { openSqliteStore } from "../../src/storage/sqlite/store.js";
import { counterIds, crashing, type Written } from "./crash-data.js";

const [dir = "", run = ""] = process.argv.slice(2);
const store = await openSqliteStore({ dir });
const all = await store.collection<Written>(crashing);
// Writes straight to the pipe: the test reads the line even if this process dies in the next instant.
const say = (...words: (string | number)[]) => writeSync(1, `${words.join(" ")}\n`);

async function insert(writer: number): Promise<void> {
  for (let n = 0; ; n++) {
    const _id = `i-${run}-${writer}-${n}`;
    await all.insertOne({ _id, at: new Date(n), body: _id.repeat(10) });
    say("insert", _id);
  }
}

async function insertBatches(writer: number): Promise<void> {
  for (let n = 0; ; n++) {
    const batch = `b-${run}-${writer}-${n}`;
    await all.insertMany(Array.from({ length: 20 }, (_, part) => ({ _id: `${batch}-${part}`, batch })));
    say("batch", batch);
  }
}

/** Moves two fields together, by compare-and-set. */
async function count(counter: string): Promise<void> {
  for (;;) {
    const found = await all.findOne({ _id: counter });
    const version = found?.version ?? 0;
    const next = { $set: { version: version + 1, total: (version + 1) * 3, by: run } };
    const won = await all.updateOne({ _id: counter, version }, next);
    if (won.matched === 1) say("count", counter, version + 1);
  }
}

for (const _id of counterIds) {
  await all.updateOne({ _id }, { $setOnInsert: { version: 0, total: 0 } }, { upsert: true });
}
say("ready");
await Promise.all([
  ...[0, 1, 2, 3].map(insert),
  ...[0, 1].map(insertBatches),
  ...[...counterIds, ...counterIds, ...counterIds].map(count),
]);

// A process that writes one document after another. It says on its standard output when it begins a write, and when the
// store has acknowledged it. Argument: the directory.
import { writeSync } from "node:fs";
import { openSqliteStore } from "../../../src/storage/sqlite/store.js";
import { counterIds, crashing, type Written } from "../crash-data.js";

const [dir = ""] = process.argv.slice(2);
const store = await openSqliteStore({ dir });
const all = await store.collection<Written>(crashing);
const [counter] = counterIds;
const writes = [
  () => all.insertOne({ _id: counter, version: 0 }),
  () => all.insertMany([{ _id: "a" }, { _id: "b" }]),
  () => all.updateOne({ _id: counter, version: 0 }, { $set: { version: 1 } }),
  () => all.findOneAndUpdate({ _id: counter, version: 1 }, { $set: { version: 2 } }),
  () => all.bulkUpdate([{ filter: { _id: counter }, update: { $inc: { version: 1 } } }]),
  () => all.deleteMany({ _id: "a" }, { limit: 1 }),
];
for (const [n, write] of writes.entries()) {
  writeSync(1, `begin ${n}\n`);
  await write();
  writeSync(1, `acknowledged ${n}\n`);
}
await store[Symbol.asyncDispose]();

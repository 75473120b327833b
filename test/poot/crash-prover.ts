// A process that proves until it is killed. It prints each proof when it sends it, and each verdict that it gets.
// Arguments: a directory or the URL of a MongoDB, the name of the database or "", and a name that no other run has.
import { writeSync } from "node:fs";
import { openMongoStore } from "../../src/storage/mongo/store.js";
import { openSqliteStore } from "../../src/storage/sqlite/store.js";
import { createProver, submissionOf } from "./prover.js";

const [place = "", database = "", run = ""] = process.argv.slice(2);
const store = database === "" ? await openSqliteStore({ dir: place }) : await openMongoStore({ url: place, database });
const prover = await createProver(store);
// Written straight to the pipe, so the line is read even if the process dies in the next instant.
const say = (...words: (string | number)[]) => writeSync(1, `${words.join(" ")}\n`);

async function proveOn(writer: number): Promise<void> {
  for (let n = 0; ; n++) {
    const name = `${run}-${writer}-${n}`;
    const atMs = Date.now();
    say("sent", name, atMs);
    const { verdict, replayed } = await prover.prove(submissionOf(name, atMs));
    say("verdict", name, verdict._id, verdict.score, Number(replayed));
  }
}

say("ready");
await Promise.all([0, 1, 2].map(proveOn));

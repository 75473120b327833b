// Takes each guard of the payouts away in turn, in a copy of the tree, and expects the named tests to fail. A guard whose
// loss no test notices may be gone already. Fails when a mutant lives, and when its text is no longer in the source.
// With words as arguments, only mutants whose names hold one of them.
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = new URL("..", import.meta.url).pathname;
const crashes = ["test/payouts/crashes.test.ts"];

/** `tests` must fail once each text of `was` is replaced in the file. `only`: names of tests, as for `vitest -t`. */
const mutants = [
  {
    name: "claim token: whoever has read the payout goes on with it",
    file: "src/payouts/payout.ts",
    was: "payout.claim_token === token && payout.claim_owner === owner",
    becomes: 'token >= 0 && owner !== "" && payout.claim_owner !== undefined',
    tests: crashes,
    only: "paid at once",
  },
  {
    name: "compare-and-set: a write no longer names the version",
    file: "src/payouts/repository.ts",
    was: "updateMarked(collection, { _id: former._id, version: former.version }, update)",
    becomes: "updateMarked(collection, { _id: former._id }, update)",
    tests: crashes,
    only: "paid at once",
  },
  {
    name: "write-ahead of the attempt: a transaction is signed whether or not it was recorded",
    file: "src/payouts/steps.ts",
    was: "if (await repository.replace(payout, next)) return { written: next, draft: made };",
    becomes:
      "await repository.replace(payout, next);\n        if (next !== null) return { written: next, draft: made };",
    tests: crashes,
    only: "paid at once|cancelled while it is built",
  },
  {
    name: "write-ahead of the send: the bytes leave whether or not the send was recorded",
    file: "src/payouts/steps.ts",
    was: "if (!(await repository.replace(payout, next))) return repository.find(payout._id);\n    const answer",
    becomes: "await repository.replace(payout, next);\n    const answer",
    tests: crashes,
    only: "cancelled between its transaction and the send",
  },
  {
    name: "write-ahead of a further send",
    file: "src/payouts/steps.ts",
    was: "if (!(await repository.replace(payout, next))) return repository.find(payout._id);\n    witness",
    becomes: "await repository.replace(payout, next);\n    witness",
    tests: crashes,
    only: "paid by the second send",
  },
  {
    name: "death proof: a shorter range of blocks counts",
    file: "src/payouts/gateway/settlement.ts",
    was: "if (block.timeMs >= expiresAtMs) {",
    becomes: "if (block.timeMs >= expiresAtMs - 30_000) {",
    tests: crashes,
    only: "paid by bytes that arrive late",
  },
  {
    name: "death proof: the last block that can hold the transaction is not looked at",
    file: "src/payouts/gateway/settlement.ts",
    was: "block.txids.includes(txid)) return undefined;",
    becomes: "(block.timeMs < expiresAtMs && block.txids.includes(txid))) return undefined;",
    tests: ["test/payouts/gateway/settlement.test.ts"],
  },
  {
    name: "death proof: a transaction that has expired by our clock counts as dead",
    file: "src/payouts/steps.ts",
    was: "const verdict = await gateway.judge(soughtOf(payout));",
    becomes: `const told = await gateway.judge(soughtOf(payout));
      const isOver = told.kind === "open" && (await act()).at.getTime() > liveAttempt(payout).expires_at_ms;
      const verdict = isOver ? { kind: "dead" as const, proof: undefined as never } : told;`,
    tests: crashes,
    only: "paid by bytes that arrive late",
  },
  {
    name: "a restart after the send: what was recorded as sent counts as never sent",
    file: "src/payouts/payout.ts",
    was: 'assert(liveAttempt(payout).sends === 0, "a sent transaction cannot be dropped");',
    becomes: "liveAttempt(payout);",
    also: [
      {
        file: "src/payouts/payout.ts",
        was: 'drop: { from: ["building"], to: ["building", "done"] }',
        becomes: 'drop: { from: ["building", "sending"], to: ["building", "done"] }',
      },
      {
        file: "src/payouts/steps.ts",
        was: "sending: sendingPhase,",
        becomes: 'sending: async (payout) => tools.put(payout, dropped(payout, "unsent", await tools.act())),',
      },
    ],
    tests: crashes,
    only: "paid at once",
  },
  {
    name: "unique txid: two payouts may have one transaction",
    file: "src/payouts/repository.ts",
    was: '{ name: "idx_txid", key: ["txid"], unique: true,',
    becomes: '{ name: "idx_txid", key: ["txid"],',
    tests: ["test/payouts/steps.test.ts"],
  },
  {
    name: "idempotency hash: a key may be used again with another meaning",
    file: "src/conventions/idempotency.ts",
    was: "made !== null && made.idempotency_meaning !== meaning",
    becomes: "made === undefined",
    tests: ["test/payouts/handler-orders.test.ts"],
  },
  {
    name: "wallet match at the start: sending begins before the transfers were compared",
    file: "src/payouts/sending.ts",
    was: "if (isCompared) return undefined;",
    becomes: "if (isCompared || !isCompared) return undefined;",
    tests: ["test/payouts/matching.test.ts"],
  },
  {
    name: "wallet match at the start: a node that lags shortens it",
    file: "src/payouts/matching.ts",
    was: "Math.max(solid.timeMs + solidAfterMs, now.getTime())",
    becomes: "Math.max(solid.timeMs + solidAfterMs, Math.min(0, now.getTime()))",
    tests: ["test/payouts/matching.test.ts"],
  },
  {
    name: "approval by another: the creator may approve",
    file: "src/payouts/desk.ts",
    was: "if (made.created_by === by.subject) throw",
    becomes: 'if (by.subject === "") throw',
    tests: ["test/payouts/handler-approvals.test.ts"],
  },
  {
    name: "daily reservation: the sum is looked at, and not reserved",
    file: "src/payouts/reservations.ts",
    was: "if (await repository.days.replace(found, { ...next, version: known.version + 1 })) return true;",
    becomes: "if (next.version >= 0) return true;",
    tests: ["test/payouts/limits.test.ts"],
  },
];

const copy = mkdtempSync(join(tmpdir(), "lucid-mutants-"));
for (const entry of ["src", "gen", "proto", "test", "package.json", "tsconfig.json", ".ci", "Makefile", "docs"]) {
  cpSync(join(root, entry), join(copy, entry), { recursive: true });
}
symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));

/** The names of the tests that failed; undefined: the run itself went wrong. */
function failing({ tests, only }) {
  const report = join(copy, "report.json");
  rmSync(report, { force: true });
  const named = only === undefined ? [] : ["-t", only];
  const args = ["run", "--config", "test/vitest.config.ts", "--project", "embedded", "--bail", "1", ...named];
  const command = join(root, "node_modules/.bin/vitest");
  const ran = spawnSync(command, [...args, "--reporter", "json", "--outputFile", report, ...tests], {
    cwd: copy,
    encoding: "utf8",
    timeout: 300_000,
  });
  try {
    const { numTotalTests, testResults } = JSON.parse(readFileSync(report, "utf8"));
    const all = testResults.flatMap(({ assertionResults }) => assertionResults);
    if (numTotalTests === 0 || !all.some(({ status }) => ["passed", "failed"].includes(status))) return undefined;
    return all.filter(({ status }) => status === "failed").map(({ fullName }) => fullName);
  } catch (error) {
    console.error(`${ran.stdout}\n${ran.stderr}`, error);
    return undefined;
  }
}

/** Makes the change in the copy, and answers how to take it back. */
function mutate({ file, was, becomes }) {
  const path = join(copy, file);
  const text = readFileSync(path, "utf8");
  if (text.split(was).length !== 2) throw new Error(`${file} does not hold this text once: ${was}`);
  writeFileSync(
    path,
    text.replace(was, () => becomes),
  );
  return () => writeFileSync(path, text);
}

let lived = 0;
const words = process.argv.slice(2);
try {
  for (const mutant of mutants.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))) {
    const startMs = performance.now();
    const undo = [mutant, ...(mutant.also ?? [])].map(mutate);
    const failed = failing(mutant);
    for (const back of undo.reverse()) back();
    const seconds = Math.round((performance.now() - startMs) / 1000);
    const isKilled = failed !== undefined && failed.length > 0;
    if (!isKilled) lived++;
    const told = failed === undefined ? "NO RESULT" : isKilled ? `failed: ${failed[0]}` : "LIVES: no test failed";
    console.log(`${isKilled ? "ok  " : "    "}${mutant.name}\n    ${told} (${seconds} s)`);
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(lived === 0 ? "Every guard has a test that fails without it." : `${lived} guards have no such test.`);
process.exitCode = lived === 0 ? 0 : 1;

// The benchmark runs and says what it is meant to say. Its figures are never judged here: they depend on the machine.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { requireBuilt } from "./e2e/built.js";
import { runProgram } from "./e2e/process.js";
import { hasMongoProgram } from "./support/engines/mongo.js";
import { toolFor, toolsDirectory } from "./support/tools.js";

const root = new URL("..", import.meta.url).pathname;
hasMongoProgram("the benchmark's flush");
toolFor("the benchmark's pinning to cores; it runs unpinned", "taskset");

interface Results {
  readonly quick: boolean;
  readonly results: readonly { readonly what: string; readonly named: string; readonly ratio: number }[];
}

test("measures the service beside stock connect-node and grpc-js", async () => {
  requireBuilt();
  const directory = mkdtempSync(join(tmpdir(), "lucid-bench-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const out = join(directory, "results.json");
  const given = ["bench/run.mjs", "--quick", "--out", out];
  const { code, stdout, stderr } = await runProgram(process.execPath, given, {
    cwd: root,
    // Where it finds the MongoDB of the tests.
    env: { LUCID_TOOLS: toolsDirectory },
    limitMs: 120_000,
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });

  const { quick, results }: Results = JSON.parse(readFileSync(out, "utf8"));
  expect(quick).toBe(true);
  const rows = results.map(({ what, named }) => `${what} | ${named}`);
  expect(rows).toEqual([
    "GetNode | no-op, same lane (stock connect-node)",
    "GetNode | no-op, stock connect-node",
    "GetNode | no-op, grpc-js",
    "heartbeat -> ack, 200 streams | echo-ack, stock connect-node",
    "heartbeat -> ack, 200 streams | echo-ack, grpc-js",
    "heartbeat -> ack, 200 streams: growth | itself at 20 streams",
    "idle node: RSS | connect-node",
    "idle node: heap | connect-node",
    "idle node: RSS | grpc-js",
    "idle node: heap | grpc-js",
    "ValidatePoOT, 1 MiB | SHA-256 and an answer, stock connect-node",
    "event loop late by, p99, 1 MiB proofs | the goal",
    "BatchValidatePoOT, 1000 x 1 KiB: CPU | insertMany of 1000 verdicts, same engine",
    "BatchValidatePoOT, 1000 x 1 KiB: time | insertMany of 1000 verdicts, same engine",
    "GetNodeResources, 7 days, p95 | GetNode, same client, p95",
    "GetResourceMetrics, 7 days by 5 min, p95 | GetNode, same client, p95",
    expect.stringMatching(/^heartbeat flush, 1000 nodes \| bulkWrite, driver alone/),
  ]);
  for (const { ratio } of results) expect(Number.isFinite(ratio)).toBe(true);
  for (const { what } of results) expect(stdout).toContain(what);
}, 150_000);

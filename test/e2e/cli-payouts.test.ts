// lucid-node payouts as people and scripts use it: processes of their own, against a service that pays on the sandbox
// chain.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLucidClient } from "../../src/client/client.js";
import { aNode, otherTronAddress, payeeAddress } from "../support/world/builders.js";
import { until, within } from "../support/world/until.js";
import { commandLine, requireBuilt } from "./built.js";
import { type Ending, type Program, runProgram, startProgram } from "./process.js";

let directory: string;
let service: Program;
let env: Readonly<Record<string, string>>;
let nodeId: string;

const lucid = (given: readonly string[], more: Readonly<Record<string, string>> = {}): Promise<Ending> =>
  runProgram(process.execPath, [commandLine, ...given], { cwd: directory, env: { ...env, ...more } });
const payouts = (...given: string[]) => lucid(["payouts", ...given]);

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "lucid-cli-payouts-"));
  requireBuilt();
  env = {
    ...{ DATA_DIR: join(directory, "data"), METRICS_PORT: "0", RATE_LIMIT_ENABLED: "false", DRAIN_WINDOW: "0" },
    ...{ SANDBOX_BLOCK_TIME: "10", PORT: "0" },
  };
  service = startProgram(process.execPath, [commandLine, "serve"], { cwd: directory, env });
  const [line] = await service.printed(/^.*"Serving".*$/m);
  const PORT = /"port":(\d+)/.exec(line)?.[1] ?? "";
  const token = (await lucid(["token", "--role", "admin", "--subject", "first"])).stdout.trim();
  // No --server from here on: the settings say where the service is.
  env = { ...env, PORT, LUCID_TOKEN: token };
  using client = createLucidClient({ baseUrl: `http://127.0.0.1:${PORT}`, accessToken: token });
  ({ nodeId } = await aNode(client.nodes));
});
afterAll(async () => {
  await service?.[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

function aFile(name: string, ...lines: string[]): string {
  writeFileSync(join(directory, name), ["node_id,currency,amount,wallet_address", ...lines, ""].join("\n"));
  return name;
}

test("a batch is looked at, sent, waited for, and seen in the list and as a story", async () => {
  const file = aFile("march.csv", `${nodeId},USDT,1.5,${payeeAddress}`, `${nodeId},USDT,2.25,${otherTronAddress}`);
  const dry = await payouts("batch", file);
  expect(dry).toMatchObject({ code: 0, stdout: expect.stringMatching(/^batch_[0-9a-f]{32} {2}not sent\n$/) });
  expect(dry.stderr).toContain("2 payouts: 3.75 USDT\n");

  const sent = await payouts("batch", file, "--yes", "--wait", "--json");
  expect(sent.code).toBe(0);
  const { batch_id: batchId, batch } = JSON.parse(sent.stdout);
  expect(dry.stdout).toContain(batchId);
  expect(batch).toMatchObject({ status: "BATCH_STATUS_COMPLETED", created_by: "first" });
  expect(sent.stderr).toMatch(/^2 of 2 done: COMPLETED 2$/m);

  const again = await payouts("batch", file, "--yes", "--wait");
  expect(again).toMatchObject({ code: 0, stderr: expect.stringContaining("nothing new is paid") });
  const listed = await payouts("list", "--json");
  const all: { payout_id: string; transaction_hash: string }[] = JSON.parse(listed.stdout).payouts;
  expect(all).toHaveLength(2);
  for (const payout of all) expect(payout.transaction_hash).toMatch(/^sandbox:[0-9a-f]{64}$/);
  const story = await payouts("show", all[0]?.payout_id ?? "");
  expect(story).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/^state +COMPLETED$/m) });
  expect(await payouts("reconcile")).toMatchObject({ code: 0, stdout: expect.stringMatching(/^USDT +2 +0 +0 +0/m) });
}, 60_000);

test("a refusal is one line on standard error, with exit code 1", async () => {
  expect(await payouts("show", "payout_missing")).toEqual({
    ...{ code: 1, stdout: "", stderr: "Payout payout_missing not found (LUCID_ERR_5011, NOT_FOUND)\n" },
  });
  const { stdout } = await lucid(["token", "--role", "approver"]);
  const refused = await payouts("pause", "--reason", "x", "--token", stdout.trim());
  expect(refused).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringMatching(/^.* \(LUCID_ERR_4031, .*\)\n$/),
  });
  const away = await lucid(["payouts", "queue", "--server", "http://127.0.0.1:1"]);
  expect(away).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/^[^\n]*\(UNAVAILABLE\)\n$/) });
}, 60_000);

describe("a signal while it waits", () => {
  test("ends the wait, and what was ordered goes on", async () => {
    const later = new Date(Date.now() + 3_600_000).toISOString();
    const file = aFile("later.csv", `${nodeId},USDT,3,${payeeAddress}`);
    const given = ["payouts", "batch", file, "--yes", "--wait", "--scheduled-at", later];
    await using program = startProgram(process.execPath, [commandLine, ...given], { cwd: directory, env });
    await until(() => program.stderr.includes("0 of 1 done"), "it waits", 20_000);
    program.kill("SIGINT");
    const { code, stdout, stderr } = await within(program.ended, "it ends", 10_000);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining("Waiting has ended") });
    expect(stdout).toMatch(/^state +QUEUED$/m);
  }, 60_000);
});

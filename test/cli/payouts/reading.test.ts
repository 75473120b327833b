// lucid-node payouts list, show, queue and reconcile, against a service that pays on the sandbox chain.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Currency } from "../../../gen/lucid/node/v1/common_pb.js";
import { type Payout, PayoutStatus } from "../../../gen/lucid/node/v1/payout_service_pb.js";
import { type ListOptions, list, queue, reconcile, show } from "../../../src/cli/payouts/reading.js";
import { aNode, payeeAddress } from "../../support/world/builders.js";
import { meansWith } from "../../support/world/means.js";
import { type KeptTerminal, keptTerminal } from "../../support/world/terminal.js";
import { until } from "../../support/world/until.js";
import { openWorld, type World } from "../../support/world/world.js";

let world: World;
let nodeId: string;
let token: string;
/** A payout that is paid, and the last of a batch of 130 whose turn comes next year. */
let paid: Payout;
beforeAll(async () => {
  world = await openWorld({ settings: { SANDBOX_BLOCK_TIME: "10" } });
  ({ nodeId } = await aNode(world.nodes));
  token = await world.token("payer");
  const order = { nodeId, money: { currency: Currency.USDT, amount: "1.5" }, walletAddress: payeeAddress };
  const { payout } = await world.payouts.createPayout({ ...order, idempotencyKey: "reading" });
  await until(async () => {
    const answer = await world.payouts.getPayout({ payoutId: payout?.payoutId ?? "" });
    paid = answer.payout as Payout;
    return paid.status === PayoutStatus.COMPLETED;
  }, "it is paid");
  const scheduledAt = { seconds: BigInt(Math.floor(Date.now() / 1000) + 3600), nanos: 0 };
  await world.payouts.createBatchPayout({
    ...{ batchId: "batch_later", scheduledAt },
    payoutRequests: Array.from({ length: 130 }, () => order),
  });
  await until(async () => {
    const { batch } = await world.payouts.getPayoutBatch({ batchId: "batch_later" });
    const { payouts } = await world.payouts.listPayouts({ batchId: "batch_later", limit: 1 });
    return batch?.byStatus.PAYOUT_STATUS_PENDING === 130 && payouts.length === 1;
  }, "the batch is there");
});
afterAll(() => world[Symbol.asyncDispose]());

const asked = () => ({ server: world.baseUrl, token, json: false });
const with_ = async (work: (terminal: KeptTerminal) => Promise<number>) => {
  const terminal = keptTerminal();
  const code = await work(terminal);
  return { code, text: terminal.answers.join("\n"), told: terminal.told };
};

describe("list", () => {
  const run = (given: Partial<ListOptions>) =>
    with_((terminal) => list({ ...asked(), limit: 20, ...given }, meansWith(terminal)));

  test("shows payouts in a table, the newest first", async () => {
    const { code, text } = await run({ status: "COMPLETED" });
    expect(code).toBe(0);
    const [titles = "", row = "", ...rest] = text.split("\n");
    expect(titles).toMatch(/^PAYOUT +NODE +AMOUNT +STATE +CREATED +WHY$/);
    expect(row).toMatch(
      new RegExp(`^${paid.payoutId} +${nodeId} +1\\.5 USDT +COMPLETED +\\d{4}-\\d\\d-\\d\\dT[\\d:]+Z$`),
    );
    expect(rest).toEqual([]);
  });

  test("gathers as many pages as are wanted", async () => {
    await until(async () => JSON.parse((await run({ limit: 1000, json: true })).text).payouts.length === 131, "all");
    const { text } = await run({ batchId: "batch_later", limit: 120, json: true });
    const ids = JSON.parse(text).payouts.map((payout: { payout_id: string }) => payout.payout_id);
    expect(new Set(ids).size).toBe(120);
    const { text: few } = await run({ limit: 7, json: true });
    expect(JSON.parse(few).payouts).toHaveLength(7);
  });

  test("filters", async () => {
    const next = await run({ since: "2999-01-01T00:00:00Z" });
    expect(next).toMatchObject({ code: 0, text: "no payouts" });
    expect(JSON.parse((await run({ currency: "LUCID", json: true })).text)).toEqual({ payouts: [] });
    await expect(run({ since: "2026-01-01" })).rejects.toThrow("--since takes a time with its zone");
    await expect(run({ until: "2026-13-01T00:00:00Z" })).rejects.toThrow("--until takes a time with its zone");
  });
});

describe("show", () => {
  const run = (id: string, json = false) => with_((terminal) => show(id, { ...asked(), json }, meansWith(terminal)));

  test("tells the story of a payout step by step", async () => {
    await until(async () => (await run(paid.payoutId)).text.includes("complete"), "the last step is told");
    const { code, text } = await run(paid.payoutId);
    expect(code).toBe(0);
    const [head = "", attempts = "", steps = ""] = text.split("\n\n");
    expect(head).toMatch(/^state +COMPLETED$/m);
    expect(head).toMatch(/^pays +1\.5 USDT to TYE3…qxjm$/m);
    expect(head).not.toContain(payeeAddress);
    expect(attempts).toMatch(/^1 +LANDED +1x +\d+ +\d+ +sandbox:[0-9a-f]{64}$/m);
    const told = steps.split("\n").slice(1);
    expect(told.map((line) => line.split(/ {2,}/).slice(2, 4).join(": "))).toEqual([
      ...["create: queued", "claim: queued > building", "draft: building", "send: building > sending"],
      ...["answer: sending > settling", expect.stringMatching(/^complete: settling > done$/)],
    ]);
    expect(told[0]).toMatch(/^\d{4}-\S+Z {2}\+0\.0s +create +queued +admin/);
    expect(told.at(-1)).toMatch(/worker:\S+ +transaction 1$/);
  });

  test("prints the same as one JSON document", async () => {
    const { text } = await run(paid.payoutId, true);
    const { payout, events } = JSON.parse(text);
    expect(payout).toMatchObject({ payout_id: paid.payoutId, status: "PAYOUT_STATUS_COMPLETED", retry_count: 0 });
    expect(events[0]).toMatchObject({ step: "create", to: "PAYOUT_PHASE_QUEUED" });
  });

  test("shows the sums of a batch", async () => {
    const { text } = await run("batch_later");
    expect(text).toMatch(/^payouts +0 of 130 done: PENDING 130$/m);
    expect(text).toMatch(/^USDT +PENDING +130 +195$/m);
    expect(JSON.parse((await run("batch_later", true)).text).batch).toMatchObject({ item_count: 130 });
  });

  test("refuses what is no id before it asks, and tells what the service refuses", async () => {
    await expect(run("node_abc")).rejects.toThrow(/begins with payout_/);
    expect(await run("payout_missing")).toEqual({
      ...{ code: 1, text: "", told: ["Payout payout_missing not found (LUCID_ERR_5011, NOT_FOUND)"] },
    });
  });
});

test("queue shows what waits, and why", async () => {
  await world.payouts.pausePayouts({ reason: "a test" });
  const { code, text } = await with_((terminal) => queue(asked(), meansWith(terminal)));
  await world.payouts.resumePayouts({});
  expect(code).toBe(0);
  expect(text).toMatch(/^held +130$/m);
  expect(text).toMatch(/^paused +a test \(admin\S*, \d{4}-/m);
  const json = await with_((terminal) => queue({ ...asked(), json: true }, meansWith(terminal)));
  expect(JSON.parse(json.text)).toMatchObject({ paused: false, by_phase: { PAYOUT_PHASE_HELD: 130 } });
});

test("reconcile shows that transfers and records agree, and is for admins", async () => {
  const admin = { ...asked(), token: await world.token("admin") };
  const { code, text } = await with_((terminal) => reconcile(admin, meansWith(terminal)));
  expect(code).toBe(0);
  expect(text).toMatch(/^USDT +1 +0 +0 +0 +\d+$/m);
  const refused = await with_((terminal) => reconcile(asked(), meansWith(terminal)));
  expect(refused).toMatchObject({ code: 1, told: [expect.stringMatching(/\(LUCID_ERR_4031, PERMISSION_DENIED\)$/)] });
});

// lucid-node payouts against a service that pays on the sandbox chain: orders, batches from files, and what is told when
// something is wrong.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Currency } from "../../../gen/lucid/node/v1/common_pb.js";
import { BatchStatus, PayoutStatus } from "../../../gen/lucid/node/v1/payout_service_pb.js";
import { type BatchOptions, batch, create, retry } from "../../../src/cli/payouts/paying.js";
import { openPayoutDouble, type PayoutDouble } from "../../support/clients/payout-double.js";
import { aNode, otherTronAddress, payeeAddress } from "../../support/world/builders.js";
import { meansWith } from "../../support/world/means.js";
import { keptTerminal } from "../../support/world/terminal.js";
import { openWorld, type World } from "../../support/world/world.js";

let world: World;
let directory: string;
let nodeId: string;
let token: string;
beforeAll(async () => {
  world = await openWorld({ settings: { SANDBOX_BLOCK_TIME: "10", PAYOUT_APPROVAL_THRESHOLD_LUCID: "100" } });
  directory = mkdtempSync(join(tmpdir(), "lucid-payouts-"));
  ({ nodeId } = await aNode(world.nodes));
  token = await world.token("payer");
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const asked = (baseUrl = world.baseUrl) => ({ server: baseUrl, token, json: false, wait: false });

let files = 0;
function fileWith(...lines: string[]): string {
  const file = join(directory, `${++files}.csv`);
  writeFileSync(file, ["node_id,currency,amount,wallet_address", ...lines, ""].join("\n"));
  return file;
}
const aPayout = (amount: string, wallet = payeeAddress) => `${nodeId},USDT,${amount},${wallet}`;

describe("batch", () => {
  const run = async (file: string, given: Partial<BatchOptions> = {}, terminal = keptTerminal()) => {
    const code = await batch(file, { ...asked(), yes: false, ...given }, meansWith(terminal));
    return { code, ...terminal };
  };
  const batchIdIn = (told: readonly string[]): string => /batch_[0-9a-f]{32}/.exec(told.join("\n"))?.[0] ?? "";

  test("shows what it would pay, and sends nothing, when nobody can be asked", async () => {
    const { code, answers, told } = await run(fileWith(aPayout("1.1"), aPayout("2.20", otherTronAddress)));
    const batchId = batchIdIn(told);
    expect({ code, answers }).toEqual({ code: 0, answers: [`${batchId}  not sent`] });
    expect(told).toEqual([`batch ${batchId}, 2 payouts`, "2 payouts: 3.3 USDT", "Nothing was sent. --yes sends it."]);
    await expect(world.payouts.getPayoutBatch({ batchId })).rejects.toMatchObject({ code: Code.NotFound });
  });

  test("sends nothing when the person at the terminal says no, and all when it says yes", async () => {
    const file = fileWith(aPayout("3.1"));
    const refused = await run(file, {}, keptTerminal(false));
    const batchId = batchIdIn(refused.told);
    expect(refused).toMatchObject({ code: 0, questions: ["Send it?"], answers: [`${batchId}  not sent`] });
    const sent = await run(file, {}, keptTerminal(true));
    expect(sent.code).toBe(0);
    const { batch: made } = await world.payouts.getPayoutBatch({ batchId });
    expect(made).toMatchObject({ itemCount: 1, createdBy: expect.stringMatching(/^payer/) });
  });

  test("waits until all are paid, and says how far they are", async () => {
    const file = fileWith(aPayout("4.1"), aPayout("4.1"), `${nodeId},LUCID,4,0x${"1".repeat(40)}`);
    const { code, answers, told, progressed } = await run(file, { yes: true, wait: true });
    expect(code).toBe(0);
    expect(told).toContain("line 3: the same as line 2; both are paid");
    expect(progressed.at(-1)).toBe("3 of 3 done: COMPLETED 3");
    expect(answers).toHaveLength(1);
    expect(answers[0]).toContain("state     COMPLETED");
    expect(answers[0]).toMatch(/USDT +COMPLETED +2 +8\.2/);
  });

  test("the same payouts again are the same batch, paid once", async () => {
    const lines = [aPayout("5.1"), aPayout("5.2")];
    const first = await run(fileWith(...lines), { yes: true, wait: true });
    const second = await run(fileWith(...lines.reverse()), { yes: true, wait: true });
    expect(second.code).toBe(0);
    const batchId = batchIdIn(first.told);
    expect(batchIdIn(second.told)).toBe(batchId);
    expect(second.told.join("\n")).toContain("nothing new is paid");
    const { payouts } = await world.payouts.listPayouts({ batchId });
    expect(payouts.map(({ money }) => money?.amount).sort()).toEqual(["5.1", "5.2"]);
  });

  test("prints one JSON document", async () => {
    const file = fileWith(aPayout("6.1"));
    const dry = await run(file, { json: true });
    const batchId = batchIdIn(dry.told);
    const plan = { file, batch_id: batchId, payouts: 1, totals: [{ currency: "USDT", count: 1, amount: "6.1" }] };
    expect(dry.answers.map((text) => JSON.parse(text))).toEqual([{ ...plan, faults: [], sent: false }]);
    const sent = await run(file, { json: true, yes: true, wait: true });
    expect(sent.answers.map((text) => JSON.parse(text))).toEqual([
      { ...plan, faults: [], sent: true, batch: expect.objectContaining({ status: "BATCH_STATUS_COMPLETED" }) },
    ]);
  });

  test("sends nothing of a file with a fault, and names each with its line", async () => {
    const file = fileWith(aPayout("1"), aPayout("1e3"), `${nodeId},EUR,1,`);
    const { code, answers, told } = await run(file, { yes: true, json: true });
    expect(code).toBe(1);
    expect(told).toEqual([
      expect.stringMatching(/csv, line 3: amount: "1e3" must be a plain decimal/),
      expect.stringMatching(/csv, line 4: currency: "EUR" is none of USDT, LUCID/),
      expect.stringMatching(/^Nothing was sent: 2 faults in /),
    ]);
    expect(JSON.parse(answers[0] ?? "")).toMatchObject({
      sent: false,
      faults: [{ place: "line 3" }, { place: "line 4" }],
    });
  });

  test("tells at which line the service finds a fault", async () => {
    const contract = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
    const { code, answers, told } = await run(fileWith(aPayout("7"), aPayout("7", contract)), { yes: true });
    expect({ code, answers }).toEqual({ code: 1, answers: [] });
    expect(told.filter((line) => line.startsWith("line "))).toEqual([
      expect.stringMatching(/^line 3: wallet_address: ./),
    ]);
    expect(told.at(-1)).toMatch(/\(LUCID_ERR_4001, INVALID_ARGUMENT\)$/);
  });

  test("waits for a second person until it is ended, and says so", async () => {
    const ended = new AbortController();
    const terminal = keptTerminal();
    const progress = (line: string) => {
      terminal.progressed.push(line);
      ended.abort();
    };
    const file = fileWith(`${nodeId},LUCID,101,0x${"1".repeat(40)}`);
    const options = { ...asked(), yes: true, wait: true };
    expect(await batch(file, options, meansWith({ ...terminal, progress }, ended.signal))).toBe(1);
    expect(terminal.progressed[0]).toMatch(/^0 of 1 done: PENDING 1; .*approval/);
    expect(terminal.told.at(-1)).toMatch(/^Waiting has ended; what was ordered goes on/);
  });

  test.each([
    ["a file that is not there", () => "/nowhere/at/all.csv", /cannot be read/],
    ["a folder", () => directory, /cannot be read/],
    ["a file without an end", () => "/dev/zero", /more than 1 MiB/],
  ])("refuses %s", async (_, name, expected) => {
    await expect(run(name())).rejects.toThrow(expected);
  });

  test("refuses a file that is not text", async () => {
    const file = join(directory, "image.csv");
    writeFileSync(file, Buffer.from([0xff, 0xd8, 0xff]));
    await expect(run(file)).rejects.toThrow(/not text in UTF-8/);
  });
});

describe("create", () => {
  const order = { nodeId: "", currency: "USDT", amount: "1.5", wallet: payeeAddress } as const;

  test("tells the key before it orders, and a run with that key orders nothing new", async () => {
    const first = keptTerminal();
    const options = { ...asked(), ...order, nodeId, json: true };
    expect(await create(options, meansWith(first))).toBe(0);
    const [, key = ""] = /^key (\S+)$/.exec(first.told[0] ?? "") ?? [];
    const made = JSON.parse(first.answers[0] ?? "");
    expect(made).toMatchObject({
      idempotency_key: key,
      payout: { money: { amount: "1.5" }, status: "PAYOUT_STATUS_PENDING" },
    });
    const second = keptTerminal();
    expect(await create({ ...options, key }, meansWith(second))).toBe(0);
    expect(JSON.parse(second.answers[0] ?? "").payout.payout_id).toBe(made.payout.payout_id);
    expect(second.told).toContain("This key was used before; this is the payout that it made.");
  });

  test("waits until it is paid", async () => {
    const terminal = keptTerminal();
    expect(await create({ ...asked(), ...order, nodeId, wait: true }, meansWith(terminal))).toBe(0);
    expect(terminal.answers).toEqual([expect.stringMatching(/^payout_\w+ {2}1\.5 USDT {2}COMPLETED$/)]);
  });

  test("wants an order that is whole", async () => {
    for (const missing of ["nodeId", "currency", "amount"]) {
      const options = { ...asked(), ...order, nodeId, [missing]: undefined };
      await expect(create(options, meansWith(keptTerminal()))).rejects.toThrow(/is required/);
    }
    const late = { ...asked(), ...order, nodeId, scheduledAt: "tomorrow" };
    await expect(create(late, meansWith(keptTerminal()))).rejects.toThrow(/--scheduled-at takes a time/);
  });

  test.each([
    ["an unknown node", { nodeId: "node_missing" }, "Node node_missing not found (LUCID_ERR_5001, NOT_FOUND)"],
    ["another's right", { token: "viewer" }, /\(LUCID_ERR_4031, PERMISSION_DENIED\)$/],
    ["no token at all", { token: "x" }, "The token is not valid (LUCID_ERR_4011, UNAUTHENTICATED)"],
  ])("tells the service's refusal in one line: %s", async (_, given, expected) => {
    const as = "token" in given && given.token === "viewer" ? { token: await world.token("approver") } : given;
    const terminal = keptTerminal();
    expect(await create({ ...asked(), ...order, nodeId, ...as }, meansWith(terminal))).toBe(1);
    expect(terminal.answers).toEqual([]);
    expect(terminal.told.slice(1)).toEqual([typeof expected === "string" ? expected : expect.stringMatching(expected)]);
  });
});

describe("when the service fails", () => {
  let double: PayoutDouble;
  beforeEach(async () => {
    double = await openPayoutDouble();
  });
  afterEach(() => double[Symbol.asyncDispose]());
  const order = { nodeId: "node_abc", currency: "USDT", amount: "1", wallet: "" } as const;
  const away = () => new ConnectError("gone", Code.DeadlineExceeded);

  test("an answer that is lost leaves the way to repeat the run", async () => {
    double.fail(away());
    const terminal = keptTerminal();
    expect(await create({ ...asked(double.baseUrl), ...order, key: "mine" }, meansWith(terminal))).toBe(1);
    expect(terminal.told.join("\n")).toContain("--key mine repeats the order and pays it once");
    expect(await retry("payout_one", asked(double.baseUrl), meansWith(terminal))).toBe(0);
    expect(double.keys).toEqual(["mine", expect.stringMatching(/^test-key-/)]);
  });

  test("waiting goes on while the service is away", async () => {
    double.batches.push({ status: BatchStatus.PROCESSING, byStatus: { PAYOUT_STATUS_PROCESSING: 1 } });
    double.batches.push(away());
    double.batches.push({ status: BatchStatus.PARTIAL, byStatus: { PAYOUT_STATUS_FAILED: 1 } });
    const terminal = keptTerminal();
    const options = { ...asked(double.baseUrl), yes: true, wait: true };
    expect(await batch(fileWith("node_abc,USDT,1,"), options, meansWith(terminal))).toBe(1);
    expect(terminal.progressed).toEqual([
      "0 of 1 done: PROCESSING 1",
      "asking again: gone (DEADLINE_EXCEEDED)",
      "0 of 1 done: PROCESSING 1",
      "1 of 1 done: FAILED 1",
    ]);
  });

  test("waiting ends with a refusal that time does not mend", async () => {
    double.batches.push({ status: BatchStatus.PROCESSING, byStatus: { PAYOUT_STATUS_PROCESSING: 1 } });
    double.batches.push(new ConnectError("your token has expired", Code.Unauthenticated));
    const terminal = keptTerminal();
    const options = { ...asked(double.baseUrl), yes: true, wait: true };
    expect(await batch(fileWith("node_abc,USDT,1,"), options, meansWith(terminal))).toBe(1);
    expect(terminal.told.at(-1)).toBe("your token has expired (UNAUTHENTICATED)");
  });

  test("amounts go as text, to the last digit", async () => {
    const options = { ...asked(double.baseUrl), ...order, amount: "999999.999999" };
    await create(options, meansWith(keptTerminal()));
    expect(double.orders).toMatchObject([{ money: { currency: Currency.USDT, amount: "999999.999999" } }]);
    expect(double.made.status).toBe(PayoutStatus.PENDING);
  });
});

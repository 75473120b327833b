// lucid-node payouts approve, reject, cancel, pause, resume and accept.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Currency } from "../../../gen/lucid/node/v1/common_pb.js";
import { PayoutStatus } from "../../../gen/lucid/node/v1/payout_service_pb.js";
import { accept, approve, cancel, pause, reject, resume } from "../../../src/cli/payouts/deciding.js";
import { aNode } from "../../support/world/builders.js";
import { meansWith } from "../../support/world/means.js";
import { type KeptTerminal, keptTerminal } from "../../support/world/terminal.js";
import { until } from "../../support/world/until.js";
import { openWorld, type World } from "../../support/world/world.js";

let world: World;
let nodeId: string;
let [payer, approver, admin] = ["", "", ""];
beforeAll(async () => {
  world = await openWorld({ settings: { SANDBOX_BLOCK_TIME: "10", PAYOUT_APPROVAL_THRESHOLD_LUCID: "100" } });
  ({ nodeId } = await aNode(world.nodes));
  [payer, approver, admin] = [await world.token("payer"), await world.token("approver"), await world.token("admin")];
});
afterAll(() => world[Symbol.asyncDispose]());

const asked = (token: string) => ({ server: world.baseUrl, token, json: false });
const run = async (work: (terminal: KeptTerminal) => Promise<number>) => {
  const terminal = keptTerminal();
  const code = await work(terminal);
  return { code, text: terminal.answers.join("\n"), told: terminal.told };
};

let orders = 0;
const order = () => ({
  ...{ nodeId, walletAddress: `0x${"1".repeat(40)}`, money: { currency: Currency.LUCID, amount: "101" } },
});
async function aHeldPayout(): Promise<string> {
  const { payouts } = world.as(payer);
  const { payout } = await payouts.createPayout({ ...order(), idempotencyKey: `deciding-${++orders}` });
  return payout?.payoutId ?? "";
}
async function aHeldBatch(): Promise<string> {
  const batchId = `batch_deciding_${++orders}`;
  await world.as(payer).payouts.createBatchPayout({ batchId, payoutRequests: [order(), order()] });
  return batchId;
}
const untilPaid = (payoutId: string) =>
  until(async () => {
    const { payout } = await world.payouts.getPayout({ payoutId });
    return payout?.status === PayoutStatus.COMPLETED;
  }, "it is paid");

describe("approve and reject", () => {
  test("let a payout go on, or end it, and keep the words for the record", async () => {
    const [one, two] = [await aHeldPayout(), await aHeldPayout()];
    const options = { ...asked(approver), note: "agreed" };
    const approved = await run((terminal) => approve(one, options, meansWith(terminal)));
    expect(approved).toMatchObject({
      code: 0,
      text: expect.stringMatching(/^payout_\w+ {2}101 LUCID {2}PENDING, queued/),
    });
    await untilPaid(one);
    const rejected = await run((terminal) => reject(two, { ...asked(approver), reason: "twice" }, meansWith(terminal)));
    expect(rejected).toMatchObject({ code: 0, text: `${two}  101 LUCID  CANCELLED` });
    for (const [payoutId, reason] of [
      [one, "agreed"],
      [two, "twice"],
    ] as const) {
      await until(async () => {
        const { events } = await world.payouts.listPayoutEvents({ payoutId });
        return events.some((event) => event.reason.includes(reason));
      }, `${reason} is in the story`);
    }
  });

  test("let a whole batch go on, or end it", async () => {
    const [one, two] = [await aHeldBatch(), await aHeldBatch()];
    const approved = await run((terminal) => approve(one, { ...asked(approver), json: true }, meansWith(terminal)));
    expect(JSON.parse(approved.text)).toMatchObject({ batch: { batch_id: one, approval_needed: false } });
    const rejected = await run((terminal) => reject(two, { ...asked(approver), reason: "no" }, meansWith(terminal)));
    expect(rejected.text).toMatch(/^state +CANCELLED$/m);
  });

  test("are refused to the creator, in one line", async () => {
    const payoutId = await aHeldPayout();
    const own = await world.token("admin", { subject: "both" });
    const made = await world.as(own).payouts.createPayout({ ...order(), idempotencyKey: "deciding-own" });
    for (const [id, token] of [
      [made.payout?.payoutId ?? "", own],
      [payoutId, payer],
    ] as const) {
      const refused = await run((terminal) => approve(id, asked(token), meansWith(terminal)));
      expect(refused).toMatchObject({
        code: 1,
        text: "",
        told: [expect.stringMatching(/LUCID_ERR_4031, PERMISSION_DENIED\)$/)],
      });
    }
  });

  test("reject wants a reason, and both want an id", async () => {
    await expect(run((terminal) => reject("payout_x", asked(approver), meansWith(terminal)))).rejects.toThrow(
      "--reason is required",
    );
    await expect(run((terminal) => approve("x", asked(approver), meansWith(terminal)))).rejects.toThrow(/begins with/);
  });
});

describe("cancel", () => {
  test("ends a payout that nobody has begun with, and says when it is too late", async () => {
    const [one, two] = [await aHeldPayout(), await aHeldPayout()];
    const cancelled = await run((terminal) => cancel(one, asked(payer), meansWith(terminal)));
    expect(cancelled).toMatchObject({ code: 0, text: `${one}  101 LUCID  CANCELLED  cancelled` });
    await world.as(approver).payouts.approvePayout({ payoutId: two });
    await untilPaid(two);
    const late = await run((terminal) => cancel(two, asked(payer), meansWith(terminal)));
    expect(late).toMatchObject({ code: 1, text: `${two}  101 LUCID  COMPLETED  too late` });
  });

  test("does so for each payout of a batch", async () => {
    const batchId = await aHeldBatch();
    await world.as(approver).payouts.approvePayout({ batchId });
    await until(async () => {
      const { batch } = await world.payouts.getPayoutBatch({ batchId });
      return batch?.byStatus.PAYOUT_STATUS_COMPLETED === 2;
    }, "both are paid");
    const late = await run((terminal) => cancel(batchId, asked(payer), meansWith(terminal)));
    expect(late.code).toBe(1);
    expect(late.text).toMatch(
      /^cancelled 0, may have been sent 0, too late 2\ntoo late: payout_\w+\ntoo late: payout_/,
    );
    const json = await run(async (terminal) =>
      cancel(await aHeldBatch(), { ...asked(payer), json: true }, meansWith(terminal)),
    );
    expect({ ...json, text: JSON.parse(json.text) }).toMatchObject({ code: 0, text: { too_late: [] } });
  });
});

describe("pause, resume and accept", () => {
  test("stop sending and let it go on", async () => {
    const paused = await run((terminal) => pause({ ...asked(admin), reason: "a test" }, meansWith(terminal)));
    expect(paused).toMatchObject({ code: 0, text: expect.stringMatching(/^sending is paused since \d{4}-/) });
    expect((await world.payouts.getPayoutQueue({})).pausedReason).toBe("a test");
    const resumed = await run((terminal) => resume({ ...asked(admin), json: true }, meansWith(terminal)));
    expect({ ...resumed, text: JSON.parse(resumed.text) }).toMatchObject({ code: 0, text: { unknown_transfers: 0 } });
    expect((await world.payouts.getPayoutQueue({})).paused).toBe(false);
  });

  test("want their words, and tell the refusal of a transfer that is not unknown", async () => {
    await expect(run((terminal) => pause(asked(admin), meansWith(terminal)))).rejects.toThrow("--reason is required");
    await expect(run((terminal) => accept("ab", asked(admin), meansWith(terminal)))).rejects.toThrow(
      "--note is required",
    );
    const hash = `sandbox:${"a".repeat(64)}`;
    const refused = await run((terminal) => accept(hash, { ...asked(admin), note: "known" }, meansWith(terminal)));
    expect(refused).toMatchObject({ code: 1, text: "", told: [expect.stringMatching(/LUCID_ERR_\d+, [A-Z_]+\)$/)] });
  });
});

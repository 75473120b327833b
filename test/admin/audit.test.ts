// The audit log takes each act once, however often it is told.
import { expect, test } from "vitest";
import { type Act, type AuditDocument, auditCollection, createAudit } from "../../src/admin/audit.js";
import { openEngines } from "../support/engines/engines.js";
import { createTestClock } from "../support/world/clock.js";

test("an act that is told twice is recorded once, as it was told first", async () => {
  const clock = createTestClock();
  const { store } = await (await openEngines(clock)).open();
  await using _ = store;
  const audit = await createAudit(store);
  const act: Act = { id: "payout_1:2", at: clock.now(), actor: "eve", action: "payout.cancel", target: "payout_1" };
  await audit.record([{ ...act, reason: "a mistake", requestId: "r-1" }]);
  await audit.record([
    { ...act, actor: "mallory" },
    { ...act, id: "payout_1:3", transactionHash: "sandbox:1" },
  ]);
  const entries = await store.collection<AuditDocument>(auditCollection);
  const { items } = await entries.page({}, { index: "idx_at", limit: 10 });
  expect(items).toEqual([
    {
      ...{ _id: "payout_1:2", at: clock.now(), actor: "eve", action: "payout.cancel", target: "payout_1" },
      ...{ reason: "a mistake", request_id: "r-1" },
    },
    {
      ...{ _id: "payout_1:3", at: clock.now(), actor: "eve", action: "payout.cancel", target: "payout_1" },
      transaction_hash: "sandbox:1",
    },
  ]);
});

// Who may call PayoutService, and what its handlers do between the wire and the desk. The desk is played by a record of
// what it was asked for.
import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { Currency } from "../../gen/lucid/node/v1/common_pb.js";
import * as wire from "../../gen/lucid/node/v1/payout_service_pb.js";
import type { Caller } from "../../src/access/caller.js";
import { nodeRoles, permissionsOf, type Role, serviceRoles } from "../../src/access/permission.js";
import { createPaging } from "../../src/conventions/paging.js";
import { Failure, nodeNotFound } from "../../src/failure.js";
import type { PayoutDocument } from "../../src/payouts/document.js";
import { createPayoutHandler, type Desk, payoutPolicies } from "../../src/payouts/handler.js";
import { createCall } from "../../src/rpc/call.js";
import { contextOf } from "../../src/rpc/context.js";
import { assertPolicies, policiesOf } from "../../src/rpc/policies.js";

const now = new Date("2026-03-01T12:00:00Z");

const callerAs = (role: Role, nodeId?: string): Caller => ({
  subject: nodeId ?? role,
  role,
  nodeId,
  tokenType: nodeId === undefined ? "service_access" : "node_access",
  jti: "j",
  issuedAt: now,
  expiresAt: now,
  enrollmentEpoch: undefined,
});

/** The part of a handler's context that handlers of this folder read. */
function contextAs(caller: Caller): HandlerContext {
  const call = createCall({ requestId: "r-1", endpoint: "", method: undefined, headers: new Headers() });
  call.caller = caller;
  return { values: contextOf(call) } as HandlerContext;
}

const aPayout = (tweaks: Partial<PayoutDocument> = {}): PayoutDocument => ({
  _id: "payout_one",
  node_id: "node_one",
  currency: "USDT",
  amount_minor: "1000000",
  recipient: "sealed",
  recipient_fingerprint: "f",
  recipient_masked: "TR7N…Lj6t",
  status: "pending",
  phase: "queued",
  claim_token: 0,
  attempts: [],
  priority: "normal",
  created_by: "payer",
  retry_count: 0,
  max_retries: 3,
  waits: 0,
  created_at: now,
  updated_at: now,
  version: 1,
  entries: [],
  ...tweaks,
});

/** A desk that answers by `answers`, and the handler before it; `asked` holds each question with its arguments. */
function openDesk(answers: Partial<Desk>) {
  const asked: [string, unknown[]][] = [];
  const desk = new Proxy(answers, {
    get: (target, name: keyof Desk) => {
      const answer = target[name] as ((...given: unknown[]) => unknown) | undefined;
      return (...given: unknown[]) => {
        asked.push([name, given]);
        if (answer === undefined) throw new Error(`the desk was asked for ${name}`);
        return answer(...given);
      };
    },
  }) as Desk;
  const handler = createPayoutHandler({
    desk,
    paging: createPaging(new Uint8Array(32)),
    clock: { now: () => now },
    gatewayProblem: () => undefined,
    getNode: (nodeId) => Promise.reject(nodeNotFound(nodeId)),
  });
  return { handler, asked };
}

const of = <Desc extends DescMessage>(schema: Desc, init?: MessageInitShape<Desc>) => create(schema, init);
const payer = contextAs(callerAs("payer"));
const itself = contextAs(callerAs("worker", "node_one"));
const stranger = contextAs(callerAs("worker", "node_two"));

const reasonOf = async (answer: () => unknown): Promise<string> => {
  try {
    await answer();
    return "through";
  } catch (error) {
    if (error instanceof Failure) return error.reason;
    throw error;
  }
};

describe("who may call", () => {
  const readers = ["operator", "payer", "approver", "admin"];
  const payers = ["payer", "admin"];
  const approvers = ["approver", "admin"];
  const nodesToo = [...nodeRoles, ...readers];
  const admitted: Record<keyof typeof payoutPolicies, readonly string[]> = {
    createPayout: payers,
    createBatchPayout: payers,
    getPayout: nodesToo,
    listPayouts: nodesToo,
    getPayoutBatch: readers,
    listPayoutBatches: readers,
    cancelPayout: payers,
    cancelPayoutBatch: payers,
    retryPayout: payers,
    approvePayout: approvers,
    rejectPayout: approvers,
    listPayoutEvents: nodesToo,
    getPayoutStatistics: readers,
    getPayoutQueue: readers,
    getNodeEarnings: nodesToo,
    pausePayouts: ["admin"],
    resumePayouts: ["admin"],
    reconcilePayouts: ["admin"],
    acceptTransfer: ["admin"],
  };

  test.each(Object.entries(admitted))("%s", (name, roles) => {
    const { permission, nodeToken = "refused" } = payoutPolicies[name as keyof typeof payoutPolicies];
    const allows = (role: Role) =>
      permission === "token" || (permission !== "open" && permissionsOf[role].has(permission));
    const found = [
      ...nodeRoles.filter((role) => nodeToken !== "refused" && allows(role)),
      ...serviceRoles.filter(allows),
    ];
    expect(found).toEqual(roles);
  });

  test("is stated for each RPC in a way that can be enforced", () => {
    expect(() => assertPolicies([wire.PayoutService], policiesOf(wire.PayoutService, payoutPolicies))).not.toThrow();
  });
});

describe("a node", () => {
  test("reads its own payouts and their stories, and nobody else's", async () => {
    const { handler } = openDesk({
      find: () => Promise.resolve(aPayout()),
      events: () => Promise.resolve({ items: [] }),
      countOfEvents: () => Promise.resolve(0),
    });
    const get = (context: HandlerContext) =>
      reasonOf(() => handler.getPayout(of(wire.GetPayoutRequestSchema, { payoutId: "payout_one" }), context));
    const story = (context: HandlerContext) =>
      reasonOf(() =>
        handler.listPayoutEvents(of(wire.ListPayoutEventsRequestSchema, { payoutId: "payout_one" }), context),
      );
    for (const read of [get, story]) {
      expect(await read(itself)).toBe("through");
      expect(await read(stranger)).toBe("LUCID_ERR_4031");
      expect(await read(payer)).toBe("through");
    }
  });

  test("without any payout must exist to have earned nothing", async () => {
    const request = of(wire.GetNodeEarningsRequestSchema, { nodeId: "node_one" });
    const empty = openDesk({ earnings: () => Promise.resolve([]) });
    expect(await reasonOf(() => empty.handler.getNodeEarnings(request, payer))).toBe("LUCID_ERR_5001");
    const sums = { currency: "LUCID", paid: 150_000_000n, inFlight: 1n, failed: 0n } as const;
    const { handler } = openDesk({ earnings: () => Promise.resolve([sums]) });
    expect(await handler.getNodeEarnings(request, payer)).toMatchObject({
      earnings: [{ currency: Currency.LUCID, paid: "1.5", inFlight: "0.00000001", failed: "0" }],
    });
  });
});

describe("the desk is asked", () => {
  const by = { subject: "payer", requestId: "r-1" };

  test("for one payout, with who asks and under which key", async () => {
    const { handler, asked } = openDesk({ create: () => Promise.resolve({ payout: aPayout(), replayed: true }) });
    const request = of(wire.CreatePayoutRequestSchema, {
      ...{ nodeId: "node_one", money: { currency: Currency.USDT, amount: "1.0" }, idempotencyKey: "k" },
    });
    expect(await handler.createPayout(request, payer)).toMatchObject({
      payout: { payoutId: "payout_one", replayed: true },
    });
    expect(asked).toEqual([
      [
        "create",
        [
          { nodeId: "node_one", currency: "USDT", amountMinor: 1_000_000n, priority: "normal", problemsIfNew: [] },
          { id: expect.stringMatching(/^[0-9a-f]{64}$/), meaning: expect.stringMatching(/^1:[0-9a-f]{64}$/) },
          by,
        ],
      ],
    ]);
  });

  test("for nothing by a request that is wrong", async () => {
    const { handler, asked } = openDesk({});
    const money = { currency: Currency.USDT, amount: "0" };
    const one = of(wire.CreatePayoutRequestSchema, { nodeId: "node_one", money, idempotencyKey: "k" });
    const many = of(wire.CreateBatchPayoutRequestSchema, { payoutRequests: [{ nodeId: "node_one", money }] });
    expect(await reasonOf(() => handler.createPayout(one, payer))).toBe("LUCID_ERR_4001");
    expect(await reasonOf(() => handler.createBatchPayout(many, payer))).toBe("LUCID_ERR_4001");
    expect(asked).toEqual([]);
  });

  test("about a payout or a batch, whichever is named", async () => {
    const { handler, asked } = openDesk({
      approve: () => Promise.resolve({ payout: aPayout() }),
      reject: () => Promise.resolve({ payout: aPayout() }),
    });
    await handler.approvePayout(of(wire.ApprovePayoutRequestSchema, { payoutId: "payout_one", note: "n" }), payer);
    await handler.rejectPayout(of(wire.RejectPayoutRequestSchema, { batchId: "batch_one", reason: "why" }), payer);
    expect(asked).toEqual([
      ["approve", [{ payoutId: "payout_one" }, "n", by]],
      ["reject", [{ batchId: "batch_one" }, "why", by]],
    ]);
  });

  test("for the last 24 hours where no window is stated", async () => {
    const { handler, asked } = openDesk({ statistics: () => Promise.resolve([]) });
    await handler.getPayoutStatistics(of(wire.GetPayoutStatisticsRequestSchema), payer);
    await handler.getPayoutStatistics(of(wire.GetPayoutStatisticsRequestSchema, { window: { seconds: 60n } }), payer);
    expect(asked).toEqual([
      ["statistics", [new Date("2026-02-28T12:00:00Z")]],
      ["statistics", [new Date("2026-03-01T11:59:00Z")]],
    ]);
  });

  test("for the next page of the same list only", async () => {
    const { handler } = openDesk({
      list: () => Promise.resolve({ items: [aPayout()], next: ["x"] }),
      countOf: () => Promise.resolve(2),
    });
    const { payouts, pagination } = await handler.listPayouts(of(wire.ListPayoutsRequestSchema, { limit: 1 }), payer);
    expect(payouts).toHaveLength(1);
    expect(pagination).toMatchObject({ total: 2, pages: 2 });
    const position = { case: "pageToken", value: pagination?.nextPageToken ?? "" } as const;
    const next = (nodeId: string) =>
      reasonOf(() => handler.listPayouts(of(wire.ListPayoutsRequestSchema, { limit: 1, nodeId, position }), payer));
    expect(await next("")).toBe("through");
    expect(await next("node_one")).toBe("LUCID_ERR_4001");
  });
});

test("what a cancellation did is told", async () => {
  for (const [outcome, told] of [
    ["cancelled", wire.CancelOutcome.CANCELLED],
    ["requested", wire.CancelOutcome.REQUESTED],
    ["too late", wire.CancelOutcome.TOO_LATE],
  ] as const) {
    const { handler } = openDesk({ cancel: () => Promise.resolve({ payout: aPayout(), outcome }) });
    const request = of(wire.CancelPayoutRequestSchema, { payoutId: "payout_one" });
    expect(await handler.cancelPayout(request, payer)).toMatchObject({ outcome: told });
  }
});

// What requests for payouts ask for: everything that is wrong is named by its field, and nothing is rounded.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { createValidator } from "@bufbuild/protovalidate";
import { describe, expect, test } from "vitest";
import { Currency } from "../../gen/lucid/node/v1/common_pb.js";
import {
  CreateBatchPayoutRequestSchema,
  CreatePayoutRequestSchema,
  ListPayoutsRequestSchema,
  PayoutPriority,
  PayoutStatus,
  RetryPayoutRequestSchema,
} from "../../gen/lucid/node/v1/payout_service_pb.js";
import { Failure } from "../../src/failure.js";
import {
  batchOrder,
  batchViolations,
  type Present,
  payoutFilter,
  payoutOrder,
  retryKey,
} from "../../src/payouts/requests.js";

const now = new Date("2026-03-01T12:00:00Z");
const tron = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
const ownWallet = "TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU7";
const hex = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
const usdt = { currency: Currency.USDT, amount: "12.5" };
const at: Present = {
  now,
  gatewayProblem: (_, recipient) => (recipient === ownWallet ? "is the wallet that pays" : undefined),
};

type Single = Exclude<MessageInitShape<typeof CreatePayoutRequestSchema>, { $typeName: string }>;
type Batch = Exclude<MessageInitShape<typeof CreateBatchPayoutRequestSchema>, { $typeName: string }>;

const single = (tweaks: Single = {}) =>
  payoutOrder(
    create(CreatePayoutRequestSchema, {
      ...{ nodeId: "node_one", money: usdt, walletAddress: tron, idempotencyKey: "k", ...tweaks },
    }),
    at,
  );
const item = { nodeId: "node_one", money: usdt, walletAddress: tron };
const batch = (tweaks: Batch = {}) =>
  batchOrder(create(CreateBatchPayoutRequestSchema, { batchId: "batch_one", payoutRequests: [item], ...tweaks }), at);

/** The fields that the failure names. */
function fieldsOf(ask: () => unknown): string[] {
  try {
    ask();
    return [];
  } catch (error) {
    if (!(error instanceof Failure) || error.reason !== "LUCID_ERR_4001") throw error;
    return error.violations.map(({ field }) => field);
  }
}

describe("an amount", () => {
  test.each([
    [Currency.USDT, "0.000001", 1n],
    [Currency.USDT, "12.5", 12_500_000n],
    [Currency.USDT, "12.500000", 12_500_000n],
    [Currency.USDT, "1000000", 1_000_000_000_000n],
    [Currency.LUCID, "0.000001", 100n],
    [Currency.LUCID, "1.00000001", 100_000_001n],
  ])("of currency %i, %s, is read exactly", (currency, amount, minor) => {
    expect(single({ money: { currency, amount }, walletAddress: "" }).order.amountMinor).toBe(minor);
  });

  test.each([
    ...["", "0", "0.0", "-1", "+1", "1e3", "0.0000001", "0.0000000", "1000000.000001", "1000001", "1,5", " 1", "1 "],
    ...["01", "1".repeat(40), "１", "١", "0x1", "1.", ".5", "NaN", "Infinity", "1.5.5", "1_000"],
  ])("%j is refused by its field", (amount) => {
    const money = { currency: Currency.USDT, amount };
    expect(fieldsOf(() => single({ money }))).toEqual(["money.amount"]);
    expect(fieldsOf(() => batch({ payoutRequests: [item, { ...item, money }] }))).toEqual([
      "payout_requests[1].money.amount",
    ]);
  });

  test("below 0.000001 is refused for LUCID, too, although it has 8 decimals", () => {
    const money = { currency: Currency.LUCID, amount: "0.00000099" };
    expect(fieldsOf(() => single({ money, walletAddress: hex }))).toEqual(["money.amount"]);
  });

  test("without a currency is refused", () => {
    expect(fieldsOf(() => single({ money: { amount: "1" } }))).toEqual(["money.currency"]);
  });
});

describe("a recipient", () => {
  test.each([
    [Currency.USDT, tron.replace(/t$/, "u")],
    [Currency.USDT, hex],
    [Currency.USDT, "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb"],
    [Currency.LUCID, tron],
    [Currency.LUCID, hex.replace("aAeb", "aaeb")],
  ])("of currency %i, %s, is refused by its field", (currency, walletAddress) => {
    const money = { currency, amount: "1" };
    expect(fieldsOf(() => single({ money, walletAddress }))).toEqual(["wallet_address"]);
    const broken = { ...item, money, walletAddress };
    expect(fieldsOf(() => batch({ payoutRequests: [item, item, broken] }))).toEqual([
      "payout_requests[2].wallet_address",
    ]);
  });

  test("that the gateway does not pay is a problem of a new order", () => {
    expect(single({ walletAddress: ownWallet }).order.problemsIfNew).toEqual([
      { field: "wallet_address", description: "is the wallet that pays" },
    ]);
    const { order } = batch({ payoutRequests: [item, { ...item, walletAddress: ownWallet }] });
    expect(order.problemsIfNew.map(({ field }) => field)).toEqual(["payout_requests[1].wallet_address"]);
    expect(single({ walletAddress: "" }).order.problemsIfNew).toEqual([]);
  });

  test("is the node's own where none is given, and has one spelling where one is", () => {
    expect(single({ walletAddress: "" }).order.recipient).toBeUndefined();
    const lucid = { currency: Currency.LUCID, amount: "1" };
    expect(single({ money: lucid, walletAddress: hex }).order.recipient).toBe(hex.toLowerCase());
  });
});

describe("a time", () => {
  const problems = (ms: number) =>
    single({ scheduledAt: timestampFromDate(new Date(now.getTime() + ms)) }).order.problemsIfNew.length;
  const year = 365 * 24 * 3_600_000;

  test.each([0, -60_000, 1, year])("%i ms from now is taken", (ms) => {
    expect(problems(ms)).toBe(0);
  });

  test.each([-60_001, -year, year + 1, 10 * year])("%i ms from now is a problem of a new order", (ms) => {
    expect(problems(ms)).toBe(1);
  });

  test("that Timestamp does not allow is refused", () => {
    expect(fieldsOf(() => single({ scheduledAt: { seconds: 10n ** 15n, nanos: 0 } }))).toEqual(["scheduled_at"]);
  });
});

describe("the URL for a notice", () => {
  test.each(["", "https://ledger.example/paid?batch=1", "http://ledger:8080"])("can be %j", (notificationUrl) => {
    expect(batch({ notificationUrl }).order.notificationUrl ?? "").toBe(notificationUrl);
  });

  test.each(["ftp://ledger.example", "https://user:secret@ledger.example", "https://", "javascript:1"])(
    "cannot be %j",
    (notificationUrl) => {
      expect(fieldsOf(() => batch({ notificationUrl }))).toEqual(["notification_url"]);
    },
  );
});

describe("an order", () => {
  test("names everything that is wrong with it at once", () => {
    const broken = { nodeId: "node_one", money: { currency: Currency.USDT, amount: "0" }, walletAddress: hex };
    expect(fieldsOf(() => batch({ payoutRequests: [broken, item, broken], notificationUrl: "ftp://x" }))).toEqual([
      ...["payout_requests[0].money.amount", "payout_requests[0].wallet_address"],
      ...["payout_requests[2].money.amount", "payout_requests[2].wallet_address"],
      "notification_url",
    ]);
  });

  test("has normal priority where none is given", () => {
    expect(single().order.priority).toBe("normal");
    expect(single({ priority: PayoutPriority.URGENT }).order.priority).toBe("urgent");
  });

  test("of a batch without an id gets one", () => {
    expect(batch({ batchId: "" }).order.batchId).toMatch(/^batch_[0-9a-z]{26}$/);
    expect(batch().order.batchId).toBe("batch_one");
  });
});

describe("the meaning of a key", () => {
  const meaning = (tweaks: Single) => single(tweaks).key.meaning;
  const lucid = { currency: Currency.LUCID, amount: "1" };
  const later = timestampFromDate(new Date("2026-04-01T00:00:00Z"));

  test("is the same for the same payment in other words", () => {
    expect(meaning({ money: { ...usdt, amount: "12.50" } })).toBe(meaning({}));
    expect(meaning({ money: lucid, walletAddress: hex })).toBe(
      meaning({ money: lucid, walletAddress: hex.toLowerCase() }),
    );
  });

  test.each<[string, Single]>([
    ["another node", { nodeId: "node_two" }],
    ["another amount", { money: { ...usdt, amount: "12.500001" } }],
    ["another currency", { money: { ...usdt, currency: Currency.LUCID }, walletAddress: hex }],
    ["another recipient", { walletAddress: ownWallet }],
    ["the node's own address", { walletAddress: "" }],
    ["a stated priority", { priority: PayoutPriority.NORMAL }],
    ["a time", { scheduledAt: later }],
  ])("is another one with %s", (_, tweaks) => {
    expect(meaning(tweaks)).not.toBe(meaning({}));
  });

  test("does not depend on when it is asked", () => {
    const request = create(CreatePayoutRequestSchema, { ...item, idempotencyKey: "k", scheduledAt: later });
    const keys = [now, new Date("2027-01-01")].map((moment) => payoutOrder(request, { ...at, now: moment }).key);
    expect(keys[1]).toEqual(keys[0]);
  });

  test("knows the RPC, since keys of all RPCs that make a payout are one space", () => {
    const retry = retryKey(create(RetryPayoutRequestSchema, { payoutId: "payout_one", idempotencyKey: "k" }));
    expect(retry.id).toBe(single().key.id);
    expect(retry.meaning).not.toBe(single().key.meaning);
    expect(single({ idempotencyKey: "other" }).key.id).not.toBe(retry.id);
    expect(single({ idempotencyKey: "other" }).key.meaning).toBe(single().key.meaning);
  });

  test("of a batch is its items, not its id", () => {
    const two = { ...item, money: { ...usdt, amount: "1" } };
    const { meaning: whole } = batch({ payoutRequests: [item, two] });
    expect(batch({ payoutRequests: [item, { ...two, money: { ...usdt, amount: "1.0" } }] }).meaning).toBe(whole);
    expect(batch({ payoutRequests: [item, two], batchId: "batch_two" }).meaning).toBe(whole);
    expect(batch({ payoutRequests: [two, item] }).meaning).not.toBe(whole);
    expect(batch({ payoutRequests: [item, item] }).meaning).not.toBe(whole);
    expect(batch({ payoutRequests: [item, two], notificationUrl: "http://x" }).meaning).not.toBe(whole);
  });
});

test("a list is filtered by what is stated", () => {
  expect(payoutFilter(create(ListPayoutsRequestSchema))).toEqual({});
  const since = timestampFromDate(now);
  const stated = { nodeId: "node_one", batchId: "batch_one", since, until: since };
  expect(
    payoutFilter(
      create(ListPayoutsRequestSchema, { ...stated, status: PayoutStatus.FAILED, currency: Currency.LUCID }),
    ),
  ).toEqual({ nodeId: "node_one", batchId: "batch_one", since: now, until: now, status: "failed", currency: "LUCID" });
});

describe("the short check of a batch", () => {
  const validator = createValidator();
  const node = `node_${"a".repeat(26)}`;
  const item = (given: object = {}) => ({ nodeId: node, money: { currency: 1, amount: "1.5" }, ...given });
  const paying = (money: object) => item({ money: { currency: 1, amount: "1", ...money } });
  const items = [
    ...["", "node_", "node_ab", "node_abc", "node_abc\n", "nodeabcdef"].map((nodeId) => item({ nodeId })),
    ...[59, 60].map((length) => item({ nodeId: `node_${"a".repeat(length)}` })),
    ...["", "0", "01", "1.", ".1", "1.123456789", "1.12345678", "1e3", " 1", "1\n", "-1", "\uff11", "1,5"].map(
      (amount) => paying({ amount }),
    ),
    ...[32, 33].map((length) => paying({ amount: "9".repeat(length) })),
    ...[23, 24].map((length) => paying({ amount: `${"9".repeat(length)}.12345678` })),
    ...[-1, 0, 2, 3].map((currency) => paying({ currency })),
    ...["w".repeat(64), "w".repeat(65), "\u{1f600}".repeat(33), "\u{1f600}".repeat(65)].map((walletAddress) =>
      item({ walletAddress }),
    ),
    { nodeId: node },
  ];
  const ids = [
    "batch_",
    "batch_a",
    "batch_ab",
    "batch_a\n",
    "batch_\u00e41",
    ...[58, 59].map((n) => `batch_${"a".repeat(n)}`),
  ];
  const tweaks: readonly object[] = [
    {},
    ...[0, 1, 1000, 1001].map((length) => ({ payoutRequests: Array.from({ length }, () => item()) })),
    ...items.map((last) => ({ payoutRequests: [item(), last] })),
    ...ids.map((batchId) => ({ batchId })),
    ...[-1, 0, 1, 2, 3, 4, 9].map((priority) => ({ priority })),
    ...["x", "ftp://a.b", "https://a.b", "https://a b"].map((notificationUrl) => ({ notificationUrl })),
  ];
  const requests = tweaks.map((tweak) =>
    create(CreateBatchPayoutRequestSchema, { payoutRequests: [item()], ...tweak } as Batch),
  );

  test("lets nothing through that the rules of the contract refuse", () => {
    const refused = requests.filter(
      (request) => validator.validate(CreateBatchPayoutRequestSchema, request).kind !== "valid",
    );
    expect(refused.length).toBeGreaterThan(30);
    for (const request of refused)
      expect(batchViolations(request), JSON.stringify(request).slice(0, 200)).toBeUndefined();
  });

  test("leaves none of the ordinary batches to the validator", () => {
    const ordinary = requests.filter(
      (request) =>
        request.notificationUrl === "" && validator.validate(CreateBatchPayoutRequestSchema, request).kind === "valid",
    );
    expect(ordinary.length).toBeGreaterThan(10);
    // A text counts by its UTF-16 units here, and by its characters in the contract.
    const exotic = ordinary.filter((request) => batchViolations(request) === undefined);
    expect(exotic.map(({ payoutRequests }) => payoutRequests.at(-1)?.walletAddress)).toEqual(["\u{1f600}".repeat(33)]);
  });
});

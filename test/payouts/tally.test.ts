// Sums of payouts, and the state of a batch by them.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Status, statuses } from "../../src/payouts/document.js";
import { type Currency, currencies, sumOf } from "../../src/payouts/money.js";
import { added, batchState, batchTotals, countOf, type Total } from "../../src/payouts/tally.js";

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

const item = (currency: Currency, amount_minor: string) => ({
  ...{ node_id: "node_one", currency, amount_minor, recipient: "", recipient_fingerprint: "", recipient_masked: "" },
});
const total = (status: Status, minor: bigint, currency: Currency = "USDT", count = 1): Total => ({
  ...{ currency, status, count, minor },
});
const items = [item("USDT", "5"), item("USDT", "7"), item("LUCID", "9")];

describe("the totals of a batch", () => {
  test("count an item that is no payout yet as pending", () => {
    expect(batchTotals({ items }, [])).toEqual([total("pending", 12n, "USDT", 2), total("pending", 9n, "LUCID")]);
    expect(batchTotals({ items }, [total("completed", 5n), total("pending", 9n, "LUCID")])).toEqual([
      total("completed", 5n),
      total("pending", 9n, "LUCID"),
      total("pending", 7n),
    ]);
  });

  test("count it as cancelled with its batch", () => {
    expect(batchTotals({ items, cancelled: true }, [])).toEqual([
      total("cancelled", 12n, "USDT", 2),
      total("cancelled", 9n, "LUCID"),
    ]);
  });

  test(`agree with the items, whichever became payouts (seed ${seed})`, () => {
    const one = fc.record({
      currency: fc.constantFrom(...currencies),
      minor: fc.bigInt({ min: 1n, max: 10n ** 20n }),
      status: fc.option(fc.constantFrom(...statuses)),
    });
    fc.assert(
      fc.property(fc.array(one, { minLength: 1, maxLength: 30 }), (all) => {
        const made = all.flatMap(({ status, minor, currency }) => (status ? [total(status, minor, currency)] : []));
        const totals = batchTotals({ items: all.map(({ currency, minor }) => item(currency, `${minor}`)) }, made);
        expect(countOf(totals)).toBe(all.length);
        for (const currency of currencies) {
          const of = (some: readonly { currency: Currency; minor: bigint }[]) =>
            sumOf(some.filter((each) => each.currency === currency).map(({ minor }) => minor));
          expect(of(totals)).toBe(of(all));
        }
      }),
      { seed },
    );
  });

  test("of one currency and status are one", () => {
    const both = [total("failed", 1n), total("failed", 2n), total("failed", 4n, "LUCID")];
    expect(added(both)).toEqual([total("failed", 3n, "USDT", 2), total("failed", 4n, "LUCID")]);
  });
});

test.each<[readonly Status[], string]>([
  [["pending"], "queued"],
  [["pending", "cancelled"], "queued"],
  [["processing"], "processing"],
  [["processing", "completed", "failed"], "processing"],
  [["pending", "completed"], "processing"],
  [["pending", "failed"], "processing"],
  [["completed"], "completed"],
  [["completed", "failed"], "partial"],
  [["completed", "cancelled"], "partial"],
  [["failed"], "failed"],
  [["failed", "cancelled"], "failed"],
  [["cancelled"], "cancelled"],
])("a batch with payouts %j is %s", (present, state) => {
  expect(batchState(present.map((status) => total(status, 1n)))).toBe(state);
});

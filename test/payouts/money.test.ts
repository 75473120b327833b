// Amounts: what is read, what is refused, and that nothing is lost on the way.
import { describe, expect, it } from "vitest";
import {
  amountProblem,
  type Currency,
  currencies,
  decimalsOf,
  formatAmount,
  parseAmount,
} from "../../src/payouts/money.js";
import { randomFrom } from "../support/world/random.js";

describe("an amount", () => {
  it.each([
    ["USDT", "1", 1_000_000n],
    ["USDT", "0.000001", 1n],
    ["USDT", "12.5", 12_500_000n],
    ["USDT", "12.500000", 12_500_000n],
    ["USDT", "1000000", 1_000_000_000_000n],
    ["LUCID", "0.000001", 100n],
    ["LUCID", "0.12345678", 12_345_678n],
    ["LUCID", "1000000", 100_000_000_000_000n],
  ] as const)("in %s of %s is %i minor units", (currency, text, minor) => {
    expect([parseAmount(currency, text), amountProblem(currency, text)]).toEqual([minor, undefined]);
  });

  it.each([
    ...[
      "",
      "0",
      "-1",
      "+1",
      "1e3",
      "1E3",
      "0x10",
      "0.0000001",
      "1000000.000001",
      "1000001",
      "1,5",
      "1 000",
      " 1",
      "1 ",
    ],
    ...["01", "00", ".5", "5.", "1.2.3", "1_000", "NaN", "Infinity", "1\n", "\t1", "０", "１２", "1٫5", "one"],
    ...["1".repeat(40), `0.${"0".repeat(40)}1`, "9007199254740993", "null", "0.0", "0.000000"],
  ])("of %j is refused", (text) => {
    expect(amountProblem("USDT", text)).toBeTypeOf("string");
  });

  it("may have as many decimals as its currency, and no more", () => {
    for (const currency of currencies) {
      const most = Number(decimalsOf[currency]);
      expect(amountProblem(currency, `1.${"0".repeat(most - 1)}1`)).toBeUndefined();
      expect(amountProblem(currency, `1.${"0".repeat(most)}1`)).toBeTypeOf("string");
    }
  });

  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9));
  it(`is read as it was written (SEED=${seed})`, () => {
    const random = randomFrom(seed);
    for (let n = 0; n < 5_000; n++) {
      const currency: Currency = n % 2 === 0 ? "USDT" : "LUCID";
      const digits = 1 + Math.floor(random() * 20);
      const minor = BigInt(Array.from({ length: digits }, () => Math.floor(random() * 10)).join(""));
      const text = formatAmount({ currency, minor });
      expect(parseAmount(currency, text), text).toBe(minor);
      expect(text).toMatch(/^(0|[1-9]\d*)(\.\d*[1-9])?$/);
    }
  });
});

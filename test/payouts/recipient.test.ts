// Who can be paid in which currency.
import { describe, expect, test } from "vitest";
import { canonicalAddress, recipientProblem } from "../../src/payouts/recipient.js";

const tron = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
const hex = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

describe("a recipient", () => {
  test.each([
    ["USDT", tron],
    ["USDT", "TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU7"],
    ["LUCID", hex],
    ["LUCID", hex.toLowerCase()],
    ["LUCID", `0x${hex.slice(2).toUpperCase()}`],
  ] as const)("of %s can be %s", (currency, address) => {
    expect(recipientProblem(currency, address)).toBeUndefined();
  });

  test.each([
    ["USDT", hex, "TRON"],
    ["USDT", hex.toLowerCase(), "TRON"],
    ["USDT", "41a614f803b6fd780986a42c78ec9c7f77e6ded13c", "TRON"],
    ["USDT", tron.replace(/t$/, "u"), "checksum"],
    ["USDT", ` ${tron}`, "TRON"],
    ["USDT", tron.toLowerCase(), "TRON"],
    ["USDT", "", "TRON"],
    ["USDT", "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb", "keys"],
    ["LUCID", tron, "0x"],
    ["LUCID", hex.replace("aAeb", "aaeb"), "checksum"],
    ["LUCID", hex.slice(0, -1), "40 hex"],
    ["LUCID", hex.slice(2), "0x"],
    ["LUCID", `0X${hex.slice(2)}`, "0x"],
    ["LUCID", "", "0x"],
    ["LUCID", `0x${"0".repeat(40)}`, "keys"],
  ] as const)("of %s cannot be %j", (currency, address, reason) => {
    expect(recipientProblem(currency, address)).toContain(reason);
  });

  test("has one spelling: the case of hex digits tells nothing more, that of base58 does", () => {
    expect(canonicalAddress(hex)).toBe(hex.toLowerCase());
    expect(canonicalAddress(hex.toLowerCase())).toBe(hex.toLowerCase());
    expect(canonicalAddress(tron)).toBe(tron);
  });
});

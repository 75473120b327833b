// What a file of payouts may say, and that no fault in it passes.
import { describe, expect, test } from "vitest";
import { batchIdOf, itemsMax, readOrders, totalsOf } from "../../../src/cli/payouts/order-file.js";
import { payeeAddress } from "../../support/world/builders.js";

const lucid = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
const header = "node_id,currency,amount,wallet_address";
const read = (...lines: string[]) => readOrders([header, ...lines, ""].join("\n"));
const faultsIn = (text: string) => readOrders(text).faults.map(({ place, message }) => `${place}: ${message}`);

test("reads CSV with its columns in any order, with or without wallets", () => {
  const text = "amount,node_id,currency\r\n12.50,node_abc,USDT\r\n0.00000100,node_def,LUCID\r\n";
  expect(readOrders(text)).toEqual({
    faults: [],
    notices: [],
    items: [
      { place: "line 2", nodeId: "node_abc", currency: "USDT", amount: "12.5", walletAddress: "" },
      { place: "line 3", nodeId: "node_def", currency: "LUCID", amount: "0.000001", walletAddress: "" },
    ],
  });
});

test("reads a JSON array of the same fields, and a byte order mark before either", () => {
  const json = JSON.stringify([{ node_id: "node_abc", currency: "LUCID", amount: "1", wallet_address: lucid }]);
  const { items, faults } = readOrders(`\ufeff ${json}`);
  expect(faults).toEqual([]);
  expect(items).toEqual([
    { place: "item 1", nodeId: "node_abc", currency: "LUCID", amount: "1", walletAddress: lucid },
  ]);
  expect(readOrders("\ufeffnode_id,currency,amount\nnode_abc,USDT,1\n").items).toHaveLength(1);
});

describe("a fault is told with its place", () => {
  test.each([
    ["node_ab,USDT,1,", /^line 2: node_id/],
    ["NODE_abc,USDT,1,", /^line 2: node_id/],
    ["node_abc,usdt,1,", /^line 2: currency: "usdt"/],
    ["node_abc,EUR,1,", /^line 2: currency/],
    ...[
      "0",
      "-1",
      "1e3",
      "0.0000001",
      "1000000.000001",
      '"1,5"',
      " 1",
      "01",
      "1".repeat(40),
      "１２",
      "",
      "1.",
      ".5",
    ].map((amount): [string, RegExp] => [`node_abc,USDT,${amount},`, /^line 2: amount/]),
    ["node_abc,LUCID,0.000000001,", /^line 2: amount/],
    [`node_abc,USDT,1,${lucid}`, /^line 2: wallet_address/],
    [`node_abc,USDT,1,${payeeAddress.slice(0, -1)}1`, /^line 2: wallet_address/],
    [`node_abc,LUCID,1,${payeeAddress}`, /^line 2: wallet_address/],
    [`node_abc,LUCID,1,${lucid.replace("5aAeb6", "5aAeb7")}`, /^line 2: wallet_address/],
    ["node_abc,LUCID,1", /^line 2: it has 3 fields, the header has 4/],
    ['node_abc,"LUCID,1,', /^line 2: a quote/],
  ])("%s", (line, expected) => {
    const { faults } = read(line);
    expect(faults).toHaveLength(1);
    expect(`${faults[0]?.place}: ${faults[0]?.message}`).toMatch(expected);
  });

  test.each([
    ["", "line 1: the file is empty"],
    ["node_id,currency,amount\n", "file: it has no payout"],
    ["[]", "file: it has no payout"],
    ["node_id,currency\nnode_abc,USDT", "line 1: the column amount is missing"],
    ["node_id,currency,amount,amount\n", "line 1: a column is there twice"],
    ["node_id,currency,amount,wallet\n", 'line 1: no column has the name "wallet"'],
    ["node_id;currency;amount\n", 'line 1: no column has the name "node_id;currency;amount"'],
    ['[{"node_id":"node_abc","currency":"USDT","amount":12.5}]', "item 1: amount: write it as text"],
    ['[{"node_id":"node_abc","currency":"USDT","amount":"1","memo":"x"}]', 'item 1: no field has the name "memo"'],
    ["[1]", "item 1: it is no object"],
    ["[", "file: it is no JSON"],
  ])("%j", (text, expected) => {
    expect(faultsIn(text)).toEqual([expect.stringContaining(expected)]);
  });

  test("all of them, in the order of the file", () => {
    const faults = read("node_abc,EUR,1,", "node_abc,USDT,1", "no,USDT,1e3,").faults.map(({ place }) => place);
    expect(faults).toEqual(["line 2", "line 3", "line 4", "line 4"]);
  });

  test("too many payouts", () => {
    const lines = Array.from({ length: itemsMax + 1 }, (_, at) => `node_${1000 + at},USDT,1,`);
    expect(read(...lines).faults).toEqual([
      { place: "file", message: "it has 1001 payouts; a batch has at most 1000" },
    ]);
    expect(read(...lines.slice(1)).faults).toEqual([]);
  });
});

test("a payout that is there twice is allowed, and told", () => {
  const { items, notices } = read("node_abc,USDT,1.0,", "node_def,USDT,1,", "node_abc,USDT,1,");
  expect(items).toHaveLength(3);
  expect(notices).toEqual([{ place: "line 4", message: "the same as line 2; both are paid" }]);
});

test("totals are exact, by currency", () => {
  const { items } = read(
    "node_abc,USDT,0.1,",
    "node_abc,USDT,0.2,",
    "node_abc,LUCID,999999.00000001,",
    "node_a12,LUCID,0.99999999,",
  );
  expect(totalsOf(items)).toEqual([
    { currency: "USDT", count: 2, amount: "0.3" },
    { currency: "LUCID", count: 2, amount: "1000000" },
  ]);
});

test("the batch's id follows from who is paid what, in any order and spelling", () => {
  const idOf = (...lines: string[]) => batchIdOf(read(...lines).items);
  const id = idOf("node_abc,USDT,1.50,", `node_def,LUCID,2,${lucid}`);
  expect(id).toMatch(/^batch_[0-9a-f]{32}$/);
  expect(idOf(`node_def,LUCID,2.0,${lucid.toLowerCase()}`, '"node_abc",USDT,1.5,')).toBe(id);
  expect(idOf("node_abc,USDT,1.51,", `node_def,LUCID,2,${lucid}`)).not.toBe(id);
  expect(idOf("node_abc,USDT,1.50,", "node_def,LUCID,2,")).not.toBe(id);
  expect(idOf("node_abc,USDT,1.50,")).not.toBe(idOf("node_abc,USDT,1.50,", "node_abc,USDT,1.50,"));
});

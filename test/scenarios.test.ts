// The table of scenarios in test/README.md and the numbers that tests bear agree, and the page names no file
// that does not exist.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

const root = new URL("..", import.meta.url).pathname;
const page = readFileSync(join(root, "test/README.md"), "utf8");
const files = readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts") && file !== "scenarios.test.ts")
  .map((file) => `test/${file}`);

const numbersIn = (text: string): string[] => text.match(/\bT\d{1,2}\b/g) ?? [];

/** "T2 test/x.test.ts" for each file of each row. */
const rows = page
  .split("\n")
  .filter((line) => /^\| T\d/.test(line))
  .map((line) => line.split("|").map((cell) => cell.trim()));
const inTable = rows.flatMap(([, number, , where = ""]) =>
  [...where.matchAll(/`([^`]+)`/g)].map(([, file]) => `${number} ${file}`),
);

/** By file: the comment at its head, and the titles that begin with a number. */
const borneBy = (file: string): string[] => {
  const text = readFileSync(join(root, file), "utf8");
  const head = /^(\/\/.*\n)+/.exec(text)?.[0] ?? "";
  const titles = [...text.matchAll(/(?:\(|^\s*)["`](T\d{1,2}) /gm)].map(([, number = ""]) => number);
  return [...new Set([...numbersIn(head), ...titles])];
};

describe("the scenarios", () => {
  test("that tests bear in titles and first lines are those of the table, file by file", () => {
    const inTests = files.flatMap((file) => borneBy(file).map((number) => `${number} ${file}`));
    expect(inTable.sort()).toEqual(inTests.sort());
  });

  test("have one row each, in order, and each a test", () => {
    const numbers = rows.map(([, number = ""]) => Number(number.slice(1)));
    expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    expect(rows.filter(([, , , where]) => !/`/.test(where ?? "")).map(([, number]) => number)).toEqual([]);
    const missing = Array.from({ length: 34 }, (_, place) => place + 1).filter((number) => !numbers.includes(number));
    expect(missing).toEqual([]);
  });
});

test("the page names only what exists", () => {
  const named = [...page.matchAll(/`((?:test|docs)\/[\w./-]+)`/g)].map(([, path = ""]) => path);
  expect(named.length).toBeGreaterThan(40);
  expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});

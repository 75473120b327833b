// The CSV that is understood, by RFC 4180, and the text that is refused instead of guessed at.
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseCsv } from "../../src/cli/csv.js";

test.each<[string, string, [number, ...string[]][]]>([
  ["nothing", "", []],
  [
    "lines",
    "a,b\nc,d\n",
    [
      [1, "a", "b"],
      [2, "c", "d"],
    ],
  ],
  [
    "line ends of Windows, and none at the end",
    "a,b\r\nc,d",
    [
      [1, "a", "b"],
      [2, "c", "d"],
    ],
  ],
  ["empty fields", ",\n", [[1, "", ""]]],
  ["blanks, which belong to the field", " a , b\n", [[1, " a ", " b"]]],
  [
    "quotes around what they protect",
    '"a,b","say ""so""","x\ny"\nz\n',
    [
      [1, "a,b", 'say "so"', "x\ny"],
      [3, "z"],
    ],
  ],
  ["an empty field in quotes", '""\n', [[1, ""]]],
  [
    "blank lines, which say nothing",
    "a\n\n\nb\n",
    [
      [1, "a"],
      [4, "b"],
    ],
  ],
])("%s", (_, text, expected) => {
  const { records, fault } = parseCsv(text);
  expect(fault).toBeUndefined();
  expect(records.map(({ line, fields }) => [line, ...fields])).toEqual(expected);
});

test.each<[string, string, number]>([
  ["a quote within a field", 'a\nb"c,d\n', 2],
  ["text after a closing quote", 'a\n"b"c\n', 2],
  ["a quote that is never closed", 'a\n"b\nc\n', 2],
  ["a carriage return alone", "a\rb", 1],
])("refuses %s, with its line", (_, text, line) => {
  const { records, fault } = parseCsv(text);
  expect(fault).toMatchObject({ line });
  expect(records.every((record) => record.line < line)).toBe(true);
});

test("reads back any fields that are written by the rule", () => {
  const cell = fc.string({ unit: fc.constantFrom("a", ",", '"', "\n", "\r", " ", "ö") });
  const rows = fc.array(fc.array(cell, { minLength: 1, maxLength: 4 }), { maxLength: 5 });
  fc.assert(
    fc.property(rows, (written) => {
      const text = written.map((row) => row.map((one) => `"${one.replaceAll('"', '""')}"`).join(",")).join("\r\n");
      expect(parseCsv(text).records.map(({ fields }) => fields)).toEqual(written);
    }),
  );
});

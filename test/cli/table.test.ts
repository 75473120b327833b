// Tables and lists of fields as people see them.
import { expect, test } from "vitest";
import { fieldsOf, tableOf } from "../../src/cli/table.js";

test("columns are as wide as their widest cell, and no line ends with blanks", () => {
  expect(
    tableOf(
      ["A", "LONG", "C"],
      [
        ["xyz", "", "1"],
        ["", "ü€", ""],
      ],
    ),
  ).toBe("A    LONG  C\nxyz        1\n     ü€");
  expect(tableOf(["A", "B"], [])).toBe("A  B");
});

test("fields without a value are left out", () => {
  expect(fieldsOf({ a: "1", long: "2", none: "" })).toBe("a     1\nlong  2");
  expect(fieldsOf({})).toBe("");
});

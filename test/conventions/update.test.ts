// Masks and versions of updates.
import { create } from "@bufbuild/protobuf";
import { FieldMaskSchema } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { checkVersion, maskedPaths } from "../../src/conventions/update.js";
import { Failure } from "../../src/failure.js";

const allowed = ["name", "labels"] as const;
const mask = (...paths: string[]) => create(FieldMaskSchema, { paths });
const thrownBy = (work: () => unknown): unknown => {
  try {
    return work();
  } catch (error) {
    return error;
  }
};

describe("a mask", () => {
  test("gives each path once", () => {
    expect([...maskedPaths(mask("name", "labels", "name"), allowed)]).toEqual(["name", "labels"]);
  });

  test.each<[string, ReturnType<typeof mask> | undefined]>([
    ["absent", undefined],
    ["empty", mask()],
    ["with an unknown path", mask("name", "nonsense")],
    ["with an empty path", mask("")],
    ["with a path below a field", mask("labels.a")],
    ["with everything", mask("*")],
    ["with a path of Object's own", mask("constructor")],
  ])("%s is refused and named", (_, given) => {
    const error = thrownBy(() => maskedPaths(given, allowed));
    expect(error).toBeInstanceOf(Failure);
    expect(error).toMatchObject({ reason: "LUCID_ERR_4001", violations: [{ field: "update_mask" }] });
  });

  test("names every path that is wrong, none at full length", () => {
    const error = thrownBy(() => maskedPaths(mask("x".repeat(5_000), "y"), allowed));
    expect(error).toMatchObject({ violations: [{}, {}] });
    expect((error as Failure).message.length).toBeLessThan(500);
  });
});

describe("a version", () => {
  test("is checked when one is expected", () => {
    checkVersion(undefined, { version: 5 });
    checkVersion(5n, { version: 5 });
    for (const expected of [4n, 6n, 2n ** 62n]) {
      expect(thrownBy(() => checkVersion(expected, { version: 5 }))).toMatchObject({ reason: "LUCID_ERR_5012" });
    }
  });
});

// Replicas of two versions share one database during an upgrade, so an index keeps its definition as long as it keeps
// its name. released-indexes.json holds the indexes that versions in use have built.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { collections } from "../../src/collections.js";
import type { CollectionDefinition, IndexDefinition } from "../../src/storage/collection.js";
import { keyOf } from "../../src/storage/mongo/query.js";

type Released = Readonly<Record<string, readonly IndexDefinition[]>>;

const released: Released = JSON.parse(readFileSync(new URL("released-indexes.json", import.meta.url), "utf8"));

/** What a database would refuse from which the released version has served. */
function faultsOf({ name, indexes }: Pick<CollectionDefinition, "name" | "indexes">, before: Released): string[] {
  const known = before[name] ?? [];
  const keyAndCondition = (index: IndexDefinition) => JSON.stringify([keyOf(index), index.partial]);
  return indexes.flatMap((index) => {
    const same = known.find((one) => one.name === index.name);
    if (same !== undefined) {
      const isKept = JSON.stringify(same) === JSON.stringify(index);
      return isKept ? [] : [`${name}: ${index.name} has changed and needs a new name, such as ${index.name}_v2`];
    }
    const rival = known.find((one) => keyAndCondition(one) === keyAndCondition(index));
    return rival === undefined
      ? []
      : [`${name}: ${index.name} has the key of ${rival.name}, which a server takes once`];
  });
}

describe("the indexes of the stores", () => {
  it("are defined under their names as they were released", () => {
    expect(collections.flatMap((definition) => faultsOf(definition, released))).toEqual([]);
    expect(Object.keys(released).length).toBeGreaterThan(8);
  });

  it("would be told of if one changed under its name, or came under another one", () => {
    const before = { things: [{ name: "idx_code", key: ["code"], unique: true } as const] };
    const faults = (index: IndexDefinition) => faultsOf({ name: "things", indexes: [index] }, before);
    expect(faults({ name: "idx_code", key: ["code"], unique: true })).toEqual([]);
    expect(faults({ name: "idx_code", key: ["code"] })).toEqual([expect.stringContaining("needs a new name")]);
    expect(faults({ name: "idx_code", key: ["code", "kind"], unique: true })).toHaveLength(1);
    expect(faults({ name: "idx_code_v2", key: ["code"], unique: true })).toEqual([
      expect.stringContaining("has the key of idx_code"),
    ]);
    expect(faults({ name: "idx_code_v2", key: ["code", "kind"], unique: true })).toEqual([]);
  });
});

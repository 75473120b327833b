// Label selectors find the right nodes, tried on stored nodes with real labels.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { aNode } from "../support/world/builders.js";
import { openWorld, type World } from "../support/world/world.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
  const labelled = {
    plain: {},
    blue: { zone: "a", color: "blue" },
    red: { zone: "b", color: "red" },
    dotted: { "lucid.io/zone": "a", "lucid.io": "x", zone: "" },
    deep: { "a.b.c": "1", a: "2" },
    digits: { "2024": "x", "a.1": "y", "123": "x" },
  };
  for (const [name, labels] of Object.entries(labelled)) await aNode(world.nodes, { name, labels });
});
afterAll(() => world[Symbol.asyncDispose]());

const found = async (labelSelector: string) =>
  (await world.nodes.listNodes({ labelSelector, orderBy: "name" })).nodes.map(({ name }) => name);

describe("a label selector", () => {
  test.each([
    ["zone=a", ["blue"]],
    ["zone==a", ["blue"]],
    ["zone!=a", ["deep", "digits", "dotted", "plain", "red"]],
    ["zone", ["blue", "dotted", "red"]],
    ["!zone", ["deep", "digits", "plain"]],
    ["zone=", ["dotted"]],
    ["zone,color=red", ["red"]],
    [" zone = a ", undefined],
    ["zone=a , color=blue", ["blue"]],
    ["zone=a,zone=b", []],
    ["zone!=a,zone!=b", ["deep", "digits", "dotted", "plain"]],
    ["lucid.io/zone=a", ["dotted"]],
    ["lucid.io", ["dotted"]],
    ["a.b.c=1", ["deep"]],
    ["a=2", ["deep"]],
    ["123=x", ["digits"]],
    ["123!=x", ["blue", "deep", "dotted", "plain", "red"]],
    ["2024", ["digits"]],
    ["!2024", ["blue", "deep", "dotted", "plain", "red"]],
    ["a.1=y,2024=x", ["digits"]],
    ["a.b", []],
    ["lucid~io", undefined],
    ["zone=a'", undefined],
    ["zone=a;DROP", undefined],
    ["$where", undefined],
    ["", ["blue", "deep", "digits", "dotted", "plain", "red"]],
  ])("%s", async (selector, expected) => {
    if (expected === undefined) await expect(found(selector)).rejects.toThrow("label_selector");
    else expect(await found(selector)).toEqual(expected);
  });

  test("labels come back as they were given", async () => {
    const { nodes } = await world.nodes.listNodes({ labelSelector: "a.b.c" });
    expect(nodes[0]?.labels).toEqual({ "a.b.c": "1", a: "2" });
    const digits = await world.nodes.listNodes({ labelSelector: "2024" });
    expect(digits.nodes[0]?.labels).toEqual({ "2024": "x", "a.1": "y", "123": "x" });
  });
});

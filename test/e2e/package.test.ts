// The package as another Lucid service installs it: packed, installed into an empty project, type-checked, used.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toolFor } from "../support/tools.js";
import { openWorld, type World } from "../support/world/world.js";
import { requireBuilt } from "./built.js";
import { packageManagerEnvironment, runProgram } from "./process.js";

const root = new URL("../..", import.meta.url).pathname;
const npm = toolFor("the package in an empty project", "npm");

const script = `import { createLucidClient, lucidReason, NodeType } from "@lucid/node-management";

const [baseUrl = "", accessToken = ""] = process.argv.slice(2);
using client = createLucidClient({ baseUrl, accessToken });
const { node } = await client.nodes.createNode({ name: "installed", nodeType: NodeType.COMPUTE });
const got = await client.nodes.getNode({ nodeId: node?.nodeId ?? "" });
const reason = await client.nodes.getNode({ nodeId: "node_nowhere" }).catch(lucidReason);
console.log(JSON.stringify({ name: got.node?.name, nodeType: got.node?.nodeType, reason }));
`;

/** How long a registry takes says nothing about the package; only a run that hangs is to end. */
const registryMs = 3_600_000;

const consumerSettings = {
  compilerOptions: {
    target: "ES2024",
    module: "NodeNext",
    strict: true,
    noEmit: true,
    types: ["node"],
    typeRoots: [join(root, "node_modules/@types")],
  },
  files: ["use.ts"],
};

describe.skipIf(npm === undefined)("the package", () => {
  const project = mkdtempSync(join(tmpdir(), "lucid-package-"));
  let world: World;
  beforeAll(async () => {
    requireBuilt();
    world = await openWorld();
    const packed = await npmRun(root, "pack", "--ignore-scripts", "--pack-destination", project);
    expect(packed, packed.stderr).toMatchObject({ code: 0 });
    writeFileSync(join(project, "package.json"), JSON.stringify({ name: "a-service", private: true, type: "module" }));
    const [tarball = ""] = readdirSync(project).filter((name) => name.endsWith(".tgz"));
    const flags = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"];
    const installed = await npmRun(project, "install", ...flags, join(project, tarball));
    expect(installed, installed.stderr).toMatchObject({ code: 0 });
    writeFileSync(join(project, "use.ts"), script);
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify(consumerSettings));
  }, registryMs);
  afterAll(async () => {
    await world?.[Symbol.asyncDispose]();
    rmSync(project, { recursive: true, force: true });
  });

  const npmRun = (cwd: string, ...given: string[]) =>
    runProgram(npm ?? "", given, { cwd, env: packageManagerEnvironment(), limitMs: registryMs });
  const inPackage = (file: string) => join(project, "node_modules/@lucid/node-management", file);

  test("type-checks in another service, its own declarations included", async () => {
    const { code, stdout } = await runProgram(join(root, "node_modules/.bin/tsc"), ["-p", project]);
    expect(stdout).toBe("");
    expect(code).toBe(0);
  });

  test("creates and gets a node, and names the reason of a refusal", async () => {
    const given = [join(project, "use.ts"), world.baseUrl, await world.token("admin")];
    const { code, stdout, stderr } = await runProgram(process.execPath, given, { cwd: project });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse(stdout)).toEqual({ name: "installed", nodeType: 4, reason: "LUCID_ERR_5001" });
  });

  test("brings the .proto files, the generated code and the command line", async () => {
    expect(readFileSync(inPackage("proto/lucid/node/v1/node_service.proto"), "utf8")).toContain("service NodeService");
    const line =
      'import("@lucid/node-management/gen/lucid/node/v1/node_service_pb").then((m) => console.log(m.NodeStatus.ACTIVE))';
    expect(await runProgram(process.execPath, ["-e", line], { cwd: project })).toMatchObject({ stdout: "3\n" });
    const help = await runProgram(join(project, "node_modules/.bin/lucid-node"), ["help"], { cwd: project });
    expect(help).toMatchObject({ code: 0, stdout: expect.stringContaining("lucid-node COMMAND") });
  });

  test("brings no tests, no settings and no data", () => {
    expect(readdirSync(inPackage("")).sort()).toEqual(["README.md", "dist", "package.json", "proto"]);
  });
});

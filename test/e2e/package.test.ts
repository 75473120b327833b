// The packages as another Lucid service installs them: each is packed, installed into an empty project, type-checked
// and used.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toolFor } from "../support/tools.js";
import { openWorld, type World } from "../support/world/world.js";
import { requireBuilt } from "./built.js";
import { packageManagerEnvironment, runProgram } from "./process.js";

const root = new URL("../..", import.meta.url).pathname;
const npm = toolFor("the packages in an empty project", "npm");

const scriptWith = (name: string) => `import { createLucidClient, lucidReason, NodeType } from "${name}";

const [baseUrl = "", accessToken = ""] = process.argv.slice(2);
using client = createLucidClient({ baseUrl, accessToken });
const { node } = await client.nodes.createNode({ name: "installed", nodeType: NodeType.COMPUTE });
const got = await client.nodes.getNode({ nodeId: node?.nodeId ?? "" });
const reason = await client.nodes.getNode({ nodeId: "node_nowhere" }).catch(lucidReason);
console.log(JSON.stringify({ name: got.node?.name, nodeType: got.node?.nodeType, reason }));
`;

/** A slow registry is no fault of the package, so this limit ends only a run that hangs. */
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

/** Paths of the files below a directory, in order. */
const filesIn = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .sort();

const npmRun = (cwd: string, ...given: string[]) =>
  runProgram(npm ?? "", given, { cwd, env: packageManagerEnvironment(), limitMs: registryMs });

/** Packs what is built in the folder, and installs it into the empty project with its dependencies and nothing else. */
async function install(folder: string, project: string, name: string): Promise<void> {
  const packed = await npmRun(folder, "pack", "--ignore-scripts", "--pack-destination", project);
  expect(packed, packed.stderr).toMatchObject({ code: 0 });
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "a-service", private: true, type: "module" }));
  const [tarball = ""] = readdirSync(project).filter((file) => file.endsWith(".tgz"));
  const flags = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"];
  const installed = await npmRun(project, "install", ...flags, join(project, tarball));
  expect(installed, installed.stderr).toMatchObject({ code: 0 });
  writeFileSync(join(project, "use.ts"), scriptWith(name));
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify(consumerSettings));
}

/** Packs and installs the folder's package, tests what holds for both packages, and answers where it is installed. */
function usable(name: string, folder: string): string {
  const project = mkdtempSync(join(tmpdir(), "lucid-package-"));
  let world: World;
  beforeAll(async () => {
    requireBuilt();
    world = await openWorld();
    await install(folder, project, name);
  }, registryMs);
  afterAll(async () => {
    await world?.[Symbol.asyncDispose]();
    rmSync(project, { recursive: true, force: true });
  });

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

  test("brings the generated code", async () => {
    const line = `import("${name}/gen/lucid/node/v1/node_service_pb").then((m) => console.log(m.NodeStatus.ACTIVE))`;
    expect(await runProgram(process.execPath, ["-e", line], { cwd: project })).toMatchObject({ stdout: "3\n" });
  });
  return project;
}

describe.skipIf(npm === undefined)("the server's package", () => {
  const project = usable("@lucid/node-management", root);
  const inPackage = (file: string) => join(project, "node_modules/@lucid/node-management", file);

  test("brings the .proto files and the command line", async () => {
    expect(readFileSync(inPackage("proto/lucid/node/v1/node_service.proto"), "utf8")).toContain("service NodeService");
    const help = await runProgram(join(project, "node_modules/.bin/lucid-node"), ["help"], { cwd: project });
    expect(help).toMatchObject({ code: 0, stdout: expect.stringContaining("lucid-node COMMAND") });
  });

  test("brings no tests, no settings and no data", () => {
    expect(readdirSync(inPackage("")).sort()).toEqual(["README.md", "dist", "package.json", "proto"]);
  });
});

describe.skipIf(npm === undefined)("the client's package", () => {
  const project = usable("@lucid/node-client", join(root, "src/client"));
  const inPackage = (file: string) => join(project, "node_modules/@lucid/node-client", file);

  test("brings the client, its stubs and its clock, and no code of the server", () => {
    const compiled = (directory: string) =>
      filesIn(join(root, directory))
        .filter((file) => file.endsWith(".ts") && !file.startsWith("dist/"))
        .map((file) => join("dist", directory, file.replace(/\.ts$/, "")));
    const modules = ["dist/src/clock", ...compiled("src/client"), ...compiled("gen")];
    const expected = ["README.md", "package.json", ...modules.flatMap((file) => [`${file}.d.ts`, `${file}.js`])];
    expect(filesIn(inPackage(""))).toEqual(expected.sort());
  });

  test("depends on Connect and on what generated code needs, and brings nothing else along", () => {
    const manifest = JSON.parse(readFileSync(inPackage("package.json"), "utf8"));
    const connect = ["@connectrpc/connect", "@connectrpc/connect-node"];
    const protobuf = ["@bufbuild/protobuf", "@bufbuild/protovalidate"];
    expect(Object.keys(manifest.dependencies).sort()).toEqual([...protobuf, ...connect]);
    expect(manifest).not.toHaveProperty("peerDependencies");
    const scopes = readdirSync(join(project, "node_modules")).filter((file) => !file.startsWith("."));
    const installed = scopes.flatMap((scope) =>
      readdirSync(join(project, "node_modules", scope)).map((file) => `${scope}/${file}`),
    );
    // The stubs name the options of protovalidate, which installs its engine, too.
    const engine = ["@bufbuild/cel", "@bufbuild/cel-spec", "@bufbuild/re2"];
    expect(installed.sort()).toEqual([...engine, ...protobuf, ...connect, "@lucid/node-client"].sort());
  });
});

// The benchmark has the rows of its documentation, its programs load, and the cheapest one runs. The others run in
// `npm run bench` only. No figure is judged here, because figures depend on the machine.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import { requireBuilt } from "./e2e/built.js";
import { runProgram } from "./e2e/process.js";
import { toolFor } from "./support/tools.js";

const root = new URL("..", import.meta.url).pathname;
toolFor("the benchmark's pinning to cores; it runs unpinned", "taskset");

interface Results {
  readonly quick: boolean;
  readonly results: readonly { readonly what: string; readonly named: string; readonly ratio: number }[];
}

const bench = (...given: string[]) =>
  runProgram(process.execPath, ["bench/run.mjs", ...given], { cwd: root, limitMs: 120_000 });

beforeAll(requireBuilt);

test("its rows are those of bench/README.md, and what measures them loads", async () => {
  const { code, stdout, stderr } = await bench("--rows");
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const rows = stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t"));
  const table = readFileSync(join(root, "bench/README.md"), "utf8").matchAll(/^\| (?!row|---)(.*) \|$/gm);
  const documented = [...table].map(([, line = ""]) => line.split(" | ").map((cell) => cell.trim().replace(/^-$/, "")));
  expect(rows.length).toBeGreaterThan(10);
  expect(documented.map((cells) => cells.slice(0, 3))).toEqual(rows);
});

test("a reference server starts, whichever it is", async () => {
  const names = readdirSync(join(root, "bench/servers")).map((file) => file.replace(/\.mjs$/, ""));
  const references = names.filter((name) => !["lucid", "server"].includes(name));
  expect(references.length).toBeGreaterThan(2);
  const line = `import { startServer } from "./bench/child.mjs";
    for (const name of ${JSON.stringify(references)}) {
      const server = await startServer(name);
      console.log(name, server.port > 0);
      await server.stop();
    }`;
  const started = await runProgram(process.execPath, ["--input-type=module", "-e", line], { cwd: root });
  expect(started).toEqual({ code: 0, stderr: "", stdout: references.map((name) => `${name} true\n`).join("") });
});

test("measures GetNode beside stock connect-node and grpc-js", async () => {
  const directory = mkdtempSync(join(tmpdir(), "lucid-bench-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const out = join(directory, "results.json");
  const { code, stdout, stderr } = await bench("--quick", "--only", "unary", "--out", out);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const { quick, results }: Results = JSON.parse(readFileSync(out, "utf8"));
  expect(quick).toBe(true);
  expect(results.map(({ what, named }) => `${what} | ${named}`)).toEqual([
    "GetNode | no-op, same lane (stock connect-node)",
    "GetNode | no-op, stock connect-node",
    "GetNode | no-op, grpc-js",
  ]);
  for (const { ratio } of results) expect(Number.isFinite(ratio)).toBe(true);
  for (const { named } of results) expect(stdout).toContain(named);
}, 130_000);

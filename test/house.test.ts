// The rules of the house: who may import whom, no cycles, environment and clock only where they live, a permission for
// every RPC, a lock file that installs anywhere.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { describe, expect, it } from "vitest";
import { policies, services } from "../src/routes.js";
import { procedureOf } from "../src/rpc/policies.js";

const root = new URL("..", import.meta.url).pathname;
const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => `src/${file}`);

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

const source = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));

/** Imports of our own files; those of types alone vanish when compiled. */
const imports: Import[] = [...source].flatMap(([from, text]) =>
  [...text.matchAll(/(?:^|\n)(?:import|export)\s+(type\s+)?([^;]*?)\s+from\s+"(\.[^"]+)"/g)].map((match) => {
    const to = relative(root, normalize(join(root, dirname(from), match[3] ?? ""))).replace(/\.js$/, ".ts");
    const names = (match[2] ?? "")
      .replace(/[{}\s]+/g, " ")
      .trim()
      .split(/, ?/);
    const typeOnly = match[1] !== undefined || names.every((name) => name.startsWith("type "));
    return { from, to, typeOnly };
  }),
);

const room = (file: string) => file.split("/").slice(0, 2).join("/");
const inRoom = (name: string) => (file: string) => room(file) === `src/${name}`;
const features = ["nodes", "pools", "poot", "payouts", "resources", "admin"];

/** Rooms that each feature may import from besides itself and the shared floor. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  nodes: ["rpc", "coordination", "storage", "replicas"],
  pools: ["rpc", "coordination", "storage", "replicas", "nodes"],
  poot: ["rpc", "coordination", "storage", "replicas", "nodes"],
  payouts: ["rpc", "coordination", "storage", "replicas", "poot", "nodes"],
  resources: ["rpc", "coordination", "storage", "replicas", "nodes"],
  admin: ["rpc", "coordination", "storage"],
};
/** Pure files decide and import types only, and other pure files. */
const pure = [
  "src/nodes/node.ts",
  "src/nodes/heartbeat.ts",
  "src/nodes/challenge-form.ts",
  "src/nodes/session.ts",
  "src/pools/pool.ts",
  "src/poot/score.ts",
  "src/poot/verdict.ts",
  "src/poot/standing.ts",
  "src/pools/figures.ts",
  "src/resources/sample.ts",
  "src/resources/rollup.ts",
  "src/resources/thresholds.ts",
  "src/resources/allocation.ts",
  "src/resources/linux.ts",
  "src/resources/cgroup.ts",
  "src/rpc/permission.ts",
  "src/rpc/address.ts",
  "src/rpc/budget.ts",
  "src/rpc/waiting.ts",
  "src/rpc/media-type.ts",
  "src/rpc/body/fault.ts",
  "src/rpc/body/room.ts",
  "src/payouts/address.ts",
  "src/agent/bounds.ts",
  "src/client/pause.ts",
  "src/failure.ts",
  "src/start-error.ts",
  "src/telemetry/visible.ts",
];

describe("the house", () => {
  it.each(features)("%s imports only what the arrows allow", (feature) => {
    const allowed = mayImport[feature] ?? [];
    const wrong = imports
      .filter(({ from, typeOnly }) => inRoom(feature)(from) && !typeOnly)
      .filter(({ to }) => {
        const other = to.split("/")[1] ?? "";
        return to.startsWith("src/") && to.split("/").length > 2 && other !== feature && !allowed.includes(other);
      });
    expect(wrong).toEqual([]);
  });

  it("rpc, storage, coordination, replicas and telemetry know no feature", () => {
    const lower = ["rpc", "storage", "coordination", "replicas", "telemetry"];
    const wrong = imports.filter(
      ({ from, to }) => lower.some((name) => inRoom(name)(from)) && features.some((name) => inRoom(name)(to)),
    );
    expect(wrong).toEqual([]);
  });

  it("one file of the composition root knows the engines", () => {
    const engines = /^src\/(storage\/(sqlite|mongo)|coordination\/(local|redis)|payouts\/gateway\/)/;
    const wrong = imports.filter(
      ({ from, to }) => engines.test(to) && from !== "src/engines.ts" && room(from) !== room(to),
    );
    expect(wrong).toEqual([]);
  });

  it("pure files import types and other pure files only", () => {
    const wrong = imports.filter(({ from, to, typeOnly }) => pure.includes(from) && !typeOnly && !pure.includes(to));
    expect(wrong).toEqual([]);
  });

  it("generated code is imported by handlers, routes, the rpc room and those at the other end of the wire", () => {
    const allowed = /^src\/(rpc|agent|client|cli)\/|^src\/routes\.ts$|\/(handler|requests|wire|stream|watch|beat)\.ts$/;
    expect(imports.filter(({ from, to }) => to.startsWith("gen/") && !allowed.test(from))).toEqual([]);
  });

  it("has no import cycles", () => {
    const graph = new Map(files.map((file) => [file, imports.filter((i) => i.from === file && !i.typeOnly)]));
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): string[] | undefined => {
      if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
      if (done.has(file)) return undefined;
      for (const { to } of graph.get(file) ?? []) {
        const cycle = visit(to, [...path, file]);
        if (cycle !== undefined) return cycle;
      }
      done.add(file);
      return undefined;
    };
    expect(files.map((file) => visit(file, [])).find((cycle) => cycle !== undefined)).toBeUndefined();
  });

  it("names environment variables in one file", () => {
    const wrong = [...source].filter(([file, text]) => file !== "src/settings.ts" && /process\.env\b/.test(text));
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("reads the clock in one file, and stopwatches where only figures come of it", () => {
    const clock = /\bDate\.now\(|new Date\(\)|performance\.now\(|\bset(Timeout|Interval)\(/;
    // Commands and sockets live at the edge: their times and limits are the machine's own.
    const edge =
      /^src\/(clock|cli\/.*|storage\/(observed|sqlite-.*)|telemetry\/(log|sink)|rpc\/(answers|listener|connections|keepalive|sniff|tls|body\/reader))(\.ts)?$/;
    const wrong = [...source].filter(([file, text]) => !edge.test(file.replace(/\.ts$/, "")) && clock.test(text));
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("takes no error without a look at it in features, replicas and the composition root", () => {
    const lookedAt = [...features, "replicas"];
    const blind = /catch \{|\.catch\(\(\) =>/;
    const wrong = [...source].filter(
      ([file, text]) => (file === "src/server.ts" || lookedAt.some((name) => inRoom(name)(file))) && blind.test(text),
    );
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("has no room or file without a name of its own", () => {
    expect(files.filter((file) => /\/(utils?|common|helpers?|misc)(\/|\.ts$)/.test(file))).toEqual([]);
  });

  it("keeps files small enough to be one idea", () => {
    const long = [...source]
      .map(([file, text]) => ({ file, lines: text.split("\n").length }))
      .filter((f) => f.lines > 450);
    expect(long).toEqual([]);
  });

  it("states a permission for every RPC", () => {
    const unstated = services.flatMap(({ methods }) => methods).filter((method) => !policies.has(procedureOf(method)));
    expect(unstated.map(procedureOf)).toEqual([]);
  });

  it("pins every dependency to one version", () => {
    const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const loose = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies }).filter(
      ([, version]) => !/^\d+\.\d+\.\d+$/.test(String(version)),
    );
    expect(loose).toEqual([]);
  });
});

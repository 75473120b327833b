// The rules of the house: who may import whom, no cycles, environment and clock only where they live, a permission for
// every RPC, a lock file that installs anywhere.
import { globSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { describe, expect, it } from "vitest";
import { policies, services } from "../src/routes.js";
import { procedureOf } from "../src/rpc/policies.js";
import { notQuick } from "./vitest.config.js";

const root = new URL("..", import.meta.url).pathname;
const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  // The client's package is compiled into its own folder.
  .filter((file) => file.endsWith(".ts") && !file.startsWith("client/dist/"))
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

/** Folders within a room that hold an idea of their own. */
const wings = [
  ...["nodes/history", "nodes/sessions", "nodes/silence"],
  ...["resources/samples", "resources/alerts", "resources/allocations"],
  ...["storage/mongo", "storage/sqlite", "coordination/redis", "rpc/body", "rpc/connect"],
];
/** The room that a file is in; a file that stands above the rooms is a room of its own. */
const room = (file: string): string => {
  if (file.startsWith("gen/")) return "gen";
  const inside = file.slice("src/".length);
  return wings.find((wing) => inside.startsWith(`${wing}/`)) ?? inside.split("/")[0] ?? "";
};

/** What every room may use: single-noun files, and the words of logs and metrics. */
const floor = [
  "telemetry",
  "announcement.ts",
  "clock.ts",
  "crypto.ts",
  "failure.ts",
  "ids.ts",
  "stride.ts",
  "task.ts",
  "start-error.ts",
  "state-file.ts",
];
const feature = ["access", "conventions", "gen", "replicas", "rpc", "storage"];
/** Who may import from where, types included; each room also from itself and from the floor. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  // What serves and what is served upon.
  "server.ts": ["*"],
  "engines.ts": ["*"],
  "routes.ts": ["*"],
  "start-check.ts": ["settings"],
  "task.ts": ["coordination", "storage"],
  settings: ["access", "port"],
  access: ["storage"],
  conventions: ["gen", "storage"],
  port: [],
  rpc: ["access", "coordination", "gen", "port", "rpc/body", "rpc/connect", "storage"],
  "rpc/body": [],
  "rpc/connect": ["gen", "port", "rpc", "rpc/body"],
  storage: [],
  "storage/mongo": ["storage"],
  "storage/sqlite": ["storage"],
  coordination: [],
  "coordination/redis": ["coordination"],
  telemetry: [],
  machine: [],
  replicas: ["storage"],
  // Features: those further down know nothing of those further up.
  nodes: [...feature, "coordination", "nodes/history", "nodes/sessions", "nodes/silence"],
  "nodes/history": [...feature, "nodes"],
  "nodes/sessions": [...feature, "coordination", "nodes", "nodes/history"],
  "nodes/silence": [...feature, "nodes", "nodes/sessions"],
  pools: [...feature, "nodes", "nodes/history"],
  poot: [...feature, "nodes"],
  payouts: [...feature, "nodes", "poot"],
  resources: [...feature, "nodes", "nodes/sessions", "resources/samples", "resources/alerts", "resources/allocations"],
  "resources/samples": [...feature, "nodes/sessions"],
  "resources/alerts": [...feature, "nodes", "resources/samples"],
  "resources/allocations": [...feature, "nodes", "resources/samples"],
  admin: ["access", "coordination", "gen", "port", "rpc", "storage"],
  // The other end of the wire.
  client: ["gen"],
  agent: ["client", "gen", "machine", "nodes", "poot"],
  cli: ["*"],
};
/** What the agent shares with the service: how a challenge and a proof look, for both ends must agree. */
const agentMayImport = ["src/nodes/challenge-form.ts", "src/poot/verdict.ts"];

/** Files whose first comment says "Pure.": they decide, and import types and each other only. */
const pure = new Set(
  [...source].filter(([, text]) => /\bPure\.(?:\s|$)/.test(/^(\/\/.*\n)+/.exec(text)?.[0] ?? "")).map(([file]) => file),
);

/** Functions that hold more than one idea still, and their lines. A number here may only become smaller. */
const longest: Readonly<Record<string, number>> = {
  "src/access/tokens.ts createTokens": 217,
  "src/admin/health.ts createHealth": 149,
  "src/cli/commands.ts createProgram": 164,
  "src/coordination/redis/redis.ts createSubscriptions": 122,
  "src/nodes/handler.ts createNodeHandler": 244,
  "src/nodes/history/feed.ts createFeed": 103,
  "src/nodes/history/log.ts createNodeLog": 187,
  "src/nodes/history/watch.ts createWatch": 161,
  "src/nodes/membership.ts createMembership": 114,
  "src/nodes/nodes.ts createNodes": 124,
  "src/nodes/repository.ts createNodeRepository": 261,
  "src/nodes/sessions/opening.ts createOpenings": 108,
  "src/nodes/sessions/sessions.ts createSessions": 384,
  "src/nodes/silence/orphans.ts createOrphans": 193,
  "src/nodes/silence/sweeper.ts createSweeper": 139,
  "src/pools/disruption.ts createDisruption": 129,
  "src/pools/handler.ts createPoolHandler": 153,
  "src/pools/repository.ts createPoolRepository": 125,
  "src/poot/batch.ts createBatch": 163,
  "src/poot/counting.ts createCounting": 117,
  "src/poot/handler.ts createPootHandler": 143,
  "src/poot/proving.ts createProving": 116,
  "src/poot/repository.ts createPootRepository": 130,
  "src/port/connections.ts createConnections": 184,
  "src/replicas/roster.ts createRoster": 140,
  "src/resources/alerts/alerter.ts createAlerter": 126,
  "src/resources/allocations/allocator.ts createAllocator": 200,
  "src/server.ts startServer": 176,
  "src/settings/settings.ts createReader": 113,
  "src/telemetry/metrics.ts createMetrics": 106,
  "src/telemetry/sink.ts createSink": 121,
};

/** The functions that a file declares outside all others, by the one format that all files have. */
const functionsOf = (text: string): { name: string; lines: number }[] => {
  const found: { name: string; lines: number }[] = [];
  const lines = text.split("\n");
  for (const [start, line] of lines.entries()) {
    const name = /^(?:export )?(?:async )?(?:function\*? |const )(\w+)/.exec(line)?.[1];
    if (name === undefined) continue;
    const end = lines.findIndex((later, at) => at >= start && /^\S/.test(later) && /[;}]$/.test(later));
    if (/=>|function/.test(lines.slice(start, end + 1).join(" "))) found.push({ name, lines: end - start + 1 });
  }
  return found;
};

interface Manifest {
  readonly version: string;
  readonly engines: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}
const manifestOf = (folder: string): Manifest => JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));

describe("the house", () => {
  it("every import follows the arrows, types too", () => {
    const wrong = imports.filter(({ from, to }) => {
      const [here, there] = [room(from), room(to)];
      if (here === there || floor.includes(there)) return false;
      const allowed = mayImport[here] ?? [];
      return !allowed.includes(there) && !allowed.includes("*");
    });
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
  });

  it("the agent shares with the service what both ends must agree on, and no more", () => {
    const wrong = imports.filter(
      ({ from, to }) => room(from) === "agent" && ["nodes", "poot"].includes(room(to)) && !agentMayImport.includes(to),
    );
    expect(wrong).toEqual([]);
  });

  it("one file of the composition root knows the engines", () => {
    const engines = /^src\/(storage\/(sqlite|mongo)\/|coordination\/(local\.ts|redis\/)|payouts\/gateway\/)/;
    const wrong = imports.filter(
      ({ from, to }) => engines.test(to) && from !== "src/engines.ts" && dirname(from) !== dirname(to),
    );
    expect(wrong).toEqual([]);
  });

  it("pure files import types and other pure files only", () => {
    const wrong = imports.filter(({ from, to, typeOnly }) => pure.has(from) && !typeOnly && !pure.has(to));
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
    expect(pure.size).toBeGreaterThan(20);
  });

  it("generated code is imported by handlers, routes, the rpc room and those at the other end of the wire", () => {
    const allowed =
      /^src\/(rpc|conventions|agent|client|cli)\/|^src\/routes\.ts$|\/(handler|requests|wire|stream|watch|beat)\.ts$/;
    expect(imports.filter(({ from, to }) => to.startsWith("gen/") && !allowed.test(from))).toEqual([]);
  });

  it("no transport's words reach the gate, the errors or the observer", () => {
    // A second transport would otherwise grow a second gate. The numbers of gRPC's codes are everybody's.
    const judges = ["call", "gate", "errors", "observe", "policies", "validate"].map((name) => `src/rpc/${name}.ts`);
    const ofConnect = /import (?!type \{ Code \} |\{ Code \} )[^;]*"@connectrpc\/[^"]+"|\/connect\//;
    expect(judges.filter((file) => ofConnect.test(source.get(file) ?? "/connect/"))).toEqual([]);
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
    const wrong = [...source].filter(
      ([file, text]) => file !== "src/settings/settings.ts" && /process\.env\b/.test(text),
    );
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("reads the clock in one file, and stopwatches where only figures come of it", () => {
    const clock = /\bDate\.now\(|new Date\(\)|performance\.now\(|\bset(Timeout|Interval)\(/;
    // Commands and sockets live at the edge: their times and limits are the machine's own.
    const edge =
      /^src\/(clock|cli\/.*|storage\/(observed|sqlite\/.*)|telemetry\/(log|sink)|port\/(answers|listener|connections|keepalive|sniff|tls)|rpc\/body\/reader)(\.ts)?$/;
    const wrong = [...source].filter(([file, text]) => !edge.test(file.replace(/\.ts$/, "")) && clock.test(text));
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("takes chance as an argument", () => {
    // The composition root hands it out.
    const edge = ["src/clock.ts", "src/server.ts"];
    const wrong = [...source].filter(([file, text]) => !edge.includes(file) && /\bMath\.random\b/.test(text));
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("answers for help and completion without loading what commands do", () => {
    const loaded = new Set(["src/cli/lucid-node.ts"]);
    for (const file of loaded)
      for (const { from, to, typeOnly } of imports) if (from === file && !typeOnly) loaded.add(to);
    const light =
      /^src\/(base64|start-error|cli\/(lucid-node|commands|completion|output|service|usage|version)|client\/address|access\/permission|storage\/collection|telemetry\/(redact|sink|visible))\.ts$/;
    expect([...loaded].filter((file) => !light.test(file))).toEqual([]);
  });

  it("takes no error without a look at it in features, replicas and the composition root", () => {
    const lookedAt = ["nodes", "pools", "poot", "payouts", "resources", "admin", "access", "replicas", "server.ts"];
    const blind = /catch \{|\.catch\(\(\) =>/;
    const wrong = [...source].filter(
      ([file, text]) => lookedAt.some((name) => file.startsWith(`src/${name}`)) && blind.test(text),
    );
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("has no room or file without a name of its own", () => {
    expect(files.filter((file) => /\/(utils?|common|helpers?|misc)(\/|\.ts$)/.test(file))).toEqual([]);
  });

  it("keeps functions small enough to be one idea", () => {
    const long = [...source].flatMap(([file, text]) =>
      functionsOf(text)
        .filter(({ name, lines }) => lines > (longest[`${file} ${name}`] ?? 100))
        .map(({ name, lines }) => ({ function: `${file} ${name}`, lines })),
    );
    expect(long).toEqual([]);
  });

  it("states a permission for every RPC", () => {
    const unstated = services.flatMap(({ methods }) => methods).filter((method) => !policies.has(procedureOf(method)));
    expect(unstated.map(procedureOf)).toEqual([]);
  });

  it("leaves out of the quick loop only files that exist", () => {
    // A file that has moved would come back into the loop unseen, and make it slow.
    expect(notQuick.filter((pattern) => globSync(pattern, { cwd: root }).length === 0)).toEqual([]);
  });

  it("gives the client's package all that the client imports, and no code of the server", () => {
    const compiled = ["client", "gen", "clock.ts"];
    const wrong = imports.filter(({ from, to }) => room(from) === "client" && !compiled.includes(room(to)));
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
    const generated = readdirSync(join(root, "gen"), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => readFileSync(join(root, "gen", file), "utf8"));
    const texts = [
      ...generated,
      ...[...source].filter(([file]) => compiled.includes(room(file))).map(([, text]) => text),
    ];
    const packages = texts.flatMap((text) =>
      [...text.matchAll(/\bfrom "((?:@[^/"]+\/)?[^/".]+)[^"]*"/g)].map((match) => match[1] ?? ""),
    );
    const named = new Set(packages.filter((name) => !name.startsWith("node:")));
    expect([...named].sort()).toEqual(Object.keys(manifestOf("src/client").dependencies ?? {}));
  });

  it("takes the same dependencies in the client's package as in the server's, and gives both one version", () => {
    const [server, client] = [manifestOf("."), manifestOf("src/client")];
    expect(server).toMatchObject({
      version: client.version,
      engines: client.engines,
      dependencies: client.dependencies,
    });
  });

  it("names one version of Node.js for nvm and for npm, and it is one that the package allows", () => {
    const { engines, devDependencies } = manifestOf(".");
    const given = readFileSync(join(root, ".nvmrc"), "utf8").trim();
    expect(given).toBe(devDependencies?.node);
    const [, major = "", minor = ""] = /^>=(\d+)\.(\d+)$/.exec(engines.node ?? "") ?? [];
    const [ours = 0, oursMinor = 0] = given.split(".").map(Number);
    expect(ours).toBe(Number(major));
    expect(oursMinor).toBeGreaterThanOrEqual(Number(minor));
  });

  it("pins every dependency to one version", () => {
    const manifest = manifestOf(".");
    const loose = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies }).filter(
      ([, version]) => !/^\d+\.\d+\.\d+$/.test(String(version)),
    );
    expect(loose).toEqual([]);
  });
});

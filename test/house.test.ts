// The rules of the house: which room may import which, no cycles, environment and clock in few places, a permission
// for every RPC, a test for every file, a lock file that installs anywhere.
import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
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

/** Imports of our own files. Imports of types only vanish when compiled. */
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
  "payouts/gateway",
];
/** The room of a file. A file directly in src/ is a room of its own. */
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
  "present.ts",
  "stride.ts",
  "task.ts",
  "start-error.ts",
  "state-file.ts",
  "version.ts",
];
const feature = ["access", "conventions", "gen", "replicas", "rpc", "storage"];
/** The rooms that each room may import from, types included. Each may also import from itself and from the floor. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  // The server, and the rooms that it is built on.
  "server.ts": ["*"],
  "engines.ts": ["*"],
  "collections.ts": ["*"],
  "routes.ts": ["*"],
  "start-check.ts": ["settings"],
  "task.ts": ["coordination", "storage"],
  // Amounts are read by the rule of money, faults by the rule of the sandbox.
  settings: ["access", "payouts", "payouts/gateway", "port"],
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
  // Features: a feature further down knows nothing of the features further up.
  nodes: [...feature, "coordination", "nodes/history", "nodes/sessions", "nodes/silence"],
  "nodes/history": [...feature, "nodes"],
  "nodes/sessions": [...feature, "coordination", "nodes", "nodes/history"],
  "nodes/silence": [...feature, "nodes", "nodes/sessions"],
  pools: [...feature, "nodes", "nodes/history"],
  poot: [...feature, "nodes"],
  payouts: [...feature, "coordination", "nodes", "poot", "payouts/gateway"],
  "payouts/gateway": ["storage", "payouts"],
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
/** What the agent shares with the service: the forms of a challenge and a proof, on which both ends must agree. */
const agentMayImport = ["src/nodes/challenge-form.ts", "src/poot/verdict.ts"];

/** Files whose first comment says "Pure.": they make decisions, and import only types and each other. */
const pure = new Set(
  [...source].filter(([, text]) => /\bPure\.(?:\s|$)/.test(/^(\/\/.*\n)+/.exec(text)?.[0] ?? "")).map(([file]) => file),
);

const tests = readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".test.ts"))
  .map((file) => `test/${file}`);
/** Whether the test bears the file's name: `test/x/y.test.ts` or `test/x/y-topic.test.ts` for `src/x/y.ts`. */
const isTestOf = (test: string, file: string): boolean => {
  const name = `test/${file.slice("src/".length, -".ts".length)}`;
  return test === `${name}.test.ts` || test.startsWith(`${name}-`);
};
/** For files that no test imports or is named after: the test that fails when they break. */
const coveredBy: Readonly<Record<string, readonly string[]>> = {
  "test/admin/handler.test.ts": ["admin/admin"],
  "test/admin/health.test.ts": ["outbound"],
  "test/contract/store.ts": ["storage/copy", "storage/cursor"],
  "test/access/tokens.test.ts": ["storage/dated"],
  "test/cli/commands.test.ts": ["cli/options", "cli/payouts/commands"],
  "test/cli/payouts/paying.test.ts": ["cli/connection", "cli/payouts/asking", "cli/payouts/waiting"],
  "test/cli/payouts/reading.test.ts": ["cli/payouts/text"],
  "test/e2e/cli-payouts.test.ts": ["cli/terminal"],
  "test/e2e/cli.test.ts": [
    ...["agent/simulate", "cli/health", "cli/lucid-node", "cli/output", "cli/run", "cli/serve", "cli/sign"],
    ...["cli/simulate", "cli/token", "cli/usage"],
  ],
  "test/e2e/mistakes.test.ts": ["cli/migrate", "start-check"],
  "test/e2e/faults-start.test.ts": ["engines"],
  "test/machine/look.test.ts": ["machine/reader"],
  "test/nodes/handler.test.ts": [
    "nodes/nodes",
    "nodes/operations",
    "nodes/registration",
    "nodes/requests",
    "nodes/wire",
  ],
  "test/nodes/handler-payout-address.test.ts": ["nodes/payout-address"],
  "test/nodes/history/watch.test.ts": ["nodes/history/wire"],
  "test/nodes/node.test.ts": ["nodes/lifecycle"],
  "test/nodes/sessions/sessions.test.ts": ["nodes/sessions/wire"],
  "test/nodes/replicas.test.ts": ["nodes/sessions/follower"],
  "test/nodes/repository-changes.test.ts": ["announcement"],
  "test/nodes/sessions/epochs.test.ts": ["nodes/sessions/opening"],
  "test/nodes/sessions/scenarios-ends.test.ts": ["nodes/sessions/ending", "nodes/sessions/stream"],
  "test/nodes/sessions/scenarios-takeover.test.ts": [
    ...["nodes/sessions/admission", "nodes/sessions/refusals", "nodes/sessions/registry"],
  ],
  "test/payouts/gateway/sandbox.test.ts": ["payouts/gateway/sandbox-blocks", "payouts/gateway/sandbox-chain"],
  "test/pools/handler.test.ts": ["pools/pools", "pools/requests", "pools/wire"],
  "test/poot/admission.test.ts": ["poot/challenge"],
  "test/poot/batch.test.ts": ["poot/past"],
  "test/poot/handler.test.ts": ["poot/poot", "poot/proving", "poot/wire"],
  "test/payouts/crashes.test.ts": ["payouts/worker"],
  "test/payouts/limits.test.ts": ["payouts/reservations"],
  "test/payouts/handler-batches.test.ts": [
    ...["payouts/batches", "payouts/changes", "payouts/desk", "payouts/figures", "payouts/front", "payouts/orders"],
    ...["payouts/payee", "payouts/payouts", "payouts/story"],
  ],
  "test/port/connections.test.ts": ["rpc/waiting"],
  "test/port/http-routes.test.ts": ["port/exchange"],
  "test/port/listener.test.ts": ["port/keepalive", "port/sniff"],
  "test/port/proxies.test.ts": ["port/peer"],
  "test/resources/handler-metrics.test.ts": ["resources/requests", "resources/resources", "resources/wire"],
  "test/rpc/body/reader.test.ts": ["rpc/body/body", "rpc/body/inflate", "rpc/body/room"],
  "test/rpc/errors.test.ts": ["rpc/connect/interceptors", "rpc/connect/stream"],
  "test/rpc/router.test.ts": ["port/cors", "rpc/connect/adapter"],
  "test/rpc/router-strict.test.ts": ["port/media-type"],
  "test/coordination/redis/redis.test.ts": ["coordination/redis/address"],
  "test/coordination/redis/redis-faults.test.ts": ["coordination/redis/outage"],
  "test/settings/settings.test.ts": ["settings/hosts", "settings/rules"],
  "test/storage/mongo/store.test.ts": ["storage/mongo/collection", "storage/mongo/indexes"],
  "test/storage/mongo/store-faults.test.ts": ["storage/mongo/deadline"],
  "test/storage/sqlite/store.test.ts": ["storage/sqlite/codec", "storage/sqlite/sweep"],
  "test/storage/sqlite/collection-turns.test.ts": ["storage/sqlite/walk"],
  "test/telemetry/log.test.ts": ["telemetry/visible"],
};
/** Tests whose subject is no single file. */
const ofMany = [
  ...[
    "test/bench.test.ts",
    "test/contract-rules.test.ts",
    "test/docs.test.ts",
    "test/house.test.ts",
    "test/scenarios.test.ts",
  ],
  ...["test/tasks.test.ts", "test/nodes/replicas.test.ts", "test/poot/replicas.test.ts", "test/poot/crash.test.ts"],
  ...["test/payouts/replicas.test.ts"],
  ...["test/poot/crash-mongo.test.ts", "test/replicas/purge.test.ts", "test/storage/differential.test.ts"],
  ...["test/storage/indexes.test.ts", "test/storage/plans.test.ts", "test/payouts/world/memory-store.test.ts"],
  ...["test/payouts/chaos.test.ts", "test/payouts/crashes.test.ts"],
];

/** Functions that still hold more than one idea, with their lines. A number here may only become smaller. */
const longest: Readonly<Record<string, number>> = {
  "src/access/tokens.ts createTokens": 208,
  "src/admin/health.ts createHealth": 149,
  "src/cli/commands.ts createProgram": 162,
  "src/coordination/redis/redis.ts createSubscriptions": 122,
  "src/nodes/history/feed.ts createFeed": 103,
  "src/nodes/history/log.ts createNodeLog": 187,
  "src/nodes/history/watch.ts createWatch": 158,
  "src/nodes/membership.ts createMembership": 114,
  "src/nodes/nodes.ts createNodes": 124,
  "src/nodes/repository.ts createNodeRepository": 259,
  "src/nodes/sessions/epochs.ts createEpochs": 108,
  "src/nodes/sessions/opening.ts createOpening": 106,
  "src/nodes/sessions/sessions.ts createSessions": 233,
  "src/nodes/silence/orphans.ts createOrphans": 190,
  "src/nodes/silence/sweeper.ts createSweeper": 141,
  "src/pools/disruption.ts createDisruption": 126,
  "src/pools/handler.ts createPoolHandler": 153,
  "src/pools/repository.ts createPoolRepository": 125,
  "src/poot/batch.ts createBatch": 163,
  "src/poot/counting.ts createCounting": 115,
  "src/poot/handler.ts createPootHandler": 143,
  "src/poot/proving.ts createProving": 116,
  "src/poot/repository.ts createPootRepository": 116,
  "src/port/connections.ts createConnections": 184,
  "src/replicas/roster.ts createRoster": 140,
  "src/resources/alerts/alerter.ts createAlerter": 122,
  "src/resources/allocations/allocator.ts createAllocator": 200,
  "src/server.ts startServer": 176,
  "src/telemetry/sink.ts createSink": 121,
};

/** The outermost functions of a file, found by the formatting that all files share. */
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
    const engines =
      /^src\/(storage\/(sqlite|mongo)\/|coordination\/(local\.ts|redis\/)|payouts\/gateway\/(sandbox|tron|http))/;
    const wrong = imports.filter(
      ({ from, to }) =>
        engines.test(to) && !["src/engines.ts", "src/collections.ts"].includes(from) && dirname(from) !== dirname(to),
    );
    expect(wrong).toEqual([]);
  });

  it("pure files import types and other pure files only", () => {
    const wrong = imports.filter(({ from, to, typeOnly }) => pure.has(from) && !typeOnly && !pure.has(to));
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
    expect(pure.size).toBeGreaterThan(20);
    // Pure files may import packages that only compute and touch nothing outside.
    const computing = /^(node:(net|crypto|util|assert\/strict)|valibot|@noble\/hashes\/.*)$/;
    const foreign = [...pure].flatMap((file) =>
      [...(source.get(file) ?? "").matchAll(/import (?!type )[^;]*? from "([^."][^"]*)"/g)]
        .filter(([, name = ""]) => !computing.test(name))
        .map(([, name]) => `${file} -> ${name}`),
    );
    expect(foreign).toEqual([]);
  });

  it("generated code is imported by handlers, routes, the rpc room and those at the other end of the wire", () => {
    const allowed =
      /^src\/(rpc|conventions|agent|client|cli)\/|^src\/routes\.ts$|\/(handler|lifecycle|registration|requests|wire|stream|watch|beat)\.ts$/;
    expect(imports.filter(({ from, to }) => to.startsWith("gen/") && !allowed.test(from))).toEqual([]);
  });

  it("no transport's words reach the gate, the errors or the observer", () => {
    // Otherwise a second transport would need a second gate. Everybody may use the numbers of gRPC's codes.
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
      ([file, text]) => file !== "src/settings/environment.ts" && /process\.env\b/.test(text),
    );
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("reads the clock in one file, and stopwatches where only figures come of it", () => {
    const clock = /\bDate\.now\(|new Date\(\)|performance\.now\(|\bset(Timeout|Interval)\(|\bAbortSignal\.timeout\(/;
    // Commands and sockets are at the edge: they use the machine's own times and limits.
    const edge =
      /^src\/(clock|cli\/.*|storage\/(observed|sqlite\/.*)|telemetry\/(log|sink)|port\/(answers|listener|connections|keepalive|sniff|tls)|rpc\/body\/reader)(\.ts)?$/;
    const wrong = [...source].filter(([file, text]) => !edge.test(file.replace(/\.ts$/, "")) && clock.test(text));
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("takes chance as an argument", () => {
    const edge = ["src/clock.ts"];
    const wrong = [...source].filter(([file, text]) => !edge.includes(file) && /\bMath\.random\b/.test(text));
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("answers for help and completion without loading what commands do", () => {
    const loaded = new Set(["src/cli/lucid-node.ts"]);
    for (const file of loaded)
      for (const { from, to, typeOnly } of imports) if (from === file && !typeOnly) loaded.add(to);
    const light =
      /^src\/(base64|start-error|version|cli\/(lucid-node|commands|completion|options|output|payouts\/commands|service|usage)|client\/address|access\/permission|storage\/collection|telemetry\/(redact|sink|visible))\.ts$/;
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

  it("reaches the outside through one file, and sockets through the port", () => {
    // The drivers of stores bring sockets of their own, and clients dial by Connect. These names open none.
    const harmless = /^\{( ?(type \w+|isIP\w*|BlockList|constants|createSecureContext),?)+ ?\}$/;
    const opens = (text: string) =>
      [...text.matchAll(/import (?!type )([^;]*?) from "node:(?:net|tls|http|https|http2|dgram)"/g)].some(
        ([, names = ""]) => !harmless.test(names.replace(/\s+/g, " ")),
      );
    const fetches = /(?<![.\w])fetch\(|globalThis\.fetch|import\("node:(net|tls|https?|http2)/;
    const wrong = [...source].filter(
      ([file, text]) =>
        file !== "src/outbound.ts" && !file.startsWith("src/port/") && (opens(text) || fetches.test(text)),
    );
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  /** Without comments and texts: both may show an amount. */
  const codeOf = (text: string) => text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$|"[^"\n]*"|`[^`]*`/gm, "");

  it("counts money in whole minor units: no number, no float", () => {
    const money = /^src\/payouts\/(money|payout)\.ts$/;
    const wrong = [...source].filter(
      ([file, text]) => money.test(file) && /\bnumber\b|parseFloat|\bNumber\(|\d\.\d/.test(codeOf(text)),
    );
    expect(wrong.map(([file]) => file)).toEqual([]);
  });

  it("has no room or file without a name of its own", () => {
    expect(files.filter((file) => /\/(utils?|common|helpers?|misc)(\/|\.ts$)/.test(file))).toEqual([]);
  });

  it("keeps functions small enough to be one idea", () => {
    const long = [...source].flatMap(([file, text]) =>
      functionsOf(text)
        .filter(({ lines }) => lines > 100)
        .map(({ name, lines }): [string, number] => [`${file} ${name}`, lines]),
    );
    // Exactly these numbers: a function that has become shorter may not grow again.
    expect(Object.fromEntries(long)).toEqual(longest);
  });

  it("lists every collection that is defined", () => {
    const defined = [...source].flatMap(([file, text]) =>
      [...text.matchAll(/const (\w+): CollectionDefinition = /g)].map(([, name]) => `${file} ${name}`),
    );
    const listed = source.get("src/collections.ts") ?? "";
    expect(defined.filter((one) => !new RegExp(`^  ${one.split(" ")[1]},$`, "m").test(listed))).toEqual([]);
    expect(defined.length).toBeGreaterThan(10);
  });

  it("has a test for every file: of its name, importing it, or told here", () => {
    const imported = new Set(
      tests.flatMap((test) =>
        [...readFileSync(join(root, test), "utf8").matchAll(/ from "(\.[^"]+)\.js"/g)].map((match) =>
          relative(root, normalize(join(root, dirname(test), `${match[1]}.ts`))),
        ),
      ),
    );
    const untold = files.filter((file) => !imported.has(file) && !tests.some((test) => isTestOf(test, file)));
    const told = Object.values(coveredBy).flatMap((names) => names.map((name) => `src/${name}.ts`));
    expect(told.sort()).toEqual(untold.sort());
    expect(Object.keys(coveredBy).filter((test) => !existsSync(join(root, test)))).toEqual([]);
  });

  it("has the tests of a file under the file's name, or under a scenario's", () => {
    const elsewhere = /^test\/(e2e|mongodb)\/|\/scenarios-[^/]+$/;
    const mirrored = tests.filter((test) => !elsewhere.test(test));
    const lost = mirrored.filter((test) => !files.some((file) => isTestOf(test, file)));
    expect(lost.sort()).toEqual([...ofMany].sort());
  });

  it("states a permission for every RPC", () => {
    const unstated = services.flatMap(({ methods }) => methods).filter((method) => !policies.has(procedureOf(method)));
    expect(unstated.map(procedureOf)).toEqual([]);
  });

  it("leaves out of the quick loop only files that exist", () => {
    // A file that has moved would return to the loop unnoticed, and make it slow.
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

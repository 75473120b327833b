// Mistakes that operators make with files, folders and settings. The service answers each with exit code 1 and one
// sentence that names the fault and the remedy. It shows nothing of a file's content, and changes no file.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createCredentials, loadCredentials } from "../../src/agent/credentials.js";
import { canMount, type Disk, mountDisk } from "../support/engines/disks.js";
import { within } from "../support/world/until.js";
import { commandLine, requireBuilt } from "./built.js";
import { type Ending, type Program, type ProgramOptions, runProgram, startProgram } from "./process.js";

type Environment = Readonly<Record<string, string>>;

const isRoot = process.geteuid?.() === 0;
/**
 * Root without the rights that make it root. Another user could not even reach the program if only the owner may enter
 * the clone.
 */
const bounded = ["--bounding-set=-dac_override,-dac_read_search,-net_bind_service,-fowner"];
const boundedLucid = (given: readonly string[], env: Environment = {}): Promise<Ending> =>
  runProgram("setpriv", [...bounded, process.execPath, commandLine, ...given], {
    cwd: directory,
    env: { ...settings(), ...env },
    limitMs: 20_000,
  });

let directory: string;
let dataDir: string;
let programs: Program[];
let disks: Disk[];
beforeAll(requireBuilt);
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-mistakes-"));
  chmodSync(directory, 0o755);
  dataDir = join(directory, "data");
  programs = [];
  disks = [];
});
afterEach(async () => {
  for (const program of programs) await program[Symbol.asyncDispose]();
  for (const disk of disks) disk[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

const settings = (): Environment => ({ DATA_DIR: dataDir, PORT: "0", METRICS_PORT: "0", DRAIN_WINDOW: "0" });

const lucid = (given: readonly string[], env: Environment = {}, options: ProgramOptions = {}): Promise<Ending> =>
  runProgram(process.execPath, [commandLine, ...given], {
    cwd: directory,
    ...options,
    env: { ...settings(), ...env },
    limitMs: 20_000,
  });

async function serve(env: Environment = {}): Promise<Program> {
  const program = startProgram(process.execPath, [commandLine, "serve"], {
    cwd: directory,
    env: { ...settings(), ...env },
  });
  programs.push(program);
  await program.printed(/"Serving"/);
  return program;
}

async function stop(program: Program, signal: NodeJS.Signals = "SIGTERM"): Promise<Ending> {
  program.kill(signal);
  return await within(program.ended, "it ends");
}

const makeDisk = (megabytes: number): Disk => {
  const disk = mountDisk(directory, megabytes);
  disks.push(disk);
  return disk;
};

/** Names, kinds, modes and contents of all below the directory, to see that nothing has changed. */
function inventory(path: string, name = ""): string[] {
  const stats = lstatSync(path);
  const entry = `${name} ${stats.mode.toString(8)}`;
  if (stats.isDirectory())
    return [entry, ...readdirSync(path).flatMap((item) => inventory(join(path, item), `${name}/${item}`))];
  return [stats.isFile() ? `${entry} ${readFileSync(path).toString("base64")}` : entry];
}

/** Eight characters in a row are enough to recognise a key. */
function expectNothingOf(secrets: readonly string[], text: string): void {
  for (const secret of secrets) {
    for (let at = 0; at + 8 <= secret.length; at++) expect(text).not.toContain(secret.slice(at, at + 8));
  }
}

/** Expects exit code 1, one sentence on standard error without a stack, and at most log lines on standard output. */
function expectSentence({ code, stdout, stderr }: Ending, ...says: readonly (string | RegExp)[]): void {
  expect({ code, lines: stderr.trimEnd().split("\n").length, stderr }).toMatchObject({ code: 1, lines: 1 });
  expect(stderr).not.toMatch(/^\s+at |Error:|node:internal/m);
  expect(stdout).not.toContain("Serving");
  for (const text of says) expect(stderr).toMatch(text);
  // The sentence says what is wrong, then what to do.
  expect(stderr).toMatch(/[:;] .*\b(restore|set|save|run|give|name|move|remove|mount|make|free|stop|start)\b/);
}

/** A small file with keys, for all that may happen to it. `names` are its fields; the first is a key. */
interface KeyFile {
  readonly path: string;
  readonly content: Readonly<Record<string, string>>;
}
type Damage = readonly [name: string, harm: (file: KeyFile) => void, says: RegExp];

const put = ({ path }: KeyFile, content: string | Buffer) => writeFileSync(path, content);
const putJson = (file: KeyFile, content: unknown) => put(file, JSON.stringify(content));
const whole = ({ content }: KeyFile) => JSON.stringify(content);
const mapped = ({ content }: KeyFile, change: (name: string, value: string) => readonly [string, unknown]) =>
  Object.fromEntries(Object.entries(content).map(([name, value]) => change(name, value)));

const damages: readonly Damage[] = [
  ["of which one byte is damaged", (file) => put(file, whole(file).replace(":", "=")), /not JSON/],
  ["whose last brace is missing", (file) => put(file, whole(file).slice(0, -1)), /not JSON/],
  ["of which half is there", (file) => put(file, whole(file).slice(0, whole(file).length / 2)), /not JSON/],
  ["that is empty", (file) => truncateSync(file.path), /is empty/],
  ["of blanks", (file) => put(file, " \n"), /not JSON/],
  ["of zeros, as after a power cut", (file) => put(file, Buffer.alloc(200)), /not text/],
  ["of chance", (file) => put(file, Buffer.from("ff00fe9a80c0c1f5d8ff".repeat(20), "hex")), /not (UTF-8 )?text/],
  ["that is {}", (file) => putJson(file, {}), /has no \w+/],
  ["that is null", (file) => putJson(file, null), /not a JSON object/],
  ["that is a list", (file) => putJson(file, [file.content]), /not a JSON object/],
  ["that is a text", (file) => putJson(file, whole(file)), /not a JSON object/],
  [
    "whose keys are renamed",
    (file) =>
      putJson(
        file,
        mapped(file, (name, value) => [`${name}s`, value]),
      ),
    /has no \w+/,
  ],
  [
    "whose values are empty",
    (file) =>
      putJson(
        file,
        mapped(file, (name) => [name, ""]),
      ),
    /is damaged/,
  ],
  [
    "whose values are null",
    (file) =>
      putJson(
        file,
        mapped(file, (name) => [name, null]),
      ),
    /not a text/,
  ],
  [
    "whose values are numbers",
    (file) =>
      putJson(
        file,
        mapped(file, (name) => [name, 7]),
      ),
    /not a text/,
  ],
  [
    "whose values are objects",
    (file) =>
      putJson(
        file,
        mapped(file, (name, value) => [name, { value }]),
      ),
    /not a text/,
  ],
  [
    "whose values are cut short",
    (file) =>
      putJson(
        file,
        mapped(file, (name, value) => [name, value.slice(0, 12)]),
      ),
    /damaged/,
  ],
  ["that is too large", (file) => put(file, `${whole(file)}${" ".repeat(3_000_000)}`), /larger than 1048576 bytes/],
  ["in UTF-16", (file) => put(file, Buffer.from(`\ufeff${whole(file)}`, "utf16le")), /UTF-16/],
  ["in UTF-16 without a mark", (file) => put(file, Buffer.from(whole(file), "utf16le")), /UTF-16/],
  ["that others may read", ({ path }) => chmodSync(path, 0o644), /mode 644.*chmod 600/],
  ["that its group may read", ({ path }) => chmodSync(path, 0o640), /mode 640.*chmod 600.*SECRETS_GROUP_READABLE/],
  ["that others may write", ({ path }) => chmodSync(path, 0o602), /mode 602/],
  [
    "that is a folder",
    ({ path }) => {
      rmSync(path);
      mkdirSync(path);
    },
    /is a folder/,
  ],
  [
    "that is a pipe",
    ({ path }) => {
      rmSync(path);
      execFileSync("mkfifo", ["-m", "600", path]);
    },
    /is a pipe/,
  ],
  [
    "that is a link to nothing",
    ({ path }) => {
      rmSync(path);
      symlinkSync(join(directory, "gone"), path);
    },
    /symbolic link to a file that is not there/,
  ],
  [
    "that is a link to itself",
    ({ path }) => {
      rmSync(path);
      symlinkSync(path, path);
    },
    /ELOOP.*circle/,
  ],
  [
    "that is a device",
    ({ path }) => {
      rmSync(path);
      symlinkSync("/dev/zero", path);
    },
    /is a device/,
  ],
];

/** Keys that the service made, and tokens and texts that depend on them. */
async function keptSecrets(): Promise<KeyFile> {
  expect(await lucid(["token", "--role", "admin"])).toMatchObject({ code: 0 });
  const path = join(dataDir, "secrets.json");
  return { path, content: JSON.parse(readFileSync(path, "utf8")) };
}

function keptCredentials(): KeyFile {
  const path = join(directory, "agent", "agent.json");
  createCredentials(path, "node_abc123").keep({
    accessToken: "access-0123456789-token",
    refreshToken: "refresh-0123456789-token",
    expiresAt: new Date(),
  });
  return { path, content: JSON.parse(readFileSync(path, "utf8")) };
}

const keysOf = ({ content }: KeyFile) =>
  Object.entries(content)
    .filter(([name]) => /key|token/.test(name))
    .map(([, value]) => value);

describe("secrets.json", () => {
  test.each(damages)("%s keeps the service from starting", async (_name, harm, says) => {
    const file = await keptSecrets();
    harm(file);
    const before = inventory(directory);
    for (const command of [["serve"], ["token", "--role", "admin"]]) {
      const ending = await lucid(command);
      expectSentence(ending, says, file.path);
      expectNothingOf(keysOf(file), ending.stdout + ending.stderr);
    }
    expect(inventory(directory)).toEqual(before);
  });

  test("that is lost beside a store is not replaced by new keys, unless that is meant", async () => {
    const file = await keptSecrets();
    await stop(await serve());
    renameSync(file.path, join(directory, "backup"));
    const before = inventory(directory);
    for (const command of ["serve", "run"])
      expectSentence(await lucid([command]), /secrets\.json is missing/, /ALLOW_NEW_SECRETS/);
    expect(inventory(directory)).toEqual(before);
    await stop(await serve({ ALLOW_NEW_SECRETS: "true" }));
    expect(readFileSync(file.path, "utf8")).not.toBe(readFileSync(join(directory, "backup"), "utf8"));
  }, 60_000);

  test("is read with a byte order mark, through links, and for its group where that is allowed", async () => {
    const file = await keptSecrets();
    const moved = join(directory, "secret");
    writeFileSync(moved, `\ufeff${whole(file)}`, { mode: 0o640 });
    rmSync(file.path);
    symlinkSync(moved, file.path);
    expect(await lucid(["token", "--role", "admin"], { SECRETS_GROUP_READABLE: "true" })).toMatchObject({ code: 0 });
    chmodSync(moved, 0o644);
    expectSentence(await lucid(["token", "--role", "admin"], { SECRETS_GROUP_READABLE: "true" }), /mode 644/);
  });

  test.skipIf(!isRoot)("that this user may not read is named", async () => {
    const file = await keptSecrets();
    chmodSync(file.path, 0o000);
    const ending = await boundedLucid(["token", "--role", "admin"]);
    expectSentence(ending, /cannot be read \(EACCES\)/, file.path, /uid 0/);
  });
});

describe("agent.json", () => {
  const agent = (file: string, env: Environment = {}) =>
    lucid(["agent", "--server", "http://127.0.0.1:1", "--credentials", file], env);

  test.each(damages)("%s keeps the agent from starting", async (_name, harm, says) => {
    const file = keptCredentials();
    harm(file);
    const before = inventory(directory);
    const ending = await agent(file.path);
    expectSentence(ending, says, file.path);
    expectNothingOf(keysOf(file), ending.stdout + ending.stderr);
    expect(inventory(directory)).toEqual(before);
  });

  test("is read with a byte order mark, and for its group where that is allowed", () => {
    const file = keptCredentials();
    put(file, `\ufeff${whole(file)}`);
    expect(loadCredentials(file.path)?.identity.nodeId).toBe("node_abc123");
    chmodSync(file.path, 0o640);
    expect(() => loadCredentials(file.path)).toThrow("mode 640");
    expect(loadCredentials(file.path, { groupReadable: true })?.identity.nodeId).toBe("node_abc123");
  });

  test("that is a link stays one when tokens are renewed, and nothing else is left behind", () => {
    const file = keptCredentials();
    const moved = join(directory, "agent", "moved.json");
    renameSync(file.path, moved);
    symlinkSync(moved, file.path);
    const tokens = { accessToken: "new-access-token", refreshToken: "new-refresh-token", expiresAt: new Date() };
    loadCredentials(file.path)?.keep(tokens);
    expect(lstatSync(file.path).isSymbolicLink()).toBe(true);
    expect(readFileSync(moved, "utf8")).toContain("new-access-token");
    expect(lstatSync(moved).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(directory, "agent")).sort()).toEqual(["agent.json", "moved.json"]);
  });

  test("whose folder is gone costs new tokens their place, said once, and not the agent", () => {
    const file = keptCredentials();
    const said: string[] = [];
    const credentials = loadCredentials(file.path, { onUnsaved: (message) => said.push(message) });
    const folder = join(directory, "agent");
    renameSync(folder, `${folder}-away`);
    writeFileSync(folder, "");
    for (const accessToken of ["second-token", "third-token"]) {
      credentials?.keep({ accessToken, refreshToken: "r", expiresAt: new Date() });
      expect(credentials?.tokens()?.accessToken).toBe(accessToken);
    }
    expect(said).toEqual([expect.stringMatching(/^New tokens are not kept: .*agent is a file/)]);
    rmSync(folder);
    renameSync(`${folder}-away`, folder);
    credentials?.keep({ accessToken: "fourth-token", refreshToken: "r", expiresAt: new Date() });
    expect(readFileSync(file.path, "utf8")).toContain("fourth-token");
  });

  test.each([
    ["below /proc", () => "/proc/lucid/agent.json", /ENOENT/],
    ["below a file", () => join(file("file"), "agent.json"), /ENOTDIR.*is a file/],
  ])("%s is refused before the node enrols", async (_name, path, says) => {
    const { stdout } = await lucid(["token", "--enrollment", "--node-id", "node_abc123"]);
    expectSentence(await agent(path(), { LUCID_ENROLLMENT_TOKEN: stdout.trim() }), says);
  });

  test.skipIf(!canMount("credentials on a read-only mount"))(
    "on a read-only mount is refused, there already or not",
    async () => {
      const disk = makeDisk(1);
      const kept = join(disk.path, "agent.json");
      createCredentials(kept, "node_abc123");
      disk.makeReadOnly();
      expectSentence(await agent(kept), kept, /read-only/);
      const { stdout } = await lucid(["token", "--enrollment", "--node-id", "node_abc123"]);
      const fresh = join(disk.path, "new", "agent.json");
      expectSentence(await agent(fresh, { LUCID_ENROLLMENT_TOKEN: stdout.trim() }), disk.path, /read-only/);
    },
  );

  test("is not made for a token that is none", async () => {
    const path = join(directory, "agent.json");
    const { code, stderr } = await agent(path, { LUCID_ENROLLMENT_TOKEN: "hunter2-hunter2" });
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^The enrolment token is not a token/),
    });
    expect(stderr).not.toContain("hunter2");
    expect(existsSync(path)).toBe(false);
  });
});

/** Makes a file in the test's directory that is not what the service expects. */
function file(name: string, content: string | Buffer = "x", mode = 0o600): string {
  const path = join(directory, name);
  writeFileSync(path, content, { mode });
  return path;
}
function pipe(name: string): string {
  const path = join(directory, name);
  execFileSync("mkfifo", ["-m", "600", path]);
  return path;
}
function folder(name: string): string {
  const path = join(directory, name);
  mkdirSync(path);
  return path;
}
function withMode(path: string, mode: number): string {
  chmodSync(path, mode);
  return path;
}
const utf16 = (text: string) => Buffer.from(`\ufeff${text}`, "utf16le");

describe("DATA_DIR", () => {
  const places: readonly (readonly [string, () => string, RegExp])[] = [
    ["that is a file", () => file("file"), /is a file, not a folder/],
    ["below a file", () => join(file("file"), "deep", "down"), /is a file, not a folder/],
    ["that is a pipe", () => pipe("pipe"), /is a pipe, not a folder/],
    ["that is a device", () => "/dev/null", /is a device, not a folder/],
    ["below /proc", () => "/proc/lucid/data", /cannot be written \(ENOENT\)/],
    ["that is /proc", () => "/proc", /cannot be written \(E\w+\)/],
    ["with a name that is too long", () => join(directory, "x".repeat(300)), /ENAMETOOLONG.*shorter/],
    [
      "that is a link to nothing",
      () => {
        symlinkSync(join(directory, "gone"), join(directory, "link"));
        return join(directory, "link");
      },
      /symbolic link to a folder that is not there/,
    ],
  ];
  test.each(places)("%s keeps the service from starting", async (_name, place, says) => {
    const path = place();
    const before = inventory(directory);
    for (const command of ["serve", "run"])
      expectSentence(await lucid([command], { DATA_DIR: path }), /^DATA_DIR: /, says);
    expectSentence(await lucid(["token", "--role", "admin"], { DATA_DIR: path }), says);
    expectSentence(await lucid(["migrate"], { DATA_DIR: path }), says);
    expect(inventory(directory)).toEqual(before);
  });

  test.skipIf(!canMount("DATA_DIR on a read-only or full disk"))(
    "on a read-only mount is named, there already or not",
    async () => {
      const disk = makeDisk(1);
      disk.makeReadOnly();
      for (const path of [disk.path, join(disk.path, "data")]) {
        expectSentence(await lucid(["serve"], { DATA_DIR: path }), /^DATA_DIR: /, path, /read-only/);
      }
    },
  );

  test.skipIf(!isRoot)("of another user is named", async () => {
    mkdirSync(dataDir, { mode: 0o755 });
    chownSync(dataDir, 65_534, 65_534);
    expectSentence(await boundedLucid(["serve"]), /^DATA_DIR: /, dataDir, /EACCES.*uid 0/);
  });
});

describe("lucid.db", () => {
  const path = () => join(dataDir, "lucid.db");
  test.each<readonly [string, () => void, RegExp]>([
    [
      "that is damaged",
      () => writeFileSync(path(), readFileSync(path()).fill(0xa5, 4096, 12_288)),
      /is damaged; restore DATA_DIR/,
    ],
    ["that is cut in half", () => truncateSync(path(), lstatSync(path()).size / 2), /is damaged; restore DATA_DIR/],
    ["that is another file", () => writeFileSync(path(), "PORT=8083\n"), /is damaged; restore DATA_DIR/],
    ["that is empty", () => truncateSync(path()), /is empty.*restore DATA_DIR.*ALLOW_EMPTY_STORE=true/],
    ["that is gone", () => rmSync(path()), /is missing.*restore DATA_DIR.*ALLOW_EMPTY_STORE=true/],
    [
      "that is a folder",
      () => {
        rmSync(path());
        mkdirSync(path());
      },
      /is not a file/,
    ],
  ])("%s keeps the service from starting, and is not replaced", async (_name, harm, says) => {
    await stop(await serve());
    harm();
    const before = inventory(dataDir);
    for (const command of ["serve", "run", "migrate"]) expectSentence(await lucid([command]), path(), says);
    // SQLite makes its two working files again, empty, when it looks.
    expect(inventory(dataDir).filter((entry) => !/-(wal|shm) /.test(entry))).toEqual(before);
  });

  test("is begun again where that is meant, and keeps the keys", async () => {
    await stop(await serve());
    const keys = readFileSync(join(dataDir, "secrets.json"), "utf8");
    truncateSync(path());
    await stop(await serve({ ALLOW_EMPTY_STORE: "true" }));
    await stop(await serve());
    expect(readFileSync(join(dataDir, "secrets.json"), "utf8")).toBe(keys);
  }, 60_000);

  test("and its companions are for their owner only in a folder that was there before", async () => {
    mkdirSync(dataDir, { mode: 0o777 });
    chmodSync(dataDir, 0o777);
    await serve();
    const wide = readdirSync(dataDir).filter((name) => (lstatSync(join(dataDir, name)).mode & 0o077) !== 0);
    expect(wide).toEqual([]);
  });
});

describe("addresses", () => {
  test.each([
    ["HOST", "no.such.host.invalid", /^HOST: no\.such\.host\.invalid does not resolve/],
    ["METRICS_HOST", "no.such.host.invalid", /^METRICS_HOST: no\.such\.host\.invalid does not resolve/],
    ["HOST", "192.0.2.1", /^HOST: 192\.0\.2\.1 is not an address of this machine/],
    ["METRICS_HOST", "2001:db8::1", /^METRICS_HOST: 2001:db8::1 /],
  ])("%s=%s keeps the service from starting", async (name, host, says) => {
    expectSentence(await lucid(["serve"], { [name]: host }), says);
  });

  test.each(["PORT", "METRICS_PORT"])("%s in use is named with who to stop", async (name) => {
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    const { port } = server.address() as AddressInfo;
    try {
      const says = new RegExp(`^${name}: 127\\.0\\.0\\.1:${port} is in use`);
      expectSentence(await lucid(["serve"], { [name]: String(port) }), says, /stop the process/);
    } finally {
      server.close();
    }
  });

  test.skipIf(!isRoot)("a port that needs rights is named", async () => {
    const ending = await boundedLucid(["serve"], { PORT: "80" });
    // Some machines give port 80 to everybody. Then it is in use or gets served, and there is no mistake to name.
    if (ending.stderr !== "") expectSentence(ending, /^PORT: 127\.0\.0\.1:80 /);
  });
});

describe("files of settings", () => {
  const configs: readonly (readonly [string, () => string, RegExp])[] = [
    ["that is missing", () => join(directory, "gone"), /does not exist/],
    ["in UTF-16", () => file("conf", utf16("PORT=1")), /UTF-16.*save it as UTF-8/],
    ["in UTF-16 without a mark", () => file("conf", Buffer.from("PORT=1", "utf16le")), /UTF-16.*save it as UTF-8/],
    [
      "in Latin-1",
      () => file("conf", Buffer.from("SERVICE_NAME=Z\u00fcrich", "latin1")),
      /not UTF-8.*save it as UTF-8/,
    ],
    ["that is a folder", () => folder("conf"), /is a folder/],
    ["that is a pipe", () => pipe("conf"), /is a pipe/],
    ["that is too large", () => file("conf", "# x\n".repeat(400_000)), /larger than/],
  ];
  const expectListed = ({ code, stderr }: Ending, name: string, says: RegExp) => {
    const lines = stderr.trimEnd().split("\n");
    expect({ code, first: lines[0], count: lines.length }).toEqual({
      code: 1,
      first: "The settings cannot be used:",
      count: 2,
    });
    expect(lines[1]).toMatch(new RegExp(`^  - ${name}: `));
    expect(lines[1]).toMatch(says);
  };

  test.each(configs)("CONFIG_FILE %s is named", async (_name, path, says) => {
    const ending = await lucid(["serve"], { CONFIG_FILE: path() });
    expectListed(ending, "CONFIG_FILE", says);
    expectNothingOf(["SERVICE_NAME", "PORT=1"], ending.stderr);
  });

  test.each(configs.slice(1))(".env %s is named", async (_name, path, says) => {
    renameSync(path(), join(directory, ".env"));
    expectListed(await lucid(["serve"]), "[.]env", says);
  });

  test.each([".env", "conf"])("a byte order mark does not hide the first setting of %s", async (name) => {
    const path = file(name, "\ufeffLOG_LEVEL=LOUD\n");
    const { stderr } = await lucid(["serve"], name === ".env" ? {} : { CONFIG_FILE: path });
    expect(stderr).toContain("LOG_LEVEL: LOUD is not one of");
  });
});

describe("TLS files", () => {
  let other: string;
  const make = (name: string): string => {
    const [key, cert] = [join(directory, `${name}.key`), join(directory, `${name}.crt`)];
    const subject = [
      "-subj",
      "/CN=localhost",
      "-days",
      "2",
      "-nodes",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
    ];
    execFileSync("openssl", ["req", "-x509", ...subject, "-keyout", key, "-out", cert], { stdio: "pipe" });
    chmodSync(key, 0o600);
    return join(directory, name);
  };
  const cases: readonly (readonly [string, string, (own: string) => string, RegExp])[] = [
    ["TLS_KEY_FILE", "of another certificate", () => `${other}.key`, /not the key of the certificate/],
    ["TLS_KEY_FILE", "that is empty", () => file("empty", ""), /is empty/],
    ["TLS_KEY_FILE", "that is a certificate", (own) => withMode(`${own}.crt`, 0o600), /cannot be used/],
    ["TLS_KEY_FILE", "that others may read", (own) => withMode(`${own}.key`, 0o644), /mode 644/],
    ["TLS_KEY_FILE", "that is a pipe", () => pipe("pipe"), /is a pipe/],
    ["TLS_CERT_FILE", "that is a key", (own) => `${own}.key`, /cannot be used/],
    ["TLS_CERT_FILE", "that is a folder", () => folder("folder"), /is a folder/],
    ["TLS_CLIENT_CA_FILE", "of nonsense", () => file("nonsense"), /no certificate in it/],
    ["TLS_CLIENT_CA_FILE", "that is a pipe", () => pipe("pipe"), /is a pipe/],
  ];
  test.each(cases)("%s %s is named, and nothing of a key", async (name, _what, path, says) => {
    const own = make("own");
    other = make("other");
    const keys = [own, other].map((at) => readFileSync(`${at}.key`, "utf8").split("\n")[1] ?? "");
    const files = { TLS_CERT_FILE: `${own}.crt`, TLS_KEY_FILE: `${own}.key`, [name]: path(own) };
    const ending = await lucid(["serve"], files);
    expectSentence(ending, new RegExp(`^${name}: `), says);
    expectNothingOf(keys, ending.stderr + ending.stdout);
  });
});

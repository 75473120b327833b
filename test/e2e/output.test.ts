// Standard output as operators break it: a full disk, a reader that has stopped or gone. The service waits for no line.
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { createLucidClient, type LucidClient } from "../../src/client/client.js";
import { canMount, mountDisk } from "../support/engines/disks.js";
import { sparePort } from "../support/engines/redis.js";
import { type Fifo, openFifo } from "../support/fleet/fifo.js";
import { fleetOf } from "../support/fleet/look.js";
import { until, within } from "../support/world/until.js";
import { commandLine, requireBuilt } from "./built.js";
import { type Ending, type Program, runProgram, startProgram } from "./process.js";

type Environment = Readonly<Record<string, string>>;

const root = new URL("../..", import.meta.url).pathname;

beforeAll(requireBuilt);

let directory: string;
let programs: Program[];
let pipes: Fifo[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-output-"));
  programs = [];
  pipes = [];
});
afterEach(async () => {
  for (const program of programs) await program[Symbol.asyncDispose]();
  for (const pipe of pipes) pipe[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

function newPipe(): Fifo {
  const pipe = openFifo(directory);
  pipes.push(pipe);
  return pipe;
}

/** Outputs that take not even the first line. */
const broken: readonly (readonly [string, () => number])[] = [
  ["a full disk", () => openSync("/dev/full", "w")],
  [
    "a pipe that nobody reads",
    () => {
      const pipe = newPipe();
      pipe.fill();
      return pipe.writeEnd;
    },
  ],
  [
    "a pipe whose reader has gone",
    () => {
      const pipe = newPipe();
      pipe.closeReader();
      return pipe.writeEnd;
    },
  ],
];

interface Service {
  readonly program: Program;
  readonly url: string;
  readonly metricsUrl: string;
  readonly env: Environment;
}

function start(given: readonly string[], env: Environment, outputs: { stdout?: number; stderr?: number } = {}) {
  const program = startProgram(process.execPath, [commandLine, ...given], { cwd: directory, env, ...outputs });
  programs.push(program);
  return program;
}

/** Waits until the service answers, since its output may say nothing. */
async function serving(command: string, outputs: { stdout?: number; stderr?: number } = {}): Promise<Service> {
  const [port, metricsPort] = [await sparePort(), await sparePort()];
  const env = {
    DATA_DIR: join(directory, "data"),
    PORT: String(port),
    METRICS_PORT: String(metricsPort),
    RATE_LIMIT_ENABLED: "false",
    DRAIN_WINDOW: "1",
    LOG_LEVEL: "DEBUG",
  };
  const metricsUrl = `http://127.0.0.1:${metricsPort}`;
  const program = start([command], env, outputs);
  const ready = async () => (await fetch(`${metricsUrl}/ready`).catch(() => undefined))?.status === 200;
  await within(
    Promise.race([
      until(ready, "it is ready", 30_000),
      program.ended.then(({ code, stderr }) => {
        throw new Error(`it ended with ${code} ${stderr}`);
      }),
    ]),
    "it is ready",
    30_000,
  );
  return { program, url: `http://127.0.0.1:${port}`, metricsUrl, env };
}

const lucid = (given: readonly string[], env: Environment, outputs: { stdout?: number } = {}): Promise<Ending> =>
  runProgram(process.execPath, [commandLine, ...given], { cwd: directory, env, ...outputs });

async function adminOf({ url, env }: Service): Promise<LucidClient> {
  const { stdout } = await lucid(["token", "--role", "admin"], env);
  return createLucidClient({ baseUrl: url, accessToken: stdout.trim() });
}

const untilConnected = (admin: LucidClient, count: number) =>
  until(async () => (await fleetOf(admin)).CONNECTED === count, `${count} nodes are CONNECTED`, 30_000);

async function endsInTime(program: Program): Promise<Ending> {
  program.kill("SIGTERM");
  return await within(program.ended, "it ends after SIGTERM", 10_000);
}

describe.each(broken)("with %s for its output", (_name, open) => {
  test("the service serves, holds a node's stream, and ends in order", async () => {
    const output = open();
    const service = await serving("serve", { stdout: output, stderr: output });
    using admin = await adminOf(service);
    const { node } = await admin.nodes.createNode({ name: "machine", nodeType: NodeType.WORKER });
    const nodeId = node?.nodeId ?? "";
    const { stdout } = await lucid(["token", "--enrollment", "--node-id", nodeId], service.env);
    const agent = start(["agent", "--server", service.url, "--credentials", join(directory, "agent.json")], {
      LUCID_ENROLLMENT_TOKEN: stdout.trim(),
    });
    await untilConnected(admin, 1);
    expect((await fetch(`${service.metricsUrl}/live`)).status).toBe(200);
    expect(await (await fetch(`${service.metricsUrl}/metrics`)).text()).toMatch(
      /^lucid_node_management_log_lines_dropped_total \d+$/m,
    );
    expect(await endsInTime(agent)).toMatchObject({ code: 0 });
    expect(await endsInTime(service.program)).toMatchObject({ code: 0 });
  }, 60_000);

  test("an agent and a simulation stay connected, and end in order", async () => {
    const service = await serving("serve");
    using admin = await adminOf(service);
    const { node } = await admin.nodes.createNode({ name: "machine", nodeType: NodeType.WORKER });
    const nodeId = node?.nodeId ?? "";
    const { stdout } = await lucid(["token", "--enrollment", "--node-id", nodeId], service.env);
    const credentials = join(directory, "agent.json");
    const agent = start(
      ["agent", "--server", service.url, "--credentials", credentials, "--enrollment-token", stdout.trim()],
      {},
      { stdout: open(), stderr: open() },
    );
    const token = (await lucid(["token", "--role", "admin"], service.env)).stdout.trim();
    const given = ["simulate", "--nodes", "5", "--server", service.url];
    const simulation = start(given, { LUCID_TOKEN: token }, { stdout: open(), stderr: open() });
    await untilConnected(admin, 6);
    expect(await endsInTime(agent)).toMatchObject({ code: 0 });
    expect(await endsInTime(simulation)).toMatchObject({ code: 0 });
    await until(async () => (await fleetOf(admin)).CONNECTED === undefined, "all have left", 30_000);
  }, 60_000);

  test("the service with its own agent comes up, and ends in order", async () => {
    const service = await serving("run", { stdout: open(), stderr: open() });
    using admin = await adminOf(service);
    await untilConnected(admin, 1);
    expect(await endsInTime(service.program)).toMatchObject({ code: 0 });
  }, 60_000);

  test("the second signal ends the service at once", async () => {
    const { program } = await serving("serve", { stdout: open() });
    program.kill("SIGTERM");
    program.kill("SIGINT");
    expect(await within(program.ended, "it ends after the second signal", 5_000)).toMatchObject({ code: 130 });
  }, 60_000);

  test("a token that cannot be handed over is no success, and the command ends", async () => {
    const { code, stderr } = await lucid(["token", "--role", "admin"], {}, { stdout: open() });
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^The answer could not be .+\n$/),
    });
  });

  test("a wrong setting ends the service with its code", async () => {
    const program = start(["serve"], { PORT: "many" }, { stdout: open(), stderr: open() });
    expect(await within(program.ended, "it ends", 10_000)).toMatchObject({ code: 1 });
  });
});

test("a reader that goes away while the service serves changes nothing", async () => {
  const pipe = newPipe();
  const service = await serving("serve", { stdout: pipe.writeEnd });
  expect(pipe.read()).toContain('"Serving"');
  pipe.closeReader();
  using admin = await adminOf(service);
  for (let call = 0; call < 20; call++) await admin.nodes.listNodes({});
  const dropped = async () => {
    const text = await (await fetch(`${service.metricsUrl}/metrics`)).text();
    return Number(/^lucid_node_management_log_lines_dropped_total (\d+)$/m.exec(text)?.[1]);
  };
  await until(async () => (await dropped()) >= 20, "the lost lines are counted");
  expect(await endsInTime(service.program)).toMatchObject({ code: 0 });
}, 60_000);

test("what the service said while nobody read is there when the reader goes on", async () => {
  const pipe = newPipe();
  pipe.fill();
  const service = await serving("serve", { stdout: pipe.writeEnd });
  let text = "";
  await until(() => {
    text += pipe.read();
    return text.includes('"Serving"');
  }, "the lines that waited come");
  expect(await endsInTime(service.program)).toMatchObject({ code: 0 });
  text += pipe.read();
  expect(text).toContain('"Stopped"');
  for (const line of text.trim().split("\n")) JSON.parse(line);
}, 60_000);

test.skipIf(!canMount("a log file on a full disk"))(
  "a log file on a full disk takes lines again when there is room, and no line in it is torn by a later one",
  async () => {
    const disk = mountDisk(directory, 1);
    const path = join(disk.path, "log");
    const output = openSync(path, "a");
    try {
      disk.fill();
      const service = await serving("serve", { stdout: output });
      using admin = await adminOf(service);
      for (let call = 0; call < 20; call++) await admin.nodes.listNodes({});
      expect((await fetch(`${service.metricsUrl}/live`)).status).toBe(200);
      const before = readFileSync(path, "utf8");
      disk.free();
      await until(() => readFileSync(path, "utf8").slice(before.length).includes("ListNodes"), "lines come again");
      expect(await endsInTime(service.program)).toMatchObject({ code: 0 });
      const text = readFileSync(path, "utf8");
      expect(text).toContain('"Stopped"');
      for (const line of text.trimEnd().split("\n")) JSON.parse(line);
    } finally {
      closeSync(output);
      disk[Symbol.dispose]();
    }
  },
  60_000,
);

describe("a process that writes more than may wait", () => {
  /** Each line of its input says how many lines it logs next. Standard error then says how many are lost so far. */
  const writer = `
    import { createInterface } from "node:readline";
    import { createLogger } from "${root}dist/src/telemetry/log.js";
    import { standardSink } from "${root}dist/src/telemetry/sink.js";
    const log = createLogger({ level: "INFO", format: "json", service: "s", version: "1" });
    let count = 0;
    for await (const line of createInterface({ input: process.stdin })) {
      for (let left = Number(line); left > 0; left--) log.info("line", { count: count++ });
      process.stderr.write("dropped " + standardSink(1).dropped + "\\n");
    }`;
  const lines = 30_000;
  const droppedOf = ({ stderr }: Program): number | undefined => {
    const last = stderr.trimEnd().split("\n").at(-1) ?? "";
    return last === "" ? undefined : Number(last.replace("dropped ", ""));
  };

  test("loses the oldest, counts them, and says so once when its reader goes on", async () => {
    const pipe = newPipe();
    const program = startProgram(process.execPath, ["--input-type=module", "-e", writer], { stdout: pipe.writeEnd });
    programs.push(program);
    pipe.fill();
    program.write(`${lines}\n`);
    await until(() => droppedOf(program) !== undefined, "all are logged though nobody reads", 20_000);
    const dropped = droppedOf(program) ?? 0;
    expect(dropped).toBeGreaterThan(lines / 2);
    let text = "";
    await until(() => {
      text += pipe.read();
      return text.includes("lost");
    }, "the loss is told");
    program.write("10\n");
    await until(() => {
      text += pipe.read();
      return text.includes(`"count":${lines + 9}`);
    }, "later lines come");
    const read = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const told = read.filter(({ message }) => message.startsWith("Log lines were lost"));
    expect(told).toEqual([expect.objectContaining({ level: "WARNING", lines: dropped })]);
    const counts = read.filter(({ message }) => message === "line").map(({ count }) => count);
    expect(counts).toEqual(Array.from({ length: lines + 10 - dropped }, (_, place) => dropped + place));
  }, 60_000);

  test("goes on though its output is a socket that nobody reads, and ends", async () => {
    const program = startProgram(process.execPath, ["--input-type=module", "-e", writer], { unread: true });
    programs.push(program);
    program.write(`${lines}\n`);
    await until(() => (droppedOf(program) ?? 0) > 0, "all are logged though nobody reads", 20_000);
    program.closeInput();
    expect(await within(program.exited, "it ends", 10_000)).toBe(0);
  }, 60_000);

  test("hands over its last lines when it fails, and its exit code says so", async () => {
    const failing = `
      import { endOnFaults } from "${root}dist/src/cli/output.js";
      import { createLogger } from "${root}dist/src/telemetry/log.js";
      endOnFaults();
      const log = createLogger({ level: "INFO", format: "json", service: "s", version: "1" });
      for (let count = 0; count < 3000; count++) log.info("line", { count });
      log.error("The service cannot go on");
      setImmediate(() => { throw new Error("mongodb://user:hunter2@host is not foreseen"); });`;
    const pipe = newPipe();
    const program = startProgram(process.execPath, ["--input-type=module", "-e", failing], { stdout: pipe.writeEnd });
    programs.push(program);
    let over = false;
    void program.ended.finally(() => {
      over = true;
    });
    let text = "";
    await until(() => {
      text += pipe.read();
      return over;
    }, "it ends");
    const { code, stderr } = await program.ended;
    expect(code).toBe(1);
    expect(stderr).toContain("is not foreseen");
    expect(stderr).not.toContain("hunter2");
    const read = `${text}${pipe.read()}`.trim().split("\n");
    expect(read).toHaveLength(3001);
    expect(read.at(-1)).toContain("cannot go on");
  }, 60_000);
});

test("an answer that is larger than what waits for a reader is written whole", async () => {
  const output = join(root, "dist/src/cli/output.js");
  const line = `${"ü".repeat(40)} 🙂`;
  const program = `process.exit((await import(${JSON.stringify(output)})).answer(${JSON.stringify(`${line}\n`)}.repeat(40_000) + "end"))`;
  const given = ["--input-type=module", "-e", program];
  const { code, stdout, stderr } = await runProgram(process.execPath, given, { cwd: directory });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout.split("\n").filter((one) => one !== line)).toEqual(["end", ""]);
  expect(stdout.split("\n")).toHaveLength(40_002);
});

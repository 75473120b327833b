// The command line as people use it: compiled, each command a process of its own.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer as createHttp2Server, type ServerHttp2Session } from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Role } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { Connectivity, NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { createLucidClient, type LucidClient } from "../../src/client/client.js";
import { type NodeStream, openNodeStream } from "../support/clients/node-stream.js";
import { connectivityOf, historyOf, nodeOf, untilConnectivity } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { inParallel, until, within } from "../support/world/until.js";
import { commandLine, requireBuilt } from "./built.js";
import { type Ending, type Program, runProgram, startProgram } from "./process.js";

type Environment = Readonly<Record<string, string>>;

beforeAll(requireBuilt);

let directory: string;
let programs: Program[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-cli-"));
  programs = [];
});
afterEach(async () => {
  for (const program of programs) await program[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

/** Settings of a service that keeps its data in the test's directory and listens on ports of its own. */
const settings = (): Environment => ({
  DATA_DIR: join(directory, "data"),
  PORT: "0",
  METRICS_PORT: "0",
  RATE_LIMIT_ENABLED: "false",
  DRAIN_WINDOW: "1",
});

const lucid = (given: readonly string[], env: Environment = settings()): Promise<Ending> =>
  runProgram(process.execPath, [commandLine, ...given], { cwd: directory, env });

/** A command that runs until the test ends it. */
function start(given: readonly string[], env: Environment = settings()): Program {
  const program = startProgram(process.execPath, [commandLine, ...given], { cwd: directory, env });
  programs.push(program);
  return program;
}

async function stop(program: Program, signal: NodeJS.Signals): Promise<Ending> {
  program.kill(signal);
  return await within(program.ended, `it ends after ${signal}`, 10_000);
}

async function serve(env: Environment = {}): Promise<{ service: Program; port: number; url: string }> {
  const service = start(["serve"], { ...settings(), ...env });
  const [line] = await service.printed(/^.*"Serving".*$/m);
  const port = Number(/"port":(\d+)/.exec(line)?.[1]);
  return { service, port, url: `http://127.0.0.1:${port}` };
}

const tokenOf = async (...given: string[]): Promise<string> => (await lucid(["token", ...given])).stdout.trim();

async function adminAt(baseUrl: string): Promise<LucidClient> {
  return createLucidClient({ baseUrl, accessToken: await tokenOf("--role", "admin") });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}

describe("token", () => {
  test("prints a token and nothing else", async () => {
    const { code, stdout, stderr } = await lucid(["token", "--role", "admin"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
  });

  test("prints one that the service takes, whichever of them came first", async () => {
    const before = await tokenOf("--role", "operator");
    const { url } = await serve();
    for (const accessToken of [before, await tokenOf("--role", "operator")]) {
      using client = createLucidClient({ baseUrl: url, accessToken });
      expect((await client.nodes.listNodes({})).nodes).toEqual([]);
    }
  });
});

describe("bad usage ends with code 2 and the usage", () => {
  test.each([
    ["nothing"],
    ["token"],
    ["token --role king"],
    ["token --role worker"],
    ["token --role admin --node-id node_abc123"],
    ["token --role admin --ttl 0"],
    ["token --role admin --colour red"],
    ["agent"],
    ["agent --server http://127.0.0.1:1"],
    ["agent --server http://127.0.0.1:1 --credentials --prove"],
    ["token --role admin --subject --enrollment"],
    ["simulate --nodes 5"],
    ["simulate --server http://127.0.0.1:1 --nodes 5"],
    ["simulate --server http://127.0.0.1:1 --nodes none --token t"],
    ["payouts nothing"],
    ["payouts queue"],
    ["payouts show node_abc --token t"],
    ["payouts list --limit 0 --token t"],
    ["payouts list --since yesterday --token t"],
    ["payouts create --token --json"],
    ["payouts create --node-id node_abc --currency EUR --amount 1 --token t"],
    ["payouts reject payout_abc --token t"],
    ["payouts batch --token t"],
    ["payouts batch none.csv --token t"],
  ])("lucid-node %s", async (words) => {
    const credentials = words.startsWith("agent --") ? ["--credentials", join(directory, "none.json")] : [];
    const { code, stdout, stderr } = await lucid([...words.split(" "), ...credentials]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain("usage: lucid-node");
    expect(stderr).not.toMatch(/^\s+at /m);
  });
});

describe("help", () => {
  test("and the version are printed, with exit code 0", async () => {
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
    expect(await lucid(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
    const all = await lucid(["--help"]);
    expect(all).toMatchObject({
      code: 0,
      stderr: "",
      stdout: expect.stringMatching(/^ {2}token {2,}print an access/m),
    });
    for (const words of [[], ["help"], ["-h"]]) expect(await lucid(words)).toEqual(all);
    const one = await lucid(["token", "--help"]);
    expect(one).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining("--ttl <seconds>") });
    for (const words of [
      ["help", "token"],
      ["token", "-h"],
    ])
      expect(await lucid(words)).toEqual(one);
    const group = await lucid(["payouts"]);
    expect(group).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/^ {2}list {2,}list payouts/m) });
    expect(await lucid(["help", "payouts"])).toEqual(group);
    const inside = await lucid(["help", "payouts", "create"]);
    expect(inside).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining("--amount <amount>") });
    expect(await lucid(["payouts", "create", "--help"])).toEqual(inside);
  }, 30_000);

  test.each([
    ["serv", "serve"],
    ["help tokn", "token"],
    ["helth --help", "health"],
    ["payouts aprove --help", "approve"],
    ["help payouts lst", "list"],
    ["payouts batch --yess", "--yes"],
    ["token --rol admin", "--role"],
    ["token --role admin --enrolment", "--enrollment"],
    ["agent --sever http://127.0.0.1:1", "--server"],
  ])("is at hand for lucid-node %s: %s is suggested", async (words, meant) => {
    const { code, stdout, stderr } = await lucid(words.split(" "));
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(`(Did you mean ${meant}?)`);
    expect(stderr).toContain("usage: lucid-node");
  });

  test.each(["serve now", "serve --port 1", "nothing --help", "completion fish", "health --service"])(
    "is printed for lucid-node %s, which does nothing",
    async (words) => {
      const { code, stdout, stderr } = await lucid(words.split(" "));
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toContain("usage: lucid-node");
    },
  );

  test.each([
    "agent --enrolment-token=hunter2",
    "agent --prove=hunter2'",
    "agent -thunter2",
    "agent hunter2",
    "agent --server http://a hunter2",
  ])("does not repeat what may be a secret: lucid-node %s", async (words) => {
    const { code, stdout, stderr } = await lucid(words.split(" "));
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).not.toContain("hunter2");
  });
});

describe("completion", () => {
  test("of the command that prints it works in bash", async () => {
    const asked = `lucid-node() { "${process.execPath}" "${commandLine}" "$@"; }
      source <(lucid-node completion bash)
      COMP_WORDS=(lucid-node token --role op) COMP_CWORD=3
      _lucid_node
      echo "\${COMPREPLY[@]}"`;
    expect(await runProgram("bash", ["-c", asked])).toEqual({ code: 0, stdout: "operator\n", stderr: "" });
  });
});

describe("health", () => {
  test("ends with 0 for a service that serves, by its URL and by the settings", async () => {
    const { url, port } = await serve();
    expect(await lucid(["health", "--server", url])).toMatchObject({ code: 0, stdout: "SERVING\n" });
    const env = { ...settings(), PORT: String(port) };
    expect(await lucid(["health", "--service", "liveness"], env)).toMatchObject({ code: 0, stdout: "SERVING\n" });
    expect(await lucid(["health", "--server", url, "--service", "nobody"])).toMatchObject({ code: 1 });
  });

  test("ends with 1 where nothing listens", async () => {
    const { code, stdout, stderr } = await lucid(["health", "--server", `http://127.0.0.1:${await freePort()}`]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
    expect(stdout).toMatch(/ECONNREFUSED.*\n$/);
  });
});

describe("health where no service of ours answers", () => {
  const answers: readonly (readonly [string, (socket: Socket) => void])[] = [
    ["400 over HTTP/1.1", (socket) => void socket.write("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")],
    ["garbage", (socket) => void socket.write(Buffer.alloc(500, 0xa5))],
    ["nothing", () => undefined],
    ["by closing the connection", (socket) => void socket.end()],
    ["by resetting the connection", (socket) => void socket.resetAndDestroy()],
  ];
  const expectEnd = async (port: number) => {
    const ending = lucid(["health", "--server", `http://127.0.0.1:${port}`]);
    const { code, stdout, stderr } = await within(ending, "health ends", 10_000);
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
    expect(stdout.trim().split("\n")).toHaveLength(1);
  };

  test.each(answers)("ends with 1 in time: answered %s", async (_name, answer) => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket.on("error", () => undefined));
      answer(socket.resume());
    });
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    try {
      await expectEnd((server.address() as AddressInfo).port);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });

  test.each([400, 404, 500, 503])("ends with 1 in time: answered %i over HTTP/2", async (status) => {
    const server = createHttp2Server();
    server.on("stream", (stream) => {
      stream.respond({ ":status": status, "content-type": "text/plain" });
      stream.end("not for you");
    });
    const sessions = new Set<ServerHttp2Session>();
    server.on("session", (session) => void sessions.add(session));
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    try {
      await expectEnd((server.address() as AddressInfo).port);
    } finally {
      for (const session of sessions) session.destroy();
      server.close();
    }
  });
});

const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1"));
if (!hasIpv6) console.warn("NOT TESTED, FOR THIS MACHINE HAS NO ::1: commands over IPv6");

describe("the address of the service", () => {
  test.each([["127.0.0.1"], ["0.0.0.0"], ["localhost"], ...(hasIpv6 ? [["::1"], ["::"], ["0:0:0:0:0:0:0:1"]] : [])])(
    "is HOST=%s for health",
    async (host) => {
      const { port } = await serve({ HOST: host });
      expect(await lucid(["health"], { ...settings(), HOST: host, PORT: String(port) })).toMatchObject({
        code: 0,
        stdout: "SERVING\n",
      });
    },
  );

  test("is not 127.0.0.1 where HOST is another", async () => {
    const { port } = await serve({ HOST: "127.0.0.1" });
    const { code, stdout } = await lucid(["health"], { ...settings(), HOST: "127.0.0.2", PORT: String(port) });
    expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringContaining("127.0.0.2") });
  });

  test.runIf(hasIpv6)(
    "is HOST=::1 for the service with its own agent, and for an agent and a client",
    async () => {
      const program = start(["run"], { ...settings(), HOST: "::1" });
      const [, url = ""] = await program.printed(
        /Serving on (http:\/\/\[::1\]:\d+), metrics[\s\S]*^Ctrl-C stops it\.$/m,
        30_000,
      );
      using admin = await adminAt(url);
      const { node } = await admin.nodes.createNode({ name: "other", nodeType: NodeType.WORKER });
      const nodeId = node?.nodeId ?? "";
      const token = await tokenOf("--enrollment", "--node-id", nodeId);
      const file = join(directory, "other.json");
      start(["agent", "--server", url.replace("http://", ""), "--credentials", file, "--enrollment-token", token]);
      await untilConnectivity(admin, nodeId, "CONNECTED");
      expect(await stop(program, "SIGINT")).toMatchObject({ code: 0, stderr: "" });
    },
    60_000,
  );

  test("may be given without a scheme", async () => {
    const { port } = await serve();
    expect(await lucid(["health", "--server", `localhost:${port}`])).toMatchObject({ code: 0, stdout: "SERVING\n" });
  });

  test.each(["health", "agent", "simulate"])(
    "that is none is refused by %s in a sentence",
    async (command) => {
      for (const server of ["ftp://host", "host:99999", "http://::1:8083", "http://user:hunter2@host"]) {
        const { code, stdout, stderr } = await lucid([command, "--server", server]);
        expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
        expect(stderr).toMatch(/^--server takes an address such as http:\/\/localhost:8083/);
        expect(stderr).not.toContain("hunter2");
      }
    },
    60_000,
  );
});

describe("serve", () => {
  test("refuses a second process on the same data in one sentence", async () => {
    const { url } = await serve();
    const { code, stderr } = await lucid(["serve"]);
    expect(code).toBe(1);
    expect(stderr.trim().split("\n")).toEqual([expect.stringContaining(join(directory, "data"))]);
    expect(await lucid(["health", "--server", url])).toMatchObject({ code: 0 });
  });

  test("names all that is wrong with the settings at once", async () => {
    const wrong = { PORT: "many", LOG_LEVEL: "LOUD", ENCRYPTION_KEY: "short", STREAMS_MAX: "0" };
    const { code, stderr } = await lucid(["serve"], { ...settings(), ...wrong });
    expect(code).toBe(1);
    for (const name of Object.keys(wrong)) expect(stderr).toContain(`- ${name}: `);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test("says so when its port is taken", async () => {
    const { port } = await serve();
    const env = { ...settings(), PORT: String(port), DATA_DIR: join(directory, "other") };
    const { code, stderr } = await lucid(["serve"], env);
    expect(code).toBe(1);
    expect(stderr.trim().split("\n")).toEqual([expect.stringContaining(`:${port}`)]);
  });
});

describe("agent", () => {
  test("enrols once, leaves on SIGINT, and comes back as the same node, by its key alone if need be", async () => {
    const { url } = await serve();
    using admin = await adminAt(url);
    const { node } = await admin.nodes.createNode({ name: "machine", nodeType: NodeType.WORKER });
    const nodeId = node?.nodeId ?? "";
    const file = join(directory, "agent", "agent.json");
    const startAgent = (...more: string[]) => start(["agent", "--server", url, "--credentials", file, ...more]);

    const enrolled = startAgent("--enrollment-token", await tokenOf("--enrollment", "--node-id", nodeId));
    await untilConnectivity(admin, nodeId, "CONNECTED");
    const { agentVersion, hardwareInfo } = await nodeOf(admin, nodeId);
    expect(agentVersion).toMatch(/^lucid-node\/\d+\.\d+\.\d+$/);
    expect(hardwareInfo?.cpu?.cores).toBeGreaterThan(0);
    expect(hardwareInfo?.memory?.totalBytes).toBeGreaterThan(1_000_000_000n);
    expect(hardwareInfo?.network.length).toBeGreaterThan(0);
    expect(statSync(file).mode & 0o777).toBe(0o600);

    expect(await stop(enrolled, "SIGINT")).toMatchObject({ code: 0, stderr: "" });
    expect(await connectivityOf(admin, nodeId)).toBe("DISCONNECTED");

    const again = startAgent();
    await untilConnectivity(admin, nodeId, "CONNECTED");
    expect(await stop(again, "SIGINT")).toMatchObject({ code: 0 });
    expect(await connectivityOf(admin, nodeId)).toBe("DISCONNECTED");

    const { node_id, private_key } = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, JSON.stringify({ node_id, private_key }));
    const byKey = startAgent();
    await untilConnectivity(admin, nodeId, "CONNECTED");
    expect(await stop(byKey, "SIGTERM")).toMatchObject({ code: 0 });
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({
      node_id,
      private_key,
      access_token: expect.any(String),
    });
    expect(statSync(file).mode & 0o777).toBe(0o600);
  }, 60_000);

  test("proves its own work, or what a command prints, and the service knows the score", async () => {
    const { url } = await serve();
    using admin = await adminAt(url);
    const { node } = await admin.nodes.createNode({ name: "prover", nodeType: NodeType.WORKER });
    const nodeId = node?.nodeId ?? "";
    await admin.nodes.startNode({ nodeId });
    const startProver = (...more: string[]) =>
      start(["agent", "--server", url, "--credentials", join(directory, "prover.json"), "--prove", ...more]);
    const own = startProver("--enrollment-token", await tokenOf("--enrollment", "--node-id", nodeId));
    const [, validationId] = await own.printed(/^proof (poot_val_\w+): valid, [\d.]+ points for 16384 bytes$/m, 20_000);
    expect(await stop(own, "SIGINT")).toMatchObject({ code: 0, stderr: "" });
    const { validation } = await admin.poot.getPoOTValidation({ validationId: validationId ?? "" });
    expect(validation).toMatchObject({ nodeId, isValid: true });
    await until(async () => (await admin.poot.getPoOTScore({ nodeId })).score === validation?.score, "it counts");

    const told = startProver("--prove-command", 'printf "%s" "$1" && head -c 100 /dev/zero');
    const [, bytes] = await told.printed(/^proof poot_val_\w+: .+ points for (\d+) bytes/m, 20_000);
    expect(Number(bytes)).toBeGreaterThan(100 + 16);
    await stop(told, "SIGINT");
    const failing = startProver("--prove-command", "exit 3");
    await failing.printed(/^no verdict on this minute's proof: .+/m, 20_000);
    expect(await stop(failing, "SIGINT")).toMatchObject({ code: 0 });
  }, 90_000);

  test("ends with 1 when the service refuses the node", async () => {
    const { url } = await serve();
    using admin = await adminAt(url);
    const { node } = await admin.nodes.createNode({ name: "unwanted", nodeType: NodeType.WORKER });
    const nodeId = node?.nodeId ?? "";
    await admin.nodes.banNode({ nodeId, reason: "unwanted" });
    const token = await tokenOf("--enrollment", "--node-id", nodeId);
    const agent = start(["agent", "--server", url, "--credentials", join(directory, "agent.json")], {
      LUCID_ENROLLMENT_TOKEN: token,
    });
    const { code, stderr } = await within(agent.ended, "the agent gives up");
    expect(code).toBe(1);
    expect(stderr).toMatch(/^The service refuses this node: .+\n$/);
  });
});

describe("run", () => {
  test("brings up service and agent, and the same node again after it was killed", async () => {
    const env = { ...settings(), PORT: "0", METRICS_PORT: "0" };
    const serving = "Serving on (http://127.0.0.1:\\d+), metrics on port (\\d+), data in";
    const up = new RegExp(
      `^(node_\\w+) \\(.+\\) is CONNECTED and ACTIVE, agent lucid-node/.*\n${serving}[^]*^Ctrl-C stops it\\.$`,
      "m",
    );

    const first = start(["run"], env);
    const [, nodeId, , metricsPort] = await first.printed(up, 30_000);
    expect((await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).status).toBe(200);
    await stop(first, "SIGKILL");

    const second = start(["run"], env);
    const [, sameId, url = ""] = await second.printed(up, 30_000);
    expect(sameId).toBe(nodeId);
    using admin = await adminAt(url);
    expect(await connectivityOf(admin, nodeId ?? "")).toBe("CONNECTED");
    expect((await admin.nodes.listNodes({})).nodes).toHaveLength(1);

    expect(await stop(second, "SIGINT")).toMatchObject({ code: 0, stderr: "" });
  }, 90_000);

  test("says so when its data is in use", async () => {
    await serve();
    const { code, stdout, stderr } = await lucid(["run"]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });
});

describe("simulate", () => {
  const nodes = Number(process.env.SIMULATED_NODES ?? 200);
  const witnesses = 10;

  test(`${nodes} nodes outlive a restart of the service: streams end OK, all come back, nobody was disconnected`, async () => {
    const env = { NODE_HEARTBEAT_INTERVAL: "2" };
    const { service, port, url } = await serve(env);
    const token = await tokenOf("--role", "admin");
    using admin = createLucidClient({ baseUrl: url, accessToken: token });
    const given = ["--nodes", String(nodes), "--server", url];
    const simulation = start(["simulate", ...given], { LUCID_TOKEN: token });
    await simulation.printed(new RegExp(`^created ${nodes} connected ${nodes} .* beats [1-9]\\d* `, "m"), 60_000);

    const streams = await inParallel(Array.from({ length: witnesses }), 4, () => openWitness(admin));
    const stopped = await stop(service, "SIGTERM");
    expect(stopped).toMatchObject({ code: 0, stderr: "" });
    for (const stream of streams) {
      expect(await stream.ended()).toBeUndefined();
      expect(stream.received.at(-1)?.case).toBe("reconnect");
    }

    const restartedAt = new Date();
    await serve({ ...env, PORT: String(port) });
    const connected = async () => {
      const filter = { labelSelector: "simulated=true", connectivity: Connectivity.CONNECTED };
      return (await admin.nodes.listNodes({ ...filter, limit: 1 })).pagination?.total;
    };
    const heardSince = async () => {
      const found = await admin.nodes.listNodes({
        labelSelector: "simulated=true",
        orderBy: "last_heartbeat",
        limit: 1,
      });
      const [{ lastHeartbeat } = {}] = found.nodes;
      return lastHeartbeat !== undefined && timestampDate(lastHeartbeat) > restartedAt;
    };
    await until(heardSince, "all nodes are heard by the new process", 60_000);
    await until(() => lastLine(simulation).includes(` connected ${nodes} `), "all streams stand again");
    expect(await connected()).toBe(nodes);

    const histories = await inParallel(await allNodes(admin), 16, (nodeId) => historyOf(admin, nodeId));
    const disconnected = histories.flat().filter(({ connectivity }) => connectivity === "DISCONNECTED");
    expect(histories).toHaveLength(nodes);
    expect(disconnected).toEqual([]);

    expect(await stop(simulation, "SIGINT")).toMatchObject({ code: 0, stderr: "" });
    await until(async () => (await connected()) === 0, "all have left");
  }, 180_000);
});

const lastLine = ({ stdout }: Program): string => stdout.trimEnd().split("\n").at(-1) ?? "";

/** Opens a node's stream and holds it, to see how the service ends it. */
async function openWitness(admin: LucidClient): Promise<NodeStream> {
  const { nodeId } = await aNode(admin.nodes);
  const { accessToken } = await admin.admin.issueToken({ role: Role.WORKER, nodeId });
  const authorised: Pick<LucidClient["nodes"], "heartbeat"> = {
    heartbeat: (requests, options) =>
      admin.nodes.heartbeat(requests, { ...options, headers: { authorization: `Bearer ${accessToken}` } }),
  };
  const stream = openNodeStream({ ...admin.nodes, ...authorised }, { nodeId });
  await stream.hello();
  return stream;
}

async function allNodes(admin: LucidClient): Promise<string[]> {
  const nodes: string[] = [];
  let pageToken = "";
  do {
    const position = pageToken === "" ? {} : { position: { case: "pageToken" as const, value: pageToken } };
    const page = await admin.nodes.listNodes({ labelSelector: "simulated=true", limit: 100, ...position });
    nodes.push(...page.nodes.map(({ nodeId }) => nodeId));
    pageToken = page.pagination?.nextPageToken ?? "";
  } while (pageToken !== "");
  return nodes;
}

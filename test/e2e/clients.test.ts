// One running service and every kind of client: the same calls, the same answers.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectivityOf, nodeOf } from "../support/fleet/look.js";
import { toolFor } from "../support/tools.js";
import { openWorld, type World } from "../support/world/world.js";
import type { ForeignClient, Headers, Json, Kind, Outcome, Refusal } from "./clients/client.js";
import { bufKinds, curlKinds, grpcurlKind } from "./clients/command-line.js";
import { connectKinds } from "./clients/connect.js";
import { grpcJs } from "./clients/grpc-js.js";
import { openPython, pythonKind } from "./clients/python.js";
import { runProgram, startProgram } from "./process.js";

const curl = toolFor("curl as a client", "curl");
const buf = toolFor("buf curl as a client", "buf");
const grpcurl = toolFor("grpcurl as a client", "grpcurl");
const python = toolFor("grpcio as a client", "python");

const kinds: readonly Kind[] = [
  grpcJs,
  ...connectKinds,
  ...(curl === undefined ? [] : curlKinds(curl)),
  ...(buf === undefined ? [] : bufKinds(buf)),
  ...(grpcurl === undefined ? [] : [grpcurlKind(grpcurl)]),
  ...(python === undefined ? [] : [pythonKind(python)]),
];

let world: World;
let admin: Headers;
beforeAll(async () => {
  world = await openWorld();
  admin = { authorization: `Bearer ${await world.token("admin")}` };
});
afterAll(() => world[Symbol.asyncDispose]());

const beats = 10;
const service = "/lucid.node.v1.NodeService";

function answered(outcome: Outcome): Json {
  if ("refusal" in outcome) throw new Error(`refused: ${JSON.stringify(outcome.refusal)}`);
  return outcome.response;
}

function refused(outcome: Outcome): Refusal {
  if ("response" in outcome) throw new Error(`answered: ${JSON.stringify(outcome.response)}`);
  return outcome.refusal;
}

const nodeIn = (answer: Json) => answer.node as Json & { readonly node_id: string };

describe.each(kinds)("$name", (kind) => {
  const name = `of-${kind.name.replaceAll(/[^a-zA-Z0-9]+/g, "-")}`;
  let client: ForeignClient;
  let nodeId: string;
  beforeAll(async () => {
    client = await kind.open(world.port);
    const created = await client.call("CreateNode", { name, node_type: "NODE_TYPE_STORAGE" }, admin);
    nodeId = nodeIn(answered(created)).node_id;
  });
  afterAll(() => client?.[Symbol.asyncDispose]());

  const nodeHeaders = async (): Promise<Headers> => ({
    authorization: `Bearer ${await world.nodeToken(nodeId, "storage")}`,
  });

  test("gets what it created, and finds it in the list", async () => {
    const node = { node_id: nodeId, name, node_type: "NODE_TYPE_STORAGE", status: "NODE_STATUS_INACTIVE" };
    const got = answered(await client.call("GetNode", { node_id: nodeId }, admin));
    expect(got).toMatchObject({ node: { ...node, version: "1", banned: false, labels: {} } });

    const listed = answered(await client.call("ListNodes", { limit: 100, node_type: "NODE_TYPE_STORAGE" }, admin));
    expect(listed.nodes).toContainEqual(expect.objectContaining(node));
    expect(listed.pagination).toMatchObject({ limit: 100, page: 1, next_page_token: "" });
  });

  test("starts it", async () => {
    const started = answered(await client.call("StartNode", { node_id: nodeId }, admin));
    expect(started).toMatchObject({
      node_id: nodeId,
      status: expect.stringMatching(/^NODE_STATUS_(STARTING|ACTIVE)$/),
    });
  });

  test("learns why a call is refused", async () => {
    const headers = { ...admin, "x-request-id": `request-${name}` };
    const refusal = refused(await client.call("GetNode", { node_id: "node_nowhere" }, headers));
    expect(refusal).toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("node_nowhere"),
      errorInfo: {
        reason: "LUCID_ERR_5001",
        domain: "node.lucid",
        metadata: { request_id: `request-${name}`, path: `${service}/GetNode`, timestamp: expect.any(String) },
      },
      fields: [],
    });
  });

  test("learns which fields are malformed", async () => {
    const refusal = refused(await client.call("CreateNode", { name: "a b", node_type: "NODE_TYPE_WORKER" }, admin));
    expect(refusal).toMatchObject({
      code: "INVALID_ARGUMENT",
      errorInfo: { reason: "LUCID_ERR_4001", domain: "node.lucid", metadata: { path: `${service}/CreateNode` } },
      fields: ["name"],
    });
  });

  test("is turned away without a token", async () => {
    const refusal = refused(await client.call("GetNode", { node_id: nodeId }, {}));
    expect(refusal).toMatchObject({ code: "UNAUTHENTICATED", errorInfo: { reason: "LUCID_ERR_4011" } });
  });

  test(`reports ${beats} beats by unary calls`, async () => {
    const headers = await nodeHeaders();
    let epoch: unknown;
    for (let sequence = 1; sequence <= beats; sequence++) {
      const request = {
        node_id: nodeId,
        boot_id: "boot-unary",
        beat: { sequence: String(sequence) },
        ...(epoch === undefined ? {} : { session_epoch: epoch }),
      };
      const answer = answered(await client.call("ReportHeartbeat", request, headers));
      expect(answer.ack).toMatchObject({ sequence: String(sequence) });
      epoch ??= answer.session_epoch;
      expect(answer.session_epoch).toBe(epoch);
    }
    expect(await connectivityOf(world, nodeId)).toBe("CONNECTED");
  });

  if (!kind.streams) return;

  test(`streams ${beats} beats, each acknowledged, and leaves`, async () => {
    const stream = client.heartbeat(await nodeHeaders());
    stream.send({ hello: { node_id: nodeId, boot_id: "boot-stream", agent_version: `${name}/1` } });
    expect(await stream.next()).toHaveProperty("welcome");
    for (let sequence = 1; sequence <= beats; sequence++) {
      stream.send({ beat: { sequence: String(sequence) } });
      let answer = await stream.next();
      while (answer.ack === undefined) answer = await stream.next();
      expect(answer.ack).toMatchObject({ sequence: String(sequence) });
    }
    stream.send({ leave: { reason: "done" } });
    await stream.end();
    expect(await connectivityOf(world, nodeId)).toBe("DISCONNECTED");
    expect((await nodeOf(world, nodeId)).agentVersion).toBe(`${name}/1`);
  });
});

const services = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
  "lucid.node.v1.AdminService",
  "lucid.node.v1.NodeService",
  "lucid.node.v1.PayoutService",
  "lucid.node.v1.PoOTService",
  "lucid.node.v1.PoolService",
];

describe.skipIf(grpcurl === undefined)("grpcurl, without a token and without .proto files", () => {
  const at = () => `127.0.0.1:${world.port}`;
  const run = (...given: string[]) => runProgram(grpcurl ?? "", ["-plaintext", ...given]);

  test("lists services and describes a method and a message", async () => {
    const listed = await run(at(), "list");
    expect(listed.stdout.trim().split("\n")).toEqual(services);
    const method = await run(at(), "describe", "lucid.node.v1.NodeService.Heartbeat");
    expect(method.stdout).toContain("stream .lucid.node.v1.HeartbeatRequest");
    const message = await run(at(), "describe", "lucid.node.v1.Beat");
    expect(message.stdout).toContain("NodeMetrics metrics");
  });

  test.each(["", "readiness", "liveness", "lucid.node.v1.NodeService"])("asks for the health of '%s'", async (name) => {
    const { code, stdout } = await run("-d", JSON.stringify({ service: name }), at(), "grpc.health.v1.Health/Check");
    expect({ code, answer: JSON.parse(stdout) }).toEqual({ code: 0, answer: { status: "SERVING" } });
  });

  test("asks the port of the probes, too", async () => {
    // That port has no reflection, so the description comes from a file.
    const proto = ["-import-path", new URL("../../node_modules/grpc-health-check/proto", import.meta.url).pathname];
    const asked = await run(
      ...[...proto, "-proto", "health/v1/health.proto"],
      ...[`127.0.0.1:${world.metricsPort}`, "grpc.health.v1.Health/Check"],
    );
    expect(JSON.parse(asked.stdout)).toEqual({ status: "SERVING" });
  });

  test("watches the health", async () => {
    await using watching = startProgram(grpcurl ?? "", ["-plaintext", at(), "grpc.health.v1.Health/Watch"]);
    await watching.printed(/"status": "SERVING"/);
  });
});

describe.skipIf(python === undefined)("grpcio, beside the calls", () => {
  test("lists services by reflection and asks for their health", async () => {
    await using client = await openPython(python ?? "", world.port);
    expect(await client.services()).toEqual(services);
    expect(await client.health("")).toBe("SERVING");
    expect(await client.health("readiness")).toBe("SERVING");
  });
});

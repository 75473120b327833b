import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { AdminService } from "../../gen/lucid/node/v1/admin_service_pb.js";
import {
  CreateNodeRequestSchema,
  HeartbeatRequestSchema,
  NodeService,
  NodeType,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import { CreatePoolRequestSchema, PoolService } from "../../gen/lucid/node/v1/pool_service_pb.js";
import { Failure } from "../../src/failure.js";
import { createValidation, plainCheck } from "../../src/rpc/validate.js";
import { Code, clientOf, failureOf, nodeId, protocols, startTestServer } from "./harness.js";

const GB = 1_000_000_000n;
const hardware = {
  cpu: { cores: 4 },
  memory: { totalBytes: 16n * GB },
  network: [{ interface: "eth0" }],
};

/** The violations of a message, by field. */
function check<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>) {
  try {
    createValidation().check(schema, create(schema, init));
    return {};
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    expect(error.reason).toBe("LUCID_ERR_4001");
    return Object.fromEntries(error.violations.map(({ field, description }) => [field, description]));
  }
}

const valid = { name: "worker-1", nodeType: NodeType.WORKER, hardwareInfo: hardware, location: { country: "CH" } };

describe("violations name the field in proto names", () => {
  test("nested", async () => {
    const found = check(CreateNodeRequestSchema, { ...valid, hardwareInfo: { ...hardware, cpu: { cores: 0 } } });
    expect(Object.keys(found)).toEqual(["hardware_info.cpu.cores"]);
  });
  test("in a list", async () => {
    const network = [{ interface: "eth0", macAddress: "nonsense" }];
    const found = check(CreateNodeRequestSchema, { ...valid, hardwareInfo: { ...hardware, network } });
    expect(Object.keys(found)).toEqual(["hardware_info.network[0].mac_address"]);
  });
  test("in a map", async () => {
    const found = check(CreateNodeRequestSchema, { ...valid, labels: { "bad key": "x" } });
    expect(Object.keys(found)).toEqual(['labels["bad key"]']);
  });
  test("that a rule over several fields blames", async () => {
    const found = check(CreatePoolRequestSchema, { name: "pool-1", maxNodes: 5, autoScaling: true });
    expect(found).toMatchObject({ scaling_policy: "auto_scaling needs a scaling_policy" });
  });
  test("a good message has none", async () => {
    expect(check(CreateNodeRequestSchema, valid)).toEqual({});
  });
});

test("the rules of every service compile", () => {
  createValidation().warmUp([NodeService, PoolService, AdminService]);
});

describe.each(protocols)("over %s", (protocol) => {
  test("a bad unary request is refused with its fields", async () => {
    await using server = await startTestServer();
    const error = await failureOf(clientOf(server.port, protocol).getNode({ nodeId: "x" }));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.rawMessage).toMatch(/^node_id: /);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_4001");
    const [bad] = error.findDetails(BadRequestSchema);
    expect(new Set(bad?.fieldViolations.map(({ field }) => field))).toEqual(new Set(["node_id"]));
  });

  test("a bad second message ends its stream, and the first is answered", async () => {
    await using server = await startTestServer();
    async function* beats() {
      for (const sequence of [1n, -1n]) yield { message: { case: "beat" as const, value: { sequence } } };
    }
    const seen: unknown[] = [];
    const read = async () => {
      for await (const { message } of clientOf(server.port, protocol).heartbeat(beats())) seen.push(message.case);
    };
    const error = await failureOf(read());
    expect(seen).toEqual(["ack"]);
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field).toBe("beat.sequence");
  });
});

test("a plain check judges what it knows and leaves the rest to the validator", async () => {
  let judged = 0;
  const plain = new Map([
    plainCheck(HeartbeatRequestSchema, ({ message }) => {
      if (message.case !== "beat") return undefined;
      judged++;
      return message.value.sequence === 7n ? [{ field: "beat.sequence", description: "not seven" }] : [];
    }),
  ]);
  await using server = await startTestServer({ validation: { plain } });
  const send = async (...messages: MessageInitShape<typeof HeartbeatRequestSchema>["message"][]) => {
    async function* requests() {
      for (const message of messages) if (message) yield { message };
    }
    for await (const _ of clientOf(server.port).heartbeat(requests())) answered++;
  };
  let answered = 0;
  const beat = (sequence: bigint) => ({ case: "beat" as const, value: { sequence } });
  expect((await failureOf(send(beat(-1n), beat(7n)))).rawMessage).toBe("beat.sequence: not seven");
  expect([answered, judged]).toEqual([1, 2]);
  const hello = await failureOf(send({ case: "hello", value: { nodeId } }));
  expect(hello.rawMessage).toMatch(/^hello.boot_id: /);
});

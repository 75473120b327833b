import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { Failure, gatewayAway, malformed, nodeNotFound, poolFull, unavailable } from "../../src/failure.js";
import { toConnectError } from "../../src/rpc/connect/errors.js";
import { codeOf } from "../../src/rpc/errors.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import {
  beat,
  Code,
  clientOf,
  failureOf,
  getNodePath,
  grpcJsClient,
  nodeId,
  type ProtocolName,
  protocols,
  startTestServer,
  until,
} from "./harness.js";

const context = { requestId: "r-1", path: getNodePath, now: new Date("2026-01-02T03:04:05Z") };

describe("the table of reasons", () => {
  test.each([
    ["LUCID_ERR_5001", Code.NotFound],
    ["LUCID_ERR_5003", Code.FailedPrecondition],
    ["LUCID_ERR_5004", Code.ResourceExhausted],
    ["LUCID_ERR_5005", Code.InvalidArgument],
    ["LUCID_ERR_5006", Code.FailedPrecondition],
    ["LUCID_ERR_5007", Code.AlreadyExists],
    ["LUCID_ERR_5010", Code.Aborted],
    ["LUCID_ERR_5011", Code.NotFound],
    ["LUCID_ERR_5012", Code.Aborted],
    ["LUCID_ERR_5013", Code.Aborted],
    ["LUCID_ERR_4001", Code.InvalidArgument],
    ["LUCID_ERR_4011", Code.Unauthenticated],
    ["LUCID_ERR_4031", Code.PermissionDenied],
    ["LUCID_ERR_4291", Code.ResourceExhausted],
    ["LUCID_ERR_5031", Code.Unavailable],
    ["LUCID_ERR_5999", Code.Internal],
  ] as const)("%s is code %i", (reason, code) => {
    expect(codeOf[reason]).toBe(code);
    expect(toConnectError(new Failure(reason, "x"), context).code).toBe(code);
  });

  test("a failure says who, when and where", () => {
    const [info] = toConnectError(nodeNotFound("node_x"), context).findDetails(ErrorInfoSchema);
    expect(info).toMatchObject({
      reason: "LUCID_ERR_5001",
      domain: "node.lucid",
      metadata: { request_id: "r-1", timestamp: "2026-01-02T03:04:05.000Z", path: getNodePath },
    });
  });

  test("what asks to wait says how long", () => {
    const [retry] = toConnectError(unavailable("away", 1500), context).findDetails(RetryInfoSchema);
    expect(retry?.retryDelay && durationMs(retry.retryDelay)).toBe(1500);
  });

  test("a payout that cannot be made now, because its chain is away, is UNAVAILABLE", () => {
    const error = toConnectError(gatewayAway("The chain cannot be asked", 2_000), context);
    expect(error.code).toBe(Code.Unavailable);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_5006");
    expect(error.findDetails(RetryInfoSchema)).toHaveLength(1);
  });

  test("violations are named, and bounded so that the header is", () => {
    const many = Array.from({ length: 500 }, (_, i) => ({ field: `f[${i}]`, description: "x".repeat(5_000) }));
    const error = toConnectError(malformed(...many), context);
    const [bad] = error.findDetails(BadRequestSchema);
    expect(bad?.fieldViolations).toHaveLength(10);
    expect(bad?.fieldViolations[0]).toMatchObject({ field: "f[0]" });
    expect(error.rawMessage.length + JSON.stringify(bad).length).toBeLessThan(5_000);
  });

  test("a store that is away is UNAVAILABLE for a second, its own words kept inside", () => {
    const away = new StoreUnavailableError("mongodb://user:pw@host refused");
    const error = toConnectError(away, context);
    expect(error.code).toBe(Code.Unavailable);
    expect(error.rawMessage).not.toContain("mongodb");
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_5031");
    expect(error.findDetails(RetryInfoSchema)).toHaveLength(1);
  });

  test("an error that only bears the name of a store that is away is a mistake like any other", () => {
    const error = toConnectError(Object.assign(new Error("away"), { name: "StoreUnavailableError" }), context);
    expect(error.code).toBe(Code.Internal);
  });

  test("anything unexpected is hidden, and kept as the cause", () => {
    const bug = new TypeError("secret internals");
    const error = toConnectError(bug, context);
    expect([error.code, error.rawMessage, error.cause]).toEqual([Code.Internal, "Internal server error", bug]);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_5999");
  });

  test("an error that another server sent is not passed on as ours", () => {
    const foreign = Object.assign(new ConnectError("their words", Code.NotFound), { isWireError: true });
    expect(toConnectError(foreign, context).code).toBe(Code.Internal);
  });
});

describe.each(protocols)("over %s", (protocol) => {
  test("a failure of a unary call arrives whole, and the request id is echoed", async () => {
    await using server = await startTestServer({
      node: {
        getNode: () => {
          throw nodeNotFound("node_gone");
        },
      },
    });
    const error = await failureOf(
      clientOf(server.port, protocol, "admin", { "x-request-id": "mine-1" }).getNode({ nodeId }),
    );
    expect([error.code, error.rawMessage]).toEqual([Code.NotFound, "Node node_gone not found"]);
    const [info] = error.findDetails(ErrorInfoSchema);
    expect(info).toMatchObject({ reason: "LUCID_ERR_5001", metadata: { request_id: "mine-1", path: getNodePath } });
    expect(error.metadata.get("x-request-id")).toBe("mine-1");
  });

  test("a failure in the middle of a stream arrives after what came before it", async () => {
    await using server = await startTestServer({
      node: {
        heartbeat: async function* () {
          yield { message: { case: "ack", value: { sequence: 1n } } };
          throw poolFull("pool_1", 3);
        },
      },
    });
    const seen: unknown[] = [];
    const read = async () => {
      for await (const { message } of clientOf(server.port, protocol).heartbeat(oneBeat())) seen.push(message.case);
    };
    const error = await failureOf(read());
    expect(seen).toEqual(["ack"]);
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_5004");
  });

  test("success echoes a request id too, made when the given one cannot be used", async () => {
    await using server = await startTestServer();
    const given: (string | null)[] = [];
    for (const id of ["mine-2", "with space", "x".repeat(129)]) {
      await clientOf(server.port, protocol, "admin", { "x-request-id": id }).getNode(
        { nodeId },
        { onHeader: (header) => given.push(header.get("x-request-id")) },
      );
    }
    expect(given[0]).toBe("mine-2");
    expect(given[1]).toMatch(/^[0-9a-f-]{36}$/);
    expect(given[2]).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("a deadline holds for a handler that does not look at it", async () => {
    await using server = await startTestServer({ node: { getNode: () => new Promise(() => undefined) } });
    const error = await failureOf(clientOf(server.port, protocol).getNode({ nodeId }, { timeoutMs: 200 }));
    expect(error.code).toBe(Code.DeadlineExceeded);
    await until(
      async () => (await server.count("grpc_server_handled_total", { grpc_method: "GetNode" })) === 1,
      "the call is counted",
    );
  });
});

async function* oneBeat() {
  yield { message: { case: "beat" as const, value: { sequence: 1n } } };
}

describe("grpc-js", () => {
  const text = "a: b, c/d? e#f & g=h + i@j $k; 100% ünïcode\n[end]";
  const fail = () => {
    throw new Failure("LUCID_ERR_5003", text);
  };

  test("reads a message as it was written, before any message", async () => {
    await using server = await startTestServer({ node: { getNode: fail } });
    const client = grpcJsClient(server.port);
    const error = await client.getNode(nodeId);
    client.close();
    expect([error?.code, error?.details]).toEqual([Code.FailedPrecondition, text]);
    const [bytes] = error?.metadata.get("grpc-status-details-bin") ?? [];
    const status = fromBinary(StatusSchema, bytes as Buffer);
    expect(status.message).toBe(text);
    expect(status.details.map((any) => anyUnpack(any, ErrorInfoSchema)?.reason)).toEqual(["LUCID_ERR_5003"]);
  });

  test.each([0, 1])("reads a message as it was written, after %i messages of a stream", async (count) => {
    await using server = await startTestServer({
      node: {
        heartbeat: async function* () {
          for (let i = 0; i < count; i++) yield {};
          fail();
        },
      },
    });
    const client = grpcJsClient(server.port);
    const stream = client.heartbeat();
    let messages = 0;
    const error = await new Promise<{ code: number; details: string }>((resolve) => {
      stream.on("data", () => messages++).on("error", (cause) => resolve(cause as never));
      stream.write(beat(1));
    });
    client.close();
    expect([messages, error.code, error.details]).toEqual([count, Code.FailedPrecondition, text]);
  });

  test("reads a refusal of the gate and an unknown procedure", async () => {
    await using server = await startTestServer();
    const client = grpcJsClient(server.port, "bad/token");
    const error = await client.getNode(nodeId);
    client.close();
    expect([error?.code, error?.details]).toEqual([Code.Unauthenticated, "The token is not valid"]);
  });
});

test("a stream that waits for its client ends with the reason of the shutdown, in every protocol", async () => {
  await using server = await startTestServer();
  const open = async (protocol: ProtocolName) => {
    async function* silent() {
      yield { message: { case: "beat" as const, value: { sequence: 1n } } };
      await new Promise(() => undefined);
    }
    for await (const _ of clientOf(server.port, protocol).heartbeat(silent())) acknowledged++;
  };
  let acknowledged = 0;
  const errors = Promise.all(protocols.map((protocol) => failureOf(open(protocol))));
  await until(() => acknowledged === 3, "all three are open");
  server.shutdown.abort(new ConnectError("server shutting down", Code.Unavailable));
  for (const error of await errors) {
    expect([error.code, error.rawMessage]).toEqual([Code.Unavailable, "server shutting down"]);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_5031");
    expect(error.findDetails(RetryInfoSchema)).toHaveLength(1);
  }
});

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ServerReflection, type ServerReflectionRequest } from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.js";
import { startTestServer, type TestServer, transportOf } from "./harness.js";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

type Question = Exclude<ServerReflectionRequest["messageRequest"], { case: undefined }>;

/** The answer of either version to one question. */
async function ask(service: typeof ServerReflection | typeof ServerReflectionAlpha, question: Question) {
  async function* questions() {
    yield { host: "h", messageRequest: question };
  }
  const client = createClient(service as typeof ServerReflection, transportOf(server.port, "grpc", undefined));
  for await (const response of client.serverReflectionInfo(questions())) {
    expect(response.validHost).toBe("h");
    expect(response.originalRequest?.messageRequest.case).toBe(question.case);
    return response.messageResponse;
  }
  throw new Error("no answer");
}

async function filesFor(question: Question): Promise<string[]> {
  const answer = await ask(ServerReflection, question);
  if (answer.case !== "fileDescriptorResponse") return [`${answer.case}`];
  return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
}

const nodeFile = "lucid/node/v1/node_service.proto";
const symbol = (value: string): Question => ({ case: "fileContainingSymbol", value });

describe.each([
  ["v1", ServerReflection],
  ["v1alpha", ServerReflectionAlpha],
])("%s", (_name, service) => {
  test("lists the services", async () => {
    const answer = await ask(service, { case: "listServices", value: "*" });
    expect(answer.case === "listServicesResponse" && answer.value.service.map(({ name }) => name).sort()).toEqual([
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
      "lucid.node.v1.NodeService",
    ]);
  });

  test("answers unknown symbols and empty questions with an error", async () => {
    const unknown = await ask(service, symbol("lucid.Nothing"));
    expect(unknown).toMatchObject({ case: "errorResponse", value: { errorCode: 5 } });
  });
});

describe("files", () => {
  test.each([
    "lucid.node.v1.NodeService",
    "lucid.node.v1.NodeService.GetNode",
    "lucid.node.v1.Node",
    "lucid.node.v1.Node.node_id",
    "lucid.node.v1.HeartbeatRequest.message",
    "lucid.node.v1.NodeStatus",
  ])("are found by %s, with all they depend on", async (name) => {
    const files = await filesFor(symbol(name));
    expect(files[0]).toBe(nodeFile);
    expect(files).toEqual(expect.arrayContaining(["buf/validate/validate.proto", "google/protobuf/descriptor.proto"]));
    expect(new Set(files).size).toBe(files.length);
  });

  test("of error details are known too", async () => {
    expect(await filesFor(symbol("google.rpc.ErrorInfo"))).toContain("google/rpc/error_details.proto");
    expect(await filesFor({ case: "fileByFilename", value: "google/rpc/status.proto" })).toContain(
      "google/rpc/status.proto",
    );
  });

  test("are found by their extensions", async () => {
    const containingType = "google.protobuf.FieldOptions";
    const numbers = await ask(ServerReflection, { case: "allExtensionNumbersOfType", value: containingType });
    expect(numbers.case === "allExtensionNumbersResponse" && numbers.value.extensionNumber).toContain(1159);
    const question = {
      $typeName: "grpc.reflection.v1.ExtensionRequest" as const,
      containingType,
      extensionNumber: 1159,
    };
    expect((await filesFor({ case: "fileContainingExtension", value: question }))[0]).toBe(
      "buf/validate/validate.proto",
    );
    expect(await filesFor({ case: "fileContainingExtension", value: { ...question, extensionNumber: 1 } })).toEqual([
      "errorResponse",
    ]);
  });
});

describe("buf curl", () => {
  const curl = async (...args: string[]) => {
    const url = `http://127.0.0.1:${server.port}`;
    const path = args.includes("-d") ? "/lucid.node.v1.NodeService/GetNode" : "";
    const { stdout } = await promisify(execFile)("buf", ["curl", "--http2-prior-knowledge", ...args, url + path]);
    return stdout;
  };

  test.each(["grpc-v1", "grpc-v1alpha"])("lists methods by %s", async (protocol) => {
    expect(await curl("--reflect-protocol", protocol, "--list-methods")).toContain(
      "lucid.node.v1.NodeService/Heartbeat",
    );
  });

  test.each(["grpc", "grpcweb", "connect"])("calls by reflection over %s", async (protocol) => {
    const data = '{"node_id":"node_12345678"}';
    const output = await curl("--protocol", protocol, "-H", "authorization: Bearer admin", "-d", data);
    expect(JSON.parse(output)).toMatchObject({ node: { nodeId: "node_12345678" } });
  });
});

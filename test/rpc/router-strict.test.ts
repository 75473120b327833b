// The service tells a caller of the caller's mistakes, in every protocol, and they alert no operator.
import { Code, createClient } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { rawHttp2, requestHeaders } from "../support/clients/raw-http2.js";
import {
  clientOf,
  failureOf,
  getNodePath,
  heartbeatPath,
  nodeId,
  protocols,
  startTestServer,
  type TestServer,
  transportOf,
  until,
} from "./harness.js";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({
    node: {
      listNodes: ({ status }) => ({ nodes: [], pagination: { limit: status } }),
      updateNode: () => ({}),
    },
  });
});
afterAll(() => server[Symbol.asyncDispose]());

const listNodesPath = getNodePath.replace("GetNode", "ListNodes");
const updateNodePath = getNodePath.replace("GetNode", "UpdateNode");
const headers = { authorization: "Bearer admin", "content-type": "application/json" };
const url = (path: string) => `http://127.0.0.1:${server.port}${path}`;
const post = (path: string, body: string, more: Readonly<Record<string, string>> = {}) =>
  fetch(url(path), { method: "POST", body, headers: { ...headers, ...more } });
const get = (path: string, query: Readonly<Record<string, string>>) =>
  fetch(url(`${path}?${new URLSearchParams({ connect: "v1", ...query })}`), { headers });

describe("JSON that nobody would understand", () => {
  interface Answer {
    readonly code: string;
    readonly message: string;
    readonly details: readonly { readonly type: string; readonly debug?: Readonly<Record<string, unknown>> }[];
  }
  const refused = async (response: Response): Promise<Answer> => {
    expect(response.status).toBe(400);
    return (await response.json()) as Answer;
  };

  test.each<[string, string, RegExp]>([
    [
      "a name that does not exist",
      '{"state":"NODE_STATUS_ACTIVE"}',
      /state: is not a field: ListNodesRequest has .*status/,
    ],
    [
      "a name of an enum that does not exist",
      '{"status":"INACTIVE"}',
      /status: "INACTIVE" is no NodeStatus: .*NODE_STATUS_INACTIVE/,
    ],
  ])("is refused with the names that exist, in the body and in the query: %s", async (_what, message, expected) => {
    const answers = [
      await refused(await post(listNodesPath, message)),
      await refused(await get(listNodesPath, { encoding: "json", message })),
      await refused(
        await get(listNodesPath, {
          encoding: "json",
          base64: "1",
          message: Buffer.from(message).toString("base64url"),
        }),
      ),
    ];
    for (const answer of answers) {
      expect(answer.code).toBe("invalid_argument");
      expect(answer.message).toMatch(expected);
      const [info, shape] = ["ErrorInfo", "BadRequest"].map(
        (name) => answer.details.find(({ type }) => type === `google.rpc.${name}`)?.debug,
      );
      expect(info).toMatchObject({ reason: "LUCID_ERR_4001" });
      expect(shape).toMatchObject({ field_violations: [{ field: /^(\w+):/.exec(answer.message)?.[1] }] });
    }
  });

  test("is refused in gRPC and gRPC-Web with JSON inside as well", async () => {
    for (const type of ["application/grpc+json", "application/grpc-web+json"]) {
      const body = Buffer.from('{"status":"INACTIVE"}');
      const head = Buffer.alloc(5);
      head.writeUInt32BE(body.length, 1);
      using client = await rawHttp2(server.port);
      const stream = client.open(requestHeaders(listNodesPath, { ...headers, "content-type": type }));
      await client.data(stream, Buffer.concat([head, body]), 1_000);
    }
    await until(
      async () =>
        (await server.count("grpc_server_handled_total", { grpc_method: "ListNodes", grpc_code: "InvalidArgument" })) >=
        8,
      "all are counted",
    );
  });

  test("the binary form stays open to newer peers", async () => {
    const newer = Uint8Array.from([...Buffer.from([10, nodeId.length]), ...Buffer.from(nodeId), 0xfa, 0x3e, 1, 0x7a]);
    const response = await fetch(url(getNodePath), {
      method: "POST",
      body: newer,
      headers: { ...headers, "content-type": "application/proto" },
    });
    expect(response.status).toBe(200);
  });

  test.each([
    ["invalid UTF-8", Buffer.concat([Buffer.from('{"node_id":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')])],
    ["half a surrogate pair", Buffer.from('{"node_id":"\\ud800"}')],
    ["half an object", Buffer.from("{")],
    ["nothing", Buffer.alloc(0)],
  ])("is refused as no JSON: %s", async (_what, body) => {
    const response = await fetch(url(getNodePath), { method: "POST", body, headers });
    expect(response.status).toBe(400);
    expect(((await response.json()) as Answer).code).toBe("invalid_argument");
  });
});

describe("a content type", () => {
  const good = `{"node_id":"${nodeId}"}`;
  test.each([
    "application/json",
    "Application/JSON",
    'application/json; charset="utf-8"',
    "application/json; charset=UTF-8",
    "application/json;charset=utf8",
    "application/json;",
    "application/json ; ",
    "application/json; profile=x; charset=utf-8",
  ])("is read as RFC 9110 writes it: %s", async (type) => {
    expect((await post(getNodePath, good, { "content-type": type })).status).toBe(200);
  });

  test.each([
    "text/plain",
    "application/json; charset=utf-16",
    'application/json; charset="',
    "application/x-www-form-urlencoded",
    "application/grpc+thrift",
    "application/connect+json",
    "json",
  ])("that is not served gets 415 with a body that says what is: %s", async (type) => {
    const response = await post(getNodePath, good, { "content-type": type });
    expect(response.status).toBe(415);
    expect(await response.json()).toMatchObject({ error: { code: "HTTP_415", message: /application\/json/ as never } });
  });
});

test("an encoding that nobody knows is refused in the protocol's own words, in a query as in a body", async () => {
  const answers = [
    await get(listNodesPath, { encoding: "json", message: "{}", compression: "zstd" }),
    await post(listNodesPath, "{}", { "content-encoding": "zstd" }),
  ];
  for (const answer of answers) {
    expect(answer.status).toBe(501);
    expect(await answer.json()).toMatchObject({ code: "unimplemented", message: /zstd.*gzip,br/ as never });
  }
});

test("a method that an RPC does not have gets 405 with a body", async () => {
  for (const [path, method] of [
    [updateNodePath, "GET"],
    [getNodePath, "PUT"],
    [getNodePath, "DELETE"],
    [heartbeatPath, "GET"],
  ] as const) {
    const response = await fetch(url(path), { method, headers });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe("POST");
    expect(await response.json()).toMatchObject({ error: { code: "HTTP_405" } });
  }
});

test("bytes that are no message wake nobody: not by any protocol, not without a token", async () => {
  const noise = Buffer.from([0, 0, 0, 0, 3, 0xff, 0xff, 0xff]);
  for (const type of [
    "application/proto",
    "application/json",
    "application/grpc",
    "application/grpc-web",
    "text/plain",
  ]) {
    for (const authorization of ["Bearer admin", "Bearer nobody", ""]) {
      for (const path of [getNodePath, "/grpc.health.v1.Health/Check", heartbeatPath]) {
        using client = await rawHttp2(server.port);
        const stream = client.open(requestHeaders(path, { authorization, "content-type": type }));
        await client.data(stream, noise, 8);
        await until(() => (client.seen.get(1) ?? 0) > 0 || client.closed(), "an answer");
      }
    }
  }
  const alarming = server.lines.filter(({ level }) => level === "ERROR" || level === "WARNING");
  expect(alarming).toEqual([]);
});

test("a stranger fills no log: lines of one address are bounded, and what was left out is counted", async () => {
  await using quiet = await startTestServer();
  const call = () =>
    fetch(`http://127.0.0.1:${quiet.port}${getNodePath}`, {
      method: "POST",
      body: "{}",
      headers: { "content-type": "application/json" },
    });
  for (let round = 0; round < 300; round++) await (await call()).text();
  await until(
    async () => (await quiet.count("grpc_server_handled_total", { grpc_code: "Unauthenticated" })) === 300,
    "all are counted",
  );
  const lines = quiet.lines.filter(({ message }) => message === "call failed");
  expect(lines.length).toBeGreaterThanOrEqual(60);
  expect(lines.length).toBeLessThan(100);
});

describe("strangers are limited by their address", () => {
  const limits = { public: 5, authenticated: 100, admin: 100, poot: 100, payout: 100, windowMs: 60_000 };
  const counting = () => {
    const counts = new Map<string, number>();
    return async (key: string, limit: number) => {
      const count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      return { allowed: count <= limit, count, resetMs: 60_000 };
    };
  };

  test.each([
    ["wrong content types", { method: "POST", headers: { "content-type": "text/plain" }, body: "x" }, 415],
    ["wrong methods", { method: "PUT", headers: {}, body: "x" }, 405],
  ])("for %s", async (_what, request, usual) => {
    await using limited = await startTestServer({ limits, hit: counting() });
    const statuses: number[] = [];
    for (let call = 0; call < 7; call++) {
      statuses.push((await fetch(`http://127.0.0.1:${limited.port}${getNodePath}`, request)).status);
    }
    expect(statuses).toEqual([usual, usual, usual, usual, usual, 429, 429]);
  });

  test("for probes beyond what probes need, without asking the shared counters", async () => {
    const broken = async () => Promise.reject(new Error("away"));
    // The clock does not move: on a slow machine the budget would grow as fast as it is spent.
    await using limited = await startTestServer({ limits, hit: broken, nowMs: () => 0 });
    const health = createClient(Health, transportOf(limited.port, "grpc", undefined));
    for (let call = 0; call < 800; call++) await health.check({});
    const flood = Promise.allSettled(Array.from({ length: 900 }, () => health.check({})));
    const refused = (await flood).flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
    expect(refused.length).toBeGreaterThan(100);
    expect(new Set(refused.map(({ code }) => code))).toEqual(new Set([Code.ResourceExhausted]));
  });
});

describe("a deadline", () => {
  test.each(["720H", "99999999H", "99999999M", "2147484S"])(
    "that no timer can hold is none: grpc-timeout %s",
    async (timeout) => {
      using client = await rawHttp2(server.port);
      const stream = client.open(
        requestHeaders(heartbeatPath, { ...headers, "content-type": "application/grpc", "grpc-timeout": timeout }),
      );
      for (const size of [9, 18]) {
        await client.data(stream, Buffer.from([0, 0, 0, 0, 4, 0x12, 2, 8, 1]), 9, false);
        await until(() => client.received() >= size, "an acknowledgement");
      }
    },
  );

  test("in Connect, too", async () => {
    for (const timeout of ["2147483648", "9999999999"]) {
      const response = await post(getNodePath, `{"node_id":"${nodeId}"}`, { "connect-timeout-ms": timeout });
      expect(response.status).toBe(200);
    }
    expect((await post(getNodePath, "{}", { "connect-timeout-ms": "99999999999" })).status).toBe(400);
  });

  test.each(protocols)("ends a health watch with DEADLINE_EXCEEDED: %s", async (protocol) => {
    const watch = createClient(Health, transportOf(server.port, protocol, undefined)).watch(
      { service: "liveness" },
      { timeoutMs: 200 },
    );
    const read = async () => {
      for await (const _ of watch);
    };
    expect((await failureOf(read())).code).toBe(Code.DeadlineExceeded);
  });
});

test("errors of a body carry their reason in every protocol", async () => {
  for (const protocol of protocols) {
    const client = clientOf(server.port, protocol);
    const paths = Array.from({ length: 200 }, (_, index) => `path${index}`);
    const error = await failureOf(client.updateNode({ node: { nodeId }, updateMask: { paths } }));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("LUCID_ERR_4001");
    expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field).toBe("update_mask.paths");
  }
});

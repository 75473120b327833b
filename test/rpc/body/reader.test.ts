// Bodies in pieces: however small the pieces and however slow, no other caller waits and nothing is kept for ever.
import { connect } from "node:net";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { rawHttp2, requestHeaders } from "../../support/clients/raw-http2.js";
import { longestTurnMs } from "../../support/world/turns.js";
import { exchange, getNodePath, heartbeatPath, nodeId, rawSocket, startTestServer, until } from "../harness.js";

const token = { authorization: "Bearer admin" };
/** An envelope of a request for a node, followed by an unknown field (number 15) of this size. */
function envelope(extraBytes: number): Buffer {
  const id = Buffer.from(nodeId);
  const length = Buffer.alloc(5);
  let size = 0;
  for (let left = extraBytes; ; left >>>= 7) {
    length[size++] = left > 127 ? (left & 127) | 128 : left;
    if (left < 128) break;
  }
  const message = Buffer.concat([
    Buffer.of(10, id.length),
    id,
    Buffer.of(122),
    length.subarray(0, size),
    Buffer.alloc(extraBytes),
  ]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

const limits = { readMaxBytes: { [getNodePath]: 2_000_000 } };

/** Generous: the tests' client shares the thread, and others may share the cores. Unbounded work took seconds. */
const turnMs = 150;

describe("a megabyte byte by byte holds nobody up", () => {
  const mebibyte = 1 << 20;

  test.each(["application/grpc", "application/grpc-web+proto"])("over HTTP/2 as %s", async (type) => {
    await using server = await startTestServer(limits);
    const longestMs = await longestTurnMs(turnMs, async () => {
      using client = await rawHttp2(server.port);
      const stream = client.open(requestHeaders(getNodePath, { ...token, "content-type": type }));
      await client.data(stream, envelope(mebibyte), 1);
      await until(() => (client.seen.get(1) ?? 0) > 0 || client.closed(), "an answer");
    });
    expect(longestMs).toBeLessThan(turnMs);
  });

  test.each(["application/json", "application/proto", "application/grpc-web+proto"])(
    "over HTTP/1.1 in chunks as %s",
    async (type) => {
      await using server = await startTestServer(limits);
      const longestMs = await longestTurnMs(turnMs, async () => {
        const { socket, text, closed } = rawSocket(server.port);
        const head = [
          `POST ${getNodePath} HTTP/1.1`,
          "Host: x",
          "Authorization: Bearer admin",
          `Content-Type: ${type}`,
        ];
        socket.write(`${head.join("\r\n")}\r\nTransfer-Encoding: chunked\r\n\r\n`);
        const piece = Buffer.from("1\r\n \r\n".repeat(4_096), "latin1");
        for (let sent = 0; sent < mebibyte && !closed() && text() === ""; sent += 4_096) {
          socket.write(piece);
          await new Promise((resolve) => setImmediate(resolve));
        }
        await until(() => text() !== "" || closed(), "an answer");
        socket.destroy();
      });
      expect(longestMs).toBeLessThan(turnMs);
    },
  );

  test("and a megabyte in one piece, or in packets, is read", async () => {
    await using server = await startTestServer(limits);
    for (const pieceBytes of [16_384, 1_400, 100]) {
      using client = await rawHttp2(server.port);
      const stream = client.open(requestHeaders(getNodePath, { ...token, "content-type": "application/grpc" }));
      await client.data(stream, envelope(mebibyte), pieceBytes);
      await until(() => (client.seen.get(0) ?? 0) > 0, `an answer to pieces of ${pieceBytes} bytes`);
    }
  });

  test("a beat in single bytes is still a beat", async () => {
    await using server = await startTestServer();
    using client = await rawHttp2(server.port);
    const headers = requestHeaders(heartbeatPath, { ...token, "content-type": "application/grpc" });
    const stream = client.open(headers);
    for (let sequence = 1; sequence <= 200; sequence++) {
      await client.data(stream, Buffer.from([0, 0, 0, 0, 4, 0x12, 2, 8, sequence & 127 || 1]), 1, false);
    }
    await until(() => client.received() >= 200 * 9, "two hundred answers");
  });
});

describe("many messages in one piece", () => {
  test("give way to others", async () => {
    await using server = await startTestServer();
    const headers = requestHeaders(heartbeatPath, { ...token, "content-type": "application/grpc" });
    const empty = Buffer.alloc(5 * 50_000);
    const longestMs = await longestTurnMs(turnMs, async () => {
      using client = await rawHttp2(server.port);
      await client.data(client.open(headers), empty, 16_384, false);
      await until(() => client.socket.bytesWritten > 0 && client.socket.writableLength === 0, "all are out");
    });
    expect(longestMs).toBeLessThan(turnMs);
  });
});

test("large messages share a bounded room, and leave it when their calls end", async () => {
  const entered = Promise.withResolvers<void>();
  const leave = Promise.withResolvers<void>();
  await using server = await startTestServer({
    ...limits,
    largeBodiesMaxBytes: 1_500_000,
    node: {
      getNode: async ({ nodeId }) => {
        entered.resolve();
        await leave.promise;
        return { node: { nodeId } };
      },
    },
  });
  using client = await rawHttp2(server.port);
  const call = () => {
    const stream = client.open(requestHeaders(getNodePath, { ...token, "content-type": "application/grpc" }));
    return client.data(stream, envelope(1_000_000), 16_384);
  };
  await call();
  await entered.promise;
  await call();
  await server.counted("ResourceExhausted");
  leave.resolve();
  await server.counted("OK");
  await call();
  await until(
    async () => (await server.count("grpc_server_handled_total", { grpc_code: "OK" })) === 2,
    "there is room again",
  );
});

test("a message in JSON may have five megabytes, the binary form what its method allows", async () => {
  await using server = await startTestServer({ readMaxBytes: { [getNodePath]: 10_000_000 } });
  const url = `http://127.0.0.1:${server.port}${getNodePath}`;
  const send = (type: string, body: Uint8Array) =>
    fetch(url, { method: "POST", body: body as BodyInit, headers: { ...token, "content-type": type } });
  const json = (bytes: number) => Buffer.from(`{"node_id":"${nodeId}"${" ".repeat(bytes)}}`);
  expect((await send("application/json", json(5_000_000))).status).toBe(200);
  expect((await send("application/json", json(5_300_000))).status).toBe(429);
  expect((await send("application/proto", envelope(5_300_000).subarray(5))).status).toBe(200);
});

describe("a body that does not come", () => {
  const impatient = { bodyLimits: { patienceMs: 200, patienceMaxMs: 600 } };

  test.each(["application/grpc", "application/grpc-web+proto", "application/proto"])(
    "ends its call: %s",
    async (type) => {
      await using server = await startTestServer(impatient);
      using client = await rawHttp2(server.port);
      client.open(requestHeaders(getNodePath, { ...token, "content-type": type }));
      await until(() => (client.seen.get(1) ?? 0) > 0, "an answer", 3_000);
      await server.counted("DeadlineExceeded");
    },
  );

  test.each(["application/grpc", "application/grpc-web+proto"])(
    "one message without an end does so, too: %s",
    async (type) => {
      await using server = await startTestServer(impatient);
      using client = await rawHttp2(server.port);
      const stream = client.open(requestHeaders(getNodePath, { ...token, "content-type": type }));
      await client.data(stream, envelope(10), 1_000, false);
      await until(() => (client.seen.get(1) ?? 0) > 0, "an answer", 3_000);
      await server.counted("DeadlineExceeded");
    },
  );

  test("one that stops in the middle ends its call, too", async () => {
    await using server = await startTestServer(impatient);
    using client = await rawHttp2(server.port);
    const stream = client.open(requestHeaders(getNodePath, { ...token, "content-type": "application/grpc" }));
    await client.data(stream, envelope(1_000).subarray(0, 300), 100, false);
    await until(() => (client.seen.get(1) ?? 0) > 0, "an answer", 3_000);
    await server.counted("DeadlineExceeded");
  });

  test("a drip ends when its patience does", async () => {
    await using server = await startTestServer(impatient);
    const socket = connect(server.port, "127.0.0.1").on("error", () => undefined);
    const head = `POST ${getNodePath} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Type: application/json\r\n`;
    socket.write(`${head}Content-Length: 100000\r\n\r\n`);
    const drip = setInterval(() => socket.write(" ".repeat(100)), 10);
    await server.counted("DeadlineExceeded", 3_000);
    clearInterval(drip);
    socket.destroy();
  });

  test("a stream may be silent between its messages", async () => {
    await using server = await startTestServer(impatient);
    using client = await rawHttp2(server.port);
    const stream = client.open(requestHeaders(heartbeatPath, { ...token, "content-type": "application/grpc" }));
    const beat = Buffer.from([0, 0, 0, 0, 4, 0x12, 2, 8, 1]);
    await client.data(stream, beat, 9, false);
    await until(() => (client.seen.get(0) ?? 0) >= 1, "the first answer");
    const silentSinceMs = performance.now();
    await until(() => performance.now() - silentSinceMs > 900, "a silence of more than any patience");
    await client.data(stream, beat, 9, false);
    await until(() => (client.seen.get(0) ?? 0) >= 2, "the second answer");
  });
});

test("no flag of an envelope leads a message past the scan", async () => {
  await using server = await startTestServer();
  for (const [type, flags] of [
    ["application/grpc", 2],
    ["application/grpc", 0x80],
    ["application/grpc", 0xfe],
    ["application/grpc-web", 2],
  ] as const) {
    using client = await rawHttp2(server.port);
    const stream = client.open(requestHeaders(getNodePath, { ...token, "content-type": type }));
    const unknown = Buffer.concat(Array.from({ length: 2_000 }, () => Buffer.from([0x78, 1])));
    const head = Buffer.alloc(5);
    head[0] = flags;
    head.writeUInt32BE(unknown.length, 1);
    await client.data(stream, Buffer.concat([head, unknown]), 16_384);
    await until(() => (client.seen.get(1) ?? 0) > 0, "an answer");
  }
  const labels = { grpc_method: "GetNode", grpc_code: "InvalidArgument" };
  await until(async () => (await server.count("grpc_server_handled_total", labels)) === 4, "all are refused");
});

describe("a compressed body", () => {
  const post = (type: string, encoding: string, body: Uint8Array) =>
    Buffer.concat([
      Buffer.from(
        `POST ${getNodePath} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nConnection: close\r\n` +
          `Content-Type: ${type}\r\nContent-Encoding: ${encoding}\r\nContent-Length: ${body.length}\r\n\r\n`,
      ),
      body,
    ]);
  const json = (bytes: number) => Buffer.from(`{"node_id":"${nodeId}"${" ".repeat(bytes)}}`);

  test.each([
    ["gzip", gzipSync],
    ["br", brotliCompressSync],
  ] as const)(
    "is read, and refused where it grows beyond the limit or a hundredfold: %s",
    async (encoding, compress) => {
      await using server = await startTestServer(limits);
      const answer = (body: Uint8Array) => exchange(server.port, post("application/json", encoding, compress(body)));
      expect(await answer(json(100_000))).toMatch(/^HTTP\/1.1 200/);
      // The body stays below two megabytes, but is more than a hundred times what was sent.
      expect(await answer(json(1_900_000))).toMatch(/^HTTP\/1.1 429.*100 times/s);
      expect(await answer(json(2_900_000))).toMatch(/^HTTP\/1.1 429/);
    },
  );

  test.each([
    ["cut off", (whole: Buffer) => whole.subarray(0, whole.length - 6)],
    ["cut in its first bytes", (whole: Buffer) => whole.subarray(0, 5)],
    ["damaged", (whole: Buffer) => Buffer.from(whole.map((byte, at) => (at === 15 ? byte ^ 0xff : byte)))],
    ["not compressed at all", () => json(10)],
  ])("is the caller's mistake when it is %s", async (_what, hurt) => {
    await using server = await startTestServer();
    for (const [encoding, compress] of [
      ["gzip", gzipSync],
      ["br", brotliCompressSync],
    ] as const) {
      const body = hurt(compress(json(1_000)));
      expect(await exchange(server.port, post("application/json", encoding, body))).toMatch(/^HTTP\/1.1 400/);
    }
    expect(server.lines.filter(({ level }) => level === "ERROR")).toEqual([]);
  });
});

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NodeService } from "../../gen/lucid/node/v1/node_service_pb.js";
import { beat, grpcJsClient, nodeId, startTestServer, until } from "../rpc/harness.js";

let folder: string;
const at = (name: string) => join(folder, name);
const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });

/** `<name>.crt` and `<name>.key`, signed by the authority of that name. */
function issue(name: string, authority: string): void {
  openssl(
    "req",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-keyout",
    `${name}.key`,
    "-out",
    `${name}.csr`,
    "-subj",
    `/CN=${name}`,
  );
  writeFileSync(at("san.cnf"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  openssl(
    "x509",
    "-req",
    "-in",
    `${name}.csr`,
    "-CA",
    `${authority}.crt`,
    "-CAkey",
    `${authority}.key`,
    "-CAcreateserial",
    "-days",
    "2",
    "-extfile",
    "san.cnf",
    "-out",
    `${name}.crt`,
  );
}

function authority(name: string): void {
  openssl(
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-keyout",
    `${name}.key`,
    "-out",
    `${name}.crt`,
    "-days",
    "2",
    "-subj",
    `/CN=${name}`,
  );
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "lucid-tls-"));
  for (const name of ["ca", "strangers"]) authority(name);
  for (const name of ["first", "second", "node"]) issue(name, "ca");
  issue("stranger", "strangers");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const files = (name: string) => ({ certFile: at(`${name}.crt`), keyFile: at(`${name}.key`) });
const read = (name: string) => readFileSync(at(name));

function clientWith(port: number, nodeOptions: object) {
  return createClient(
    NodeService,
    createGrpcTransport({
      baseUrl: `https://localhost:${port}`,
      nodeOptions: { ca: read("ca.crt"), ...nodeOptions },
      interceptors: [
        (next) => (request) => {
          request.header.set("authorization", "Bearer admin");
          return next(request);
        },
      ],
    }),
  );
}

/** The name in the certificate that the server shows to new connections. */
function shownName(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ port, host: "127.0.0.1", servername: "localhost", ca: read("ca.crt") }, () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

describe("TLS", () => {
  test("serves gRPC by Connect and grpc-js, and HTTP/1.1", async () => {
    await using server = await startTestServer({ tls: files("first") });
    const { node } = await clientWith(server.port, {}).getNode({ nodeId });
    expect(node?.nodeId).toBe(nodeId);

    const client = grpcJsClient(server.port, "admin", grpc.credentials.createSsl(read("ca.crt")));
    expect(await client.getNode(nodeId)).toBeUndefined();
    client.close();

    const status = await new Promise((resolve, reject) => {
      httpsRequest(
        { port: server.port, host: "localhost", path: "/live", ca: read("ca.crt"), agent: false },
        (response) => resolve(response.resume().statusCode),
      )
        .on("error", reject)
        .end();
    });
    expect(status).toBe(200);
  });

  test("cleartext on a TLS port is closed, and so is a handshake that never comes", async () => {
    await using server = await startTestServer({ tls: files("first"), listener: { firstBytesTimeoutMs: 200 } });
    const session = connectHttp2(`http://localhost:${server.port}`);
    session.on("error", () => undefined);
    await until(() => session.destroyed, "refused");
    await until(() => server.listener.connections === 0, "forgotten");
  });

  test("with a client authority, only its certificates come in", async () => {
    await using server = await startTestServer({ tls: { ...files("first"), clientCaFile: at("ca.crt") } });
    const withCertificate = (name: string) => ({ cert: read(`${name}.crt`), key: read(`${name}.key`) });
    expect((await clientWith(server.port, withCertificate("node")).getNode({ nodeId })).node?.nodeId).toBe(nodeId);
    await expect(clientWith(server.port, {}).getNode({ nodeId })).rejects.toThrow();
    await expect(clientWith(server.port, withCertificate("stranger")).getNode({ nodeId })).rejects.toThrow();
  });

  test("new files serve new connections, and the open stream goes on", async () => {
    for (const kind of ["crt", "key"]) copyFileSync(at(`first.${kind}`), at(`live.${kind}`));
    await using server = await startTestServer({ tls: files("live"), listener: { tlsReloadMs: 20 } });
    const client = grpcJsClient(server.port, "admin", grpc.credentials.createSsl(read("ca.crt")));
    const stream = client.heartbeat();
    const acknowledged: bigint[] = [];
    stream.on("data", ({ message }) => acknowledged.push(message.value.sequence)).on("error", () => undefined);
    stream.write(beat(1));
    await until(() => acknowledged.length === 1, "the stream is open");
    expect(await shownName(server.port)).toBe("first");

    for (const kind of ["crt", "key"]) copyFileSync(at(`second.${kind}`), at(`live.${kind}`));
    await until(async () => (await shownName(server.port)) === "second", "the new certificate is shown");
    stream.write(beat(2));
    await until(() => acknowledged.length === 2, "the stream goes on");
    stream.end();
    client.close();
  });

  test("files that cannot be used leave the old ones in place, and are reported once", async () => {
    for (const kind of ["crt", "key"]) copyFileSync(at(`first.${kind}`), at(`broken.${kind}`));
    await using server = await startTestServer({ tls: files("broken") });
    copyFileSync(at("second.crt"), at("broken.crt"));
    await server.listener.reloadTls();
    await server.listener.reloadTls();
    expect(await shownName(server.port)).toBe("first");
    expect(server.lines.filter(({ level }) => level === "ERROR")).toHaveLength(1);
    copyFileSync(at("second.key"), at("broken.key"));
    await server.listener.reloadTls();
    expect(await shownName(server.port)).toBe("second");
  });

  test("files that cannot be used stop the start", async () => {
    await expect(startTestServer({ tls: { certFile: at("first.crt"), keyFile: at("second.key") } })).rejects.toThrow();
  });
});

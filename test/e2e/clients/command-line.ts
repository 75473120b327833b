// Programs with which people call the service: curl, buf curl and grpcurl.
import { runProgram, startProgram } from "../process.js";
import {
  codeNames,
  converse,
  type Detail,
  type Headers,
  type Json,
  type Kind,
  type Outcome,
  refusalOf,
  unpack,
} from "./client.js";

const service = "lucid.node.v1.NodeService";
const headerArguments = (headers: Headers) =>
  Object.entries(headers).flatMap(([name, text]) => ["-H", `${name}: ${text}`]);

/** What the Connect protocol writes as an error, and buf curl for any protocol. */
interface ConnectError {
  readonly code: string;
  readonly message?: string;
  readonly details?: readonly { readonly type: string; readonly value: string }[];
}

function connectRefusal({ code, message = "", details = [] }: ConnectError): Outcome {
  const unpacked = details.map(({ type, value }) => unpack({ type, bytes: Buffer.from(value, "base64") }));
  return { refusal: refusalOf(code.toUpperCase().replace("CANCELED", "CANCELLED"), message, unpacked) };
}

export const curlKinds = (curl: string): Kind[] =>
  [
    { name: "curl, HTTP/1.1", version: "--http1.1", answers: "1.1" },
    { name: "curl, HTTP/2", version: "--http2-prior-knowledge", answers: "2" },
  ].map(({ name, version, answers }) => ({
    name,
    streams: false,
    open: async (port) => ({
      call: async (method, request, headers) => {
        const { code, stdout, stderr } = await runProgram(curl, [
          ...["-sS", version, "-w", "\n%{http_version} %{http_code}", "-d", JSON.stringify(request)],
          ...headerArguments({ "content-type": "application/json", ...headers }),
          `http://127.0.0.1:${port}/${service}/${method}`,
        ]);
        const end = stdout.lastIndexOf("\n");
        const [httpVersion, status] = stdout.slice(end + 1).split(" ");
        if (code !== 0 || httpVersion !== answers) throw new Error(`curl ${code}, HTTP/${httpVersion}: ${stderr}`);
        const body = JSON.parse(stdout.slice(0, end));
        return status === "200" ? { response: body } : connectRefusal(body);
      },
      heartbeat: () => {
        throw new Error("curl talks one way at a time");
      },
      [Symbol.asyncDispose]: async () => undefined,
    }),
  }));

export const bufKinds = (buf: string): Kind[] =>
  ["grpc", "grpcweb", "connect"].map((protocol) => ({
    name: `buf curl, ${protocol}`,
    streams: true,
    open: async (port) => {
      const argumentsFor = (method: string, headers: Headers, data: string) => [
        ...["curl", "--protocol", protocol, "--http2-prior-knowledge", "--emit-defaults", "-d", data],
        ...headerArguments(headers),
        `http://127.0.0.1:${port}/${service}/${method}`,
      ];
      return {
        call: async (method, request, headers) => {
          const { code, stdout, stderr } = await runProgram(
            buf,
            argumentsFor(method, headers, JSON.stringify(request)),
          );
          return code === 0 ? { response: parse(stdout) } : connectRefusal(JSON.parse(stderr));
        },
        heartbeat: (headers) => converse(startProgram(buf, argumentsFor("Heartbeat", headers, "@-"))),
        [Symbol.asyncDispose]: async () => undefined,
      };
    },
  }));

export const grpcurlKind = (grpcurl: string): Kind => ({
  name: "grpcurl",
  streams: true,
  open: async (port) => {
    const argumentsFor = (method: string, headers: Headers, data: string) => [
      ...["-plaintext", "-emit-defaults", "-format-error", "-d", data],
      ...headerArguments(headers),
      `127.0.0.1:${port}`,
      `${service}/${method}`,
    ];
    return {
      call: async (method, request, headers) => {
        const { code, stdout, stderr } = await runProgram(
          grpcurl,
          argumentsFor(method, headers, JSON.stringify(request)),
        );
        if (code === 0) return { response: parse(stdout) };
        const status: { code: number; message: string; details?: Detail[] } = JSON.parse(stderr);
        return { refusal: refusalOf(codeNames[status.code] ?? "", status.message, status.details ?? []) };
      },
      heartbeat: (headers) => converse(startProgram(grpcurl, argumentsFor("Heartbeat", headers, "@"))),
      [Symbol.asyncDispose]: async () => undefined,
    };
  },
});

/** Both print lowerCamelCase names. */
const parse = (text: string): Json =>
  JSON.parse(
    text.replaceAll(/"[a-zA-Z]+":/g, (name) => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)),
  );

// grpc-js with messages loaded from the .proto files, as a Node.js service without generated code calls.

import { fromBinary } from "@bufbuild/protobuf";
import {
  type ClientDuplexStream,
  credentials,
  type GrpcObject,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
  type ServiceError,
} from "@grpc/grpc-js";
import { load } from "@grpc/proto-loader";
import { StatusSchema } from "../../../gen/google/rpc/status_pb.js";
import {
  codeNames,
  createInbox,
  type Headers,
  type Json,
  type Kind,
  type Refusal,
  refusalOf,
  unpack,
} from "./client.js";

const root = new URL("../../..", import.meta.url).pathname;

export const grpcJs: Kind = {
  name: "grpc-js",
  streams: true,
  open: async (port) => {
    const loaded = await load("lucid/node/v1/node_service.proto", {
      includeDirs: [`${root}/proto`],
      keepCase: true,
      longs: String,
      enums: String,
      defaults: true,
      oneofs: true,
    });
    const v1 = (((loadPackageDefinition(loaded).lucid as GrpcObject).node as GrpcObject).v1 as GrpcObject) ?? {};
    const NodeService = v1.NodeService as ServiceClientConstructor;
    const client = new NodeService(`127.0.0.1:${port}`, credentials.createInsecure());
    const member = <Member extends (...given: never[]) => unknown>(name: string): Member =>
      Reflect.get(client, name).bind(client);
    return {
      call: (method, request, headers) =>
        new Promise((resolve) => {
          const deadline = new Date(Date.now() + 10_000);
          member<UnaryMethod>(method)(request, metadataOf(headers), { deadline }, (error, response) =>
            resolve(error === null ? { response } : { refusal: refused(error) }),
          );
        }),
      heartbeat: (headers) => {
        const stream = member<StreamMethod>("Heartbeat")(metadataOf(headers));
        const incoming = createInbox<Json>();
        stream.on("data", incoming.put);
        const done = new Promise<void>((resolve, reject) => {
          stream.on("status", ({ code, details }) =>
            code === 0 ? resolve() : reject(new Error(`${code} ${details}`)),
          );
        });
        // Its status says the same.
        stream.on("error", () => undefined);
        done.then(() => incoming.finish(), incoming.finish);
        return {
          send: (message) => void stream.write(message),
          next: incoming.take,
          end: async () => {
            stream.end();
            await done;
          },
        };
      },
      [Symbol.asyncDispose]: async () => client.close(),
    };
  },
};

type UnaryMethod = (
  request: object,
  metadata: Metadata,
  options: { readonly deadline: Date },
  done: (error: ServiceError | null, response: Json) => void,
) => void;
type StreamMethod = (metadata: Metadata) => ClientDuplexStream<object, Json>;

function metadataOf(headers: Headers): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return metadata;
}

function refused({ code, details, metadata }: ServiceError): Refusal {
  const [packed] = metadata.get("grpc-status-details-bin");
  const status = packed instanceof Buffer ? fromBinary(StatusSchema, packed) : undefined;
  const unpacked = (status?.details ?? []).map(({ typeUrl, value }) => unpack({ type: typeUrl, bytes: value }));
  return refusalOf(codeNames[code] ?? String(code), details, unpacked);
}

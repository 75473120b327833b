// Reference: stock connect-node with handlers that do nothing but answer.
import { createServer } from "node:http2";
import { fromBinary } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { GetNodeResponseSchema, NodeService } from "../../dist/gen/lucid/node/v1/node_service_pb.js";
import { nodeBytes, present } from "./server.mjs";

const response = fromBinary(GetNodeResponseSchema, nodeBytes());

const handler = connectNodeAdapter({
  readMaxBytes: 256 * 1024,
  routes: (router) =>
    router.service(NodeService, {
      getNode: () => response,
      heartbeat: async function* (requests) {
        for await (const { message } of requests) {
          if (message.case === "hello") yield { message: { case: "welcome", value: {} } };
          if (message.case === "beat") yield { message: { case: "ack", value: { sequence: message.value.sequence } } };
        }
      },
    }),
});

const server = createServer(handler);
server.listen(0, "127.0.0.1", () => present(server.address().port));

// Reference: grpc-js with messages of proto-loader and handlers that do nothing but answer.
import { fileURLToPath } from "node:url";
import { loadPackageDefinition, Server, ServerCredentials } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { nodeBytes, present } from "./server.mjs";

const includeDirs = [fileURLToPath(new URL("../../proto", import.meta.url))];
const loaded = loadSync("lucid/node/v1/node_service.proto", { includeDirs, longs: Number });
const { service } = loadPackageDefinition(loaded).lucid.node.v1.NodeService;
const response = service.GetNode.responseDeserialize(nodeBytes());

const server = new Server({ "grpc.max_receive_message_length": 256 * 1024 });
server.addService(service, {
  GetNode: (_call, done) => done(null, response),
  Heartbeat: (call) => {
    call.on("data", ({ hello, beat }) => {
      if (hello) call.write({ welcome: {} });
      if (beat) call.write({ ack: { sequence: beat.sequence } });
    });
    call.on("end", () => call.end());
    call.on("error", () => undefined);
  },
});
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  present(port);
});

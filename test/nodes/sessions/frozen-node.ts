// A node as a process of its own: says Hello, then "welcome" on its standard output, and waits to be frozen or killed.
// Arguments: base URL, node id, token.
import { writeSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { HeartbeatRequestSchema, NodeService } from "../../../gen/lucid/node/v1/node_service_pb.js";

const [baseUrl = "", nodeId = "", token = ""] = process.argv.slice(2);
const { heartbeat } = createClient(NodeService, createGrpcTransport({ baseUrl }));

async function* say() {
  yield create(HeartbeatRequestSchema, { message: { case: "hello", value: { nodeId, bootId: "frozen" } } });
  await new Promise(() => process.stdin.resume());
}

const headers = { authorization: `Bearer ${token}` };
for await (const { message } of heartbeat(say(), { headers })) writeSync(1, `${message.case}\n`);

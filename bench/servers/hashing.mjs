// Reference: stock connect-node that hashes the output of a proof and does nothing else.
import { createHash } from "node:crypto";
import { createServer } from "node:http2";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { PoOTService } from "../../dist/gen/lucid/node/v1/poot_service_pb.js";
import { present } from "./server.mjs";

const handler = connectNodeAdapter({
  readMaxBytes: 2 * 1024 * 1024,
  routes: (router) =>
    router.service(PoOTService, {
      validatePoOT: ({ outputData }) => ({
        validation: {
          outputHash: createHash("sha256").update(outputData).digest("hex"),
          outputSize: outputData.length,
        },
      }),
    }),
});

const server = createServer(handler);
server.listen(0, "127.0.0.1", () => present(server.address().port));

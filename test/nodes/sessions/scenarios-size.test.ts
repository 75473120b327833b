// T32: messages that are too big.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Http2SessionManager } from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import { connectNode, openNodeStream } from "../../support/clients/node-stream.js";
import { aHardware, aNode } from "../../support/world/builders.js";
import { refusalOf, toRefusal } from "../../support/world/refusal.js";
import { until } from "../../support/world/until.js";
import { clientsOf, openClockedWorld } from "../../support/world/world.js";

const megabyte = 1024 * 1024;

describe("T32 oversized messages", () => {
  test("T32 a Hello of 4 MiB is RESOURCE_EXHAUSTED, again and again, and memory stays flat", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const token = await world.nodeToken(nodeId);
    const agentVersion = "v".repeat(4 * megabyte);
    const once = async () => {
      // A client keeps unsent bytes as long as its connection lives, so each turn has a connection of its own.
      const connection = new Http2SessionManager(world.baseUrl);
      const { nodes } = clientsOf(world.baseUrl, connection, token);
      const stream = openNodeStream(nodes, { nodeId });
      const { code, message } = await refusalOf(stream.hello({ agentVersion }));
      expect(code, message).toBe("ResourceExhausted");
      connection.abort();
    };
    await once();
    const before = memory();
    for (let round = 0; round < 20; round++) await once();
    // Aborted connections close one after another. If the service kept the messages, they would take 80 MiB.
    await until(() => memory() - before < 32 * megabyte, "memory is back");
    await connectNode(world, nodeId);
  });

  test("T32 a Beat of 1 MiB ends its stream alone; the node's next one is welcome", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const other = await connectNode(world, (await aNode(world.nodes)).nodeId);
    const stream = await connectNode(world, nodeId);
    stream.send({ message: { case: "leave", value: { reason: "r".repeat(megabyte) } } });
    expect(toRefusal(await stream.ended()).code).toBe("ResourceExhausted");
    await other.beat();
    await (await connectNode(world, nodeId)).beat();
  });

  test("T32 a Hello at the edge of what its fields allow is taken", async () => {
    await using world = await openClockedWorld();
    const { nodeId } = await aNode(world.nodes);
    const storage = { totalBytes: 10_000_000_000n, type: "t".repeat(64), interface: "i".repeat(64) };
    const network = { interface: "n".repeat(64), macAddress: "02:00:00:00:00:01" };
    const hardwareInfo = aHardware({ storage: Array(64).fill(storage), network: Array(64).fill(network) });
    const capabilities = Array.from({ length: 32 }, (_, place) => `${place}`.padStart(64, "c"));
    const stream = await connectNode(world, nodeId, { hello: { hardwareInfo, capabilities } });
    await stream.beat();
  });
});

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Bytes in use after a garbage collection. */
function memory(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

// Proofs: the cost of a 1 MiB proof compared with hashing it, the cost of a batch compared with one insert of as many
// documents, and the delay of the service's event loop meanwhile.
import { createHash, randomBytes } from "node:crypto";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { PoOTService } from "../dist/gen/lucid/node/v1/poot_service_pb.js";
import { systemClock } from "../dist/src/clock.js";
import { validationsCollection } from "../dist/src/poot/repository.js";
import { openSqliteStore } from "../dist/src/storage/sqlite/store.js";

const largeBytes = 1024 * 1024;
const batchSize = 1000;
const smallBytes = 1024;

const proof = (nodeId, outputData) => ({
  nodeId,
  outputData,
  timestamp: timestampNow(),
  nonce: randomBytes(18).toString("base64url"),
});

/** A load of 1 MiB proofs, with a fixed number in flight. */
export function proofLoad({ port, token, nodeId, inFlight }) {
  const baseUrl = `http://127.0.0.1:${port}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  const poot = createClient(PoOTService, createGrpcTransport({ baseUrl, sessionManager }));
  const headers = { authorization: `Bearer ${token}` };
  const outputs = Array.from({ length: 8 }, () => randomBytes(largeBytes));
  return {
    run: async (ms) => {
      const end = performance.now() + ms;
      let [done, errors] = [0, 0];
      const lane = async () => {
        while (performance.now() < end) {
          await poot.validatePoOT(proof(nodeId, outputs[done % outputs.length]), { headers }).then(
            () => done++,
            () => errors++,
          );
        }
      };
      await Promise.all(Array.from({ length: inFlight }, lane));
      return { done, errors };
    },
    close: () => sessionManager.abort(),
  };
}

/** Milliseconds of server CPU and of elapsed time for each batch of 1000 proofs of 1 KiB. */
export async function measureBatches({ poot, nodeId, server, rounds }) {
  const [cpu, time] = [[], []];
  for (let round = 0; round <= rounds; round++) {
    const validations = Array.from({ length: batchSize }, () => proof(nodeId, randomBytes(smallBytes)));
    const [before, began] = [server.cpuNs(), performance.now()];
    const { summary } = await poot.batchValidatePoOT({ validations }, { timeoutMs: 60_000 });
    if (summary.errors > 0) throw new Error(`${summary.errors} proofs of a batch failed`);
    // The first batch is a warm-up.
    if (round > 0) {
      cpu.push((server.cpuNs() - before) / 1e6);
      time.push(performance.now() - began);
    }
  }
  return { cpu, time };
}

/** The same for one durable insertMany of as many verdict documents, on the service's engine. */
export async function measureInserts({ dir, rounds }) {
  await using store = await openSqliteStore({ dir, clock: systemClock });
  const collection = await store.collection(validationsCollection);
  const [cpu, time] = [[], []];
  for (let round = 0; round <= rounds; round++) {
    const documents = Array.from({ length: batchSize }, (_, place) => aVerdict(`poot_val_${round}_${place}`, place));
    const [before, began] = [process.cpuUsage(), performance.now()];
    await collection.insertMany(documents);
    const { user, system } = process.cpuUsage(before);
    if (round > 0) {
      cpu.push((user + system) / 1000);
      time.push(performance.now() - began);
    }
  }
  return { cpu, time };
}

const aVerdict = (_id, place) => {
  const nonce = randomBytes(18).toString("base64url");
  return {
    _id,
    node_id: "node_bench",
    output_hash: createHash("sha256").update(_id).digest("hex"),
    output_size: smallBytes,
    timestamp: { seconds: 1_767_225_600, nanos: 0 },
    nonce,
    score: 57.02,
    confidence: 0.5,
    is_valid: false,
    outcome: "invalid",
    breakdown: { complexity: 1.024, freshness: 25, reliability: 12.5, randomness: 20 },
    validation_time_ms: 0,
    errors: ["score_below_threshold"],
    batch_id: "batch_bench",
    place,
    score_version: 1,
    created_at: new Date(),
    spent_nonce: nonce,
    uncounted: true,
  };
};

/** The 99th percentile of that service's event loop delay since the last call, in milliseconds. */
export async function loopDelayMs(metricsPort) {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  const value = /^lucid_node_management_event_loop_delay_seconds (\S+)$/m.exec(text)?.[1];
  return Number(value) * 1000;
}

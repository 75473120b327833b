// Puts PoOT together: from the parts of the service that it needs it makes the RPCs and one long-lived task.
import type { Clock } from "../clock.js";
import type { Paging } from "../conventions/paging.js";
import type { NodeRepository } from "../nodes/repository.js";
import type { Leadership } from "../replicas/lease.js";
import type { Store } from "../storage/collection.js";
import type { Log } from "../telemetry/log.js";
import type { Metrics } from "../telemetry/metrics.js";
import { createAdmission } from "./admission.js";
import { createBatch } from "./batch.js";
import { createChallenges } from "./challenge.js";
import { createCounting } from "./counting.js";
import { createPootHandler } from "./handler.js";
import { createProving, type ProofWitness, type ProvingParts } from "./proving.js";
import { createPootRepository } from "./repository.js";

export async function createPoot(parts: {
  readonly store: Store;
  readonly nodes: NodeRepository;
  readonly hasPool: (poolId: string) => Promise<boolean>;
  /** Signs challenges; every replica must have the same key. */
  readonly challengeKey: Uint8Array;
  readonly leadership: () => Leadership | undefined;
  readonly paging: Paging;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly settings: {
    readonly validationTimeoutMs: number;
    readonly outputBytesMax: number;
    readonly clockSkewMs: number;
    readonly challengesRequired: boolean;
    readonly signaturesRequired: boolean;
    readonly sharedOutputEvents: boolean;
  };
}) {
  const { nodes, clock, log, settings } = parts;
  const repository = await createPootRepository(parts.store);
  const challenges = createChallenges({ key: parts.challengeKey, clock });
  const admission = createAdmission({
    ...settings,
    limits: { outputBytesMax: settings.outputBytesMax, skewMs: settings.clockSkewMs },
    challenges,
    clock,
  });
  const counting = createCounting({
    repository,
    setNodeScore: nodes.setPootScore,
    leadership: parts.leadership,
    clock,
    log,
  });
  const provingParts: ProvingParts = {
    repository,
    getNode: nodes.get,
    admission,
    counting,
    witness: createWitness(parts.metrics, log),
    clock,
    timeoutMs: settings.validationTimeoutMs,
    sharedOutputEvents: settings.sharedOutputEvents,
  };
  const proving = createProving(provingParts);
  const findNodes = nodes.findMany;
  const handler = createPootHandler({
    repository,
    proving,
    batch: createBatch({ ...provingParts, proving, findNodes }),
    admission,
    challenges,
    paging: parts.paging,
    clock,
    getNode: nodes.get,
    findNodes,
    findMembers: async (poolId) => ((await parts.hasPool(poolId)) ? nodes.membersOf(poolId) : null),
  });
  return { handler, tasks: { counting: counting.task } };
}

function createWitness(metrics: Metrics, log: Log): ProofWitness {
  const became = (status: "valid" | "invalid" | "rejected" | "failed", proofs = 1) =>
    metrics.pootValidations.inc({ status }, proofs);
  return {
    judged: (verdict, seconds) => {
      became(verdict.outcome);
      metrics.pootDuration.observe(seconds);
      metrics.pootProofBytes.observe(verdict.output_size);
      if (verdict.spent_nonce !== undefined) metrics.pootScores.observe(verdict.score);
    },
    rejected: (nodeId, { reason, message }) => {
      became("rejected");
      log.info("A proof was refused", { node_id: nodeId, reason, problem: message });
    },
    failed: (proofs) => became("failed", proofs),
    shared: (nodeId, otherNodeId, outputHash) => {
      metrics.pootSharedOutputs.inc();
      const context = { node_id: nodeId, other_node_id: otherNodeId, output_hash: outputHash };
      log.warn("Two nodes have proved the same output within 24 h", context);
    },
    uncounted: (nodeIds, error) => log.warn("Verdicts wait to be counted", { node_ids: nodeIds, error }),
  };
}

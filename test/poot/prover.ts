// Proving over a store alone, without the ports around it: for processes that are killed, and for those that check
// afterwards. Each proof follows from its name, so a process that knows the name can send the proof again.

import { systemClock } from "../../src/clock.js";
import { createNodeRepository } from "../../src/nodes/repository.js";
import { createAdmission, type Submission } from "../../src/poot/admission.js";
import { createChallenges } from "../../src/poot/challenge.js";
import { createCounting } from "../../src/poot/counting.js";
import { createProving } from "../../src/poot/proving.js";
import { createPootRepository } from "../../src/poot/repository.js";
import type { Store } from "../../src/storage/collection.js";
import { silentLog } from "../../src/telemetry/log.js";
import { aNodeDocument } from "../support/world/documents.js";

export const proverNodeIds = ["node_crash_one", "node_crash_two"];

export async function createProver(store: Store) {
  const nodes = await createNodeRepository(store);
  const repository = await createPootRepository(store);
  const counting = createCounting({
    repository,
    setNodeScore: nodes.setPootScore,
    leadership: () => undefined,
    clock: systemClock,
    log: silentLog,
  });
  const proving = createProving({
    repository,
    getNode: nodes.get,
    admission: createAdmission({
      limits: { outputBytesMax: 1_048_576, skewMs: 60_000 },
      challenges: createChallenges({ key: Buffer.alloc(32, 1), clock: systemClock }),
      challengesRequired: false,
      signaturesRequired: false,
      clock: systemClock,
    }),
    counting,
    witness: {
      judged: () => undefined,
      rejected: () => undefined,
      failed: () => undefined,
      shared: () => undefined,
      uncounted: () => undefined,
    },
    clock: systemClock,
    timeoutMs: 30_000,
    sharedOutputEvents: false,
  });
  const never = new AbortController().signal;
  return {
    nodes,
    repository,
    count: counting.count,
    prove: (submission: Submission) => proving.prove(submission, never),
    addNodes: async () => {
      for (const _id of proverNodeIds) {
        await nodes.insert(aNodeDocument({ _id, name: _id, status: "active", name_scope: "-" }));
      }
    },
  };
}

/** The proof that follows from this name and time (ms). Some proofs are too small to be valid. */
export function submissionOf(name: string, atMs: number): Submission {
  const number = [...name].reduce((sum, character) => (sum * 31 + character.charCodeAt(0)) % 1_000_003, 7);
  return {
    nodeId: proverNodeIds[number % proverNodeIds.length] ?? "",
    output: new TextEncoder().encode(name.repeat(number % 5 === 0 ? 1 : 2_000)),
    at: { seconds: Math.floor(atMs / 1000), nanos: 0 },
    nonce: `${name}-0123456789abcdefghijklm`,
    signature: new Uint8Array(),
  };
}

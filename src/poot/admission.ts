// What a proof must be before anything is spent on it. Refusals that depend on time are separate from the others,
// because a proof that already has its verdict still gets it.
import { subtle } from "node:crypto";
import type { Clock } from "../clock.js";
import { sha256Hex, verifyEd25519 } from "../crypto.js";
import { cannotProve, type Failure, notAllowed, proofRefused } from "../failure.js";
import type { NodeDocument } from "../nodes/node.js";
import type { Challenges } from "./challenge.js";
import { type Instant, isTimely, type Proof, type ProofLimits, shapeFault, signedText } from "./verdict.js";

/** A proof as it arrives. */
export interface Submission {
  readonly nodeId: string;
  readonly output: Uint8Array;
  readonly at: Instant | undefined;
  readonly nonce: string;
  /** Ed25519, 64 bytes; empty for none. */
  readonly signature: Uint8Array;
}

export type Admission = ReturnType<typeof createAdmission>;

/** Above this size hashing takes long enough to be worth its own thread. */
const inlineBytesMax = 64 * 1024;

export function createAdmission(parts: {
  readonly limits: ProofLimits;
  readonly challenges: Challenges;
  readonly challengesRequired: boolean;
  /** Every proof must be signed. */
  readonly signaturesRequired: boolean;
  readonly clock: Clock;
}) {
  const { limits, challenges, clock } = parts;

  return {
    limits,

    /** The fault of a proof that no later time would mend; undefined when there is none. */
    fault: ({ output, nonce, signature }: Submission): Failure | undefined => {
      const fault = shapeFault(output.length, nonce, limits);
      if (fault !== undefined) return proofRefused(fault);
      return parts.signaturesRequired && signature.length === 0 ? proofRefused("A signature is required") : undefined;
    },

    /** Why the proof may not be judged now; undefined when it may. */
    obstacle: ({ nodeId, at, nonce }: Submission, node: NodeDocument): Failure | undefined => {
      if (!mayProve(node)) return cannotProve();
      if (!isTimely(at, clock.now(), limits)) return proofRefused("Timestamp out of valid range");
      const admitted = challenges.admits(nodeId, nonce, { required: parts.challengesRequired });
      return admitted ? undefined : proofRefused("Invalid nonce");
    },

    /**
     * The proof without its output. `foreign`: a node's token brings a proof of another node, which needs that node's
     * signature.
     * @throws Failure 5005 when the signature is not the node's; 4031 instead for a foreign proof
     */
    proofOf: async (submission: Submission, node: NodeDocument, foreign: boolean): Promise<Proof> => {
      const { nodeId, output, at = epoch, nonce, signature } = submission;
      if (foreign && signature.length === 0) throw notAllowed("A proof for another node needs that node's signature");
      const proof = { nodeId, outputHash: await hashOf(output), sizeBytes: output.length, at, nonce };
      if (signature.length > 0 && !isSigned(proof, signature, node)) {
        throw foreign
          ? notAllowed("The signature does not match that node's key and the proof")
          : proofRefused("Invalid signature");
      }
      return proof;
    },
  };
}

export const mayProve = ({ status, banned }: NodeDocument): boolean => status === "active" && !banned;

const epoch: Instant = { seconds: 0, nanos: 0 };

const isSigned = (proof: Proof, signature: Uint8Array, { public_key: key }: NodeDocument): boolean =>
  key !== undefined && verifyEd25519(Buffer.from(key, "base64"), Buffer.from(signedText(proof)), signature);

async function hashOf(output: Uint8Array): Promise<string> {
  if (output.length <= inlineBytesMax) return sha256Hex(output);
  return Buffer.from(await subtle.digest("SHA-256", output as Uint8Array<ArrayBuffer>)).toString("hex");
}

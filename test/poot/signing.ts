// A node whose key is pinned, and proofs that the node signs as the contract says.
import { anIdentity, enroll, enrollmentToken } from "../support/clients/enroll.js";
import type { World } from "../support/world/world.js";
import { anActiveNode, type ProofRequest, sha256 } from "./proofs.js";

export type Sign = (message: Uint8Array<ArrayBuffer>) => Uint8Array;

export async function aSignerFor(world: World): Promise<{ readonly nodeId: string; readonly sign: Sign }> {
  const nodeId = await anActiveNode(world);
  const identity = anIdentity(nodeId);
  await enroll(world.as(await enrollmentToken(world, nodeId)), identity);
  return { nodeId, sign: (message) => identity.sign(message) };
}

/** Written from the words of the contract, not with the code under test. */
export function signed(request: ProofRequest, sign: Sign) {
  const { nodeId, outputData, timestamp, nonce } = request;
  const time = `${timestamp.seconds}.${String(timestamp.nanos).padStart(9, "0")}`;
  const text = `lucid.poot.v1\n${nodeId}\n${sha256(outputData)}\n${time}\n${nonce}`;
  return { ...request, signature: new Uint8Array(sign(new TextEncoder().encode(text))) };
}

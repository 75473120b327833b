// Valid proofs to start from: a test states only the fields that matter to it.
import { createHash, randomBytes, randomInt } from "node:crypto";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { PoOTValidation } from "../../gen/lucid/node/v1/poot_service_pb.js";
import { aNode } from "../support/world/builders.js";
import type { Clients, World } from "../support/world/world.js";

export interface ProofRequest {
  readonly nodeId: string;
  readonly outputData: Uint8Array<ArrayBuffer>;
  readonly timestamp: Timestamp;
  readonly nonce: string;
}

const characters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** A random nonce of 32 different characters: it gets all points of randomness, and its first 16 do, too. */
export function aNonce(): string {
  const left = [...characters];
  return Array.from({ length: 32 }, () => left.splice(randomInt(left.length), 1)[0]).join("");
}

/** A proof that scores 87.5 points on a new node. */
export const aProof = (world: World, nodeId: string, tweaks: Partial<ProofRequest> = {}): ProofRequest => ({
  nodeId,
  outputData: new Uint8Array(randomBytes(30_000)),
  timestamp: timestampFromDate(world.clock.now()),
  nonce: aNonce(),
  ...tweaks,
});

export async function anActiveNode({ nodes }: Pick<Clients, "nodes">, request: Parameters<typeof aNode>[1] = {}) {
  const { nodeId } = await aNode(nodes, request);
  await nodes.startNode({ nodeId });
  return nodeId;
}

export async function prove({ poot }: Pick<Clients, "poot">, request: ProofRequest): Promise<PoOTValidation> {
  const { validation } = await poot.validatePoOT(request);
  if (validation === undefined) throw new Error("no validation in the answer");
  return validation;
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export const secondsFrom = (world: World, seconds: number): Timestamp =>
  timestampFromDate(new Date(world.clock.now().getTime() + seconds * 1000));

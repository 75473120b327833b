// A node that proves who it is.
import { generateKeyPairSync, sign } from "node:crypto";

import { Role, TokenType } from "../../../gen/lucid/node/v1/admin_service_pb.js";
import type { Identity } from "../../../src/agent/credentials.js";
import type { Clients, World } from "../world/world.js";

/** A key that signs whatever it is given, unlike an agent's. */
export interface TestIdentity {
  readonly nodeId: string;
  readonly publicKey: Uint8Array;
  sign(message: Uint8Array): Uint8Array<ArrayBuffer>;
}

/** A key of its own that no node has yet. */
export function anIdentity(nodeId: string): TestIdentity {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  return {
    nodeId,
    publicKey: publicKey.export({ format: "der", type: "spki" }).subarray(-32),
    sign: (message) => new Uint8Array(sign(null, message, privateKey)),
  };
}

export async function enrollmentToken(world: World, nodeId: string): Promise<string> {
  const request = { subject: "ops", role: Role.UNSPECIFIED, nodeId, tokenType: TokenType.NODE_ENROLLMENT };
  return (await world.admin.issueToken(request)).accessToken;
}

/** Begins and completes; the clients carry the enrolment token, or none. */
export async function enroll(
  { nodes }: Pick<Clients, "nodes">,
  identity: TestIdentity | Pick<Identity, "nodeId" | "publicKey" | "signEnrollment">,
) {
  const { nodeId, publicKey } = identity;
  const { challenge } = await nodes.beginEnrollment({ nodeId, publicKey });
  const signature = "sign" in identity ? identity.sign(challenge) : identity.signEnrollment(challenge);
  return nodes.completeEnrollment({ nodeId, challenge, signature });
}

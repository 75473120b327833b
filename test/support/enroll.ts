// A node that proves who it is.

import { Role, TokenType } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { createMemoryCredentials, type Identity } from "../../src/agent/credentials.js";
import type { Clients, World } from "./world.js";

/** A key of its own that no node has yet. */
export const anIdentity = (nodeId: string): Identity => createMemoryCredentials(nodeId).identity;

export async function enrollmentToken(world: World, nodeId: string): Promise<string> {
  const request = { subject: "ops", role: Role.UNSPECIFIED, nodeId, tokenType: TokenType.NODE_ENROLLMENT };
  return (await world.admin.issueToken(request)).accessToken;
}

/** Begins and completes; the clients carry the enrolment token, or none. */
export async function enroll({ nodes }: Pick<Clients, "nodes">, identity: Identity) {
  const { nodeId, publicKey } = identity;
  const { challenge } = await nodes.beginEnrollment({ nodeId, publicKey });
  return nodes.completeEnrollment({ nodeId, challenge, signature: identity.sign(challenge) });
}

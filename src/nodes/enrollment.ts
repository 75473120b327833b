// How a node proves its identity: it signs a challenge with its own Ed25519 key. The first key is pinned with an
// enrolment token from an operator; afterwards the key alone brings the node back, however long it was away.
// A challenge is stateless: its use, the node, random bytes, expiry and the key, all under a MAC made by this service.
import { randomBytes } from "node:crypto";
import type { Clock } from "../clock.js";
import { hmac, sameBytes, sha256Hex, verifyEd25519 } from "../crypto.js";
import { notAllowed, unauthenticated } from "../failure.js";
import { challengeBody, readChallenge } from "./challenge-form.js";
import { type NodeDocument, type Patch, predatesReset, type TokenOrigin } from "./node.js";
import type { NodeRepository } from "./repository.js";

/** A verified enrolment token: the node it is for, and how to spend it. */
export interface EnrollmentToken extends TokenOrigin {
  readonly nodeId: string;
  readonly subject: string;
  /** Spends the token for the key with that fingerprint; false when it was already spent for another key. */
  spend(fingerprint: string): Promise<boolean>;
}

/**
 * The token that a call brings, verified when it is asked for; undefined when the call brings none. @throws Failure
 * 4011
 */
export type BringToken = () => Promise<EnrollmentToken | undefined>;

const lifetimeMs = 120_000;

export type Enrollment = ReturnType<typeof createEnrollment>;

/** `key` signs challenges; every replica must have the same key. */
export function createEnrollment(parts: {
  readonly repository: NodeRepository;
  /** Marks a challenge as used, in the store, until `expiresAt`; false when it was used before. */
  readonly spend: (id: string, expiresAt: Date) => Promise<boolean>;
  readonly clock: Clock;
  readonly key: Uint8Array;
}) {
  const { repository, clock, key } = parts;

  const mac = (body: Uint8Array) => hmac(key, body);

  /**
   * The token that lets this key in. It is read only when a token is needed: an agent that still brings its spent token
   * must not be locked out. Undefined: the key is pinned already.
   * @throws Failure 4031 banned or another key is pinned, 4011 when a token is needed and there is none for this node
   */
  const authorise = async (
    node: NodeDocument,
    publicKey: Uint8Array,
    bring: BringToken,
  ): Promise<EnrollmentToken | undefined> => {
    if (node.banned) throw notAllowed("The node is banned");
    if (node.public_key === Buffer.from(publicKey).toString("base64")) return undefined;
    const token = await bring();
    if (token === undefined) throw unauthenticated("An enrolment token for this node is required");
    if (token.nodeId !== node._id) throw notAllowed("The enrolment token is for another node");
    // Otherwise the agent that the reset shut out would come back with the token that had let it in.
    if (predatesReset(token, node)) {
      throw unauthenticated("The enrolment token is older than the last reset of the node's enrolment");
    }
    if (node.public_key !== undefined) throw notAllowed("Another key is pinned for this node");
    return token;
  };

  const pin = (publicKey: Uint8Array, actor: string): Patch => ({
    set: {
      public_key: Buffer.from(publicKey).toString("base64"),
      key_fingerprint: sha256Hex(publicKey),
    },
    event: { type: "updated", reason: "enrolled", actor },
  });

  /** @throws Failure 4011 */
  const checked = (nodeId: string, challenge: Uint8Array): { publicKey: Uint8Array; expiresAt: Date } => {
    const read = readChallenge(nodeId, challenge);
    if (read === undefined || !sameBytes(mac(read.body), read.mac)) {
      throw unauthenticated("The challenge was not issued by this service for this node");
    }
    if (read.expiresAt <= clock.now()) throw unauthenticated("The challenge has expired");
    return read;
  };

  return {
    /** @throws Failure 4011, 4031, 5001 */
    begin: async (
      nodeId: string,
      publicKey: Uint8Array,
      bring: BringToken,
    ): Promise<{ challenge: Uint8Array; expiresAt: Date }> => {
      await authorise(await repository.get(nodeId), publicKey, bring);
      const expiresAt = new Date(clock.now().getTime() + lifetimeMs);
      const body = challengeBody({ nodeId, random: randomBytes(16), expiresAt, publicKey });
      return { challenge: Buffer.concat([body, mac(body)]), expiresAt };
    },

    /**
     * Checks the signature and pins the key if none is pinned; answers the node. A challenge can be used once. `proven`
     * is called after the signature was verified and before anything is changed; it may refuse.
     * @throws Failure 4011, 4031, 5001
     */
    complete: async (
      nodeId: string,
      challenge: Uint8Array,
      signature: Uint8Array,
      bring: BringToken,
      proven: () => Promise<void> = async () => undefined,
    ): Promise<NodeDocument> => {
      const { publicKey, expiresAt } = checked(nodeId, challenge);
      if (!verifyEd25519(publicKey, challenge, signature)) {
        throw unauthenticated("The signature does not match the key and the challenge");
      }
      await proven();
      const node = await repository.get(nodeId);
      const token = await authorise(node, publicKey, bring);
      if (!(await parts.spend(sha256Hex(challenge), expiresAt))) {
        throw unauthenticated("The challenge was used before");
      }
      if (token === undefined) return node;
      if (!(await token.spend(sha256Hex(publicKey)))) throw unauthenticated("The enrolment token was used before");
      return repository.change(nodeId, clock.now, async (current) => {
        await authorise(current, publicKey, async () => token);
        return current.public_key === undefined ? pin(publicKey, token.subject) : undefined;
      });
    },
  };
}

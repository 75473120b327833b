// The form of an enrolment challenge, which both ends know. A key that signs only this form for an enrolment cannot be
// misled into signing anything else. The text names its use and its node; then come 16 random bytes, the expiry
// (milliseconds since the epoch, 8 bytes, big-endian), the 32 bytes of the key that asked, and 32 bytes that only the
// service can check. Pure.

/** No other text that a node's key signs begins like this; proofs begin with "lucid.poot.v1". */
const prefix = "lucid.enrollment.v1";
const randomBytes = 16;
const expiryBytes = 8;
const keyBytes = 32;
export const macBytes = 32;

export interface ChallengeFields {
  readonly nodeId: string;
  /** 16 bytes. */
  readonly random: Uint8Array;
  readonly expiresAt: Date;
  /** Raw 32 bytes. */
  readonly publicKey: Uint8Array;
}

const head = (nodeId: string): Uint8Array => new TextEncoder().encode(`${prefix}\n${nodeId}\n`);

/** All of a challenge except the bytes that only the service can check, which follow it. */
export function challengeBody({ nodeId, random, expiresAt, publicKey }: ChallengeFields): Uint8Array {
  const start = head(nodeId);
  const body = new Uint8Array(start.length + randomBytes + expiryBytes + keyBytes);
  body.set(start);
  body.set(random, start.length);
  new DataView(body.buffer).setBigUint64(start.length + randomBytes, BigInt(expiresAt.getTime()));
  body.set(publicKey, start.length + randomBytes + expiryBytes);
  return body;
}

/** What a challenge for that node says; undefined for bytes of any other form, or for another node. */
export function readChallenge(
  nodeId: string,
  challenge: Uint8Array,
):
  | { readonly body: Uint8Array; readonly mac: Uint8Array; readonly publicKey: Uint8Array; readonly expiresAt: Date }
  | undefined {
  const start = head(nodeId);
  const bodyBytes = start.length + randomBytes + expiryBytes + keyBytes;
  if (challenge.length !== bodyBytes + macBytes || start.some((byte, place) => challenge[place] !== byte))
    return undefined;
  const body = challenge.subarray(0, bodyBytes);
  const view = new DataView(challenge.buffer, challenge.byteOffset, challenge.byteLength);
  return {
    body,
    mac: challenge.subarray(bodyBytes),
    publicKey: body.subarray(bodyBytes - keyBytes),
    expiresAt: new Date(Number(view.getBigUint64(start.length + randomBytes))),
  };
}

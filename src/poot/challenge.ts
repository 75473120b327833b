// Nonces that the service issues: each can be used by one node, once, for a few minutes. The service stores none of
// them: the nonce carries random bytes, expiry and a MAC of ours that covers the node, and is spent like any other.
import { randomBytes } from "node:crypto";
import type { Clock } from "../clock.js";
import { hmac, sameBytes } from "../crypto.js";

const lifetimeMs = 5 * 60_000;
const prefix = "poot_ch_";
// random 12, expiry in milliseconds 6, MAC 16
const bodyBytes = 18;
const macBytes = 16;

export type Challenges = ReturnType<typeof createChallenges>;

/** `key` must be the same on every replica. */
export function createChallenges({ key, clock }: { readonly key: Uint8Array; readonly clock: Clock }) {
  const macOf = (nodeId: string, body: Uint8Array) =>
    hmac(key, Buffer.concat([body, Buffer.from(nodeId)])).subarray(0, macBytes);

  const isGenuine = (nodeId: string, text: string): boolean => {
    const bytes = Buffer.from(text, "base64url");
    // The same bytes in another spelling would be another nonce.
    if (bytes.length !== bodyBytes + macBytes || bytes.toString("base64url") !== text) return false;
    const body = bytes.subarray(0, bodyBytes);
    if (!sameBytes(macOf(nodeId, body), bytes.subarray(bodyBytes))) return false;
    return body.readUIntBE(12, 6) > clock.now().getTime();
  };

  return {
    issue: (nodeId: string): { readonly nonce: string; readonly expiresAt: Date } => {
      const expiresAt = new Date(clock.now().getTime() + lifetimeMs);
      const body = Buffer.alloc(bodyBytes);
      randomBytes(12).copy(body);
      body.writeUIntBE(expiresAt.getTime(), 12, 6);
      return { nonce: prefix + Buffer.concat([body, macOf(nodeId, body)]).toString("base64url"), expiresAt };
    },

    /**
     * Whether the node may use the nonce now. A nonce with our prefix must be issued by us, for this node, and not
     * expired.
     */
    admits: (nodeId: string, nonce: string, { required }: { readonly required: boolean }): boolean =>
      nonce.startsWith(prefix) ? isGenuine(nodeId, nonce.slice(prefix.length)) : !required,
  };
}

// Small pieces over node:crypto: hashes, sealed text, Ed25519 over raw keys, and secrets kept in a file.
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPublicKey,
  hash,
  type KeyObject,
  randomBytes,
  timingSafeEqual,
  verify,
} from "node:crypto";

/** SHA-256 in lower-case hex. */
export const sha256Hex = (data: string | Uint8Array): string => hash("sha256", data, "hex");

/** HMAC-SHA-256. */
export const hmac = (key: Uint8Array, data: string | Uint8Array): Buffer =>
  createHmac("sha256", key).update(data).digest();

/** Compares in constant time, whatever differs. Arrays of unequal length are unequal. */
export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b);

// SubjectPublicKeyInfo of Ed25519 (RFC 8410) up to the 32 key bytes.
const spkiPrefix = Buffer.from("302a300506032b6570032100", "hex");

function ed25519PublicKey(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([spkiPrefix, raw]), format: "der", type: "spki" });
}

/**
 * Whether the signature (64 bytes, RFC 8032) over the message was made with that key. A malformed key answers false.
 */
export function verifyEd25519(rawPublicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify(null, message, ed25519PublicKey(rawPublicKey), signature);
  } catch {
    return false;
  }
}

/** Encrypts text at rest with one AES-256-GCM key: `v1.{key id}.{iv}.{tag}.{ciphertext}`, the parts in base64url. */
export interface Vault {
  seal(text: string): string;
  /** @throws Error when the text was sealed under another key or was tampered with */
  open(sealed: string): string;
  /** A keyed hash for look-ups that must not reveal the text. */
  fingerprint(text: string): string;
}

/** `keyBase64`: 32 bytes. */
export function createVault(keyBase64: string): Vault {
  const master = Buffer.from(keyBase64, "base64");
  const key = hmac(master, "seal");
  const keyId = sha256Hex(key).slice(0, 8);
  const fingerprintKey = hmac(master, "fingerprint");
  return {
    seal: (text) => {
      const iv = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", key, iv);
      const body = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
      return ["v1", keyId, ...[iv, cipher.getAuthTag(), body].map((part) => part.toString("base64url"))].join(".");
    },
    open: (sealed) => {
      const [version, id, ...parts] = sealed.split(".");
      if (version !== "v1" || id !== keyId) throw new Error(`Sealed under key ${id}, not ${keyId}`);
      const [iv, tag, body] = parts.map((part) => Buffer.from(part, "base64url"));
      if (!iv || !tag || !body) throw new Error("Sealed text is cut short");
      const decipher = createDecipheriv("aes-256-gcm", key, iv);
      decipher.setAuthTag(tag);
      return Buffer.concat([decipher.update(body), decipher.final()]).toString("utf8");
    },
    fingerprint: (text) => hmac(fingerprintKey, text).toString("hex"),
  };
}

// Keys as operators write them, and what makes a key too weak to use. Pure.

/** What is wrong with a key ring; undefined when nothing is. For its form see `parseKeyRing`. */
export function keyRingWeakness(ring: string): string | undefined {
  for (const { secret } of parseKeyRing(ring)) {
    if (Buffer.byteLength(secret) < 32) return "needs 32 bytes or more in each secret";
    if (new Set(secret).size < 8 || /^(change|secret|password|your)/i.test(secret)) return "is a known or weak secret";
  }
  return undefined;
}

export interface SigningKey {
  readonly kid: string;
  readonly secret: string;
}

/** `kid:secret` pairs joined by commas; a bare secret has kid 1. The first key signs, all keys verify. */
export function parseKeyRing(ring: string): SigningKey[] {
  return ring.split(",").map((part) => {
    const pair = /^([A-Za-z0-9._-]{1,32}):(.+)$/.exec(part.trim());
    return pair?.[1] !== undefined && pair[2] !== undefined
      ? { kid: pair[1], secret: pair[2] }
      : { kid: "1", secret: part.trim() };
  });
}

/** Whether the rings have a secret in common. */
export const sharesSecret = (one: string | undefined, other: string | undefined): boolean => {
  const secrets = new Set(one === undefined ? [] : parseKeyRing(one).map(({ secret }) => secret));
  return other !== undefined && parseKeyRing(other).some(({ secret }) => secrets.has(secret));
};

/** Base64 of 32 bytes. */
export const isEncryptionKey = (text: string): boolean => /^[A-Za-z0-9+/]{43}=$/.test(text);

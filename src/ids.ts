// Identifiers: a prefix and a ULID in lower case (48 bits of milliseconds, 80 random bits; Crockford base 32).
import { randomBytes } from "node:crypto";

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };
export type NodeId = Branded<"NodeId">;
export type PoolId = Branded<"PoolId">;

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

/** 26 characters that sort by time. `random` is 10 bytes. */
export function ulid(now: Date, random: Uint8Array = randomBytes(10)): string {
  let bits = BigInt(now.getTime());
  for (const byte of random) bits = (bits << 8n) | BigInt(byte);
  let text = "";
  for (let place = 0; place < 26; place++) {
    text = alphabet[Number(bits & 31n)] + text;
    bits >>= 5n;
  }
  return text;
}

export const newNodeId = (now: Date): NodeId => `node_${ulid(now)}` as NodeId;
export const newAllocationId = (now: Date): string => `alloc_${ulid(now)}`;
export const newAlertId = (now: Date): string => `alert_${ulid(now)}`;
export const newPoolId = (now: Date): PoolId => `pool_${ulid(now)}` as PoolId;
export const newValidationId = (now: Date): string => `poot_val_${ulid(now)}`;
export const newPayoutId = (now: Date): string => `payout_${ulid(now)}`;
export const newBatchId = (now: Date): string => `batch_${ulid(now)}`;
/** The id that follows from a time and 10 bytes. */
export const payoutIdAt = (now: Date, bytes: Uint8Array): string => `payout_${ulid(now, bytes)}`;

// Addresses that money can go to. Pure.

import { hash } from "node:crypto";
import { keccak_256 } from "@noble/hashes/sha3.js";

const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** What is wrong with an address: it must be a TRON address, or `0x` and 40 hex digits. Undefined when it is fine. */
export function addressProblem(address: string): string | undefined {
  if (address.startsWith("0x")) return hexAddressProblem(address);
  if (address.length !== 34 || !address.startsWith("T")) {
    return "neither a TRON address (T and 33 characters) nor 0x and 40 hex digits";
  }
  const bytes = fromBase58(address);
  if (bytes === undefined || bytes.length !== 25 || bytes[0] !== 0x41) return "not a TRON address";
  const checksum = hash("sha256", hash("sha256", bytes.subarray(0, 21), "buffer"), "buffer").subarray(0, 4);
  return checksum.equals(bytes.subarray(21)) ? undefined : "the checksum of the TRON address does not match";
}

/** Mixed case carries a checksum (EIP-55); a single case carries none. */
function hexAddressProblem(address: string): string | undefined {
  const digits = address.slice(2);
  if (!/^[0-9a-fA-F]{40}$/.test(digits)) return "not 0x and 40 hex digits";
  if (digits === digits.toLowerCase() || digits === digits.toUpperCase()) return undefined;
  const digest = Buffer.from(keccak_256(Buffer.from(digits.toLowerCase()))).toString("hex");
  const expected = [...digits.toLowerCase()].map((digit, place) =>
    Number.parseInt(digest[place] ?? "0", 16) >= 8 ? digit.toUpperCase() : digit,
  );
  return expected.join("") === digits ? undefined : "the checksum of the address does not match (EIP-55)";
}

/** Digits read at a time: 58 to this power is a safe integer, and arithmetic with bigint is slow. */
const digitsAtOnce = 9;

function fromBase58(text: string): Buffer | undefined {
  let value = 0n;
  for (let at = 0; at < text.length; at += digitsAtOnce) {
    const end = Math.min(at + digitsAtOnce, text.length);
    let part = 0;
    for (let place = at; place < end; place++) {
      const digit = base58.indexOf(text.charAt(place));
      if (digit < 0) return undefined;
      part = part * 58 + digit;
    }
    value = value * BigInt(58 ** (end - at)) + BigInt(part);
  }
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, "hex");
}

/** The first 4 and the last 4 characters. */
export const maskAddress = (address: string): string => `${address.slice(0, 4)}…${address.slice(-4)}`;

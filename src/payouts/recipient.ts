// Who can be paid in which currency, as far as an address tells by itself. A gateway knows more: its own wallet and the
// token's contract. Pure.
import { addressProblem } from "./address.js";
import type { Currency } from "./money.js";

// Nobody has the keys of the address that is all zeros.
const zeros: readonly string[] = ["T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb", `0x${"0".repeat(40)}`];

/** USDT is a token on TRON. LUCID is not: its addresses are hex. */
const isOfChain: Readonly<Record<Currency, (address: string) => boolean>> = {
  USDT: (address) => !address.startsWith("0x"),
  LUCID: (address) => address.startsWith("0x"),
};
const wanted: Readonly<Record<Currency, string>> = {
  USDT: "USDT goes to a TRON address (T and 33 characters)",
  LUCID: "LUCID goes to 0x and 40 hex digits",
};

/** What is wrong with an address as the recipient of this currency; undefined when it is fine. */
export function recipientProblem(currency: Currency, address: string): string | undefined {
  if (!isOfChain[currency](address)) return wanted[currency];
  const problem = addressProblem(address);
  if (problem !== undefined) return problem;
  return zeros.includes(canonicalAddress(address)) ? "nobody has the keys of this address" : undefined;
}

/**
 * One spelling for each address, so that equal recipients compare as equal. The case of hex digits is a checksum and
 * tells nothing more once it was checked; the case of base58 matters.
 */
export const canonicalAddress = (address: string): string =>
  address.startsWith("0x") ? address.toLowerCase() : address;

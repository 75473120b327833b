// Which addresses a currency can be paid to. Pure.
import { addressProblem } from "./address.js";
import type { Currency } from "./money.js";

/** What is wrong with a recipient of this currency; undefined when it is fine. */
export function recipientProblem(currency: Currency, address: string): string | undefined {
  const isTron = !address.startsWith("0x");
  if (currency === "USDT" && !isTron) return "USDT is paid to a TRON address (T and 33 characters)";
  if (currency === "LUCID" && isTron) return "LUCID is paid to 0x and 40 hex digits";
  return addressProblem(address);
}

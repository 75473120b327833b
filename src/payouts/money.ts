// Amounts of money: whole minor units as bigint, plain decimals outside. Nothing is rounded. Pure.

export const currencies: readonly Currency[] = ["USDT", "LUCID"];
export type Currency = "USDT" | "LUCID";

/** An amount in the smallest unit of its currency. */
export interface Money {
  readonly currency: Currency;
  readonly minor: bigint;
}

/** Decimals of each currency: USDT as its TRC-20 contract says, LUCID as the project's requirements say. */
export const decimalsOf: Readonly<Record<Currency, bigint>> = { USDT: 6n, LUCID: 8n };

/** Minor units of one token. */
const units: Readonly<Record<Currency, bigint>> = { USDT: 10n ** decimalsOf.USDT, LUCID: 10n ** decimalsOf.LUCID };

/** A payout pays at least 0.000001 and at most 1,000,000 tokens of either currency. */
export const payoutMin = (currency: Currency): bigint => units[currency] / 1_000_000n;
export const payoutMax = (currency: Currency): bigint => units[currency] * 1_000_000n;

// The pattern bounds the length before anything is computed.
const plain = /^(0|[1-9][0-9]{0,19})(?:[.]([0-9]{1,18}))?$/;

/**
 * Reads a plain decimal of whole tokens ("12.5"): ASCII digits, no sign, no exponent, no leading zeros, no more decimals
 * than the currency has. Undefined for any other text; the size of the amount is not judged here.
 */
export function parseAmount(currency: Currency, text: string): bigint | undefined {
  const [, whole, fraction = ""] = plain.exec(text) ?? [];
  const zeros = units[currency].toString().slice(1);
  if (whole === undefined || fraction.length > zeros.length) return undefined;
  return BigInt(whole + fraction + zeros.slice(fraction.length));
}

/** The plain decimal without trailing zeros. `parseAmount` reads it back. Any amount of 0 or more. */
export function formatAmount({ currency, minor }: Money): string {
  const unit = units[currency];
  const fraction = (unit + (minor % unit)).toString().slice(1).replace(/0+$/, "");
  return fraction === "" ? `${minor / unit}` : `${minor / unit}.${fraction}`;
}

/** What is wrong with an amount that somebody wants paid; undefined when it is fine. */
export function amountProblem(currency: Currency, text: string): string | undefined {
  const minor = parseAmount(currency, text);
  if (minor === undefined) {
    return `must be a plain decimal such as 12.5 with at most ${decimalsOf[currency]} decimals for ${currency}`;
  }
  if (minor < payoutMin(currency) || minor > payoutMax(currency)) return "must be 0.000001 to 1000000";
  return undefined;
}

export const sumOf = (amounts: Iterable<bigint>): bigint => {
  let sum = 0n;
  for (const amount of amounts) sum += amount;
  return sum;
};

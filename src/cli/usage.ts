// Parses option values as people write them, and the error for invalid ones.
import { serviceUrl } from "../client/address.js";

/** The command line is invalid: the message and the command's usage are printed, with exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The URL in --server. A refused value is not repeated, since it may contain a password. @throws UsageError */
export function serverUrl(text: string): string {
  const url = serviceUrl(text);
  if (url === undefined) {
    throw new UsageError(
      "--server takes an address such as http://localhost:8083 or http://[::1]:8083, without a password",
    );
  }
  return url;
}

/** The value of a required option. @throws UsageError */
export function needed<Value>(option: string, value: Value | undefined): Value {
  if (value === undefined) throw new UsageError(`${option} is required`);
  return value;
}

/** Parses a whole number of the command line. @throws UsageError */
export function wholeNumber(name: string, text: string, min: number, max: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) throw new UsageError(`--${name} takes a whole number from ${min} to ${max}`);
  return value;
}

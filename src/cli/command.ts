// What a subcommand is.
import { serviceUrl } from "../client/address.js";

export interface Command {
  /** One line for the list of commands. */
  readonly summary: string;
  readonly usage: string;
  /** Answers the exit code. A UsageError ends in the usage and exit code 2. */
  run(arguments_: readonly string[]): Promise<number>;
}

export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The URL that --server gives. @throws UsageError */
export function serverOption(text: string | undefined): string {
  if (text === undefined) throw new UsageError("--server is required");
  const url = serviceUrl(text);
  if (url === undefined) {
    throw new UsageError(
      "--server takes an address such as http://localhost:8083 or http://[::1]:8083, without a password",
    );
  }
  return url;
}

/** A whole number of a command line. @throws UsageError */
export function wholeNumber(name: string, text: string, min: number, max: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) throw new UsageError(`--${name} takes a whole number from ${min} to ${max}`);
  return value;
}

// The port to state that replicas share and may lose: counters and wake-up calls.
// Losing or flushing it at any moment harms no money, proof or node state: only the document store decides those.
import { StartError } from "../start-error.js";

export interface Hit {
  readonly allowed: boolean;
  /** Hits in the window, including this one. */
  readonly count: number;
  /** Milliseconds until the window ends. */
  readonly resetMs: number;
}

export interface Coordination {
  readonly engine: "local" | "redis";
  /** Counts one hit in the key's window. The window begins with its first hit; later hits do not extend it. */
  hit(key: string, limit: number, windowMs: number): Promise<Hit>;
  /** Sends to every subscriber of the channel, on every replica including this one: at most once, best effort. */
  publish(channel: string, message: string): Promise<void>;
  /**
   * Resolves once the handler receives messages, which it does until the signal aborts. While subscribing is impossible
   * it waits, without a limit. The handler must not throw.
   */
  subscribe(channel: string, handler: (message: string) => void, signal: AbortSignal): Promise<void>;
  /** Resolves when the engine answers. */
  ping(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * The coordination cannot be reached, refuses, is closed, or did not answer in time. Whether the call had an effect is
 * unknown.
 */
export class CoordinationUnavailableError extends Error {
  override readonly name = "CoordinationUnavailableError";
}

/** For best-effort publishing: `.catch(unless(isCoordinationAway))`. */
export const isCoordinationAway = (error: unknown): boolean => error instanceof CoordinationUnavailableError;

/** The server is reachable but cannot be used; the message says why and what to do. */
export class CoordinationRefusedError extends StartError {
  override readonly name = "CoordinationRefusedError";
}

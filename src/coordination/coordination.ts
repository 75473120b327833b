// The port to what replicas share and may lose: counters and wake-up calls.
// Losing or flushing it at any moment harms no money, proof or node state; the document store alone decides those.
import { StartError } from "../start-error.js";

export interface Hit {
  readonly allowed: boolean;
  /** Hits in the window, this one included. */
  readonly count: number;
  /** Until the window ends. */
  readonly resetMs: number;
}

export interface Coordination {
  readonly engine: "local" | "redis";
  /** Counts one hit in the key's window, which begins with its first hit and is not prolonged by later ones. */
  hit(key: string, limit: number, windowMs: number): Promise<Hit>;
  /** To every subscriber of the channel, on every replica, this one included; at most once, best effort. */
  publish(channel: string, message: string): Promise<void>;
  /**
   * Resolves once messages reach the handler, which they do until the signal aborts; until then it waits, for as long as
   * they cannot be had. The handler must not throw.
   */
  subscribe(channel: string, handler: (message: string) => void, signal: AbortSignal): Promise<void>;
  /** Resolves when it answers. */
  ping(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What is shared cannot be reached, refuses, is closed, or did not answer in time; whether the call had an effect is unknown. */
export class CoordinationUnavailableError extends Error {
  override readonly name = "CoordinationUnavailableError";
}

/** For what is published at best effort: `.catch(unless(isCoordinationAway))`. */
export const isCoordinationAway = (error: unknown): boolean => error instanceof CoordinationUnavailableError;

/** The server is there and cannot be used; the message says why and what to do. */
export class CoordinationRefusedError extends StartError {
  override readonly name = "CoordinationRefusedError";
}

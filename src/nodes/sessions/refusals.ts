// The refusals of sessions that may not open, or may not go on. Pure.
import { type Failure, sessionSuperseded, unauthenticated, unavailable } from "../../failure.js";

/** When a caller that may try again should come again: only a living caller does. */
export const comeAgainMs = 1_000;

/**
 * For a session that has lost against a newer one. An agent takes 5013 as final, so a process must not get it because
 * of its own newer session: a process dials twice when an answer was slow.
 */
export const superseded = (bootId: string, newerBootId: string | undefined): Failure =>
  bootId === newerBootId
    ? unavailable("A newer session of this process has taken over", comeAgainMs)
    : sessionSuperseded();

export const enrollmentReset = (): Failure => unauthenticated("The node's enrolment was reset");
export const callerGone = (): Failure => unavailable("The caller is gone", comeAgainMs);

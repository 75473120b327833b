// What is said of a session that may not be, or may be no longer. Pure.
import { type Failure, sessionSuperseded, unauthenticated, unavailable } from "../../failure.js";

/** When a caller that may try again should: a living one does. */
export const comeAgainMs = 1_000;

/**
 * A session that has lost against a newer one. An agent takes 5013 as final, and a process must not be told so of itself: it
 * dials twice where an answer was slow.
 */
export const superseded = (bootId: string, newerBootId: string | undefined): Failure =>
  bootId === newerBootId
    ? unavailable("A newer session of this process has taken over", comeAgainMs)
    : sessionSuperseded();

export const enrollmentReset = (): Failure => unauthenticated("The node's enrolment was reset");
export const callerGone = (): Failure => unavailable("The caller is gone", comeAgainMs);

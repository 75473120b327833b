// How streams end while their sessions stay: a stream is renewed when its time is up, dropped when nobody reads it, and
// ended when the replica drains.
import type { Clock } from "../../clock.js";
import { unavailable } from "../../failure.js";
import type { Registry } from "./registry.js";
import type { Session } from "./session.js";

/** How long a stream may leave its answers unread. */
const stallMaxMs = 10_000;
const drainStepMs = 100;

export function createEnding(parts: {
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly unlink: Registry["unlink"];
}) {
  const { clock, random, unlink } = parts;

  const renew = (session: Session): void => {
    const afterMs = Math.floor(random() * Math.min(5_000, session.intervalMs));
    unlink(session, (link) => {
      link.send({ kind: "reconnect", afterMs, reason: "stream lifetime" });
      link.endConnection();
    });
  };

  return {
    /** Ends a stream whose time is up, or whose reader does not read. */
    tend: (session: Session, nowMs: number): void => {
      const stalledSinceMs = session.link?.stalledSinceMs();
      if (stalledSinceMs !== undefined && nowMs - stalledSinceMs > stallMaxMs) {
        unlink(session, (link) => link.end(unavailable("The stream's answers are not read", 1000)));
      } else if (session.link !== undefined && nowMs >= session.renewAtMs) {
        renew(session);
      }
    },

    /** Ends these streams with OK, spread over the window; each node is told its own time to come back. */
    drain: async (sessions: readonly Session[], windowMs: number, signal: AbortSignal): Promise<void> => {
      const open = sessions.filter((session) => session.link !== undefined);
      const perStep = Math.ceil(open.length / Math.max(1, Math.floor(windowMs / drainStepMs)));
      for (let from = 0; from < open.length; from += perStep) {
        for (const session of open.slice(from, from + perStep)) {
          unlink(session, (link) => {
            link.send({ kind: "reconnect", afterMs: Math.floor(random() * windowMs), reason: "shutting down" });
            link.end();
          });
        }
        if (from + perStep < open.length) await clock.sleep(drainStepMs, signal);
      }
    },
  };
}

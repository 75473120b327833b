// Who may come in now: not while the replica drains, not beyond its streams, and each node only so often.
import type { Clock } from "../clock.js";
import { type Failure, tooMany, unavailable } from "../failure.js";
import { noRegistrations, type Registrations, register, takeOver } from "./heartbeat.js";

export type Admission = ReturnType<typeof createAdmission>;

/** Registrations older than this tell nothing any more. */
const rememberedMs = 60_000;
/** A node needs one stream, and for a moment a second one when it reconnects. */
const streamsOfNodeMax = 8;

/** `random` is in [0, 1). */
export function createAdmission(parts: {
  readonly clock: Clock;
  readonly random: () => number;
  readonly streamsMax: number;
}) {
  const { clock, random, streamsMax } = parts;
  const registrations = new Map<string, Registrations>();
  const of = (nodeId: string) => registrations.get(nodeId) ?? noRegistrations;
  const streamsOf = new Map<string, number>();
  let streams = 0;
  /** When the drain's window ends, once it has begun. */
  let drainedAtMs: number | undefined;

  const drainRefusal = (): Failure | undefined => {
    if (drainedAtMs === undefined) return undefined;
    // Not before this replica is gone, and then not all at once.
    const leftMs = Math.max(0, drainedAtMs - clock.monotonicMs());
    return unavailable("The service is shutting down", Math.ceil(leftMs + random() * 5_000));
  };

  return {
    drainRefusal,

    /**
     * Takes a place for a stream, before anything of it is read: one that never says Hello holds a place, too. Answers how
     * to give it back, once. @throws Failure 4291, 5031
     */
    enter: (nodeId: string): (() => void) => {
      const draining = drainRefusal();
      if (draining !== undefined) throw draining;
      if (streams >= streamsMax) {
        throw unavailable("This replica holds as many streams as it may", 5_000 + Math.floor(random() * 25_000));
      }
      const own = (streamsOf.get(nodeId) ?? 0) + 1;
      if (own > streamsOfNodeMax) throw tooMany("Too many streams of this node at once", 1_000);
      streamsOf.set(nodeId, own);
      streams++;
      return () => {
        streams--;
        const left = (streamsOf.get(nodeId) ?? 1) - 1;
        if (left > 0) streamsOf.set(nodeId, left);
        else streamsOf.delete(nodeId);
      };
    },
    streams: (): number => streams,

    /** Notes one more session of the node. @throws Failure 4291, 5031 */
    admit: (nodeId: string): void => {
      const draining = drainRefusal();
      if (draining !== undefined) throw draining;
      const seen = register(of(nodeId), clock.monotonicMs());
      if ("retryAfterMs" in seen) throw tooMany("Too many sessions of this node in 8 s", seen.retryAfterMs);
      registrations.set(nodeId, seen.registrations);
    },

    /** Notes that one session took over from another; true when two machines seem to share the identity. */
    takenOver: (nodeId: string, boots: { readonly from: string; readonly to: string }): boolean => {
      const noted = takeOver(of(nodeId), boots, clock.monotonicMs());
      registrations.set(nodeId, noted.registrations);
      return noted.duplicateIdentity;
    },

    /** From now on everyone is refused. */
    drain: (windowMs: number): void => {
      drainedAtMs = clock.monotonicMs() + windowMs;
    },

    forgetOld: (): void => {
      const nowMs = clock.monotonicMs();
      for (const [nodeId, seen] of registrations) {
        const lastMs = Math.max(seen.opened.at(-1) ?? 0, seen.takeovers.at(-1)?.atMs ?? 0);
        if (nowMs - lastMs > rememberedMs) registrations.delete(nodeId);
      }
    },
  };
}

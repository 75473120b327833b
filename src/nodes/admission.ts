// Who may open a session now: not while the replica drains, not beyond its streams, and each node only so often.
import type { Clock } from "../clock.js";
import { type Failure, tooMany, unavailable } from "../failure.js";
import { noRegistrations, type Registrations, register, takeOver } from "./heartbeat.js";

export type Admission = ReturnType<typeof createAdmission>;

/** Registrations older than this tell nothing any more. */
const rememberedMs = 60_000;

/** `random` is in [0, 1). */
export function createAdmission(parts: {
  readonly clock: Clock;
  readonly random: () => number;
  readonly streamsMax: number;
}) {
  const { clock, random, streamsMax } = parts;
  const registrations = new Map<string, Registrations>();
  const of = (nodeId: string) => registrations.get(nodeId) ?? noRegistrations;
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

    /** Notes one more session of the node. `streams` are those open, for one more stream. @throws Failure 4291, 5031 */
    admit: (nodeId: string, streams: number | undefined): void => {
      const draining = drainRefusal();
      if (draining !== undefined) throw draining;
      if (streams !== undefined && streams >= streamsMax) {
        throw unavailable("This replica holds as many streams as it may", 5_000 + Math.floor(random() * 25_000));
      }
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

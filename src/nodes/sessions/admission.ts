// Which streams and sessions may open now: none while the replica drains, none beyond its limit of streams, and each
// node only so often.
import type { Clock } from "../../clock.js";
import type { Hit } from "../../coordination/coordination.js";
import { isCoordinationAway } from "../../coordination/coordination.js";
import { type Failure, tooMany, unavailable } from "../../failure.js";
import { unless } from "../../task.js";

export type Admission = ReturnType<typeof createAdmission>;

const sessionsMax = 3;
const sessionsWindowMs = 8_000;
/** A node needs one stream, and for a moment a second one while it reconnects. */
const streamsOfNodeMax = 8;

/** `random` is in [0, 1). */
export function createAdmission(parts: {
  readonly clock: Clock;
  readonly random: () => number;
  readonly streamsMax: number;
  /** Counts on all replicas; see Coordination.hit. */
  readonly hit: (key: string, limit: number, windowMs: number) => Promise<Hit>;
}) {
  const { clock, random, streamsMax } = parts;
  const streamsOf = new Map<string, number>();
  let streams = 0;
  /** When the drain's window ends, once it has begun. */
  let drainedAtMs: number | undefined;

  const drainRefusal = (): Failure | undefined => {
    if (drainedAtMs === undefined) return undefined;
    // The node is to come back once this replica is gone, and not together with all others.
    const leftMs = Math.max(0, drainedAtMs - clock.monotonicMs());
    return unavailable("The service is shutting down", Math.ceil(leftMs + random() * 5_000));
  };

  return {
    drainRefusal,

    /**
     * Takes a place for a stream before anything of it is read: a stream that never says Hello holds a place too.
     * Answers a function that gives the place back, to be called once.
     * @throws Failure 4291, 5031
     */
    enter: (nodeId: string): (() => void) => {
      const draining = drainRefusal();
      if (draining !== undefined) throw draining;
      if (streams >= streamsMax) {
        throw unavailable("This replica has reached its limit of streams", 5_000 + Math.floor(random() * 25_000));
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

    /**
     * Counts one more session of the node, at most 3 in 8 s; nothing is counted while the counters are away.
     * @throws Failure 4291, 5031
     */
    admit: async (nodeId: string): Promise<void> => {
      const draining = drainRefusal();
      if (draining !== undefined) throw draining;
      const counted = await parts
        .hit(`session:${nodeId}`, sessionsMax, sessionsWindowMs)
        .catch(unless(isCoordinationAway));
      if (counted?.allowed === false) throw tooMany("Too many sessions of this node in 8 s", counted.resetMs);
    },

    /** From now on every stream and session is refused. */
    drain: (windowMs: number): void => {
      drainedAtMs = clock.monotonicMs() + windowMs;
    },
  };
}

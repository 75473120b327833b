// Since when a judge has been able to hear: since its own start, its last stall, or the store's return. Silence from
// before that means nothing.
import type { Clock } from "../../clock.js";

export type StallWatch = ReturnType<typeof createStallWatch>;

/** A turn this late means that beats may be waiting behind our own stall. Half the grace applies if that is shorter. */
const stallMsMax = 2000;

export function createStallWatch(clock: Pick<Clock, "monotonicMs">, turnMs: number, graceMs: number) {
  const stallMs = Math.min(stallMsMax, graceMs / 2);
  let ableSinceMs = clock.monotonicMs();
  let beganMs: number | undefined;
  let endedMs: number | undefined;
  let away = false;

  const presumeLife = (): void => {
    ableSinceMs = clock.monotonicMs();
  };

  return {
    presumeLife,
    ableSinceMs: (): number => ableSinceMs,

    /** Answers how long the process stood still before this turn, in milliseconds; undefined when it did not. */
    turnBegins: (): number | undefined => {
      beganMs = clock.monotonicMs();
      const stoodMs = endedMs === undefined ? 0 : beganMs - endedMs;
      if (stoodMs <= turnMs + stallMs) return undefined;
      presumeLife();
      return stoodMs;
    },

    /**
     * The store has answered everything that this turn asked. While a slow store kept the turn waiting, beats may not
     * have been read.
     */
    storeAnswered: (): void => {
      if (away || clock.monotonicMs() - (beganMs ?? 0) > stallMs) presumeLife();
      away = false;
    },

    /** The turn was cut off: the store did not answer. */
    storeAway: (): void => {
      away = true;
      endedMs = clock.monotonicMs();
    },

    turnEnds: (): void => {
      endedMs = clock.monotonicMs();
    },
  };
}

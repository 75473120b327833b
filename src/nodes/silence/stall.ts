// Since when a judge has been able to hear: its own start, its last stall, the store's return. Silence from before that
// means nothing.
import type { Clock } from "../../clock.js";

export type StallWatch = ReturnType<typeof createStallWatch>;

/** A turn this late means that beats may be waiting behind our own stall; sooner where the grace is short. */
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

    /** Answers how long the process stood still before this turn; undefined when it did not. */
    turnBegins: (): number | undefined => {
      beganMs = clock.monotonicMs();
      const stoodMs = endedMs === undefined ? 0 : beganMs - endedMs;
      if (stoodMs <= turnMs + stallMs) return undefined;
      presumeLife();
      return stoodMs;
    },

    /** The store has answered all that this turn asked; one that took long may have kept beats from being read. */
    storeAnswered: (): void => {
      if (away || clock.monotonicMs() - (beganMs ?? 0) > stallMs) presumeLife();
      away = false;
    },

    /** The turn was cut off: what it asked was not answered. */
    storeAway: (): void => {
      away = true;
      endedMs = clock.monotonicMs();
    },

    turnEnds: (): void => {
      endedMs = clock.monotonicMs();
    },
  };
}

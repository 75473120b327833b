// Simulated time: a queue of events. The earliest is run, then everything that follows from it without waiting, then
// time moves on to the next. Nothing in it is left to chance, so the same seed gives the same run.
import type { Clock } from "../../../src/clock.js";

export interface Scheduler {
  /** Milliseconds since 1970 in the simulated world. */
  nowMs(): number;
  /** Runs the work after so many milliseconds; events of the same time run in the order in which they were made. */
  after(ms: number, run: () => void): void;
  /** Runs events until the condition holds, nothing is left, or time would pass the limit. Answers whether it holds. */
  runUntil(holds: () => boolean, limitMs: number): Promise<boolean>;
}

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

const isBefore = (a: Event, b: Event) => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

/** All that can happen without time passing happens: every continuation is a microtask. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

export function createScheduler(startMs: number): Scheduler {
  let nowMs = startMs;
  let order = 0;
  /** A heap: each event is before the two below it. */
  const heap: Event[] = [];

  const push = (event: Event): void => {
    let at = heap.push(event) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const other = heap[above];
      if (other === undefined || !isBefore(event, other)) break;
      heap[at] = other;
      at = above;
    }
    heap[at] = event;
  };

  const pop = (): Event | undefined => {
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      const [left, right] = [heap[below], heap[below + 1]];
      if (left !== undefined && right !== undefined && isBefore(right, left)) below++;
      const next = heap[below];
      if (next === undefined || !isBefore(next, last)) break;
      heap[at] = next;
      at = below;
    }
    heap[at] = last;
    return first;
  };

  return {
    nowMs: () => nowMs,
    after: (ms, run) => push({ atMs: nowMs + Math.max(0, ms), order: order++, run }),
    runUntil: async (holds, limitMs) => {
      await settled();
      while (!holds()) {
        const next = heap[0];
        if (next === undefined || next.atMs > limitMs) return false;
        pop();
        nowMs = next.atMs;
        next.run();
        await settled();
      }
      return true;
    },
  };
}

export interface WorldClock extends Clock {
  /** Steps the wall clock of this process alone. */
  jump(ms: number): void;
}

/** The clock of one process. `whileAlive` drops what a dead process would have done, and delays it for a frozen one. */
export function createWorldClock(scheduler: Scheduler, whileAlive: (run: () => void) => void): WorldClock {
  let offsetMs = 0;
  const originMs = scheduler.nowMs();
  return {
    jump: (ms) => {
      offsetMs += ms;
    },
    now: () => new Date(scheduler.nowMs() + offsetMs),
    monotonicMs: () => scheduler.nowMs() - originMs,
    sleep: (ms, signal) =>
      new Promise<void>((resolve) => {
        if (signal.aborted) return resolve();
        signal.addEventListener("abort", () => resolve(), { once: true });
        scheduler.after(ms, () => whileAlive(resolve));
      }),
  };
}

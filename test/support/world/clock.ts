// A clock that the test moves. Sleepers wake in order when their time has come, and microtasks run between them.
import type { Clock } from "../../../src/clock.js";

export interface TestClock extends Clock {
  /** Moves both clocks on and wakes sleepers on the way. */
  advance(ms: number): Promise<void>;
  /** Moves both at once, as after a process stood still: sleepers that were due meanwhile wake late. */
  stall(ms: number): Promise<void>;
  /** Steps the wall clock alone, as an administrator or NTP would. */
  stepWall(ms: number): void;
  /** How many wait. */
  readonly sleepers: number;
}

export function createTestClock(start = new Date("2026-01-01T00:00:00Z")): TestClock {
  let mono = 0;
  let wallOffset = start.getTime();
  let waiting: { at: number; wake: () => void }[] = [];
  const settle = async () => {
    for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  };
  return {
    now: () => new Date(wallOffset + mono),
    monotonicMs: () => mono,
    get sleepers() {
      return waiting.length;
    },
    sleep: (ms, signal) =>
      new Promise<void>((resolve) => {
        if (signal.aborted) return resolve();
        const entry = { at: mono + ms, wake: resolve };
        waiting.push(entry);
        signal.addEventListener("abort", () => {
          waiting = waiting.filter((other) => other !== entry);
          resolve();
        });
      }),
    stall: async (ms) => {
      mono += ms;
      const due = waiting.filter((entry) => entry.at <= mono).sort((a, b) => a.at - b.at);
      waiting = waiting.filter((entry) => entry.at > mono);
      for (const { wake } of due) wake();
      await settle();
    },
    stepWall: (ms) => {
      wallOffset += ms;
    },
    advance: async (ms) => {
      const end = mono + ms;
      await settle();
      for (;;) {
        const due = waiting.filter((entry) => entry.at <= end).sort((a, b) => a.at - b.at)[0];
        if (!due) break;
        mono = Math.max(mono, due.at);
        waiting = waiting.filter((entry) => entry !== due);
        due.wake();
        await settle();
      }
      mono = end;
      await settle();
    },
  };
}

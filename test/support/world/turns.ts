// How much the event loop of this process does in one turn: CPU time of its thread, so that other processes on the same
// cores do not count.

export interface Turns extends Disposable {
  /** The most that one turn has cost so far, in milliseconds of CPU. */
  worstMs(): number;
}

/** CPU time of this thread so far, in milliseconds. */
export const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};

export function watchTurns(): Turns {
  let worst = 0;
  let last = cpuMs();
  const timer = setInterval(() => {
    const now = cpuMs();
    worst = Math.max(worst, now - last);
    last = now;
  }, 1);
  return { worstMs: () => worst, [Symbol.dispose]: () => clearInterval(timer) };
}

/**
 * The longest turn while this work runs, in milliseconds of CPU: the least of up to three tries, where the first below
 * the limit ends them. The first try runs code that is not compiled yet, and a collection of garbage may fall into any.
 * Work without a bound is too long each time.
 */
export async function longestTurnMs(limitMs: number, work: () => Promise<void>): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < 3 && least >= limitMs; tries++) {
    using turns = watchTurns();
    await work();
    least = Math.min(least, turns.worstMs());
  }
  return least;
}

/** How often the event loop turned to other work meanwhile. */
export const turnsDuring = async (work: Promise<unknown>): Promise<number> => {
  let turns = 0;
  let working = true;
  const stop = () => {
    working = false;
  };
  work.then(stop, stop);
  while (working) {
    await new Promise<void>((resolve) => setImmediate(resolve));
    turns++;
  }
  return turns;
};

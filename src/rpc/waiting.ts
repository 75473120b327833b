// Calls whose body has not come: each holds some memory until its patience ends, so their number is bounded by connection
// and by address. Pure.

/** Calls of one connection that have waited for so long that their bodies are not on the way: these follow their headers. */
const stuckMax = 100;
const stuckAfterMs = 250;
/** All that wait, of one address, however long. */
const perAddressMax = 2_000;

/** When each call that waits began, oldest first. */
type Waiting = Set<{ readonly sinceMs: number }>;

export interface WaitingCalls {
  /** Answers what to call once the body is there; undefined when too many others wait for theirs. */
  enter(connection: object, address: string): (() => void) | undefined;
}

export function createWaitingCalls(nowMs: () => number): WaitingCalls {
  const byConnection = new WeakMap<object, Waiting>();
  const byAddress = new Map<string, Waiting>();
  const isStuck = (waiting: Waiting): boolean => {
    if (waiting.size < stuckMax) return false;
    let stuck = 0;
    for (const { sinceMs } of waiting) {
      if (nowMs() - sinceMs < stuckAfterMs) return false;
      if (++stuck >= stuckMax) return true;
    }
    return false;
  };
  return {
    enter: (connection, address) => {
      const own = byConnection.get(connection) ?? new Set();
      const all = byAddress.get(address) ?? new Set();
      if (isStuck(own) || all.size >= perAddressMax) return undefined;
      const call = { sinceMs: nowMs() };
      byConnection.set(connection, own.add(call));
      byAddress.set(address, all.add(call));
      return () => {
        own.delete(call);
        if (all.delete(call) && all.size === 0 && byAddress.get(address) === all) byAddress.delete(address);
      };
    },
  };
}

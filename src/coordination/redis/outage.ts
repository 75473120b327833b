// Logs when Redis stops serving and when it serves again, so that nobody has to count failed commands.
import type { Clock } from "../../clock.js";
import type { Log } from "../../telemetry/log.js";

/** Parts that can fail independently. */
export type Part = "commands" | "subscriptions" | "writes" | "mode";

export interface Outage {
  begins(what: Part, error: Error | undefined): void;
  ends(what: Part): void;
}

/**
 * Logs one line when a part begins to fail, and one when everything has worked for a while, however many commands
 * failed and however often the outage came and went.
 */
export function createOutage(parts: {
  readonly server: string;
  readonly log: Pick<Log, "info" | "warn"> | undefined;
  readonly quietMs: number;
  readonly clock: Pick<Clock, "monotonicMs" | "sleep">;
  /** Nothing is logged after it aborts. */
  readonly signal: AbortSignal;
}): Outage {
  const { server, log, quietMs, clock, signal } = parts;
  const failing = new Set<Part>();
  let isTold = false;
  let failedMs = 0;
  let isWatched = false;

  /** Waits out the quiet time, again if something failed meanwhile; stops while something fails. */
  const watch = async (): Promise<void> => {
    if (isWatched) return;
    isWatched = true;
    while (failing.size === 0 && isTold && !signal.aborted) {
      const leftMs = failedMs + quietMs - clock.monotonicMs();
      if (leftMs > 0) await clock.sleep(Math.ceil(leftMs), signal);
      else {
        isTold = false;
        log?.info("Redis serves again", { server });
      }
    }
    isWatched = false;
  };
  return {
    begins: (what, error) => {
      failing.add(what);
      failedMs = clock.monotonicMs();
      if (!isTold) log?.warn("Redis does not serve; going on without", { server, what, error });
      isTold = true;
    },
    ends: (what) => {
      if (failing.delete(what) && failing.size === 0) void watch();
    },
  };
}

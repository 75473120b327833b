// Coordination within one process, for a single replica. It loses everything when the process ends, as the port allows.
import type { Clock } from "../clock.js";
import { type Coordination, CoordinationUnavailableError } from "./coordination.js";

type Handler = (message: string) => void;

interface Expiring {
  /** By the monotonic clock. */
  readonly endsAtMs: number;
}

interface Window extends Expiring {
  count: number;
}

// About 20 MB when full. Beyond that the oldest key is dropped, as in a Redis that is short of memory.
const keysMax = 100_000;

/** Memory is bounded: expired keys are dropped as new ones arrive, and there are never more than 100,000. */
export function createLocalCoordination({ clock }: { readonly clock: Pick<Clock, "monotonicMs"> }): Coordination {
  const nowMs = () => clock.monotonicMs();
  const windows = createExpiringMap<Window>(nowMs);
  const channels = new Map<string, Set<Handler>>();
  let closed = false;
  const assertOpen = () => {
    if (closed) throw new CoordinationUnavailableError("The coordination is closed");
  };

  return {
    engine: "local",
    hit: async (key, limit, windowMs) => {
      assertOpen();
      const window = windows.get(key) ?? windows.set(key, { count: 0, endsAtMs: nowMs() + windowMs });
      window.count++;
      return { allowed: window.count <= limit, count: window.count, resetMs: window.endsAtMs - nowMs() };
    },
    publish: async (channel, message) => {
      assertOpen();
      // Delivered after the call, as over a network, so that a handler never runs in the middle of the publisher's
      // work.
      await Promise.resolve();
      for (const handler of [...(channels.get(channel) ?? [])]) handler(message);
    },
    subscribe: async (channel, handler, signal) => {
      assertOpen();
      if (!signal.aborted) subscribe(channels, channel, handler, signal);
    },
    ping: async () => assertOpen(),
    [Symbol.asyncDispose]: async () => {
      closed = true;
      channels.clear();
    },
  };
}

function subscribe(channels: Map<string, Set<Handler>>, channel: string, handler: Handler, signal: AbortSignal): void {
  // The same handler may be subscribed twice, each time with its own signal.
  const own: Handler = (message) => {
    if (!signal.aborted) handler(message);
  };
  const handlers = channels.get(channel) ?? new Set();
  channels.set(channel, handlers.add(own));
  const end = () => {
    handlers.delete(own);
    if (handlers.size === 0 && channels.get(channel) === handlers) channels.delete(channel);
  };
  signal.addEventListener("abort", end, { once: true });
}

interface ExpiringMap<Entry extends Expiring> {
  /** Undefined once it has expired. */
  get(key: string): Entry | undefined;
  set(key: string, entry: Entry): Entry;
}

/**
 * Each call checks a few more entries in turn and drops expired ones. So the map shrinks without timers and without a
 * pause that checks all entries.
 */
function createExpiringMap<Entry extends Expiring>(nowMs: () => number): ExpiringMap<Entry> {
  const entries = new Map<string, Entry>();
  let round = entries.entries();
  const isOver = ({ endsAtMs }: Entry) => endsAtMs <= nowMs();
  const purgeSome = () => {
    for (let looks = 0; looks < 4; looks++) {
      const next = round.next();
      if (next.done) {
        round = entries.entries();
        return;
      }
      if (isOver(next.value[1])) entries.delete(next.value[0]);
    }
  };
  return {
    get: (key) => {
      purgeSome();
      const entry = entries.get(key);
      return entry && !isOver(entry) ? entry : undefined;
    },
    set: (key, entry) => {
      entries.delete(key);
      const [oldest] = entries.keys();
      if (entries.size >= keysMax && oldest !== undefined) entries.delete(oldest);
      entries.set(key, entry);
      return entry;
    },
  };
}

// Which replicas stand. Each one counts its turns in its record about once a second, and puts its watermark there: the
// store's time up to which every beat it has taken is in the store. A replica that lives may be late with its watermark,
// so the turns alone say that it lives. Silence is judged by the watcher's own monotonic clock, never by comparing two.
import type { Clock } from "../clock.js";
import { StartError } from "../start-error.js";
import type { CollectionDefinition, Store } from "../storage/collection.js";
import { type Next, outage, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";

/** `_id` is the replica's. */
export interface ReplicaDocument {
  readonly _id: string;
  readonly started_at: Date;
  readonly watermark: Date;
  /** Grows about once a second for as long as it lives and reaches the store. */
  readonly turns?: number;
  /** The longest time between beats that it tells nodes now. */
  readonly interval_ms: number;
  readonly coordination: "local" | "redis";
  /** It has found nobody that forbids it to serve. */
  readonly joined?: true;
  /** It has gone in order: nothing more is to come. */
  readonly left?: true;
}

export const replicasCollection: CollectionDefinition = {
  name: "replicas",
  durability: "durable",
  dates: ["started_at", "watermark"],
  indexes: [],
};

/** A replica that others know, as seen from here. */
export interface Replica {
  readonly id: string;
  readonly alive: boolean;
  readonly watermark: Date;
  readonly turns: number | undefined;
  readonly intervalMs: number;
}

/** Another replica lives that in-process coordination cannot reach; the message says what to set. */
export class ReplicaRefusedError extends StartError {
  override readonly name = "ReplicaRefusedError";
}

export type Roster = Awaited<ReturnType<typeof createRoster>>;

/** Without a turn for this long a replica counts as dead; its nodes then get a restart's grace. */
export const deadAfterMs = 10_000;
const turnMs = 1000;
const replicasMax = 1000;
const lookMs = 500;

export async function createRoster(parts: {
  readonly store: Store;
  readonly clock: Clock;
  readonly replicaId: string;
  readonly coordination: "local" | "redis";
  /** The store has no other user: every other record is of a process that has ended. */
  readonly exclusive: boolean;
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { store, clock, replicaId, coordination, exclusive } = parts;
  const replicas = await store.collection<ReplicaDocument>(replicasCollection);
  const startedAt = clock.now();
  let joined = false;
  let reported: { readonly watermark: Date; readonly intervalMs: number } | undefined;
  const seen = new Map<string, { life: string; sinceMs: number }>();

  const all = async (): Promise<ReplicaDocument[]> =>
    (await replicas.page({}, { index: "_id_", limit: replicasMax })).items;

  /** Since when it has given no sign of life, as far as this process has looked. */
  const stillSinceMs = (record: ReplicaDocument): number => {
    const life = lifeOf(record);
    const known = seen.get(record._id);
    if (known?.life === life) return known.sinceMs;
    const sinceMs = clock.monotonicMs();
    seen.set(record._id, { life, sinceMs });
    return sinceMs;
  };

  const isAlive = (record: ReplicaDocument): boolean => {
    if (record._id === replicaId) return true;
    if (exclusive || record.left === true) return false;
    return clock.monotonicMs() - stillSinceMs(record) < deadAfterMs;
  };

  const toReplica = (record: ReplicaDocument): Replica => ({
    id: record._id,
    alive: isAlive(record),
    watermark: (record._id === replicaId ? reported?.watermark : undefined) ?? record.watermark,
    turns: record.turns,
    intervalMs: record.interval_ms,
  });

  /** Writes this replica's record; made anew when a leader had given it up. Where nobody else reads it, seldom. */
  const report = async (watermark: Date, intervalMs: number): Promise<void> => {
    const known = reported?.intervalMs === intervalMs;
    reported = { watermark, intervalMs };
    if (!exclusive || !known) await announce(watermark, intervalMs);
  };

  const announce = async (watermark: Date, intervalMs: number): Promise<void> => {
    const fields = { watermark, interval_ms: intervalMs, ...(joined ? { joined } : {}) };
    await replicas.updateOne(
      { _id: replicaId },
      { $set: fields, $unset: { left: true }, $setOnInsert: { started_at: startedAt, coordination } },
      { upsert: true },
    );
  };

  /** A record that in-process coordination forbids beside ours, while it may be of a living replica. */
  const conflicts = (record: ReplicaDocument): boolean =>
    record._id !== replicaId && (coordination === "local" || record.coordination === "local") && isAlive(record);

  const refusal = async (living: ReplicaDocument): Promise<ReplicaRefusedError> => {
    await replicas.deleteMany({ _id: replicaId }, { limit: 1 });
    const which = living.coordination === "local" ? "it" : "this one";
    return new ReplicaRefusedError(
      `Replica ${living._id} serves from this database, and ${which} has in-process coordination: set REDIS_URL for all replicas`,
    );
  };

  /** Where nobody else reads the record there is nothing to count. One that a leader has forgotten comes back by `report`. */
  const turn = async (): Promise<Next> => {
    if (exclusive || !joined) return "idle";
    await replicas.updateOne({ _id: replicaId }, { $inc: { turns: 1 } });
    return undefined;
  };

  const away = outage({
    log: parts.log,
    began: "This replica cannot write that it lives",
    ended: "This replica writes again that it lives",
  });

  return {
    task: turns({ clock, everyMs: turnMs, turn, away }).task,
    report,

    /**
     * Takes a place among the replicas. Where one of two would have in-process coordination, waits until the other's
     * record has proved to be of a dead process, about 10 s at the most. Asked again it does nothing.
     * @throws ReplicaRefusedError when the other one lives, StoreUnavailableError
     */
    join: async (intervalMs: number, signal: AbortSignal): Promise<void> => {
      if (joined) return;
      const first = new Map<string, string>();
      while (!signal.aborted) {
        // Again each time, so that two that come at once see each other live; of those the smaller id stays.
        await announce(await store.now(), intervalMs);
        const others = (await all()).filter(conflicts);
        for (const other of others) if (!first.has(other._id)) first.set(other._id, lifeOf(other));
        const living = others.filter((other) => lifeOf(other) !== first.get(other._id));
        const stronger = living.find(({ _id, joined: stands }) => stands === true || _id < replicaId);
        if (stronger !== undefined) throw await refusal(stronger);
        if (others.length === 0) break;
        await clock.sleep(lookMs, signal);
      }
      joined = true;
      await announce(await store.now(), intervalMs);
    },

    /** All records, this replica's among them. Liveness counts from the first look that this process has had. */
    look: async (): Promise<Replica[]> => {
      const records = await all();
      const ids = new Set(records.map(({ _id }) => _id));
      for (const id of seen.keys()) if (!ids.has(id)) seen.delete(id);
      return records.map(toReplica);
    },

    /** How many live, by the store's clock: for people, nothing is decided by it. */
    countAlive: async (): Promise<number> => {
      const now = await store.now();
      const fresh = (await all()).filter(
        (record) => record._id !== replicaId && !exclusive && !record.left && +now - +record.watermark < deadAfterMs,
      );
      return fresh.length + 1;
    },

    /** Says that nothing more is to come from this replica. */
    leave: async (): Promise<void> => {
      await replicas.updateOne({ _id: replicaId }, { $set: { left: true } });
    },

    /** Forgets a dead replica that has nothing left to be judged, unless it has come back. */
    forget: async ({ id, watermark, turns }: Replica): Promise<void> => {
      const asSeen = { watermark, turns: turns ?? { $exists: false } };
      await replicas.deleteMany({ _id: id, ...asSeen }, { limit: 1 });
    },
  };
}

/** What changes while a replica lives: it announces itself before it counts turns. */
const lifeOf = ({ watermark, turns }: ReplicaDocument): string => `${watermark.getTime()} ${turns ?? 0}`;

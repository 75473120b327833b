// The list of live replicas. Each one counts its turns in its record about once a second, and stores its watermark
// there: the store's time up to which all beats it has received are in the store. A live replica may be late with its
// watermark, so only the turns prove that it lives. Each watcher judges silence by its own monotonic clock; clocks are
// never compared.
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
  /** Grows about once a second while the replica lives and reaches the store. */
  readonly turns?: number;
  /** The longest time between beats that it currently tells nodes. */
  readonly interval_ms: number;
  readonly coordination: "local" | "redis";
  /** It has found no replica that forbids it to serve. */
  readonly joined?: true;
  /** It has stopped in order: it writes nothing more. */
  readonly left?: true;
}

export const replicasCollection: CollectionDefinition = {
  name: "replicas",
  durability: "durable",
  dates: ["started_at", "watermark"],
  indexes: [],
};

/** Another replica as seen from here. */
export interface Replica {
  readonly id: string;
  readonly alive: boolean;
  readonly watermark: Date;
  readonly turns: number | undefined;
  readonly intervalMs: number;
}

/** Another live replica is out of reach of in-process coordination. The message says what to set. */
export class ReplicaRefusedError extends StartError {
  override readonly name = "ReplicaRefusedError";
}

export type Roster = Awaited<ReturnType<typeof createRoster>>;

/** A replica without a turn for this long counts as dead. Its nodes then get the grace of a restart. */
export const deadAfterMs = 10_000;
const turnMs = 1000;
const replicasMax = 1000;
const lookMs = 500;

export async function createRoster(parts: {
  readonly store: Store;
  readonly clock: Clock;
  readonly replicaId: string;
  readonly coordination: "local" | "redis";
  /** This process is the store's only user, so every other record belongs to a process that has ended. */
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

  /** Since when the record has not changed, as far as this process has seen. */
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

  /** Writes this replica's record, or restores a removed one. Written rarely if no other replica reads it. */
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

  /** Whether the record forbids in-process coordination beside ours, while its replica may be alive. */
  const conflicts = (record: ReplicaDocument): boolean =>
    record._id !== replicaId && (coordination === "local" || record.coordination === "local") && isAlive(record);

  const refusal = async (living: ReplicaDocument): Promise<ReplicaRefusedError> => {
    await replicas.deleteMany({ _id: replicaId }, { limit: 1 });
    const which = living.coordination === "local" ? "it" : "this one";
    return new ReplicaRefusedError(
      `Replica ${living._id} serves from this database, and ${which} has in-process coordination: set REDIS_URL for all replicas`,
    );
  };

  /** Counts a turn, if other replicas read the record. `report` restores a record that a leader has removed. */
  const turn = async (): Promise<Next> => {
    if (exclusive || !joined) return "idle";
    await replicas.updateOne({ _id: replicaId }, { $inc: { turns: 1 } });
    return undefined;
  };

  const away = outage({
    log: parts.log,
    began: "This replica cannot write its sign of life",
    ended: "This replica writes its sign of life again",
  });

  return {
    task: turns({ clock, everyMs: turnMs, turn, away }).task,
    report,

    /**
     * Joins the replicas. If in-process coordination forbids another one's record beside ours, waits until that process has
     * proved dead, at most about 10 s. A second call does nothing.
     * @throws ReplicaRefusedError when the other replica lives, StoreUnavailableError
     */
    join: async (intervalMs: number, signal: AbortSignal): Promise<void> => {
      if (joined) return;
      const first = new Map<string, string>();
      while (!signal.aborted) {
        // Announced each time, so that two replicas that start at once see each other alive; the smaller id stays.
        await announce(await store.now(), intervalMs);
        const others = (await all()).filter(conflicts);
        for (const other of others) if (!first.has(other._id)) first.set(other._id, lifeOf(other));
        const living = others.filter((other) => lifeOf(other) !== first.get(other._id));
        const stronger = living.find(({ _id, joined: hasJoined }) => hasJoined === true || _id < replicaId);
        if (stronger !== undefined) throw await refusal(stronger);
        if (others.length === 0) break;
        await clock.sleep(lookMs, signal);
      }
      joined = true;
      await announce(await store.now(), intervalMs);
    },

    /** All records, including this replica's. Liveness counts from this process's first look. */
    look: async (): Promise<Replica[]> => {
      const records = await all();
      const ids = new Set(records.map(({ _id }) => _id));
      for (const id of seen.keys()) if (!ids.has(id)) seen.delete(id);
      return records.map(toReplica);
    },

    /** How many replicas live, by the store's clock. For people only; no decision uses it. */
    countAlive: async (): Promise<number> => {
      const now = await store.now();
      const fresh = (await all()).filter(
        (record) => record._id !== replicaId && !exclusive && !record.left && +now - +record.watermark < deadAfterMs,
      );
      return fresh.length + 1;
    },

    /** Declares that this replica writes nothing more. */
    leave: async (): Promise<void> => {
      await replicas.updateOne({ _id: replicaId }, { $set: { left: true } });
    },

    /** Removes a dead replica without nodes left to judge, unless it has come back. */
    forget: async ({ id, watermark, turns }: Replica): Promise<void> => {
      const asSeen = { watermark, turns: turns ?? { $exists: false } };
      await replicas.deleteMany({ _id: id, ...asSeen }, { limit: 1 });
    },
  };
}

/** The part of a record that changes while the replica lives: it announces itself before it counts turns. */
const lifeOf = ({ watermark, turns }: ReplicaDocument): string => `${watermark.getTime()} ${turns ?? 0}`;

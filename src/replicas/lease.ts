// Elects the leader: one replica at a time does the work that must happen once for the whole fleet. The lease is a
// document, so it is as durable as the data that it protects. Each holder gets a larger token than all before it, even
// if the lease document is lost: then the fences in the leaders' writes give the largest token so far.
import { randomUUID } from "node:crypto";
import type { Clock } from "../clock.js";
import type { CollectionDefinition, Filter, Store } from "../storage/collection.js";
import { insertUnlessThere } from "../storage/insert.js";
import { type Next, outage, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";

interface LeaseDocument {
  readonly _id: string;
  readonly holder: string;
  /** The fencing token: larger by one for each new holder. */
  readonly token: number;
  /** By the store's clock. */
  readonly expires_at: Date;
  readonly write_id: string;
}

export const leasesCollection: CollectionDefinition = {
  name: "leases",
  durability: "durable",
  dates: ["expires_at"],
  indexes: [],
};

/** Proof of leading, as far as this process knows. */
export interface Leadership {
  /** Stored with every write of the leader, so that a late write of an older leader can be recognised. */
  readonly token: number;
  /** False as soon as another replica may have taken over. */
  holds(): boolean;
}

/** Matches documents that no later leader than that token's has written; they store the token as `fence`. */
export const notFenced = (token: number): Filter => ({
  $or: [{ fence: { $exists: false } }, { fence: { $lte: token } }],
});

export type Lease = Awaited<ReturnType<typeof createLease>>;

const leaseMs = 10_000;
const turnMs = 1_000;
/** The holder stops leading this long before the lease expires in the store. */
const marginMs = 2_000;

export async function createLease(parts: {
  readonly store: Store;
  readonly clock: Clock;
  readonly name: string;
  /** Unique to this process. */
  readonly owner: string;
  /** This process is the store's only user, so every earlier holder is gone. */
  readonly exclusive: boolean;
  /** The largest token in any leader's write; 0 if there is none. */
  readonly highestFence: () => Promise<number>;
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { store, clock, name, owner, exclusive, log } = parts;
  const leases = await store.collection<LeaseDocument>(leasesCollection);
  let held: { readonly token: number; readonly untilMs: number } | undefined;

  const holds = (token: number): boolean => held?.token === token && clock.monotonicMs() < held.untilMs;

  /** Writes only if the lease is unchanged since it was read. */
  const write = async (found: LeaseDocument | null, token: number, expiresAt: Date): Promise<LeaseDocument | null> => {
    const fields = { holder: owner, token, expires_at: expiresAt, write_id: randomUUID() };
    const asRead: Filter = { _id: name, ...(found === null ? {} : { write_id: found.write_id }) };
    if (found !== null) return leases.findOneAndUpdate(asRead, { $set: fields });
    const made = { _id: name, ...fields };
    return (await insertUnlessThere(leases, made)) ? made : null;
  };

  /** Takes or renews the lease if that is allowed. */
  const turn = async (): Promise<Next> => {
    // Read before the store's time: the wait for the answer shortens our own view of the lease, never extends it.
    const askedMs = clock.monotonicMs();
    // Renewed only every few turns: a valid lease need not be written every second.
    if (held !== undefined && held.untilMs - askedMs > leaseMs / 2) return "idle";
    const now = await store.now();
    const found = await leases.findOne({ _id: name });
    const own = found?.holder === owner;
    if (found !== null && !own && !exclusive && found.expires_at > now) {
      held = undefined;
      return undefined;
    }
    const known = Math.max(found?.token ?? 0, await parts.highestFence());
    // If the lease document was lost, another leader may have written since; our token must be larger than its.
    const token = own && found.token === known ? known : known + 1;
    const written = await write(found, token, new Date(now.getTime() + leaseMs));
    if (written !== null && held?.token !== token) log.info("This replica leads", { lease: name, term: token });
    held = written === null ? undefined : { token, untilMs: askedMs + leaseMs - marginMs };
    return undefined;
  };

  const release = async (): Promise<void> => {
    if (held === undefined) return;
    const { token } = held;
    held = undefined;
    await leases.updateOne({ _id: name, holder: owner, token }, { $set: { expires_at: new Date(0) } });
  };

  const away = outage({
    log,
    began: "The leader's lease cannot be taken or renewed now",
    ended: "The leader's lease can be taken or renewed again",
  });

  return {
    task: turns({ clock, everyMs: turnMs, turn, away, last: release }).task,
    /** Takes or renews the lease now, if that is allowed. @throws StoreUnavailableError */
    take: async (): Promise<void> => {
      await turn();
    },
    /** Undefined while another replica leads, or none. */
    leadership: (): Leadership | undefined => {
      if (held === undefined || !holds(held.token)) return undefined;
      const { token } = held;
      return { token, holds: () => holds(token) };
    },
  };
}

// Who leads: one replica at a time does what must be done once for the whole fleet. The lease is a document, so that it
// is as safe as what it protects; each holder has a token greater than any before it, though the lease itself be lost: then
// the fences in what leaders have written tell how far the tokens had come.
import { randomUUID } from "node:crypto";
import type { Clock } from "../clock.js";
import type { CollectionDefinition, Filter, Store } from "../storage/collection.js";
import { insertUnlessThere } from "../storage/insert.js";
import { type Next, outage, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";

interface LeaseDocument {
  readonly _id: string;
  readonly holder: string;
  /** The fencing token: grows by one with each new holder. */
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

/** Leading, as far as this process knows. */
export interface Leadership {
  /** Goes with every write of the leader, so that one of an older leader that wakes up late can be told. */
  readonly token: number;
  /** False from the moment on that another replica may have taken over. */
  holds(): boolean;
}

/** Holds for documents that no later leader than the one of that token has written; they keep the token as `fence`. */
export const notFenced = (token: number): Filter => ({
  $or: [{ fence: { $exists: false } }, { fence: { $lte: token } }],
});

export type Lease = Awaited<ReturnType<typeof createLease>>;

const leaseMs = 10_000;
const turnMs = 1_000;
/** Given up locally this long before it runs out in the store. */
const marginMs = 2_000;

export async function createLease(parts: {
  readonly store: Store;
  readonly clock: Clock;
  readonly name: string;
  /** Unique to this process. */
  readonly owner: string;
  /** The store has no other user: whoever held the lease before is gone. */
  readonly exclusive: boolean;
  /** The greatest token in anything that a leader has written; 0 while there is none. */
  readonly highestFence: () => Promise<number>;
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { store, clock, name, owner, exclusive, log } = parts;
  const leases = await store.collection<LeaseDocument>(leasesCollection);
  let held: { readonly token: number; readonly untilMs: number } | undefined;

  const holds = (token: number): boolean => held?.token === token && clock.monotonicMs() < held.untilMs;

  /** Writes only while the lease is as it was read. */
  const write = async (found: LeaseDocument | null, token: number, expiresAt: Date): Promise<LeaseDocument | null> => {
    const fields = { holder: owner, token, expires_at: expiresAt, write_id: randomUUID() };
    const asRead: Filter = { _id: name, ...(found === null ? {} : { write_id: found.write_id }) };
    if (found !== null) return leases.findOneAndUpdate(asRead, { $set: fields });
    const made = { _id: name, ...fields };
    return (await insertUnlessThere(leases, made)) ? made : null;
  };

  /** Takes or prolongs the lease where that is allowed. */
  const turn = async (): Promise<Next> => {
    // Before the store is asked for the time: what passes until the answer shortens our own belief, never the store's.
    const askedMs = clock.monotonicMs();
    // Prolonged each few turns: a lease that stands needs no word a second.
    if (held !== undefined && held.untilMs - askedMs > leaseMs / 2) return "idle";
    const now = await store.now();
    const found = await leases.findOne({ _id: name });
    const own = found?.holder === owner;
    if (found !== null && !own && !exclusive && found.expires_at > now) {
      held = undefined;
      return undefined;
    }
    const known = Math.max(found?.token ?? 0, await parts.highestFence());
    // A leader of a lease that was lost may have written since: its writes must not stand above ours.
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
    began: "The lease of the leader is neither taken nor prolonged now",
    ended: "The lease of the leader is taken or prolonged again",
  });

  return {
    task: turns({ clock, everyMs: turnMs, turn, away, last: release }).task,
    /** Takes or prolongs the lease now, where that is allowed. @throws StoreUnavailableError */
    take: async (): Promise<void> => {
      await turn();
    },
    /** Undefined while another replica leads, or nobody. */
    leadership: (): Leadership | undefined => {
      if (held === undefined || !holds(held.token)) return undefined;
      const { token } = held;
      return { token, holds: () => holds(token) };
    },
  };
}

// Who leads: tokens grow whatever happens to the lease, and the fences in their writes tell leaders apart.

import { beforeEach, describe, expect, it } from "vitest";
import { createLease, notFenced } from "../../src/replicas/lease.js";
import type { Collection, Store, StoredDocument } from "../../src/storage/collection.js";
import { silentLog } from "../../src/telemetry/log.js";
import { type Engines, embeddedEngines } from "../support/engines/engines.js";
import { createTestClock, type TestClock } from "../support/world/clock.js";

interface Led extends StoredDocument {
  readonly fence?: number;
}

describe("a lease", () => {
  let clock: TestClock;
  let engines: Engines;
  let store: Store;
  let led: Collection<Led>;
  beforeEach(async () => {
    clock = createTestClock();
    engines = embeddedEngines(clock);
    ({ store } = await engines.open());
    led = await store.collection<Led>({
      ...{ name: "led", durability: "durable", dates: [] },
      indexes: [{ name: "idx_fence", key: ["fence"], partial: { fence: { $exists: true } } }],
    });
    return async () => {
      await store[Symbol.asyncDispose]();
      engines.remove();
    };
  });

  const highestFence = async () =>
    (await led.page({ fence: { $exists: true } }, { index: "idx_fence", descending: true, limit: 1 })).items[0]
      ?.fence ?? 0;
  const aReplica = (owner: string) =>
    createLease({ store, clock, name: "fleet", owner, exclusive: false, highestFence, log: silentLog });
  /** Takes the lease, and writes a document as the leader. */
  const lead = async (lease: Awaited<ReturnType<typeof aReplica>>, _id: string): Promise<number> => {
    await lease.take();
    const token = lease.leadership()?.token ?? Number.NaN;
    await led.updateOne({ _id }, { $set: { fence: token } }, { upsert: true });
    return token;
  };
  const drop = async () => {
    const leases = await store.collection<StoredDocument>({
      ...{ name: "leases", durability: "durable", dates: ["expires_at"], indexes: [] },
    });
    expect(await leases.deleteMany({}, { index: "_id_", limit: 10 })).toBe(1);
  };

  it("has a greater token with each new holder, and the same one while it is prolonged", async () => {
    const [one, other] = [await aReplica("one"), await aReplica("other")];
    const first = await lead(one, "a");
    await clock.advance(6_000);
    expect(await lead(one, "a")).toBe(first);
    await other.take();
    expect(other.leadership()).toBeUndefined();
    await clock.advance(11_000);
    expect(await lead(other, "a")).toBe(first + 1);
  });

  it("that is lost begins above every fence in the store", async () => {
    await led.insertOne({ _id: "old", fence: 41 });
    const one = await aReplica("one");
    expect(await lead(one, "a")).toBe(42);
    await drop();
    const other = await aReplica("other");
    const token = await lead(other, "b");
    expect(token).toBe(43);
    // The new leader may change what the former leader wrote, but not the other way round.
    const fenced = (by: number) => led.updateOne({ _id: "a", ...notFenced(by) }, { $set: { fence: by } });
    expect(await fenced(token)).toMatchObject({ matched: 1 });
    expect(await fenced(42)).toMatchObject({ matched: 0 });
  });

  it("rises above what a leader of a lost lease writes after it was lost", async () => {
    const one = await aReplica("one");
    // One replica leads for three terms and has written nothing yet.
    for (let term = 1; term <= 3; term++) {
      await one.take();
      await clock.advance(20_000);
      await (await aReplica(`between ${term}`)).take();
      await clock.advance(20_000);
    }
    await one.take();
    const former = one.leadership()?.token ?? 0;
    await drop();
    const other = await aReplica("other");
    await other.take();
    expect(other.leadership()?.token).toBeLessThan(former);
    await led.insertOne({ _id: "late", fence: former });
    await clock.advance(6_000);
    await other.take();
    expect(other.leadership()?.token).toBe(former + 1);
  });
});

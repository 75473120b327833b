// What every engine of the document store promises: its beginning and end.
import { describe, expect, it } from "vitest";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { type StoreUnderTest, type Thing, things } from "./store-under-test.js";

export function describeLife(at: StoreUnderTest): void {
  describe("its life", () => {
    it("tells the time and answers a ping", async () => {
      expect(await at.opened.store.now()).toBeInstanceOf(Date);
      await at.opened.store.ping();
      await expect(at.opened.store.ping(AbortSignal.abort())).rejects.toThrow(/abort/i);
    });

    it("refuses everything once disposed of, twice as well", async () => {
      const { store } = at.opened;
      await at.all.insertOne({ _id: "a" });
      await store[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      const byId = { _id: "a" };
      const change = { $set: { x: 1 } };
      const calls = [
        () => at.all.insertOne({ _id: "b" }),
        () => at.all.insertMany([{ _id: "b" }]),
        () => at.all.findOne(byId),
        () => at.all.page({}, { index: "_id_", limit: 1 }),
        () => at.all.count(byId),
        () => at.all.updateOne(byId, change),
        () => at.all.findOneAndUpdate(byId, change),
        () => at.all.bulkUpdate([{ filter: byId, update: change }]),
        () => at.all.deleteMany(byId, { limit: 1 }),
        () => store.collection(things),
        () => store.now(),
        () => store.ping(),
      ];
      for (const call of calls) await expect(call(), String(call)).rejects.toBeInstanceOf(StoreUnavailableError);
    });

    it("commits what was asked before it was disposed of, or says that it did not", async () => {
      const writes = Array.from({ length: 100 }, (_, n) => at.all.insertOne({ _id: `n${n}` }));
      const reopening = at.opened.reopen();
      const outcomes = await Promise.allSettled(writes);
      const again = await (await reopening).collection<Thing>(things);
      for (const [n, outcome] of outcomes.entries()) {
        if (outcome.status === "fulfilled") expect(await again.findOne({ _id: `n${n}` })).not.toBeNull();
        else expect(outcome.reason).toBeInstanceOf(StoreUnavailableError);
      }
    });
  });
}

// Counts and times the store's operations, whichever engine it is.
import type { Collection, CollectionDefinition, Store, StoredDocument } from "./collection.js";

/** Called when an operation has ended. A duplicate key counts as a success of the store. */
export type Observe = (operation: string, collection: string, outcome: "success" | "error", seconds: number) => void;

export function observeStore(store: Store, observe: Observe, isAnswer: (error: unknown) => boolean): Store {
  const timed =
    (collection: string) =>
    <Arguments extends unknown[], Result>(operation: string, call: (...given: Arguments) => Promise<Result>) =>
    async (...given: Arguments): Promise<Result> => {
      const beganMs = performance.now();
      let outcome: "success" | "error" = "success";
      try {
        return await call(...given);
      } catch (error) {
        if (!isAnswer(error)) outcome = "error";
        throw error;
      } finally {
        observe(operation, collection, outcome, (performance.now() - beganMs) / 1000);
      }
    };

  const wrap = <T extends StoredDocument>(name: string, inner: Collection<T>): Collection<T> => {
    const time = timed(name);
    return {
      insertOne: time("insertOne", inner.insertOne.bind(inner)),
      insertMany: time("insertMany", inner.insertMany.bind(inner)),
      findOne: time("findOne", inner.findOne.bind(inner)),
      page: time("page", inner.page.bind(inner)),
      count: time("count", inner.count.bind(inner)),
      updateOne: time("updateOne", inner.updateOne.bind(inner)),
      findOneAndUpdate: time("findOneAndUpdate", inner.findOneAndUpdate.bind(inner)),
      bulkUpdate: time("bulkUpdate", inner.bulkUpdate.bind(inner)),
      deleteMany: time("deleteMany", inner.deleteMany.bind(inner)),
    };
  };

  return {
    engine: store.engine,
    collection: async <T extends StoredDocument>(definition: CollectionDefinition) =>
      wrap(definition.name, await store.collection<T>(definition)),
    now: store.now.bind(store),
    ping: timed("-")("ping", store.ping.bind(store)),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

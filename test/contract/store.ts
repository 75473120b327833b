// T24: what every engine of the document store promises. Same inputs, same results, same errors.
import { afterEach, beforeEach, describe } from "vitest";
import type { Collection } from "../../src/storage/collection.js";
import { describeDocuments } from "./store-documents.js";
import { describeFilters } from "./store-filters.js";
import { describeLife } from "./store-life.js";
import { describePages } from "./store-pages.js";
import { type OpenStore, type Thing, things } from "./store-under-test.js";
import { describeUpdates } from "./store-updates.js";

export { type OpenStore, things } from "./store-under-test.js";

/** `open` answers a store without documents; it is called before each test. */
export function describeStore(name: string, open: () => Promise<OpenStore>): void {
  describe(`${name}: the store`, () => {
    let opened: OpenStore;
    let all: Collection<Thing>;
    beforeEach(async () => {
      opened = await open();
      all = await opened.store.collection<Thing>(things);
    });
    afterEach(() => opened.close());
    const at = {
      get opened() {
        return opened;
      },
      get all() {
        return all;
      },
      get: (_id: string) => all.findOne({ _id }),
    };
    describeDocuments(at);
    describeFilters(at);
    describeUpdates(at);
    describePages(at);
    describeLife(at);
  });
}

// The store of the simulated world keeps what every engine promises; otherwise what the world shows would be worthless.
import { describeStore } from "../../contract/store.js";
import { createMemoryStore } from "./memory-store.js";

describeStore("in memory", async () => {
  const store = createMemoryStore({ now: () => new Date("2026-01-01T00:00:00Z") });
  return {
    store,
    reopen: async () => {
      store.restore(store.snapshot());
      return store;
    },
    close: async () => undefined,
  };
});

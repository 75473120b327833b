// What every engine of coordination promises.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Coordination } from "../../src/coordination/coordination.js";

export interface OpenCoordination {
  readonly coordination: Coordination;
  /** The same coordination as another replica sees it; the same object if there is only one replica. */
  readonly other: Coordination;
  /** Lets time pass by the engine's clock. */
  pass(ms: number): Promise<void>;
  close(): Promise<void>;
}

export function describeCoordination(name: string, open: () => Promise<OpenCoordination>): void {
  describe(`${name}: coordination`, () => {
    let opened: OpenCoordination;
    let one: Coordination;
    let other: Coordination;
    beforeEach(async () => {
      opened = await open();
      one = opened.coordination;
      other = opened.other;
    });
    afterEach(() => opened.close());

    describe("hits", () => {
      it("are allowed up to the limit and counted beyond", async () => {
        const hits = [];
        for (let n = 0; n < 4; n++) hits.push(await (n % 2 ? one : other).hit("key", 2, 10_000));
        expect(hits.map(({ allowed, count }) => [allowed, count])).toEqual([
          [true, 1],
          [true, 2],
          [false, 3],
          [false, 4],
        ]);
      });

      it("count by key, whatever text it is", async () => {
        const keys = ["a", "a:", "A", "{a}", "a b", "a\nb", "ä", "*", "x".repeat(1000)];
        for (const key of keys) expect(await one.hit(key, 1, 30_000)).toMatchObject({ allowed: true, count: 1 });
        for (const key of keys) expect(await other.hit(key, 1, 30_000)).toMatchObject({ allowed: false, count: 2 });
      });

      it("begin anew when the window is over, which later hits do not prolong", async () => {
        const first = await one.hit("key", 1, 40_000);
        expect(first.resetMs).toBeGreaterThan(30_000);
        expect(first.resetMs).toBeLessThanOrEqual(40_000);
        await opened.pass(20_000);
        const second = await other.hit("key", 1, 40_000);
        expect(second.allowed).toBe(false);
        expect(second.resetMs).toBeGreaterThan(10_000);
        expect(second.resetMs).toBeLessThanOrEqual(20_000);
        await opened.pass(20_000);
        expect(await one.hit("key", 1, 40_000)).toMatchObject({ allowed: true, count: 1 });
      });

      it("keep the window that the first one began, whatever the later ones ask", async () => {
        await one.hit("key", 5, 10_000);
        const later = await one.hit("key", 1, 90_000);
        expect(later).toMatchObject({ allowed: false, count: 2 });
        expect(later.resetMs).toBeLessThanOrEqual(10_000);
      });

      it("are each counted once when they come at once", async () => {
        const hits = await Promise.all(
          Array.from({ length: 100 }, (_, n) => (n % 2 ? one : other).hit("key", 30, 10_000)),
        );
        expect(hits.filter(({ allowed }) => allowed)).toHaveLength(30);
        expect(new Set(hits.map(({ count }) => count)).size).toBe(100);
      });

      it("of none allowed are all refused", async () => {
        expect(await one.hit("key", 0, 1000)).toMatchObject({ allowed: false, count: 1 });
      });
    });

    describe("messages", () => {
      const until = (done: () => boolean) => expect.poll(done, { timeout: 5000, interval: 1 }).toBe(true);

      it("reach every subscriber of the channel, in order, and no other", async () => {
        const heard: [string, string][] = [];
        const { signal } = new AbortController();
        await one.subscribe("news", (message) => heard.push(["one", message]), signal);
        await other.subscribe("news", (message) => heard.push(["other", message]), signal);
        await one.subscribe("else", (message) => heard.push(["else", message]), signal);
        for (const message of ["1", "2", "ä\n{}"]) await one.publish("news", message);
        await until(() => heard.length >= 6);
        for (const name of ["one", "other"]) {
          expect(heard.filter(([who]) => who === name).map(([, what]) => what)).toEqual(["1", "2", "ä\n{}"]);
        }
        expect(heard).toHaveLength(6);
      });

      it("end with the subscriber's signal", async () => {
        const heard: string[] = [];
        const [short, long] = [new AbortController(), new AbortController()];
        await one.subscribe("news", (message) => heard.push(`short ${message}`), short.signal);
        await one.subscribe("news", (message) => heard.push(`long ${message}`), long.signal);
        await one.subscribe("news", () => heard.push("never"), AbortSignal.abort());
        short.abort();
        await other.publish("news", "1");
        await until(() => heard.length > 0);
        expect(heard).toEqual(["long 1"]);
      });

      it("reach a handler once for each of its subscriptions, each of which has its own end", async () => {
        const heard: string[] = [];
        const handler = (message: string) => heard.push(message);
        const [short, long] = [new AbortController(), new AbortController()];
        await one.subscribe("news", handler, short.signal);
        await one.subscribe("news", handler, long.signal);
        await other.publish("news", "1");
        await until(() => heard.length === 2);
        short.abort();
        await other.publish("news", "2");
        await until(() => heard.length === 3);
        await other.publish("news", "last");
        await until(() => heard.includes("last"));
        expect(heard).toEqual(["1", "1", "2", "last"]);
      });

      it("come again to who subscribes again", async () => {
        const heard: string[] = [];
        for (let round = 0; round < 5; round++) {
          const control = new AbortController();
          await one.subscribe("news", (message) => heard.push(`${round} ${message}`), control.signal);
          await other.publish("news", "x");
          await until(() => heard.length === round + 1);
          control.abort();
        }
        expect(heard).toEqual(["0 x", "1 x", "2 x", "3 x", "4 x"]);
      });

      it("may be empty and may be long, on channels of any name", async () => {
        const heard: string[] = [];
        const messages = ["", "x".repeat(200_000), "last"];
        await one.subscribe("a *?[b]\n", (message) => heard.push(message), new AbortController().signal);
        for (const message of messages) await other.publish("a *?[b]\n", message);
        await until(() => heard.length === messages.length);
        expect(heard).toEqual(messages);
      });

      it("never run a handler in the middle of their publisher's work", async () => {
        let working = false;
        const heard: boolean[] = [];
        await one.subscribe("news", () => heard.push(working), new AbortController().signal);
        working = true;
        const published = one.publish("news", "1");
        working = false;
        await published;
        await until(() => heard.length > 0);
        expect(heard).toEqual([false]);
      });

      it("without a subscriber are lost", async () => {
        await one.publish("news", "1");
        const heard: string[] = [];
        await one.subscribe("news", (message) => heard.push(message), new AbortController().signal);
        await one.publish("news", "2");
        await until(() => heard.length > 0);
        expect(heard).toEqual(["2"]);
      });
    });

    describe("its life", () => {
      it("answers a ping", () => expect(one.ping()).resolves.toBeUndefined());

      it("refuses everything once disposed of, twice as well", async () => {
        await one[Symbol.asyncDispose]();
        await one[Symbol.asyncDispose]();
        await expect(one.hit("key", 1, 1)).rejects.toThrow();
        await expect(one.publish("news", "1")).rejects.toThrow();
        await expect(one.subscribe("news", () => undefined, new AbortController().signal)).rejects.toThrow();
        await expect(one.ping()).rejects.toThrow();
      });
    });
  });
}

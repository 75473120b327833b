// The sink over an output that the test imitates: full, failing, slow, or cut in the middle of a line.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createSink } from "../../src/telemetry/sink.js";

/** An output that takes `room` bytes, and after that answers as the test says. */
function system(bytesMax = 1_000) {
  const state = { room: Number.POSITIVE_INFINITY, otherwise: "EAGAIN", taken: "", calls: 0 };
  const putNow = (bytes: Buffer): number => {
    state.calls++;
    const count = Math.min(bytes.length, state.room);
    if (count === 0) throw Object.assign(new Error(state.otherwise), { code: state.otherwise });
    state.room -= count;
    state.taken += bytes.toString("utf8", 0, count);
    return count;
  };
  const put = (bytes: Buffer, done: (error: NodeJS.ErrnoException | null, written: number) => void) => {
    try {
      done(null, putNow(bytes));
    } catch (error) {
      done(error as NodeJS.ErrnoException, 0);
    }
  };
  return { state, sink: createSink({ put, putNow, bytesMax }) };
}

const line = (name: number, length = 10) => `${String(name).padStart(length - 1, "0")}\n`;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("a sink", () => {
  test("passes each line on at once while there is room", () => {
    const { state, sink } = system();
    sink.write("one\n");
    expect(state.taken).toBe("one\n");
    sink.write("two\n");
    expect(state).toMatchObject({ taken: "one\ntwo\n", calls: 2 });
  });

  test("keeps lines while the pipe is full, and goes on in order", () => {
    const { state, sink } = system();
    state.room = 0;
    for (let name = 1; name <= 5; name++) sink.write(line(name));
    expect(state.taken).toBe("");
    state.room = Number.POSITIVE_INFINITY;
    vi.advanceTimersByTime(200);
    expect(state.taken).toBe([1, 2, 3, 4, 5].map((name) => line(name)).join(""));
    expect(sink.dropped).toBe(0);
  });

  test("drops the oldest lines beyond its bound, says so once, and leaves no torn line", () => {
    const { state, sink } = system(100);
    const told: number[] = [];
    sink.onLoss((count) => {
      told.push(count);
      sink.write(`lost ${count}\n`);
    });
    state.room = 4;
    for (let name = 1; name <= 50; name++) sink.write(line(name));
    expect(sink.dropped).toBeGreaterThan(35);
    state.room = Number.POSITIVE_INFINITY;
    vi.advanceTimersByTime(1_000);
    const lines = state.taken.split("\n").slice(0, -1);
    expect(lines[0]).toBe(line(1).trim());
    expect(lines.at(-1)).toBe(`lost ${sink.dropped}`);
    expect(lines.slice(1, -1)).toEqual(
      Array.from({ length: 50 - 1 - sink.dropped }, (_, place) => line(place + 2 + sink.dropped).trim()),
    );
    expect(told).toEqual([sink.dropped]);
    sink.write(line(51));
    expect(told).toHaveLength(1);
  });

  test.each([
    ["one line beyond the bound", 5_000, 1],
    ["many lines together", 90, 200],
  ])("holds no more than its bound: %s", (_name, length, count) => {
    const { state, sink } = system(1_000);
    state.room = 0;
    for (let name = 0; name < count; name++) sink.write(line(name, length));
    state.room = Number.POSITIVE_INFINITY;
    vi.advanceTimersByTime(200);
    expect(state.taken.replace(/.*are lost\n/, "").length).toBeLessThanOrEqual(1_000);
  });

  test.each(["ENOSPC", "EIO", "EDQUOT", "EFBIG"])("outlives %s and writes when it has passed", (code) => {
    const { state, sink } = system();
    Object.assign(state, { room: 0, otherwise: code });
    sink.write("one\n");
    vi.advanceTimersByTime(60_000);
    expect(state.calls).toBeLessThan(70);
    state.room = Number.POSITIVE_INFINITY;
    vi.advanceTimersByTime(1_000);
    expect(state.taken).toBe("one\n");
  });

  test("drops at once what nobody will read, and begins with a whole line for the next reader", () => {
    const { state, sink } = system();
    Object.assign(state, { room: 2, otherwise: "EPIPE" });
    sink.write("torn\n");
    sink.write("gone\n");
    expect(sink.dropped).toBeGreaterThan(0);
    state.taken = "";
    state.room = Number.POSITIVE_INFINITY;
    vi.advanceTimersByTime(1_000);
    sink.write("next\n");
    expect(state.taken).toContain("next\n");
    expect(state.taken).not.toContain("rn\n");
  });

  test("flushes what waits before it returns, and says whether all was written", () => {
    vi.useRealTimers();
    const { state, sink } = system();
    state.room = 0;
    sink.write("one\n");
    expect(sink.flush(20)).toBe(false);
    state.room = Number.POSITIVE_INFINITY;
    expect(sink.flush(20)).toBe(true);
    expect(state.taken).toBe("one\n");
  });

  test("does not stand still at the end for a disk that is full", () => {
    const { state, sink } = system();
    Object.assign(state, { room: 0, otherwise: "ENOSPC" });
    sink.write("one\n");
    const calls = state.calls;
    expect(sink.flush(60_000)).toBe(false);
    expect(state.calls).toBe(calls + 1);
  });

  test("does not write twice what a thread is writing when it is flushed", () => {
    const waiting: (() => void)[] = [];
    let taken = "";
    const putNow = (bytes: Buffer) => {
      taken += bytes.toString();
      return bytes.length;
    };
    const sink = createSink({
      bytesMax: 1_000,
      putNow,
      put: (bytes, done) => void waiting.push(() => done(null, putNow(bytes))),
    });
    sink.write("one\n");
    sink.write("two\n");
    sink.flush(10);
    for (const land of waiting) land();
    expect(taken.split("\n").sort()).toEqual(["", "one", "two"]);
  });
});

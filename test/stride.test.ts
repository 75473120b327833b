// The adaptive batch size, write after write.
import { expect, test } from "vitest";
import { createStride } from "../src/stride.js";

/** The size before each write and after the last. "x" is a write that fails, "o" a write that succeeds. */
async function sizes(max: number, min: number, writes: string): Promise<number[]> {
  const stride = createStride(max, min);
  const found = [stride.size()];
  for (const write of writes) {
    const outcome = stride.attempt(async () => {
      if (write === "x") throw new Error("too many");
    });
    await (write === "x" ? expect(outcome).rejects.toThrow("too many") : outcome);
    found.push(stride.size());
  }
  return found;
}

test.each([
  ["begins at the most, and stays there while writes work", 1000, 5, "oo", [1000, 1000, 1000]],
  ["is a quarter after each failure, and never below the least", 1000, 5, "xxxxx", [1000, 250, 62, 15, 5, 5]],
  ["doubles up to the size that failed, then grows by sixteenths", 1000, 5, "xooo", [1000, 250, 500, 531, 564]],
  ["grows by one where a sixteenth is less than that", 32, 1, "xxooo", [32, 8, 2, 4, 5, 6]],
  ["goes by the last failure, not by an earlier one", 1000, 5, "xxooo", [1000, 250, 62, 124, 248, 263]],
  ["doubles again once the size that failed has worked", 32, 1, "xxooooooo", [32, 8, 2, 4, 5, 6, 7, 8, 16, 32]],
])("%s", async (_, max, min, writes, expected) => {
  expect(await sizes(max, min, writes)).toEqual(expected);
});

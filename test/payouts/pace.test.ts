// How long a payout waits.
import { expect, it } from "vitest";
import { backoffMs, pollMs } from "../../src/payouts/pace.js";

it.each([
  [0, 0, 2_000],
  [1, 0, 4_000],
  [4, 0, 32_000],
  [5, 0, 60_000],
  [1_000_000, 0, 60_000],
  [0, 0.999_999, 1_500],
  [5, 0.5, 52_500],
])("waits after %i waits, with chance %f, for %i ms", (waits, chance, ms) => {
  expect(backoffMs(waits, 2_000, 60_000, chance)).toBe(ms);
});

it.each([
  [60_000, 15_000],
  [1_000_000, 15_000],
  [2_000, 500],
  [4, 50],
])("looks at a chain that is solid after %i ms each %i ms", (solidAfterMs, ms) => {
  expect(pollMs(solidAfterMs)).toBe(ms);
});

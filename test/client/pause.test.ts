// How long callers wait before they try again.
import { expect, test } from "vitest";
import { pauseMs } from "../../src/client/pause.js";

test.each<[string, number | undefined, number, number, number]>([
  ["nothing asked: its own backoff", undefined, 700, 0.5, 700],
  ["what is asked, at the least", 10_000, 700, 0, 10_000],
  ["up to a quarter more, at random", 10_000, 700, 0.8, 12_000],
  ["its own backoff where that is longer", 1_000, 5_000, 0.5, 5_000],
  ["less than nothing asked: its own backoff", -5_000, 700, 0.5, 700],
  ["no longer than ten minutes and a quarter, whatever is asked", 10_000_000 * 31_557_600_000, 700, 1, 750_000],
])("waits for %s", (_, asked, backoff, random, expected) => {
  expect(pauseMs(asked, backoff, random)).toBe(expected);
});

// Which errors the client retries, and why.
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { type RetryReason, retryReason } from "../../src/client/errors.js";

const reasons: Readonly<Partial<Record<keyof typeof Code, RetryReason>>> = {
  Unavailable: "away",
  ResourceExhausted: "limited",
  Aborted: "ended",
  Canceled: "broken",
  Internal: "broken",
  Unknown: "broken",
  DeadlineExceeded: "late",
};
const names = Object.keys(Code).filter((name): name is keyof typeof Code => Number.isNaN(Number(name)));

test.each(names)("%s", (name) => {
  expect(retryReason(new ConnectError("refused", Code[name]))).toBe(reasons[name]);
});

test("an error of our own is taken for a connection that broke, as Connect does", () => {
  expect(retryReason(new Error("socket hang up"))).toBe("broken");
});

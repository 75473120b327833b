// How a command that runs a service ends.
import { expect, test } from "vitest";
import { isExpected, runUntil } from "../../src/cli/service.js";
import { SettingsError } from "../../src/settings/environment.js";
import { DuplicateKeyError, StoreUnavailableError } from "../../src/storage/collection.js";
import { type Log, silentLog } from "../../src/telemetry/log.js";

/** A server that records its stop and the errors that it logs. When it is stopped, its work ends in order. */
function openServer({ fails, failsLast }: { fails?: Error; failsLast?: Error } = {}) {
  const said: string[] = [];
  const log: Log = { ...silentLog, error: (message, fields) => said.push(`${message}: ${fields?.error}`) };
  const { promise: failed, resolve, reject } = Promise.withResolvers<void>();
  failed.catch(() => undefined);
  if (fails !== undefined) reject(fails);
  const stop = async () => {
    said.push("stopped");
    if (failsLast === undefined) resolve();
    else reject(failsLast);
  };
  return { server: { failed, log, stop }, said };
}

test("a signal stops the service after all else has left, with exit code 0", async () => {
  const { server, said } = openServer();
  const control = new AbortController();
  const running = runUntil(control.signal, server, async () => void said.push("left"));
  expect(said).toEqual([]);
  control.abort();
  expect(await running).toBe(0);
  expect(said).toEqual(["left", "stopped"]);
});

test("a signal that came while the service started stops it at once", async () => {
  const { server, said } = openServer();
  expect(await runUntil(AbortSignal.abort(), server)).toBe(0);
  expect(said).toEqual(["stopped"]);
});

test("a service that cannot go on is stopped in the same order, with exit code 1", async () => {
  const { server, said } = openServer({ fails: new Error("our mistake") });
  expect(await runUntil(new AbortController().signal, server, async () => void said.push("left"))).toBe(1);
  expect(said).toEqual(["The service cannot go on: Error: our mistake", "left", "stopped"]);
});

test("a mistake in what the service does last is no orderly end", async () => {
  const { server, said } = openServer({ failsLast: new Error("our mistake") });
  expect(await runUntil(AbortSignal.abort(), server)).toBe(1);
  expect(said).toEqual(["stopped", "The service ended by a failure: Error: our mistake"]);
});

test("what an operator can mend or wait for is expected, and our own mistakes are not", () => {
  const expected = [
    new SettingsError(["PORT: many"]),
    new StoreUnavailableError("away"),
    new DuplicateKeyError("nodes", "idx_name"),
  ];
  for (const error of expected) expect(isExpected(error)).toBe(true);
  for (const error of [new Error("x"), new TypeError("x"), "x", undefined]) expect(isExpected(error)).toBe(false);
});

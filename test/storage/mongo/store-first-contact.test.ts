// What the store says of a MongoDB server from which it may not serve, or not yet.
import { expect, it } from "vitest";
import { StoreRefusedError, StoreUnavailableError } from "../../../src/storage/collection.js";
import { openMongoStore } from "../../../src/storage/mongo/store.js";
import { startFakeMongod } from "../../support/engines/fake-mongod.js";

const refusal = /^MongoDB at 127\.0\.0\.1:\d+ is too old: MongoDB 5\.0 or later is needed \(.*wire version.*\)$/;

// Versions 3.6 to 4.2, which the driver refuses, and 4.4, which the driver accepts.
it.each([6, 7, 8, 9, 12])("a server of wire version %i is refused at start, in a sentence", async (version) => {
  await using server = await startFakeMongod(version);
  const opened = openMongoStore({ url: server.url, database: "lucid", serverSelectionMs: 1000 });
  await expect(opened).rejects.toThrow(StoreRefusedError);
  await expect(opened).rejects.toThrow(refusal);
});

it.each([13, 17, 27])("a server of wire version %i is taken", async (version) => {
  await using server = await startFakeMongod(version);
  await using store = await openMongoStore({ url: server.url, database: "lucid", serverSelectionMs: 1000 });
  await store.ping();
});

it("a server that does not know the command by which it is asked is too old", async () => {
  const answer = (command: object) =>
    "hello" in command
      ? { ok: 0, code: 59, codeName: "CommandNotFound", errmsg: "no such command: 'hello'" }
      : undefined;
  await using server = await startFakeMongod(9, answer);
  const opened = openMongoStore({ url: server.url, database: "lucid", serverSelectionMs: 1000 });
  await expect(opened).rejects.toThrow(/is too old: MongoDB 5\.0 or later is needed/);
});

// Atlas answers 8000 where a mongod answers 18.
it.each([18, 8000])("a wrong password (%i) at start is waited for like an absence", async (code) => {
  const answer = (command: object) => {
    if (!("saslStart" in command)) return undefined;
    return { ok: 0, code, codeName: "AtlasError", errmsg: "bad auth : authentication failed" };
  };
  await using server = await startFakeMongod(17, answer);
  const url = server.url.replace("mongodb://", "mongodb://user:secret@");
  const lines: string[] = [];
  const log = { info: (line: string) => void lines.push(line), warn: (line: string) => void lines.push(line) };
  await using store = await openMongoStore({ url, database: "lucid", serverSelectionMs: 500, log });
  expect(lines).toEqual([expect.stringMatching(/does not answer: .*bad auth.*; trying again$/)]);
  const refused = await store.ping().catch((thrown: unknown) => thrown);
  expect(refused).toBeInstanceOf(StoreUnavailableError);
  expect(`${refused} ${lines.join()}`).not.toContain("secret");
});

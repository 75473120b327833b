// Connections that the service closes with GOAWAY: none of their errors ends the process.
import { once } from "node:events";
import { createServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import type { Http2SessionManager } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createSession } from "../../src/client/session.js";

let uncaught: unknown[];
const note = (error: unknown) => uncaught.push(error);
let others: NodeJS.UncaughtExceptionListener[];
beforeEach(() => {
  uncaught = [];
  others = process.listeners("uncaughtException") as NodeJS.UncaughtExceptionListener[];
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", note);
});
afterEach(() => {
  process.off("uncaughtException", note);
  for (const listener of others) process.on("uncaughtException", listener);
});

async function openServer() {
  const sessions: ServerHttp2Session[] = [];
  const server = createServer();
  server.on("session", (session) => sessions.push(session));
  server.on("stream", (stream) => {
    stream.respond({ ":status": 200 });
    stream.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sessions,
    [Symbol.asyncDispose]: async () => {
      for (const session of sessions) session.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** Makes a call, waits for its end, and returns its connection, which is idle then. */
async function call(session: Http2SessionManager) {
  const stream = await session.request("POST", "/", {}, {});
  const connection = stream.session;
  stream.end();
  stream.resume();
  await new Promise<void>((resolve) => void stream.once("close", () => resolve()));
  return connection;
}

describe("a connection that the service takes leave of while it is idle", () => {
  test.each<[string, (session: Http2SessionManager) => unknown]>([
    ["is closed by its client at that very moment", (session) => session.abort()],
    ["is followed by another call at that very moment", (session) => call(session)],
    ["is left alone", () => undefined],
  ])("and that %s ends nothing else", async (_, meanwhile) => {
    await using server = await openServer();
    const session = createSession(server.baseUrl);
    const connection = await call(session);
    if (connection === undefined) throw new Error("no connection");
    // Not `events.once`: it listens for errors, too, and so would hide the fault that this test looks for.
    const gone = new Promise<void>((resolve) => void connection.once("close", () => resolve()));
    const done = Promise.withResolvers<void>();
    connection.once("goaway", () => {
      Promise.resolve(meanwhile(session)).then(() => done.resolve(), done.reject);
    });
    server.sessions[0]?.goaway();
    await done.promise;
    await gone;
    await new Promise((resolve) => setImmediate(resolve));
    expect(uncaught).toEqual([]);
    session.abort();
  });
});

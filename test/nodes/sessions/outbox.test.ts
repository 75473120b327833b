// What waits to be sent on a stream stays small, whatever its reader does.
import { describe, expect, test } from "vitest";
import { createOutbox } from "../../../src/nodes/sessions/outbox.js";
import type { Outgoing } from "../../../src/nodes/sessions/session.js";
import { createTestClock } from "../../support/world/clock.js";

const ack = (sequence: number): Outgoing => ({
  kind: "ack",
  sequence: BigInt(sequence),
  nextAfterMs: 1,
  desired: "active",
});
const reconnect = (reason: string): Outgoing => ({ kind: "reconnect", afterMs: 0, reason });
const textOf = (message: Outgoing) => (message.kind === "ack" ? `ack ${message.sequence}` : message.kind);

async function drained(outbox: ReturnType<typeof createOutbox>): Promise<string[]> {
  const sent: string[] = [];
  for await (const message of outbox.messages()) sent.push(textOf(message));
  return sent;
}

describe("an outbox", () => {
  test("sends in order, then ends", async () => {
    const outbox = createOutbox(createTestClock());
    outbox.push(ack(1));
    outbox.push(reconnect("x"));
    outbox.end();
    outbox.push(ack(2));
    expect(await drained(outbox)).toEqual(["ack 1", "reconnect"]);
  });

  test("keeps the newest acknowledgements of a reader that falls behind, and everything else", async () => {
    const outbox = createOutbox(createTestClock());
    outbox.push(reconnect("first"));
    for (let sequence = 1; sequence <= 1_000; sequence++) outbox.push(ack(sequence));
    outbox.push(reconnect("last"));
    outbox.end();
    const sent = await drained(outbox);
    expect(sent).toHaveLength(18);
    expect(sent.at(0)).toBe("reconnect");
    expect(sent.slice(1, 3)).toEqual(["ack 985", "ack 986"]);
    expect(sent.slice(-2)).toEqual(["ack 1000", "reconnect"]);
  });

  test("ends a reader that is too far behind for the rest", async () => {
    const outbox = createOutbox(createTestClock());
    for (let count = 0; count < 100; count++) outbox.push(reconnect(String(count)));
    await expect(drained(outbox)).rejects.toMatchObject({ reason: "LUCID_ERR_5031" });
  });

  test("ends with the first failure it is given, after what was sent before", async () => {
    const outbox = createOutbox(createTestClock());
    outbox.push(ack(1));
    outbox.end(new Error("first"));
    outbox.end(new Error("second"));
    const messages = outbox.messages();
    expect((await messages.next()).value).toEqual(ack(1));
    await expect(messages.next()).rejects.toThrow("first");
  });

  test("knows since when its reader stands still", async () => {
    const clock = createTestClock();
    const outbox = createOutbox(clock);
    const messages = outbox.messages();
    outbox.push(ack(1));
    await messages.next();
    expect(outbox.stalledSinceMs()).toBeUndefined();
    await clock.advance(5_000);
    outbox.push(ack(2));
    expect(outbox.stalledSinceMs()).toBe(0);
    await messages.next();
    expect(outbox.stalledSinceMs()).toBeUndefined();
  });
});

// The meaning of a request: equal for every encoding of the same request, different for any other request.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { CreateNodeRequestSchema } from "../../gen/lucid/node/v1/node_service_pb.js";
import { CreatePoolRequestSchema } from "../../gen/lucid/node/v1/pool_service_pb.js";
import { idempotencyId, meaningOf } from "../../src/conventions/idempotency.js";

const meaning = (request: MessageInitShape<typeof CreateNodeRequestSchema>) =>
  meaningOf(CreateNodeRequestSchema, create(CreateNodeRequestSchema, request));

describe("the meaning of a request", () => {
  test("does not depend on the order of map entries, nor on the key, nor on explicit defaults", () => {
    const plain = meaning({ name: "abc", labels: { a: "1", b: "2" } });
    expect(meaning({ labels: { b: "2", a: "1" }, name: "abc" })).toBe(plain);
    expect(meaning({ name: "abc", labels: { a: "1", b: "2" }, idempotencyKey: "k" })).toBe(plain);
    expect(meaning({ name: "abc", labels: { a: "1", b: "2" }, initialPoolId: "" })).toBe(plain);
    expect(plain).toMatch(/^1:[0-9a-f]{64}$/);
  });

  test("stays what it was, since keys are recognised for ever", () => {
    const labels = { b: "2", "10": "x", "9": "y", a: "1", "\u00e9\u{1f600}": "z" };
    expect(meaning({ name: "abc", labels, configuration: { maxSessions: 1 } })).toBe(
      "1:749a167b654d758747f745a5afe8962f4e82935a2423002d64b697bd5ef35979",
    );
  });

  test("differs for anything else that differs, down to what is absent and what is zero", () => {
    const meanings = [
      {},
      { name: "abc" },
      { name: "abd" },
      { labels: { a: "1" } },
      { labels: { a: "" } },
      { labels: { "a.b": "1" } },
      { configuration: {} },
      { configuration: { maxSessions: 1 } },
      { configuration: { resourceLimits: {} } },
      { publicKey: new Uint8Array(32) },
      { payoutAddress: "x" },
    ].map(meaning);
    expect(new Set(meanings).size).toBe(meanings.length);
    const pool = (maxNodes?: number) =>
      meaningOf(CreatePoolRequestSchema, create(CreatePoolRequestSchema, maxNodes === undefined ? {} : { maxNodes }));
    // Defaults are not filled in: a request for the default value differs from a request without a value.
    expect(pool(100)).not.toBe(pool());
    expect(pool(0)).not.toBe(pool());
  });
});

describe("the identity of a key", () => {
  test("is the procedure's, the sender's and the key's together, and nothing can be moved between them", () => {
    const ids = [
      idempotencyId("a", "b", "c"),
      idempotencyId("ab", "", "c"),
      idempotencyId("a", "bc", ""),
      idempotencyId("a", "c", "b"),
      idempotencyId('a","b', "", "c"),
    ];
    expect(new Set(ids).size).toBe(ids.length);
    expect(idempotencyId("a", "b", "c")).toBe(ids[0]);
  });
});

// The faster base64 decoder returns the same as the library's own.
import { base64Decode as slow } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { expect, test, vi } from "vitest";

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

async function fastDecoder(): Promise<(text: string) => Uint8Array> {
  await import("../src/base64.js");
  vi.resetModules();
  const path = new URL("../node_modules/@bufbuild/protobuf/dist/esm/wire/base64-encoding.js?fast", import.meta.url)
    .href;
  const { base64Decode } = (await import(/* @vite-ignore */ path)) as { base64Decode: typeof slow };
  return base64Decode;
}

const outcome = (decode: (text: string) => Uint8Array, text: string): string => {
  try {
    return Buffer.from(decode(text)).toString("hex");
  } catch (error) {
    return String(error);
  }
};

test(`as the library's own decoder (seed ${seed})`, async () => {
  const before = "setFromBase64" in Uint8Array.prototype;
  const fast = await fastDecoder();
  expect(before).toBe(false);
  expect("setFromBase64" in Uint8Array.prototype).toBe(true);
  const text = fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString("base64")),
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString("base64url")),
    fc.stringMatching(/^[A-Za-z0-9+/=_\- \n]{0,40}$/),
    fc.string({ maxLength: 20 }),
  );
  fc.assert(
    fc.property(text, (given) => {
      expect(outcome(fast, given)).toBe(outcome(slow, given));
    }),
    { seed, numRuns: 5_000 },
  );
});

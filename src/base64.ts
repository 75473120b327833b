// Uint8Array.prototype.setFromBase64 (ECMAScript 2026), where this Node.js has none yet: the protobuf library uses it when it
// is there, and else decodes character by character, which takes the event loop 60 ms for a batch of ten megabytes of
// proofs in JSON. Imported before that library. Strict where Node's own decoder overlooks what is no base64.

interface Base64Result {
  /** Characters taken in. */
  readonly read: number;
  readonly written: number;
}

const strict = /^[A-Za-z0-9+/]*={0,2}$/;

/** @throws SyntaxError for anything but the standard alphabet; the library then looks itself */
function setFromBase64(this: Uint8Array, text: string): Base64Result {
  if (!strict.test(text) || text.length % 4 !== 0) throw new SyntaxError("not base64 with padding");
  const target = Buffer.from(this.buffer, this.byteOffset, this.byteLength);
  return { read: text.length, written: target.write(text, "base64") };
}

if (!("setFromBase64" in Uint8Array.prototype)) {
  Object.defineProperty(Uint8Array.prototype, "setFromBase64", {
    value: setFromBase64,
    writable: true,
    configurable: true,
  });
}

// Uint8Array.prototype.setFromBase64 (ECMAScript 2026), where this Node.js has none yet. The protobuf library uses it
// if present. Otherwise it decodes character by character, which blocks the event loop for 60 ms on a batch of ten
// megabytes of proofs in JSON. Import this file before that library. It is strict where Node's own decoder ignores
// characters outside the alphabet.

interface Base64Result {
  /** Characters consumed. */
  readonly read: number;
  readonly written: number;
}

const strict = /^[A-Za-z0-9+/]*={0,2}$/;

/** @throws SyntaxError for anything but the standard alphabet; the library then decodes the text itself */
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

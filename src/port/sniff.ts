// Tells HTTP/2 from HTTP/1.1 by the first bytes of a cleartext socket, so that both share one port.
import type { Duplex } from "node:stream";

// RFC 9113, 3.4: the first bytes of every HTTP/2 client.
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export type Protocol = "h1" | "h2";

/**
 * Calls `decided` once the protocol is known, with the bytes put back into the socket, and with the number of streams
 * that the client resets in them. A socket that does not send enough in time, ends or fails is destroyed.
 */
export function sniff(socket: Duplex, timeoutMs: number, decided: (protocol: Protocol, resets: number) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const give = () => socket.destroy();
  const timer = setTimeout(give, timeoutMs);
  const hand = (protocol: Protocol) => {
    stop();
    socket.unshift(seen);
    decided(protocol, protocol === "h2" ? resetsIn(seen) : 0);
  };
  // `readable` and `unshift`, not `data`: the HTTP parsers take over the socket's handle, which must not be flowing.
  const onReadable = () => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
      seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
      const length = Math.min(seen.length, preface.length);
      if (!seen.subarray(0, length).equals(preface.subarray(0, length))) return hand("h1");
      if (length === preface.length) return hand("h2");
    }
  };
  const stop = () => {
    clearTimeout(timer);
    socket.off("readable", onReadable).off("error", give).off("end", give).off("close", stop);
  };
  socket.on("readable", onReadable).on("error", give).on("end", give).on("close", stop);
}

const frameHeaderBytes = 9;
const resetFrame = 3;

/**
 * Counts RST_STREAM frames after the preface (RFC 9113, 4.1). Node.js makes a stream for each before it reports the
 * first; counting here detects a flood that comes with the preface at a hundredth of the cost.
 */
function resetsIn(bytes: Buffer): number {
  let resets = 0;
  for (
    let at = preface.length;
    at + frameHeaderBytes <= bytes.length;
    at += frameHeaderBytes + bytes.readUIntBE(at, 3)
  ) {
    if (bytes[at + 3] === resetFrame) resets++;
  }
  return resets;
}

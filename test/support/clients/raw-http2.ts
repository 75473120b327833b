// HTTP/2 frame by frame, for what no client library sends: tiny DATA frames, resets at once, streams left half open.
import { once } from "node:events";
import { connect, type Socket } from "node:net";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
const frameType = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 } as const;
const flag = { endStream: 1, ack: 1, endHeaders: 4 } as const;

export interface RawHttp2 extends Disposable {
  readonly socket: Socket;
  /** Opens a stream; answers its number. */
  open(headers: Readonly<Record<string, string>>, end?: boolean): number;
  reset(stream: number): void;
  /** The server answers once it has read all that was sent before; its answers count as frames of type 6. */
  ping(): void;
  /**
   * Sends the bytes in DATA frames of this size, as flow control allows, until all are sent or the server ends. It waits
   * until the server has read some before it sends more: a server reads up to 2 MiB in one turn, if as much waits.
   */
  data(stream: number, bytes: Uint8Array, pieceBytes: number, end?: boolean): Promise<void>;
  /** Frames so far, by type. */
  readonly seen: ReadonlyMap<number, number>;
  /** Streams that the server has ended. */
  ended(): number;
  /** Bytes of bodies that the server has sent. */
  received(): number;
  /** The error code of the server's first GOAWAY. */
  goneAway(): number | undefined;
  closed(): boolean;
}

const headBytes = 9;
/** Written at once, before the server has read them: enough to show what a frame costs it. */
const framesAtOnce = 4_096;

/** Writes a frame (RFC 9113, 4.1) at this place; answers the place after it. */
function writeFrame(
  bytes: Buffer,
  at: number,
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array,
): number {
  bytes.writeUIntBE(payload.length, at, 3);
  bytes[at + 3] = type;
  bytes[at + 4] = flags;
  bytes.writeUInt32BE(stream, at + 5);
  bytes.set(payload, at + headBytes);
  return at + headBytes + payload.length;
}

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const bytes = Buffer.allocUnsafe(headBytes + payload.length);
  writeFrame(bytes, 0, type, flags, stream, payload);
  return bytes;
}

/** Headers as HPACK literals without indexing (RFC 7541, 6.2.2), which need no table. */
function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const text = (value: string) => {
    const bytes = Buffer.from(value, "latin1");
    if (bytes.length < 127) return Buffer.concat([Buffer.of(bytes.length), bytes]);
    const rest = bytes.length - 127;
    const length = rest < 128 ? [127, rest] : [127, (rest & 0x7f) | 0x80, rest >>> 7];
    return Buffer.concat([Buffer.from(length), bytes]);
  };
  return Buffer.concat(Object.entries(headers).flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)]));
}

export const requestHeaders = (path: string, more: Readonly<Record<string, string>> = {}) => ({
  ":method": "POST",
  ":scheme": "http",
  ":authority": "localhost",
  ":path": path,
  ...more,
});

export const openFrames = (stream: number, headers: Readonly<Record<string, string>>, end = false): Buffer =>
  frame(frameType.headers, flag.endHeaders | (end ? flag.endStream : 0), stream, headerBlock(headers));
/** CANCEL, as a client that gives up sends it. */
export const resetFrame = (stream: number): Buffer => frame(frameType.reset, 0, stream, Buffer.from([0, 0, 0, 8]));

export async function rawHttp2(port: number, localAddress?: string): Promise<RawHttp2> {
  const socket = connect({ port, host: "127.0.0.1", ...(localAddress === undefined ? {} : { localAddress }) });
  socket.on("error", () => undefined);
  await once(socket, "connect");
  socket.write(preface);
  socket.write(frame(frameType.settings, 0, 0));
  const seen = new Map<number, number>();
  let windowConnection = 65_535;
  let windowInitial = 65_535;
  /** What each stream's window is beyond the initial one, which the server's settings may still change. */
  const windows = new Map<number, number>();
  let received = 0;
  const ended = new Set<number>();
  let goAwayCode: number | undefined;
  let next = 1;
  let wake = () => {};
  let pings = 0;
  let pongs = 0;
  let rest = Buffer.alloc(0);
  socket.on("close", () => wake());
  socket.on("data", (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const length = rest.readUIntBE(0, 3);
      take(rest[3] as number, rest[4] as number, rest.readUInt32BE(5), rest.subarray(9, 9 + length));
      rest = rest.subarray(9 + length);
    }
    wake();
  });
  const take = (type: number, flags: number, stream: number, payload: Buffer) => {
    seen.set(type, (seen.get(type) ?? 0) + 1);
    if (type === frameType.windowUpdate && stream === 0) windowConnection += payload.readUInt32BE(0);
    if (type === frameType.windowUpdate && stream !== 0) {
      windows.set(stream, (windows.get(stream) ?? 0) + payload.readUInt32BE(0));
    }
    if (type === frameType.settings && (flags & flag.ack) === 0) {
      for (let at = 0; at < payload.length; at += 6) {
        if (payload.readUInt16BE(at) === 4) windowInitial = payload.readUInt32BE(at + 2);
      }
      socket.write(frame(frameType.settings, flag.ack, 0));
    }
    if (type === frameType.ping && (flags & flag.ack) === 0) socket.write(frame(frameType.ping, flag.ack, 0, payload));
    if (type === frameType.ping && (flags & flag.ack) !== 0) pongs++;
    if (type === frameType.data) received += payload.length;
    if (type === frameType.goAway) goAwayCode ??= payload.readUInt32BE(4);
    if (type === frameType.reset) ended.add(stream);
    if ((type === frameType.data || type === frameType.headers) && (flags & flag.endStream) !== 0) ended.add(stream);
  };
  const ping = () => {
    pings++;
    socket.write(frame(frameType.ping, 0, 0, Buffer.alloc(8)));
  };
  const allRead = async (): Promise<void> => {
    ping();
    while (pongs < pings && !socket.destroyed) await new Promise<void>((resolve) => (wake = resolve));
  };

  return {
    socket,
    seen,
    ended: () => ended.size,
    received: () => received,
    goneAway: () => goAwayCode,
    closed: () => socket.destroyed,
    open: (headers, end = false) => {
      const stream = next;
      next += 2;
      socket.write(openFrames(stream, headers, end));
      return stream;
    },
    reset: (stream) => void socket.write(resetFrame(stream)),
    ping,
    data: async (stream, bytes, pieceBytes, end = true) => {
      let at = 0;
      while (at < bytes.length && !ended.has(stream) && !socket.destroyed) {
        const window = Math.min(
          windowConnection,
          windowInitial + (windows.get(stream) ?? 0),
          bytes.length - at,
          32_768,
          framesAtOnce * pieceBytes,
        );
        if (window < Math.min(pieceBytes, bytes.length - at)) {
          await new Promise<void>((resolve) => (wake = resolve));
          continue;
        }
        // One buffer for all: a buffer a frame would cost this thread more than the frames cost the server.
        const frames = Buffer.allocUnsafe(window + headBytes * Math.ceil(window / pieceBytes));
        let size = 0;
        let left = window;
        while (left >= Math.min(pieceBytes, bytes.length - at) && at < bytes.length) {
          const piece = bytes.subarray(at, at + pieceBytes);
          at += piece.length;
          left -= piece.length;
          const flags = end && at === bytes.length ? flag.endStream : 0;
          size = writeFrame(frames, size, frameType.data, flags, stream, piece);
        }
        windowConnection -= window - left;
        windows.set(stream, (windows.get(stream) ?? 0) - (window - left));
        if (!socket.write(frames.subarray(0, size)))
          await new Promise((resolve) => socket.once("drain", resolve).once("close", resolve));
        // The other end shares this thread in some tests.
        await new Promise((resolve) => setImmediate(resolve));
        if (at < bytes.length) await allRead();
      }
    },
    [Symbol.dispose]: () => socket.destroy(),
  };
}

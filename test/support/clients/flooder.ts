// Floods a port, from a process of its own so that the flood takes no CPU time from the process that is measured:
// node flooder.ts '{"kind": "resets", "port": 1, ...}'. Ends by itself.
import { connect, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { openFrames, rawHttp2, requestHeaders, resetFrame } from "./raw-http2.js";

export interface Flood {
  readonly kind: "resets" | "half open" | "idle" | "pieces" | "elements" | "strangers";
  readonly port: number;
  readonly path: string;
  readonly connections: number;
  /** How many streams, calls or pieces each connection sends. */
  readonly each: number;
  /** Whether resets wait until the server has answered. */
  readonly late?: boolean;
  /** How often connections of resets are dialled again. */
  readonly rounds?: number;
  /** What is sent, with its content type. Gzip is announced by the envelope's flag. */
  readonly body?: {
    readonly type: string;
    readonly token?: string;
    readonly gzip?: boolean;
    /** Sent before the repeated bytes. */
    readonly prefix?: string;
    readonly base64: string;
    readonly repeat: number;
  };
  /** The flood ends after this long at the latest. */
  readonly limitMs: number;
}

const flood = JSON.parse(process.argv[2] ?? "") as Flood;
const end = performance.now() + flood.limitMs;
const going = () => performance.now() < end;
const turn = () => new Promise((resolve) => setImmediate(resolve));
const opened: Socket[] = [];
/** Resolves when the socket closes, for whatever reason. */
const closing = (socket: Socket) => new Promise((resolve) => socket.once("close", resolve));

const kinds: Readonly<Record<Flood["kind"], (index: number) => Promise<void>>> = {
  resets: async () => {
    const frames: Buffer[] = [];
    for (let pair = 0; pair < flood.each; pair++) {
      const stream = 2 * pair + 1;
      frames.push(
        openFrames(stream, requestHeaders(flood.path, { "content-type": "application/grpc" })),
        resetFrame(stream),
      );
    }
    const all = Buffer.concat(frames);
    for (let round = 0; round < (flood.rounds ?? 1) && going(); round++) {
      // The server may close the connection before it is set up.
      const client = await rawHttp2(flood.port).catch(() => undefined);
      if (!client) continue;
      opened.push(client.socket);
      // Late resets wait until the server speaks HTTP/2; the others do not wait.
      while (flood.late && client.seen.size === 0 && !client.closed()) await turn();
      client.socket.write(all);
      await Promise.race([closing(client.socket), new Promise((resolve) => setTimeout(resolve, 1_000))]);
      client.socket.destroy();
    }
  },
  "half open": async () => {
    const client = await rawHttp2(flood.port);
    opened.push(client.socket);
    for (let stream = 0; stream < flood.each && !client.closed(); stream++) {
      client.open(requestHeaders(flood.path, { "content-type": "application/grpc" }));
      if (stream % 50 === 0) await turn();
    }
    await Promise.race([closing(client.socket), new Promise((resolve) => setTimeout(resolve, flood.limitMs))]);
  },
  idle: async () => {
    const socket = connect(flood.port, "127.0.0.1").on("error", () => undefined);
    opened.push(socket);
    await Promise.race([closing(socket), new Promise((resolve) => setTimeout(resolve, flood.limitMs))]);
  },
  pieces: async () => {
    const bytes = bodyBytes();
    while (going()) {
      const client = await rawHttp2(flood.port);
      opened.push(client.socket);
      const stream = client.open(requestHeaders(flood.path, headersOf()));
      await client.data(stream, bytes, 1);
      client.socket.destroy();
      await turn();
    }
  },
  elements: async () => {
    const bytes = bodyBytes();
    while (going()) {
      const client = await rawHttp2(flood.port);
      opened.push(client.socket);
      for (let call = 0; call < flood.each && going() && !client.closed(); call++) {
        await client.data(client.open(requestHeaders(flood.path, headersOf())), bytes, 16_384);
      }
      client.socket.destroy();
      await turn();
    }
  },
  strangers: async () => {
    while (going()) {
      const client = await rawHttp2(flood.port);
      opened.push(client.socket);
      for (let call = 0; call < flood.each && going() && !client.closed(); call++) {
        client.open(requestHeaders(flood.path, { "content-type": "application/grpc" }), true);
        if (call % 50 === 0) await turn();
      }
      client.socket.destroy();
      await turn();
    }
  },
};

function headersOf(): Record<string, string> {
  const { type = "application/grpc", token, gzip } = flood.body ?? {};
  return {
    "content-type": type,
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(gzip ? { "grpc-encoding": "gzip" } : {}),
  };
}

/** The envelope that is sent: the given bytes, repeated. */
function bodyBytes(): Buffer {
  const { base64 = "", repeat = 1, gzip = false } = flood.body ?? {};
  const unit = Buffer.from(base64, "base64");
  const prefix = Buffer.from(flood.body?.prefix ?? "", "base64");
  const plain = Buffer.concat([prefix, Buffer.alloc(unit.length * repeat, unit)]);
  const message = gzip ? gzipSync(plain) : plain;
  const head = Buffer.alloc(5);
  head[0] = gzip ? 1 : 0;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

console.log("begun");
await Promise.allSettled(Array.from({ length: flood.connections }, (_, index) => kinds[flood.kind](index)));
for (const socket of opened) socket.destroy();
console.log("done");
process.exit(0);

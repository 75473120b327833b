// The client of all measurements: gRPC in hand-made HTTP/2 frames over plain sockets, so that it is cheap and the same
// for every server. It counts whole messages and clean ends; anything else is an error.
import { connect as connectSocket } from "node:net";

const frame = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 };
const flag = { endStream: 1, ack: 1, endHeaders: 4 };
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const windowMax = 2 ** 31 - 1;

function frameOf(type, flags, stream, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK: each name and value as a literal without indexing. */
function headerBlock(headers) {
  const text = (value) => {
    const bytes = Buffer.from(value);
    if (bytes.length < 127) return Buffer.concat([Buffer.of(bytes.length), bytes]);
    const size = [127];
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>= 7) size.push((rest & 127) | 128);
    return Buffer.concat([Buffer.of(...size, rest), bytes]);
  };
  const fields = Object.entries(headers).flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)]);
  return Buffer.concat(fields);
}

export const grpcHeaders = (path, token) =>
  headerBlock({
    ":method": "POST",
    ":scheme": "http",
    ":authority": "127.0.0.1",
    ":path": path,
    te: "trailers",
    "content-type": "application/grpc",
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  });

/** A message in gRPC's envelope. */
export function enveloped(message) {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/**
 * One connection. A stream's listener is called with the first byte of each message, which is the tag of the oneof in
 * heartbeat answers, and at its end.
 */
export async function connect(port) {
  const socket = connectSocket(port, "127.0.0.1").setNoDelay(true);
  const streams = new Map();
  let waiting = [];
  let unread = Buffer.alloc(0);
  let received = 0;
  let nextStream = 1;
  let failure;

  const write = (bytes) => {
    if (waiting.length === 0) queueMicrotask(flush);
    waiting.push(bytes);
  };
  const flush = () => {
    const bytes = Buffer.concat(waiting);
    waiting = [];
    if (!socket.destroyed) socket.write(bytes);
  };
  const fail = (reason) => {
    failure ??= reason;
    for (const stream of streams.values()) stream.listener.ended(reason);
    streams.clear();
  };
  const end = (id, reason) => {
    const stream = streams.get(id);
    streams.delete(id);
    stream?.listener.ended(reason);
  };
  const updateWindow = (size) => {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(size);
    return frameOf(frame.windowUpdate, 0, 0, payload);
  };

  const takeData = (id, payload) => {
    received += payload.length;
    if (received > 2 ** 20) {
      write(updateWindow(received));
      received = 0;
    }
    const stream = streams.get(id);
    if (stream === undefined) return;
    stream.bytes = stream.bytes.length === 0 ? payload : Buffer.concat([stream.bytes, payload]);
    while (stream.bytes.length >= 5) {
      const size = 5 + stream.bytes.readUInt32BE(1);
      if (stream.bytes.length < size) return;
      const first = stream.bytes[5];
      stream.bytes = stream.bytes.subarray(size);
      stream.listener.message(first);
    }
  };
  const takeFrame = (type, flags, id, payload) => {
    if (type === frame.data) takeData(id, payload);
    else if (type === frame.reset) return end(id, `reset ${payload.readUInt32BE()}`);
    else if (type === frame.goAway) return fail(`GOAWAY ${payload.readUInt32BE(4)}`);
    else if (type === frame.settings && !(flags & flag.ack)) write(frameOf(frame.settings, flag.ack, 0));
    else if (type === frame.ping && !(flags & flag.ack)) write(frameOf(frame.ping, flag.ack, 0, payload));
    if ((type === frame.data || type === frame.headers) && flags & flag.endStream) end(id);
  };

  socket.on("data", (chunk) => {
    unread = unread.length === 0 ? chunk : Buffer.concat([unread, chunk]);
    let at = 0;
    while (unread.length - at >= 9) {
      const size = unread.readUIntBE(at, 3);
      if (unread.length - at < 9 + size) break;
      const id = unread.readUInt32BE(at + 5) & windowMax;
      takeFrame(unread[at + 3], unread[at + 4], id, unread.subarray(at + 9, at + 9 + size));
      at += 9 + size;
    }
    unread = unread.subarray(at);
  });
  socket.on("error", (error) => fail(error.message));
  socket.on("close", () => fail("closed"));

  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  const settings = Buffer.alloc(6);
  settings.writeUInt16BE(4, 0);
  settings.writeUInt32BE(windowMax, 2);
  write(Buffer.concat([preface, frameOf(frame.settings, 0, 0, settings), updateWindow(windowMax - 65_535)]));

  return {
    /** Begins a stream with its first message; `last` also ends the client's side. */
    open: (headers, message, last, listener) => {
      if (failure !== undefined) return listener.ended(failure);
      const id = nextStream;
      nextStream += 2;
      streams.set(id, { listener, bytes: Buffer.alloc(0) });
      write(frameOf(frame.headers, flag.endHeaders, id, headers));
      write(frameOf(frame.data, last ? flag.endStream : 0, id, message));
      return id;
    },
    send: (id, message) => write(frameOf(frame.data, 0, id, message)),
    close: () => {
      streams.clear();
      socket.destroy();
    },
  };
}

/** Unary calls with a fixed number in flight, for that long; then waits for the rest. */
export async function unaryLoad({ port, connections, inFlight, headers, message }) {
  const links = await Promise.all(Array.from({ length: connections }, () => connect(port)));
  const request = enveloped(message);
  return {
    run: (ms) => {
      const until = performance.now() + ms;
      const counts = { done: 0, errors: 0 };
      const { promise, resolve } = Promise.withResolvers();
      let running = 0;
      const call = (link) => {
        let messages = 0;
        running++;
        link.open(headers, request, true, {
          message: () => messages++,
          ended: (reason) => {
            running--;
            if (reason === undefined && messages === 1) counts.done++;
            else counts.errors++;
            if (performance.now() < until && counts.errors < 1000) call(link);
            else if (running === 0) resolve(counts);
          },
        });
      };
      for (const link of links) for (let i = 0; i < inFlight; i++) call(link);
      return promise;
    },
    close: () => {
      for (const link of links) link.close();
    },
  };
}

const answerTag = { welcome: 0x0a, ack: 0x12 };
const sequenceBytes = 5;

/** A beat whose sequence takes five bytes, so that it can be increased in place. `rest`: its other fields. */
function createBeat(rest) {
  const size = 1 + sequenceBytes + rest.length;
  if (size > 127) throw new Error("a longer beat needs a longer length");
  const bytes = enveloped(Buffer.concat([Buffer.of(0x12, size, 0x08), Buffer.alloc(sequenceBytes), rest]));
  return (sequence) => {
    for (let i = 0; i < sequenceBytes; i++) {
      bytes[8 + i] = (Math.floor(sequence / 128 ** i) & 127) | (i === sequenceBytes - 1 ? 0 : 128);
    }
    return bytes;
  };
}

/** Heartbeat streams that stay open; while it runs, each sends its next beat as soon as the last is acknowledged. */
export async function beatLoad({ port, connections, nodes, rest }) {
  const links = await Promise.all(Array.from({ length: connections }, () => connect(port)));
  const beat = createBeat(rest);
  let beating = false;
  let counts = { done: 0, errors: 0 };
  let resting = Promise.withResolvers();
  let busy = 0;

  const streams = await Promise.all(
    nodes.map(({ headers, hello }, place) => {
      const link = links[place % links.length];
      const opened = Promise.withResolvers();
      const stream = { sequence: 0, next: () => link.send(id, beat(++stream.sequence)) };
      const id = link.open(headers, enveloped(hello), false, {
        message: (tag) => {
          if (tag === answerTag.welcome) opened.resolve(stream);
          if (tag !== answerTag.ack) return;
          counts.done++;
          if (beating) stream.next();
          else if (--busy === 0) resting.resolve(counts);
        },
        ended: (reason) => {
          opened.reject(new Error(`a heartbeat stream ended: ${reason ?? "OK"}`));
          counts.errors++;
          if (--busy === 0) resting.resolve(counts);
        },
      });
      return opened.promise;
    }),
  );
  return {
    run: async (ms) => {
      counts = { done: 0, errors: 0 };
      resting = Promise.withResolvers();
      busy = streams.length;
      beating = true;
      for (const stream of streams) stream.next();
      await new Promise((resolve) => setTimeout(resolve, ms));
      beating = false;
      return resting.promise;
    },
    close: () => {
      for (const link of links) link.close();
    },
  };
}

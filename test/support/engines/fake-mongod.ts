// A server that speaks just enough of MongoDB's wire protocol to shake hands. It is for versions and refusals that the
// real servers of the tests do not have.
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { BSON, type Document } from "mongodb";

export interface FakeMongod extends AsyncDisposable {
  readonly url: string;
}

const opReply = 1;
const opQuery = 2004;
const opMessage = 2013;
const headerBytes = 16;

/** `answer` is called for each command; undefined means an answer of `ok`. The handshake names that wire version. */
export async function startFakeMongod(
  maxWireVersion: number,
  answer: (command: Document) => Document | undefined = () => undefined,
): Promise<FakeMongod> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    let received = Buffer.alloc(0);
    socket.on("data", (bytes) => {
      received = Buffer.concat([received, bytes]);
      while (received.length >= headerBytes && received.length >= received.readInt32LE(0)) {
        const message = received.subarray(0, received.readInt32LE(0));
        received = received.subarray(message.length);
        socket.write(replyTo(message, maxWireVersion, answer));
      }
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `mongodb://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

function replyTo(message: Buffer, maxWireVersion: number, answer: (command: Document) => Document | undefined): Buffer {
  const code = message.readInt32LE(12);
  // A query: flags, the name of a collection and its end, how many to skip and to answer. A message: flags, a kind.
  const start = code === opQuery ? message.indexOf(0, headerBytes + 4) + 9 : headerBytes + 5;
  const command = BSON.deserialize(message.subarray(start, start + message.readInt32LE(start)));
  const name = Object.keys(command)[0]?.toLowerCase();
  const hello = name === "hello" || name === "ismaster" ? handshake(maxWireVersion) : { ok: 1 };
  const body = Buffer.from(BSON.serialize(answer(command) ?? hello));
  const before = code === opQuery ? Buffer.alloc(20) : Buffer.alloc(5);
  if (code === opQuery) before.writeInt32LE(1, 16);
  const header = Buffer.alloc(headerBytes);
  header.writeInt32LE(headerBytes + before.length + body.length, 0);
  header.writeInt32LE(message.readInt32LE(4), 8);
  header.writeInt32LE(code === opQuery ? opReply : opMessage, 12);
  return Buffer.concat([header, before, body]);
}

const handshake = (maxWireVersion: number): Document => ({
  ...{ ok: 1, helloOk: true, ismaster: true, isWritablePrimary: true, readOnly: false, localTime: new Date(0) },
  ...{ minWireVersion: 0, maxWireVersion, maxBsonObjectSize: 16_777_216, maxMessageSizeBytes: 48_000_000 },
  ...{ maxWriteBatchSize: 100_000, logicalSessionTimeoutMinutes: 30, saslSupportedMechs: ["SCRAM-SHA-256"] },
});

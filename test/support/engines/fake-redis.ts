// A server that speaks just enough of Redis's protocol to say what it is, for kinds of Redis that tests cannot start.
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

export interface FakeRedis extends AsyncDisposable {
  readonly url: string;
}

/** Answers INFO with that text, and all else with OK. */
export async function startFakeRedis(info: string): Promise<FakeRedis> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    // The driver sends each command whole, and each begins with how many words it has.
    socket.on("data", (bytes) => {
      for (const command of bytes
        .toString()
        .split(/^\*\d+\r\n/m)
        .slice(1)) {
        const asks = /^\$\d+\r\ninfo\r\n/i.test(command);
        socket.write(asks ? `$${Buffer.byteLength(info)}\r\n${info}\r\n` : "+OK\r\n");
      }
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

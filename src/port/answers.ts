// How answers end when the client has not sent everything, does not read, or leaves its stream open.
import type { ServerResponse } from "node:http";
import { constants, type Http2ServerRequest, type Http2ServerResponse, type ServerHttp2Stream } from "node:http2";
import type { WireRequest, WireResponse } from "./exchange.js";

/**
 * Receives the rest of a request that was not read when its answer ends, as after a refusal by the gate. Otherwise Node
 * resets the stream, and the reset overtakes the answer: the client would see a broken stream.
 */
export function readBeforeAnswer(request: Http2ServerRequest, response: Http2ServerResponse): void {
  const end: Http2ServerResponse["end"] = response.end.bind(response);
  response.end = ((...given: Parameters<typeof end>) => {
    if (!request.readableDidRead) request.resume();
    return end(...given);
  }) as typeof end;
}

/**
 * Ends the call of an answer that the client does not read. Otherwise the rest of it would stay in memory as long as
 * the client keeps its connection.
 */
export function endUnread(response: WireResponse, drop: () => void, unreadMs: number): void {
  const plain = response as ServerResponse;
  const { write, end } = plain;
  let timer: NodeJS.Timeout | undefined;
  const read = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  let leftBytes = Number.POSITIVE_INFINITY;
  const look = () => {
    const left = plain.writableLength + ("stream" in response ? (response.stream?.bufferSize ?? 0) : 0);
    if (left >= leftBytes) return drop();
    // The client has read some of it since the last check.
    leftBytes = left;
    timer = setTimeout(look, unreadMs);
  };
  const waits = () => {
    timer ??= setTimeout(look, unreadMs);
  };
  plain.on("drain", read).once("finish", read).once("close", read);
  plain.write = (...given: unknown[]) => {
    const isTaken = Reflect.apply(write, plain, given) as boolean;
    if (!isTaken) waits();
    return isTaken;
  };
  plain.end = (...given: unknown[]) => {
    waits();
    return Reflect.apply(end, plain, given) as ServerResponse;
  };
}

/**
 * A stream lives until both sides have ended. A client that has its answer but does not end its side would keep the
 * stream open, and block a connection that is closing, for as long as it likes.
 */
export function endAfterAnswer(stream: ServerHttp2Stream, lingerMs: number): void {
  // Use the stream's event: the response's event comes only when the stream is gone.
  stream.once("finish", () => {
    if (stream.destroyed || stream.readableEnded) return;
    const timer = setTimeout(() => stream.close(), lingerMs);
    stream.once("close", () => clearTimeout(timer));
  });
}

export function dropCall(request: WireRequest): void {
  if ("stream" in request) request.stream.close(constants.NGHTTP2_CANCEL);
  else request.socket.destroy();
}

// How answers end: whatever the client has not sent yet, does not read, or leaves open.
import type { ServerResponse } from "node:http";
import { constants, type Http2ServerRequest, type Http2ServerResponse, type ServerHttp2Stream } from "node:http2";
import type { WireRequest, WireResponse } from "./exchange.js";

/**
 * Lets the rest of a request come in that nobody has read by the time its answer ends, as a refusal by the gate leaves it.
 * Node resets a stream that was never read, and the reset overtakes the answer: clients would see a broken stream.
 */
export function readBeforeAnswer(request: Http2ServerRequest, response: Http2ServerResponse): void {
  const end: Http2ServerResponse["end"] = response.end.bind(response);
  response.end = ((...given: Parameters<typeof end>) => {
    if (!request.readableDidRead) request.resume();
    return end(...given);
  }) as typeof end;
}

/**
 * An answer that is not read ends its call: what is left of it would stand in memory as long as the client keeps its
 * connection.
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
    // Some of it has been read since the last look.
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
 * A stream lives until both sides have ended theirs. A client that is told the outcome and does not end its own would
 * hold the stream, and a connection that is asked to go, for as long as it likes.
 */
export function endAfterAnswer(stream: ServerHttp2Stream, lingerMs: number): void {
  // The stream's event: that of the response comes when the stream is gone.
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

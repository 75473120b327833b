// The interceptors around Connect's handlers, outermost first: outcome, errors, credentials, shape, own node. Each asks
// the part of rpc that decides, and knows only how Connect carries a call.
import { Code, ConnectError, type Interceptor, type StreamResponse, type UnaryResponse } from "@connectrpc/connect";
import type { Clock } from "../../clock.js";
import { noteError, noteSuccess } from "../call.js";
import { callOf } from "../context.js";
import type { ErrorContext } from "../errors.js";
import type { Gate } from "../gate.js";
import { procedureOf } from "../policies.js";
import type { Validation } from "../validate.js";
import { statusOf, toConnectError } from "./errors.js";
import { inspected, untilAborted } from "./stream.js";

type Request = Parameters<ReturnType<Interceptor>>[0];

const callBehind = ({ contextValues }: Request) => callOf({ values: contextValues });

/** Notes how a call ended, for the observer. It is outermost, so it sees what the wire sees. */
export const outcomeInterceptor: Interceptor = (next) => async (request) => {
  const call = callBehind(request);
  const failed = (error: unknown) => noteError(call, statusOf(ConnectError.from(error, Code.Internal)));
  try {
    const response = await next(request);
    if (response.stream) return { ...response, message: watched(response.message, () => noteSuccess(call), failed) };
    noteSuccess(call);
    return response;
  } catch (error) {
    failed(error);
    throw error;
  }
};

/**
 * Turns errors of handlers and inner interceptors into errors that may go on the wire, also in the middle of streams. A
 * unary call ends when its signal aborts, so deadlines and shutdown work even if its handler ignores the signal; a
 * request stream ends with it too.
 */
export function errorInterceptor(clock: Clock): Interceptor {
  return (next) => async (request) => {
    const convert = (thrown: unknown) => toConnectError(thrown, errorContextOf(request, clock));
    try {
      if (!request.stream) return await orAborted(next(request), request.signal);
      const response = await next({ ...request, message: untilAborted(request.message, request.signal) });
      return response.stream ? { ...response, message: converted(response.message, convert) } : response;
    } catch (thrown) {
      throw convert(thrown);
    }
  };
}

/** Inside the error interceptor: tells the gate about credentials that a handler refused. */
export function credentialInterceptor(gate: Gate): Interceptor {
  return (next) => async (request) => {
    try {
      return await next(request);
    } catch (thrown) {
      await gate.refused(callBehind(request), thrown);
      throw thrown;
    }
  };
}

/** Checks that each request message has the shape that the contract states. */
export function shapeInterceptor({ check }: Validation): Interceptor {
  return (next) => (request) => {
    const schema = request.method.input;
    if (request.stream) {
      return next({ ...request, message: inspected(request.message, (message) => check(schema, message)) });
    }
    check(schema, request.message);
    return next(request);
  };
}

/** Inside the shape interceptor: a node's token reaches only its own node. */
export function ownNodeInterceptor(gate: Gate): Interceptor {
  return (next) => (request) => {
    if (!request.stream) gate.admitMessage(callBehind(request), request.message);
    return next(request);
  };
}

function errorContextOf(request: Request, clock: Clock): ErrorContext {
  return { requestId: callBehind(request).requestId, path: procedureOf(request.method), now: clock.now() };
}

async function orAborted(
  answer: Promise<UnaryResponse | StreamResponse>,
  signal: AbortSignal,
): Promise<UnaryResponse | StreamResponse> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([answer, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function* converted<T>(messages: AsyncIterable<T>, convert: (thrown: unknown) => ConnectError) {
  try {
    yield* messages;
  } catch (thrown) {
    throw convert(thrown);
  }
}

async function* watched<T>(messages: AsyncIterable<T>, ended: () => void, failed: (error: unknown) => void) {
  try {
    yield* messages;
    ended();
  } catch (error) {
    failed(error);
    throw error;
  }
}

// Counts, times and logs every request once, when its response is over. This includes requests that never reach an
// interceptor (refused by the gate, or not decodable) and those that end silently (a client that vanishes).
import { Code } from "@connectrpc/connect";
import type { Clock } from "../clock.js";
import { addressKey } from "../port/address.js";
import { createBudget } from "../port/budget.js";
import { type WireRequest, type WireResponse, watchGrpcStatus } from "../port/exchange.js";
import type { Log, LogFields } from "../telemetry/log.js";
import type { Metrics } from "../telemetry/metrics.js";
import { type Call, createCall, type Outcome } from "./call.js";
import { reasonOf, type Status } from "./errors.js";

export interface Observer {
  /** Starts watching a request, which is counted when its response is over. */
  begin(request: WireRequest, response: WireResponse, target: Parameters<typeof createCall>[0]): Call;
}

export interface ObserverOptions {
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  /** Procedures whose successes are never logged, at any log level: beats and probes. */
  readonly quiet?: ReadonlySet<string>;
}

const httpStatus: Readonly<Record<Outcome, number>> = {
  0: 200,
  [Code.Canceled]: 499,
  [Code.Unknown]: 500,
  [Code.InvalidArgument]: 400,
  [Code.DeadlineExceeded]: 504,
  [Code.NotFound]: 404,
  [Code.AlreadyExists]: 409,
  [Code.PermissionDenied]: 403,
  [Code.ResourceExhausted]: 429,
  [Code.FailedPrecondition]: 400,
  [Code.Aborted]: 409,
  [Code.OutOfRange]: 400,
  [Code.Unimplemented]: 501,
  [Code.Internal]: 500,
  [Code.Unavailable]: 503,
  [Code.DataLoss]: 500,
  [Code.Unauthenticated]: 401,
};

/** For answers that Connect gives only by HTTP status. */
const outcomeOfStatus: Readonly<Record<number, Outcome>> = {
  200: 0,
  400: Code.InvalidArgument,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.Unimplemented,
  405: Code.Unimplemented,
  408: Code.DeadlineExceeded,
  415: Code.Unimplemented,
  429: Code.ResourceExhausted,
  499: Code.Canceled,
  500: Code.Internal,
  501: Code.Unimplemented,
  503: Code.Unavailable,
  504: Code.DeadlineExceeded,
  505: Code.Unimplemented,
};

const methods = new Set(["GET", "HEAD", "POST", "OPTIONS"]);

export function createObserver(options: ObserverOptions): Observer {
  const count = createCounting(options.metrics);
  const log = options.log.module("rpc");
  const lines = createLines(log, options.clock.monotonicMs);
  return {
    begin: (request, response, target) => {
      const delivered = deliveryOf(response);
      const call = createCall(target);
      const startedMs = options.clock.monotonicMs();
      let wireStatus: Outcome | undefined;
      if (call.method) watchGrpcStatus(response, (status) => (wireStatus = status as Outcome));
      response.once("close", () => {
        const outcome = judge(call, response, delivered(), wireStatus);
        const durationMs = options.clock.monotonicMs() - startedMs;
        count(call, outcome, request.method ?? "", response.statusCode, durationMs);
        if (call.method) logCall(log, lines, call, outcome, durationMs, options.quiet);
      });
      return call;
    },
  };
}

/**
 * The outcome that the interceptors noted, else the one sent on the wire. If the client was gone before that, the call
 * is canceled, whatever the handler returned.
 */
function judge(call: Call, response: WireResponse, delivered: boolean, wireStatus: Outcome | undefined): Outcome {
  if (call.outcome !== undefined && call.outcome !== 0) return call.outcome;
  if (!delivered || !response.writableEnded) return Code.Canceled;
  return call.outcome ?? wireStatus ?? outcomeOfStatus[response.statusCode] ?? unstated(response.statusCode);
}

/** A status of 4xx is the client's fault, whichever it is. */
const unstated = (status: number): Outcome => (status >= 400 && status < 500 ? Code.InvalidArgument : Code.Unknown);

/** Returns a function that tells, when the response is over, whether the client received all of it. */
function deliveryOf(response: WireResponse): () => boolean {
  if (!("stream" in response)) return () => response.writableFinished;
  // A client that cancels ends its half before it resets the stream, so its handler may finish normally. A client that
  // has its answer resets, if at all, without an error code.
  const { stream } = response;
  return () => !stream.aborted && stream.rstCode === 0;
}

/** Counts requests. Labels are bound once, since looking them up costs more than counting. */
function createCounting(metrics: Metrics) {
  const bound = new Map<string, { inc(): void }>();
  const counterFor = (key: string, make: () => { inc(): void }) => {
    const found = bound.get(key) ?? make();
    bound.set(key, found);
    return found;
  };
  return (call: Call, outcome: Outcome, rawMethod: string, rawStatus: number, durationMs: number) => {
    const { method, endpoint } = call;
    const verb = methods.has(rawMethod) ? rawMethod : "other";
    const status = method && (rawStatus === 200 || outcome === Code.Canceled) ? httpStatus[outcome] : rawStatus;
    counterFor(`${verb} ${endpoint} ${status}`, () =>
      metrics.httpRequests.labels(verb, endpoint, String(status)),
    ).inc();
    if (method) {
      counterFor(`${endpoint} ${outcome}`, () =>
        metrics.grpcHandled.labels(method.parent.typeName, method.name, outcome === 0 ? "OK" : Code[outcome]),
      ).inc();
    }
    // The lifetime of a stream says nothing about the service's speed.
    if (!method || method.methodKind === "unary")
      metrics.httpDuration.labels(verb, endpoint).observe(durationMs / 1000);
  };
}

/** Log lines that calls from one address may cause. Further ones are counted and reported in one line. */
const linesOfAddress = { perSecond: 1, burst: 60 };
const leftOutTellMs = 60_000;
/** The most addresses named in that line. The count covers all. */
const addressesMax = 5;

type Lines = ReturnType<typeof createLines>;

/** Limits the log lines that callers without credentials cause, so that they cannot fill our disk. */
function createLines(log: Log, nowMs: () => number) {
  const budget = createBudget(linesOfAddress);
  const addresses = new Set<string>();
  let leftOut = 0;
  let toldMs = nowMs();
  const tell = (now: number): void => {
    if (leftOut === 0 || now - toldMs < leftOutTellMs) return;
    log.info("lines about failed calls were left out", { count: leftOut, addresses: [...addresses].join(" ") });
    toldMs = now;
    leftOut = 0;
    addresses.clear();
  };
  return {
    /** Whether a line about a call from this address may be written. */
    allow: (address: string): boolean => {
      const now = nowMs();
      tell(now);
      const key = addressKey(address);
      if (budget.take(key, now) === 0) return true;
      leftOut++;
      if (addresses.size < addressesMax) addresses.add(key);
      return false;
    },
  };
}

function logCall(
  log: Log,
  lines: Lines,
  call: Call,
  outcome: Outcome,
  durationMs: number,
  quiet?: ReadonlySet<string>,
): void {
  if (outcome === 0 && (quiet?.has(call.endpoint) || !log.enabled("DEBUG"))) return;
  const { caller, peer } = call;
  // Identified callers can be asked to stop, and our own errors are always logged: neither is limited.
  if (outcome !== 0 && !isOurs(outcome) && caller === undefined && !lines.allow(peer.address)) return;
  const fields = {
    request_id: call.requestId,
    path: call.endpoint,
    code: outcome === 0 ? "OK" : Code[outcome],
    duration_ms: Math.round(durationMs * 10) / 10,
    peer: peer.address,
    subject: caller?.subject,
  };
  if (outcome === 0) log.debug("call", fields);
  else logFailure(log, outcome, call.error, fields);
}

function logFailure(log: Log, outcome: Code, error: Status | undefined, fields: LogFields): void {
  const reason = error && reasonOf(error);
  const failed = { ...fields, error_code: reason, reason: error?.message.slice(0, reasonCharsMax) };
  const cause = error?.cause;
  if (isOurs(outcome)) log.error("call failed", { ...failed, ...(cause instanceof Error ? { error: cause } : {}) });
  // A flood that the limits refuse must not become a flood of lines; the metrics count it.
  else if (outcome === Code.ResourceExhausted || outcome === Code.Canceled) log.debug("call failed", failed);
  else if (outcome === Code.Unavailable) log.warn("call failed", { ...failed, cause: messageOf(cause) });
  // Refused calls are normal; log them at INFO so that nobody is paged.
  else log.info("call failed", { ...failed, cause: messageOf(cause) });
}

/** Connect's messages repeat what a caller sent. */
const reasonCharsMax = 1_000;

function isOurs(outcome: Outcome): boolean {
  return outcome === Code.Internal || outcome === Code.Unknown || outcome === Code.DataLoss;
}

function messageOf(cause: unknown): string | undefined {
  return cause instanceof Error ? cause.message : undefined;
}

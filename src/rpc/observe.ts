// Counts, times and logs every request once, when its response is over: so that what never reaches an interceptor (a
// refusal by the gate, a body that cannot be decoded) and what ends without a word (a client that vanishes) count too.
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
  /** Begins to watch a request; it is counted when its response is over. */
  begin(request: WireRequest, response: WireResponse, target: Parameters<typeof createCall>[0]): Call;
}

export interface ObserverOptions {
  readonly metrics: Metrics;
  readonly log: Log;
  readonly clock: Clock;
  /** Procedures whose successes are not logged, however verbose the log: beats and probes. */
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

/** For answers that Connect gives by HTTP status alone. */
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
 * What the interceptors noted; else what went out on the wire, unless the client was gone before that: then the call is
 * canceled, whatever the handler thought.
 */
function judge(call: Call, response: WireResponse, delivered: boolean, wireStatus: Outcome | undefined): Outcome {
  if (call.outcome !== undefined && call.outcome !== 0) return call.outcome;
  if (!delivered || !response.writableEnded) return Code.Canceled;
  return call.outcome ?? wireStatus ?? outcomeOfStatus[response.statusCode] ?? unstated(response.statusCode);
}

/** A status of 4xx blames the client, whichever it is. */
const unstated = (status: number): Outcome => (status >= 400 && status < 500 ? Code.InvalidArgument : Code.Unknown);

/** Asks, when the response is over, whether the client took all of it. */
function deliveryOf(response: WireResponse): () => boolean {
  if (!("stream" in response)) return () => response.writableFinished;
  // A client that cancels ends its half before it resets the stream, so that a handler may finish in good faith; one that
  // has its answer resets, if at all, without an error code.
  const { stream } = response;
  return () => !stream.aborted && stream.rstCode === 0;
}

/** Counts one request; labels are bound once, for a lookup by labels costs more than the count. */
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
    // How long a stream lives says nothing about how fast the service is.
    if (!method || method.methodKind === "unary")
      metrics.httpDuration.labels(verb, endpoint).observe(durationMs / 1000);
  };
}

/** Lines about calls that one address may cause. What goes beyond is counted, and told of in one line. */
const linesOfAddress = { perSecond: 1, burst: 60 };
const leftOutTellMs = 60_000;
/** Addresses that are named in that line; the count is of all. */
const addressesMax = 5;

type Lines = ReturnType<typeof createLines>;

/** Bounds the lines that callers without credentials cause: a disk that they fill is ours. */
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
    /** Whether a line may be written about a call from this address. */
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
  // Those who have shown who they are may be asked; and what we get wrong ourselves is always told.
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
  // A flood that the limits turn away must not come back as a flood of lines; the metrics count it.
  else if (outcome === Code.ResourceExhausted || outcome === Code.Canceled) log.debug("call failed", failed);
  else if (outcome === Code.Unavailable) log.warn("call failed", { ...failed, cause: messageOf(cause) });
  // Callers being told no is the service at work: who is woken for it learns to overlook what matters.
  else log.info("call failed", { ...failed, cause: messageOf(cause) });
}

/** Connect repeats what a caller sent in its messages. */
const reasonCharsMax = 1_000;

function isOurs(outcome: Outcome): boolean {
  return outcome === Code.Internal || outcome === Code.Unknown || outcome === Code.DataLoss;
}

function messageOf(cause: unknown): string | undefined {
  return cause instanceof Error ? cause.message : undefined;
}

// Who may come in, judged from the headers alone, before a byte of the body is read.
import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { createContextKey, type HandlerContext, type Interceptor } from "@connectrpc/connect";
import type { Caller } from "../access/caller.js";
import { type Policy, permissionsOf } from "../access/permission.js";
import type { Hit } from "../coordination/coordination.js";
import { Failure, notAllowed, tooMany, unauthenticated, unavailable } from "../failure.js";
import { addressKey } from "../port/address.js";
import { type Budget, type BudgetRate, createBudget } from "../port/budget.js";
import type { Peer } from "../port/peer.js";
import { callerKey, peerKey } from "./context.js";
import { type Policies, procedureOf } from "./policies.js";

/** Calls a window, by who calls and what. */
export interface RateLimits {
  /** Per peer address: calls without a valid token. */
  readonly public: number;
  /** Per subject. */
  readonly authenticated: number;
  readonly admin: number;
  readonly poot: number;
  readonly payout: number;
  readonly windowMs: number;
}

export interface GateOptions {
  readonly policies: Policies;
  /** The caller a token names; throws a Failure 4011 for one that is bad, expired or revoked. */
  readonly verify: (token: string) => Promise<Caller>;
  /** Counts a call, see Coordination.hit. */
  readonly hit: (key: string, limit: number, windowMs: number) => Promise<Hit>;
  /** Absent: nobody is limited. */
  readonly limits: RateLimits | undefined;
  /** Monotonic. */
  readonly nowMs: () => number;
  /** In [0, 1). */
  readonly random: () => number;
}

/** For Connect's requestGate, by way of createAdapter. Throws Failures. */
export interface Gate {
  /** Whether a call without a token may reach the handler, so that its body must be small. */
  isOpen(method: DescMethod): boolean;
  admit(context: HandlerContext): Promise<void>;
  /** For RPCs that ask for no token and are not the service's own: health and reflection. Counted per address, in this process. */
  admitOutsider(context: HandlerContext): Promise<void>;
  /** For policies of the tier `credential`: counts what turned out to be no good. Inside the error interceptor. */
  readonly credentials: Interceptor;
  /** Counts what comes without good credentials against its address. @throws Failure 4291 */
  limitStranger(peer: Peer): Promise<void>;
}

const counterRetryMs = 1_000;

export function createGate(options: GateOptions): Gate {
  const outsiders = createBudget(outsiderBudget);
  const unproven = createBudget(unprovenBudget);
  const streams = new Map<string, number>();
  /** A stream without a token ends when its client likes: an address has so many of them. @throws Failure 4291 */
  const holdStream = ({ signal, values }: HandlerContext, address: string): void => {
    // Over already, by a deadline of nothing: no end would be told.
    if (values.get(heldKey) || signal.aborted) return;
    const count = streams.get(address) ?? 0;
    if (count >= outsiderStreamsMax) throw tooMany("Too many streams without a token from this address", 10_000);
    values.set(heldKey, true);
    streams.set(address, count + 1);
    signal.addEventListener("abort", () => {
      const left = (streams.get(address) ?? 1) - 1;
      if (left === 0) streams.delete(address);
      else streams.set(address, left);
    });
  };
  const admit = async (context: HandlerContext) => {
    const policy = options.policies.get(procedureOf(context.method));
    if (!policy) throw new Failure("LUCID_ERR_5999", "Internal server error", { cause: new Error("no policy stated") });
    if (policy.permission === "open") return admitOpen(options, policy, context, unproven);
    const caller = await identify(options, policy, context);
    await limitCaller(options, policy, caller, context);
    assertAllowed(policy, caller);
    context.values.set(callerKey, caller);
    context.values.get(peerKey).letIn();
  };
  return {
    isOpen: (method) => (options.policies.get(procedureOf(method))?.permission ?? "open") === "open",
    admit,
    admitOutsider: async (context) => {
      if (!options.limits) return;
      const peer = context.values.get(peerKey);
      const waitMs = outsiders.take(addressKey(peer.address), options.nowMs());
      if (waitMs === 0 && context.method.methodKind !== "unary") return holdStream(context, addressKey(peer.address));
      if (waitMs === 0) return;
      peer.turnedAway();
      throw tooMany("Too many calls without a token from this address", waitMs);
    },
    credentials: (next) => async (request) => {
      const charge = request.contextValues.get(chargeKey);
      try {
        return await next(request);
      } catch (error) {
        // A good credential may meet a ban or a node that is gone; it is counted by then.
        if (charge && !charge.proven && isBadCredential(error)) {
          await limitPeer(options, request.contextValues.get(peerKey));
        }
        throw error;
      }
    },
    limitStranger: (peer) => limitPeer(options, peer),
  };
}

/**
 * Probes come every few seconds from a few addresses, tools of people ask a few questions at once. Not counted by way of
 * Redis, whose absence must not make probes late.
 */
const outsiderBudget = { perSecond: 100, burst: 1_000 };

/** Watches of health and streams of reflection that an address may have open. */
const outsiderStreamsMax = 200;
/** Reflection asks again for each question of a stream, which is held once. */
const heldKey = createContextKey(false, { description: "held stream" });

/**
 * Requests that are their own credential, from one address and before they are judged: a fleet behind one address refreshes
 * its tokens within minutes, and judging a bad one costs a hash.
 */
const unprovenBudget: BudgetRate = { perSecond: 100, burst: 1_000 };

/** What a call of the tier `credential` is counted by. */
interface Charge {
  proven: boolean;
  readonly good: (subject: string) => Promise<void>;
}

const chargeKey = createContextKey<Charge | undefined>(undefined, { description: "charge" });

/**
 * Counts a call against the subject that its credential has proved, before it has any effect.
 * @throws Failure 4291
 */
export async function charge({ values }: Pick<HandlerContext, "values">, subject: string): Promise<void> {
  const found = values.get(chargeKey);
  if (!found) return;
  found.proven = true;
  await found.good(subject);
}

const isBadCredential = (error: unknown) =>
  error instanceof Failure && ["LUCID_ERR_4011", "LUCID_ERR_4031", "LUCID_ERR_5001"].includes(error.reason);

/** An RPC without credentials: a token only says against whom the call counts, so that NAT does not bundle callers. */
async function admitOpen(
  options: GateOptions,
  policy: Policy,
  context: HandlerContext,
  unproven: Budget,
): Promise<void> {
  if (policy.tier === "none" || !options.limits) return;
  const token = bearerToken(context.requestHeader);
  const caller = token === undefined ? undefined : await options.verify(token).catch(() => undefined);
  const peer = context.values.get(peerKey);
  if (caller) return limitCaller(options, policy, caller, context);
  if (policy.tier !== "credential") return limitPeer(options, peer);
  const waitMs = unproven.take(addressKey(peer.address), options.nowMs());
  if (waitMs > 0) throw tooMany("Too many credentials from this address at once", spread(options, waitMs, 10_000));
  const { authenticated: max, windowMs } = options.limits;
  context.values.set(chargeKey, {
    proven: false,
    good: (subject) => limit(options, `rate:credential:${subject}`, max, windowMs, policy, context.method),
  });
}

/** When to come again: not before, and not all at the same moment. */
const spread = ({ random }: GateOptions, waitMs: number, overMs: number) => waitMs + random() * overMs;

/** The caller; a call without a good token counts against its address, which bounds guessing. */
async function identify(options: GateOptions, policy: Policy, context: HandlerContext): Promise<Caller> {
  try {
    const token = bearerToken(context.requestHeader);
    if (token === undefined) throw unauthenticated("A token is required");
    const caller = await options.verify(token);
    if (caller.tokenType === "node_enrollment") throw unauthenticated("An enrolment token serves to enrol only");
    return caller;
  } catch (error) {
    const refused = error instanceof Failure && error.reason === "LUCID_ERR_4011";
    if (refused && policy.tier !== "none") await limitPeer(options, context.values.get(peerKey));
    throw error;
  }
}

function assertAllowed(policy: Policy, caller: Caller): void {
  const { permission } = policy;
  if (permission !== "open" && permission !== "token" && !permissionsOf[caller.role].has(permission)) {
    throw notAllowed(`Permission ${permission} is required`);
  }
  if (caller.nodeId !== undefined && (policy.nodeToken ?? "refused") === "refused") {
    throw notAllowed("Not open to node tokens");
  }
}

async function limitCaller(options: GateOptions, policy: Policy, caller: Caller, context: HandlerContext) {
  const usual = caller.role === "admin" ? "admin" : "authenticated";
  const tier = policy.tier === undefined || policy.tier === "credential" ? usual : policy.tier;
  if (tier === "none" || !options.limits) return;
  // An enrolment token bears the name of the operator who asked for it; what is done with it is the node's doing.
  const { tokenType, subject, nodeId } = caller;
  await limit(
    options,
    `rate:${tier}:${tokenType === "node_enrollment" ? `enrollment of ${nodeId}` : subject}`,
    options.limits[tier],
    options.limits.windowMs,
    policy,
    context.method,
  );
}

async function limitPeer(options: GateOptions, peer: Peer): Promise<void> {
  if (!options.limits) return;
  peer.turnedAway();
  const { public: max, windowMs } = options.limits;
  await limit(options, `rate:public:${addressKey(peer.address)}`, max, windowMs, undefined, undefined);
}

async function limit(
  options: GateOptions,
  key: string,
  max: number,
  windowMs: number,
  policy: Policy | undefined,
  method: DescMethod | undefined,
): Promise<void> {
  let found: Hit;
  try {
    found = await options.hit(key, max, windowMs);
  } catch (cause) {
    if (!failsClosed(policy, method)) return;
    throw unavailable("The rate limit cannot be checked", counterRetryMs, cause);
  }
  if (!found.allowed)
    throw tooMany(`More than ${max} calls in ${windowMs / 1_000} s`, spread(options, found.resetMs, windowMs));
}

/** Without its counters the service goes on, except that it moves no money. */
function failsClosed(policy: Policy | undefined, method: DescMethod | undefined): boolean {
  return policy?.tier === "payout" && method?.idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/** The token of `authorization: Bearer <token>`, the scheme in any case; undefined when there is none. */
export function bearerToken(headers: Headers): string | undefined {
  return /^bearer +([\x21-\x7e]+) *$/i.exec(headers.get("authorization") ?? "")?.[1];
}

/** For policies with nodeToken `self`: a node's token reaches only requests that name its node. Runs after validation. */
export function selfInterceptor(policies: Policies): Interceptor {
  return (next) => (request) => {
    const policy = policies.get(procedureOf(request.method));
    const own = request.contextValues.get(callerKey)?.nodeId;
    if (policy?.nodeToken === "self" && own !== undefined && !request.stream) {
      const asked = "nodeId" in request.message ? request.message.nodeId : undefined;
      if (asked !== own) throw notAllowed("A node's token reaches only its own node");
    }
    return next(request);
  };
}

// Decides from the headers alone which calls may enter, before a byte of the body is read.
import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Caller } from "../access/caller.js";
import { type Policy, permissionsOf } from "../access/permission.js";
import type { Hit } from "../coordination/coordination.js";
import { Failure, notAllowed, tooMany, unauthenticated, unavailable } from "../failure.js";
import { addressKey } from "../port/address.js";
import { type Budget, type BudgetRate, createBudget } from "../port/budget.js";
import type { Peer } from "../port/peer.js";
import type { Call } from "./call.js";
import { type Policies, procedureOf } from "./policies.js";

/** Calls per window, by kind of caller and call. */
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
  /** The caller that a token names; throws a Failure 4011 if the token is bad, expired or revoked. */
  readonly verify: (token: string) => Promise<Caller>;
  /** Counts a call, see Coordination.hit. */
  readonly hit: (key: string, limit: number, windowMs: number) => Promise<Hit>;
  /** If absent, there is no limit. */
  readonly limits: RateLimits | undefined;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** In [0, 1). */
  readonly random: () => number;
}

/** Every transport calls these in this order. They throw Failures. */
export interface Gate {
  /** Whether a call without a token may reach the handler; its body must then be small. */
  isOpen(method: DescMethod): boolean;
  /** Called before a byte of the body is read. */
  admit(call: Call): Promise<void>;
  /**
   * For RPCs without tokens that are not the service's own: health and reflection. Counted per address, in this
   * process.
   */
  admitOutsider(call: Call): Promise<void>;
  /**
   * Called after a unary request was validated. For policies with nodeToken `self`, a node's token reaches only its own
   * node.
   */
  admitMessage(call: Call, message: object): void;
  /** Called with the error of a handler. For policies of the tier `credential` it counts refused credentials. */
  refused(call: Call, thrown: unknown): Promise<void>;
  /** Counts a call without good credentials against its address. @throws Failure 4291 */
  limitStranger(peer: Peer): Promise<void>;
}

const counterRetryMs = 1_000;

export function createGate(options: GateOptions): Gate {
  const outsiders = createBudget(outsiderBudget);
  const unproven = createBudget(unprovenBudget);
  const streams = new Map<string, number>();
  /**
   * A stream without a token may stay open as long as its client likes, so each address has a limited number. @throws
   * Failure 4291
   */
  const holdStream = (call: Call, address: string): void => {
    const { signal } = call;
    // The call is already over, so its end would never be noticed (a deadline of 0); or reflection asks again for a
    // further question of a held stream.
    if (call.held || signal.aborted) return;
    const count = streams.get(address) ?? 0;
    if (count >= outsiderStreamsMax) throw tooMany("Too many streams without a token from this address", 10_000);
    call.held = true;
    streams.set(address, count + 1);
    signal.addEventListener("abort", () => {
      const left = (streams.get(address) ?? 1) - 1;
      if (left === 0) streams.delete(address);
      else streams.set(address, left);
    });
  };
  const policyOf = ({ method }: Call): Policy | undefined => method && options.policies.get(procedureOf(method));
  const admit = async (call: Call) => {
    const policy = policyOf(call);
    if (!policy) throw new Failure("LUCID_ERR_5999", "Internal server error", { cause: new Error("no policy stated") });
    if (policy.permission === "open") return admitOpen(options, policy, call, unproven);
    const caller = await identify(options, policy, call);
    await limitCaller(options, policy, caller, call);
    assertAllowed(policy, caller);
    call.caller = caller;
    call.peer.letIn();
  };
  return {
    isOpen: (method) => (options.policies.get(procedureOf(method))?.permission ?? "open") === "open",
    admit,
    admitOutsider: async (call) => {
      if (!options.limits) return;
      const { peer } = call;
      const waitMs = outsiders.take(addressKey(peer.address), options.nowMs());
      if (waitMs === 0 && call.method?.methodKind !== "unary") return holdStream(call, addressKey(peer.address));
      if (waitMs === 0) return;
      peer.turnedAway();
      throw tooMany("Too many calls without a token from this address", waitMs);
    },
    admitMessage: (call, message) => {
      const own = call.caller?.nodeId;
      if (own === undefined || policyOf(call)?.nodeToken !== "self") return;
      const asked = "nodeId" in message ? message.nodeId : undefined;
      if (asked !== own) throw notAllowed("A node's token reaches only its own node");
    },
    refused: async ({ charge, peer }, thrown) => {
      // A good credential may still be refused (a ban, a missing node). Then it is already counted.
      if (charge && !charge.proven && isBadCredential(thrown)) await limitPeer(options, peer);
    },
    limitStranger: (peer) => limitPeer(options, peer),
  };
}

/**
 * Probes come every few seconds from a few addresses, and people's tools ask a few questions at once. Not counted in
 * Redis: probes must not be slow when it is away.
 */
const outsiderBudget = { perSecond: 100, burst: 1_000 };

/** Health watches and reflection streams that an address may have open. */
const outsiderStreamsMax = 200;

/**
 * Requests whose message is their credential, per address, before the credential is checked. A fleet behind one address
 * refreshes its tokens within minutes, and checking a bad one costs a hash.
 */
const unprovenBudget: BudgetRate = { perSecond: 100, burst: 1_000 };

/**
 * Counts a call against the subject that its credential has proved, before the call has any effect.
 * @throws Failure 4291
 */
export async function charge({ charge }: Pick<Call, "charge">, subject: string): Promise<void> {
  if (!charge) return;
  charge.proven = true;
  await charge.good(subject);
}

const isBadCredential = (error: unknown) =>
  error instanceof Failure && ["LUCID_ERR_4011", "LUCID_ERR_4031", "LUCID_ERR_5001"].includes(error.reason);

/**
 * For an RPC without credentials: a token only decides which caller the call counts against, so that callers behind one
 * NAT are not counted together.
 */
async function admitOpen(options: GateOptions, policy: Policy, call: Call, unproven: Budget): Promise<void> {
  if (policy.tier === "none" || !options.limits) return;
  const token = bearerToken(call.headers);
  const caller = token === undefined ? undefined : await options.verify(token).catch(() => undefined);
  const { peer } = call;
  if (caller) return limitCaller(options, policy, caller, call);
  if (policy.tier !== "credential") return limitPeer(options, peer);
  const waitMs = unproven.take(addressKey(peer.address), options.nowMs());
  if (waitMs > 0) throw tooMany("Too many credentials from this address at once", spread(options, waitMs, 10_000));
  const { authenticated: max, windowMs } = options.limits;
  call.charge = {
    proven: false,
    good: (subject) => limit(options, `rate:credential:${subject}`, max, windowMs, policy, call.method),
  };
}

/** When to come again: not earlier than the wait, and not all callers at the same moment. */
const spread = ({ random }: GateOptions, waitMs: number, overMs: number) => waitMs + random() * overMs;

/** The caller. A call without a good token counts against its address, which bounds guessing. */
async function identify(options: GateOptions, policy: Policy, call: Call): Promise<Caller> {
  try {
    const token = bearerToken(call.headers);
    if (token === undefined) throw unauthenticated("A token is required");
    const caller = await options.verify(token);
    if (caller.tokenType === "node_enrollment") throw unauthenticated("An enrolment token serves to enrol only");
    return caller;
  } catch (error) {
    const refused = error instanceof Failure && error.reason === "LUCID_ERR_4011";
    if (refused && policy.tier !== "none") await limitPeer(options, call.peer);
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

async function limitCaller(options: GateOptions, policy: Policy, caller: Caller, call: Call) {
  const usual = caller.role === "admin" ? "admin" : "authenticated";
  const tier = policy.tier === undefined || policy.tier === "credential" ? usual : policy.tier;
  if (tier === "none" || !options.limits) return;
  // An enrolment token carries the name of the operator who requested it, but the node uses it, so it counts against
  // the node.
  const { tokenType, subject, nodeId } = caller;
  await limit(
    options,
    `rate:${tier}:${tokenType === "node_enrollment" ? `enrollment of ${nodeId}` : subject}`,
    options.limits[tier],
    options.limits.windowMs,
    policy,
    call.method,
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

/** The token in `authorization: Bearer <token>`, the scheme in any case; undefined if there is none. */
export function bearerToken(headers: Pick<Headers, "get">): string | undefined {
  return /^bearer +([\x21-\x7e]+) *$/i.exec(headers.get("authorization") ?? "")?.[1];
}

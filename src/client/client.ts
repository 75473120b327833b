// The client for other services: typed stubs over gRPC that keep tokens fresh, set deadlines, and repeat calls where
// that is safe.
import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import {
  type Client,
  Code,
  ConnectError,
  createClient,
  type Interceptor,
  type UnaryRequest,
} from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { AdminService } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService } from "../../gen/lucid/node/v1/node_service_pb.js";
import { PayoutService } from "../../gen/lucid/node/v1/payout_service_pb.js";
import { PoolService } from "../../gen/lucid/node/v1/pool_service_pb.js";
import { PoOTService } from "../../gen/lucid/node/v1/poot_service_pb.js";
import { type Clock, systemClock, systemRandom } from "../clock.js";
import { serviceUrl } from "./address.js";
import { lucidReason, retryAfterMs, retryReason } from "./errors.js";
import { pauseMs } from "./pause.js";
import { createSession } from "./session.js";
import { type TokenPair, tokenPairOf } from "./tokens.js";

export interface LucidClientOptions {
  /** For example "http://node-management:8083" or "http://[::1]:8083"; https for TLS. */
  readonly baseUrl: string;
  /** An access token. It is renewed if there is also a refresh token. */
  readonly accessToken?: string;
  /** Used once; the client keeps the later ones. */
  readonly refreshToken?: string;
  /** Called with each new pair, so that it can be stored across restarts. */
  readonly onTokens?: (tokens: TokenPair) => void;
  /** Timeout of a unary call that sets none; 10,000 ms when absent. */
  readonly timeoutMs?: number;
  /** How often a call is repeated if that is safe, 0 to 10; 3 when absent. */
  readonly retries?: number;
  readonly clock?: Clock;
  /** In [0, 1); spreads repeated calls over time. */
  readonly random?: () => number;
}

export interface LucidClient extends Disposable {
  readonly nodes: Client<typeof NodeService>;
  readonly pools: Client<typeof PoolService>;
  readonly poot: Client<typeof PoOTService>;
  readonly payouts: Client<typeof PayoutService>;
  readonly admin: Client<typeof AdminService>;
}

const timeoutDefaultMs = 10_000;
const retriesDefault = 3;
/** Bytes of the largest answer that the client accepts. The largest page of complete nodes is smaller. */
const readMaxBytes = 4 * 1024 * 1024;

/**
 * One HTTP/2 connection, opened at the first call. Dispose closes it. @throws TypeError when baseUrl is not an address
 */
export function createLucidClient(options: LucidClientOptions): LucidClient {
  const { clock = systemClock, random = systemRandom, timeoutMs = timeoutDefaultMs } = options;
  const baseUrl = serviceUrl(options.baseUrl);
  if (baseUrl === undefined) {
    throw new TypeError(
      "baseUrl takes an address such as http://localhost:8083 or http://[::1]:8083, without a password",
    );
  }
  const sessionManager = createSession(baseUrl, { pingIntervalMs: 30_000 });
  const bare = createGrpcTransport({ baseUrl, sessionManager, readMaxBytes, defaultTimeoutMs: timeoutMs });
  const tokens = createTokenSource(options, createClient(AdminService, bare));
  const interceptors = [authorising(tokens), retrying(options.retries ?? retriesDefault, clock, random)];
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager,
    interceptors,
    readMaxBytes,
    defaultTimeoutMs: timeoutMs,
  });
  // A stream has no deadline: it lives as long as its caller wants.
  const streaming = createGrpcTransport({ baseUrl, sessionManager, interceptors, readMaxBytes });
  const { heartbeat, watchNodes } = createClient(NodeService, streaming);
  return {
    nodes: { ...createClient(NodeService, transport), heartbeat, watchNodes },
    pools: createClient(PoolService, transport),
    poot: createClient(PoOTService, transport),
    payouts: createClient(PayoutService, transport),
    admin: createClient(AdminService, transport),
    [Symbol.dispose]: () => sessionManager.abort(),
  };
}

interface TokenSource {
  current(): string | undefined;
  /** Renews once for all concurrent calls; false if there is no refresh token. */
  renew(stale: string | undefined): Promise<boolean>;
}

function createTokenSource(options: LucidClientOptions, admin: Client<typeof AdminService>): TokenSource {
  let accessToken = options.accessToken;
  let refreshToken = options.refreshToken;
  let renewing: Promise<boolean> | undefined;

  const renew = async (): Promise<boolean> => {
    if (refreshToken === undefined) return false;
    const fresh = tokenPairOf(await admin.refreshToken({ refreshToken }));
    accessToken = fresh.accessToken;
    refreshToken = fresh.refreshToken;
    options.onTokens?.(fresh);
    return true;
  };

  return {
    current: () => accessToken,
    renew: (stale) => {
      if (stale !== accessToken) return Promise.resolve(true);
      renewing ??= renew().finally(() => {
        renewing = undefined;
      });
      return renewing;
    },
  };
}

/** Adds the token to each call. A call refused for its token is tried once more with a new one. */
function authorising(tokens: TokenSource): Interceptor {
  return (next) => async (request) => {
    if (request.header.has("authorization")) return next(request);
    const token = tokens.current() ?? ((await tokens.renew(undefined)) ? tokens.current() : undefined);
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    try {
      return await next(request);
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
      // Messages of a stream may already be consumed, so its caller must open it again, with the new token.
      if (!(await tokens.renew(token)) || request.stream) throw error;
      request.header.set("authorization", `Bearer ${tokens.current()}`);
      return next(request);
    }
  };
}

/**
 * Repeats unary calls after the wait that the service asks for: calls that change nothing, carry an idempotency key or a
 * batch's id, or submit proofs, which have one verdict each.
 */
function retrying(retries: number, clock: Clock, random: () => number): Interceptor {
  return (next) => async (request) => {
    for (let attempt = 0; ; attempt++) {
      try {
        return await next(request);
      } catch (error) {
        if (request.stream || attempt >= retries || !isSafe(request) || !isPassing(error)) throw error;
        const backoffMs = random() * Math.min(5_000, 100 * 2 ** attempt);
        await clock.sleep(pauseMs(retryAfterMs(error), backoffMs, random()), request.signal);
        request.signal.throwIfAborted();
      }
    }
  };
}

function isSafe({ method, message }: UnaryRequest): boolean {
  if (method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS || proofs.has(method)) return true;
  if (method === PayoutService.method.createBatchPayout) return "batchId" in message && message.batchId !== "";
  return "idempotencyKey" in message && message.idempotencyKey !== "";
}

const proofs = new Set<DescMethod>([PoOTService.method.validatePoOT, PoOTService.method.batchValidatePoOT]);

/** Only errors that surely pass. The caller gets any other error at once, and decides. */
function isPassing(error: unknown): boolean {
  const reason = retryReason(error);
  if (reason === "ended") return lucidReason(error) === undefined;
  return reason === "away" || (reason === "limited" && retryAfterMs(error) !== undefined);
}

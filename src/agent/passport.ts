// Keeps a node's access token fresh: refreshes it before it expires, or else enrols again with the pinned key, which
// needs no operator.
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { AdminService } from "../../gen/lucid/node/v1/admin_service_pb.js";
import type { NodeService } from "../../gen/lucid/node/v1/node_service_pb.js";
import { type TokenPair, tokenPairOf } from "../client/tokens.js";
import type { Credentials } from "./credentials.js";

export interface Passport {
  /** A token that stays valid for a while. Throws a ConnectError when none can be had now. */
  token(): Promise<string>;
  /** The service refused that token, so the next call of `token` returns another. */
  refused(token: string): void;
}

/** A token with less time left than this is renewed first. */
const marginMs = 60_000;
const timeoutMs = 10_000;

export function createPassport(parts: {
  readonly nodes: Client<typeof NodeService>;
  readonly admin: Client<typeof AdminService>;
  readonly credentials: Credentials;
  /** Needed until the key is pinned. */
  readonly enrollmentToken: string | undefined;
  /** The service's time, as far as it is known. It dates the tokens. */
  readonly now: () => Date;
}): Passport {
  const { nodes, admin, credentials } = parts;
  const { identity } = credentials;
  let refusedToken: string | undefined;

  const isGood = (tokens: TokenPair | undefined): tokens is TokenPair =>
    tokens !== undefined &&
    tokens.accessToken !== refusedToken &&
    tokens.expiresAt.getTime() - parts.now().getTime() > marginMs;

  const refresh = async ({ refreshToken }: TokenPair): Promise<TokenPair> =>
    tokenPairOf(await admin.refreshToken({ refreshToken }, { timeoutMs }));

  const enroll = async (): Promise<TokenPair> => {
    const headers = parts.enrollmentToken === undefined ? {} : { authorization: `Bearer ${parts.enrollmentToken}` };
    const { nodeId, publicKey } = identity;
    const begun = await nodes.beginEnrollment({ nodeId, publicKey }, { headers, timeoutMs });
    const signature = identity.signEnrollment(begun.challenge);
    const { challenge } = begun;
    return tokenPairOf(await nodes.completeEnrollment({ nodeId, challenge, signature }, { headers, timeoutMs }));
  };

  const renew = async (held: TokenPair | undefined): Promise<string> => {
    const renewed = held === undefined ? await enroll() : await refresh(held).catch(unlessUnauthenticated(enroll));
    credentials.keep(renewed);
    return renewed.accessToken;
  };
  let renewing: Promise<string> | undefined;

  return {
    token: async () => {
      const held = credentials.tokens();
      if (isGood(held)) return held.accessToken;
      // A refresh token works once, so concurrent callers wait for the same renewal.
      renewing ??= renew(held).finally(() => {
        renewing = undefined;
      });
      return renewing;
    },
    refused: (token) => {
      // A late refusal of an earlier token says nothing about the current one.
      if (token === credentials.tokens()?.accessToken) refusedToken = token;
    },
  };
}

const unlessUnauthenticated =
  <T>(otherwise: () => Promise<T>) =>
  (error: unknown): Promise<T> => {
    if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
    return otherwise();
  };

// A node's access token, kept fresh: refreshed before it runs out, else won anew by the pinned key, which needs nobody.
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { AdminService } from "../../gen/lucid/node/v1/admin_service_pb.js";
import type { NodeService } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Credentials, NodeTokens } from "./credentials.js";

export interface Passport {
  /** A token that is good for a while yet. Throws a ConnectError when none can be had now. */
  token(): Promise<string>;
  /** The service refused that token: the next one asked for is another. */
  refused(token: string): void;
}

/** A token this close to its end is renewed first. */
const marginMs = 60_000;
const timeoutMs = 10_000;

export function createPassport(parts: {
  readonly nodes: Client<typeof NodeService>;
  readonly admin: Client<typeof AdminService>;
  readonly credentials: Credentials;
  /** Needed until the key is pinned. */
  readonly enrollmentToken: string | undefined;
  /** The service's time, as far as it is known: it dates the tokens. */
  readonly now: () => Date;
}): Passport {
  const { nodes, admin, credentials } = parts;
  const { identity } = credentials;
  let refusedToken: string | undefined;

  const isGood = (tokens: NodeTokens | undefined): tokens is NodeTokens =>
    tokens !== undefined &&
    tokens.accessToken !== refusedToken &&
    tokens.expiresAt.getTime() - parts.now().getTime() > marginMs;

  const refresh = async ({ refreshToken }: NodeTokens): Promise<NodeTokens> =>
    toTokens(await admin.refreshToken({ refreshToken }, { timeoutMs }));

  const enroll = async (): Promise<NodeTokens> => {
    const headers = parts.enrollmentToken === undefined ? {} : { authorization: `Bearer ${parts.enrollmentToken}` };
    const { nodeId, publicKey } = identity;
    const begun = await nodes.beginEnrollment({ nodeId, publicKey }, { headers, timeoutMs });
    const signature = identity.signEnrollment(begun.challenge);
    const { challenge } = begun;
    return toTokens(await nodes.completeEnrollment({ nodeId, challenge, signature }, { headers, timeoutMs }));
  };

  const renew = async (held: NodeTokens | undefined): Promise<string> => {
    const renewed = held === undefined ? await enroll() : await refresh(held).catch(unlessUnauthenticated(enroll));
    credentials.keep(renewed);
    return renewed.accessToken;
  };
  let renewing: Promise<string> | undefined;

  return {
    token: async () => {
      const held = credentials.tokens();
      if (isGood(held)) return held.accessToken;
      // A refresh token serves once: whoever asks meanwhile waits for the same answer.
      renewing ??= renew(held).finally(() => {
        renewing = undefined;
      });
      return renewing;
    },
    refused: (token) => {
      refusedToken = token;
    },
  };
}

const unlessUnauthenticated =
  <T>(otherwise: () => Promise<T>) =>
  (error: unknown): Promise<T> => {
    if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
    return otherwise();
  };

const toTokens = (answer: {
  accessToken: string;
  refreshToken: string;
  expiresAt?: Timestamp | undefined;
}): NodeTokens => ({
  accessToken: answer.accessToken,
  refreshToken: answer.refreshToken,
  expiresAt: answer.expiresAt === undefined ? new Date(0) : timestampDate(answer.expiresAt),
});

// A pair of tokens, as the service sends it and as its callers keep it.
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

export interface TokenPair {
  readonly accessToken: string;
  /** Serves once. */
  readonly refreshToken: string;
  /** When the access token runs out. */
  readonly expiresAt: Date;
}

/** The pair of an answer. A pair without an end counts as over, so that it is renewed before it is used. */
export const tokenPairOf = (answer: {
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly expiresAt?: Timestamp | undefined;
}): TokenPair => ({
  accessToken: answer.accessToken,
  refreshToken: answer.refreshToken,
  expiresAt: answer.expiresAt === undefined ? new Date(0) : timestampDate(answer.expiresAt),
});

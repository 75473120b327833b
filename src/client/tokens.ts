// A pair of tokens, as sent by the service and kept by its callers.
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

export interface TokenPair {
  readonly accessToken: string;
  /** Works once. */
  readonly refreshToken: string;
  /** When the access token expires. */
  readonly expiresAt: Date;
}

/** The pair in an answer. Without an expiry time it counts as expired, so that it is renewed before use. */
export const tokenPairOf = (answer: {
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly expiresAt?: Timestamp | undefined;
}): TokenPair => ({
  accessToken: answer.accessToken,
  refreshToken: answer.refreshToken,
  expiresAt: answer.expiresAt === undefined ? new Date(0) : timestampDate(answer.expiresAt),
});

// Signs a token with the service's own key, as every user with access to DATA_DIR or the secrets can.
import { type Claims, newJti, signToken } from "../access/jwt.js";
import { loadSecrets } from "../access/secrets.js";
import { systemClock } from "../clock.js";
import type { Settings } from "../settings/settings.js";

type Holder = Pick<Claims, "subject" | "role" | "nodeId" | "tokenType">;

export function signLocally(settings: Settings, holder: Holder, ttlSeconds: number): Promise<string> {
  const issuedAt = systemClock.now();
  const expiresAt = new Date(issuedAt.getTime() + ttlSeconds * 1000);
  const { rings } = loadSecrets(settings);
  return signToken(rings, { ...holder, jti: newJti(), issuedAt, expiresAt });
}

// Tokens for services of the tests that run in processes of their own under the common secret.
import { newJti, signToken } from "../../../src/access/jwt.js";
import type { Role } from "../../../src/access/permission.js";
import { commonSecret } from "./world.js";

/** An access token as another Lucid service would sign it, of a node where one is named; valid for a day. */
export function signAccess(role: Role, nodeId?: string): Promise<string> {
  const issuedAt = new Date();
  return signToken(
    { common: [{ kid: "1", secret: commonSecret }], privileged: undefined },
    {
      ...{ subject: nodeId ?? "test", role, nodeId, jti: newJti(), issuedAt },
      tokenType: nodeId === undefined ? "service_access" : "node_access",
      expiresAt: new Date(issuedAt.getTime() + 86_400_000),
    },
  );
}

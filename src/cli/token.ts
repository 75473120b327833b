// lucid-node token: prints a token, signed with the service's own key, and nothing else.
import type { TokenType } from "../access/jwt.js";
import { nodeRoles, type Role, serviceRoles } from "../access/permission.js";
import { parseSettings, readEnvironment } from "../settings/environment.js";
import { answer } from "./output.js";
import { signLocally } from "./sign.js";
import { UsageError, wholeNumber } from "./usage.js";

export interface TokenOptions {
  readonly role?: Role | undefined;
  readonly nodeId?: string | undefined;
  readonly subject?: string | undefined;
  /** Seconds, as written on the command line. */
  readonly ttl?: string | undefined;
  readonly enrollment: boolean;
}

/** Returns the exit code. @throws UsageError, StartError */
export async function token({ nodeId, enrollment, ...given }: TokenOptions): Promise<number> {
  const role = given.role ?? (enrollment ? "worker" : undefined);
  if (role === undefined) throw new UsageError(`--role is one of ${[...nodeRoles, ...serviceRoles].join(", ")}`);
  const forNode = (nodeRoles as readonly Role[]).includes(role);
  if (forNode !== (nodeId !== undefined)) throw new UsageError("--node-id goes with node roles, and only with them");
  const tokenType: TokenType = enrollment ? "node_enrollment" : forNode ? "node_access" : "service_access";
  const settings = parseSettings(readEnvironment());
  const ttlSecondsMax = settings.tokenTtlMaxMs / 1000;
  const usual = String(Math.min(enrollment ? 900 : 3600, ttlSecondsMax));
  const ttlSeconds = wholeNumber("ttl", given.ttl ?? usual, 1, ttlSecondsMax);
  const holder = { subject: given.subject ?? nodeId ?? `cli-${role}`, role, nodeId, tokenType };
  return answer(await signLocally(settings, holder, ttlSeconds));
}

// AdminService: tokens, and what the service reports about itself.
import { durationFromMs, durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type AdminService,
  HealthStatus,
  type IssueTokenRequest,
  TokenType,
  Role as WireRole,
} from "../../gen/lucid/node/v1/admin_service_pb.js";
import type { Caller } from "../access/caller.js";
import { type NodeRole, nodeRoles, type Policy, type Role } from "../access/permission.js";
import type { TokenPair, Tokens } from "../access/tokens.js";
import type { Clock } from "../clock.js";
import { malformed, nodeNotFound, notAllowed, unauthenticated } from "../failure.js";
import { callOf } from "../rpc/context.js";
import { charge } from "../rpc/gate.js";
import { isOutage, unless } from "../task.js";
import type { Health, HealthLevel } from "./health.js";

export const adminPolicies: Readonly<Record<keyof typeof AdminService.method, Policy>> = {
  issueToken: { permission: "admin" },
  refreshToken: { permission: "open", tier: "credential" },
  revokeToken: { permission: "admin" },
  getServiceInfo: { permission: "token", nodeToken: "handler" },
  getServiceHealth: { permission: "admin" },
};

/** What a token needs to know of its node; null when there is no such node. */
export type FindTokenHolder = (nodeId: string) => Promise<{
  readonly role: NodeRole;
  readonly banned: boolean;
  /** Grows with each reset of the node's enrolment. */
  readonly enrollmentEpoch: number;
  /** Whether a token of the node is older than the last reset. */
  readonly outdates: (token: Pick<Caller, "issuedAt" | "enrollmentEpoch">) => boolean;
} | null>;

export interface ServiceFacts {
  /** By currency. */
  readonly gateways: Readonly<Record<string, string>>;
  readonly roles: readonly string[];
  readonly service: string;
  readonly version: string;
  readonly environment: string;
  readonly storage: string;
  readonly coordination: string;
  readonly replicaId: string;
  readonly startedAt: Date;
}

const roleFromWire: Readonly<Record<WireRole, Role | undefined>> = {
  [WireRole.UNSPECIFIED]: undefined,
  [WireRole.WORKER]: "worker",
  [WireRole.VALIDATOR]: "validator",
  [WireRole.STORAGE]: "storage",
  [WireRole.COMPUTE]: "compute",
  [WireRole.OPERATOR]: "operator",
  [WireRole.PAYER]: "payer",
  [WireRole.APPROVER]: "approver",
  [WireRole.ADMIN]: "admin",
};
const levelToWire: Readonly<Record<HealthLevel, HealthStatus>> = {
  healthy: HealthStatus.HEALTHY,
  degraded: HealthStatus.DEGRADED,
  unhealthy: HealthStatus.UNHEALTHY,
};

export function createAdminHandler(parts: {
  readonly tokens: Tokens;
  readonly health: Health;
  readonly tokenHolder: FindTokenHolder;
  /** The longest lifetime of a token. */
  readonly ttlMaxMs: number;
  readonly facts: ServiceFacts;
  /** Living replicas, including this one. */
  readonly countReplicas: () => Promise<number>;
  readonly clock: Clock;
}): ServiceImpl<typeof AdminService> {
  const { tokens, health, tokenHolder, facts, clock } = parts;

  const requireNode = async (nodeId: string) => {
    const node = await tokenHolder(nodeId);
    if (node === null) throw nodeNotFound(nodeId);
    return node;
  };

  const issueEnrollment = async (request: IssueTokenRequest, subject: string, ttl: { ttlMs?: number }) => {
    const { nodeId } = request;
    if (nodeId === "") throw malformed({ field: "node_id", description: "is required for an enrolment token" });
    const { role, enrollmentEpoch } = await requireNode(nodeId);
    const { token, expiresAt } = await tokens.issueEnrollment({ subject, role, nodeId, enrollmentEpoch, ...ttl });
    return { accessToken: token, refreshToken: "", expiresAt: timestampFromDate(expiresAt) };
  };

  const issueToken = async (request: IssueTokenRequest) => {
    const ttl = request.ttl === undefined ? {} : { ttlMs: durationMs(request.ttl) };
    if ((ttl.ttlMs ?? 0) > parts.ttlMaxMs) {
      throw malformed({ field: "ttl", description: `must be at most ${parts.ttlMaxMs / 1000} s here` });
    }
    const subject = request.subject === "" ? request.nodeId : request.subject;
    if (subject === "") throw malformed({ field: "subject", description: "is required without a node_id" });
    if (request.tokenType === TokenType.NODE_ENROLLMENT) return issueEnrollment(request, subject, ttl);
    const role = roleFromWire[request.role];
    if (role === undefined) throw malformed({ field: "role", description: "is required" });
    const forNode = (nodeRoles as readonly Role[]).includes(role);
    requireFit(request, forNode);
    if (!forNode) return pairToWire(await tokens.issue({ subject, role, nodeId: undefined, ...ttl }));
    const { nodeId } = request;
    const { role: nodeRole, enrollmentEpoch } = await requireNode(nodeId);
    if (nodeRole !== role) throw malformed({ field: "role", description: "is not the node's type" });
    return pairToWire(await tokens.issue({ subject, role, nodeId, enrollmentEpoch, ...ttl }));
  };

  return {
    issueToken,

    refreshToken: async ({ refreshToken }, context) =>
      pairToWire(
        await tokens.refresh(
          refreshToken,
          (subject) => charge(callOf(context), subject),
          async (nodeId, token) => {
            const { role, banned, enrollmentEpoch, outdates } = await requireNode(nodeId);
            if (banned) throw notAllowed("The node is banned");
            if (outdates(token)) throw unauthenticated("The node's enrolment was reset");
            return { role, enrollmentEpoch };
          },
        ),
      ),

    revokeToken: async ({ jti }) => {
      await tokens.revoke(jti);
      return {};
    },

    getServiceInfo: async () => ({
      service: facts.service,
      version: facts.version,
      environment: facts.environment,
      engines: { storage: facts.storage, coordination: facts.coordination },
      // While the store is away only this replica is certain.
      replicas: (await parts.countReplicas().catch(unless(isOutage))) ?? 1,
      startedAt: timestampFromDate(facts.startedAt),
      replicaId: facts.replicaId,
      gateways: { ...facts.gateways },
      roles: [...facts.roles],
    }),

    getServiceHealth: async () => ({
      status: levelToWire[health.status()],
      timestamp: timestampFromDate(clock.now()),
      version: facts.version,
      uptime: durationFromMs(Math.round(health.uptimeMs())),
      checks: Object.fromEntries(
        [...health.checks()].map(([name, check]) => [
          name,
          {
            status: levelToWire[check.status],
            message: check.message,
            timestamp: timestampFromDate(check.timestamp),
            figures: { ...check.figures },
          },
        ]),
      ),
    }),
  };
}

/** Node roles need a node, other roles must not name one; a given token type must fit the role. @throws Failure 4001 */
function requireFit({ nodeId, tokenType }: IssueTokenRequest, forNode: boolean): void {
  if (forNode && nodeId === "") throw malformed({ field: "node_id", description: "is required for a node's role" });
  if (!forNode && nodeId !== "") throw malformed({ field: "node_id", description: "is for node roles only" });
  const fitting = forNode ? TokenType.NODE_ACCESS : TokenType.SERVICE_ACCESS;
  if (tokenType !== TokenType.UNSPECIFIED && tokenType !== fitting) {
    throw malformed({ field: "token_type", description: "does not fit the role" });
  }
}

const pairToWire = ({ accessToken, refreshToken, expiresAt }: TokenPair) => ({
  accessToken,
  refreshToken,
  expiresAt: timestampFromDate(expiresAt),
});

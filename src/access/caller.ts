// Who calls, as a token says it. Pure.
import type { Role } from "./permission.js";

export interface Caller {
  /** The token's sub, named in logs, events and idempotency keys. */
  readonly subject: string;
  readonly role: Role;
  /** Only with a node's token. */
  readonly nodeId: string | undefined;
  readonly tokenType: "service_access" | "node_access" | "node_enrollment";
  readonly jti: string;
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  /** Of a node's token: the enrolment it belongs to, where the service made it. */
  readonly enrollmentEpoch: number | undefined;
}

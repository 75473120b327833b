// The caller, as its token describes it. Pure.
import type { Role } from "./permission.js";

export interface Caller {
  /** The token's sub, named in logs, events and idempotency keys. */
  readonly subject: string;
  readonly role: Role;
  /** Undefined without a node's token. */
  readonly nodeId: string | undefined;
  readonly tokenType: "service_access" | "node_access" | "node_enrollment";
  readonly jti: string;
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  /** Of a node's token: the enrolment it belongs to; undefined when another service made the token. */
  readonly enrollmentEpoch: number | undefined;
}

// Who may do what: roles, their permissions, and how an RPC states the permission it needs. Pure.

export type Permission =
  | "node:read"
  | "node:write"
  | "node:start"
  | "node:stop"
  | "node:restart"
  | "node:admin"
  | "node:heartbeat"
  | "pool:read"
  | "pool:write"
  | "pool:assign"
  | "resource:read"
  | "resource:metrics"
  | "poot:read"
  | "poot:validate"
  | "poot:batch"
  | "payout:read"
  | "payout:process"
  | "payout:batch"
  | "payout:approve"
  | "payout:admin"
  | "admin";

export const nodeRoles = ["worker", "validator", "storage", "compute"] as const;
export const serviceRoles = ["operator", "payer", "approver", "admin"] as const;
export type NodeRole = (typeof nodeRoles)[number];
export type Role = NodeRole | (typeof serviceRoles)[number];

/** Roles that only the privileged key may grant, if such a key is set. */
export const privilegedRoles: readonly Role[] = ["payer", "approver", "admin"];

const readAll: Permission[] = ["node:read", "pool:read", "resource:read", "poot:read", "payout:read"];
const nodeBase: Permission[] = ["node:read", "node:heartbeat", "resource:read", "poot:validate"];
const all: Permission[] = [
  ...readAll,
  "node:write",
  "node:start",
  "node:stop",
  "node:restart",
  "node:admin",
  "pool:write",
  "pool:assign",
  "resource:metrics",
  "poot:validate",
  "poot:batch",
  "payout:process",
  "payout:batch",
  "payout:approve",
  "payout:admin",
  "admin",
];

export const permissionsOf: Readonly<Record<Role, ReadonlySet<Permission>>> = {
  worker: new Set(nodeBase),
  storage: new Set(nodeBase),
  compute: new Set(nodeBase),
  validator: new Set<Permission>([...nodeBase, "poot:read", "poot:batch"]),
  operator: new Set<Permission>([
    ...readAll,
    "node:write",
    "node:start",
    "node:stop",
    "node:restart",
    "pool:write",
    "pool:assign",
    "resource:metrics",
  ]),
  payer: new Set<Permission>([...readAll, "payout:process", "payout:batch"]),
  approver: new Set<Permission>([...readAll, "payout:approve"]),
  admin: new Set(all),
};

/** What an RPC requires of its caller. */
export interface Policy {
  /** `open`: nothing, only the handler looks at a token; `token`: any valid token; else that permission. */
  readonly permission: Permission | "open" | "token";
  /**
   * What a node's own token may reach: `self` (the request's node_id must be its node), `refused`, or `handler` (the
   * handler decides, as it does for streams). Absent: `refused`.
   */
  readonly nodeToken?: "self" | "refused" | "handler";
  /**
   * The rate limit that a call counts against. Absent: the caller's own (public, authenticated or admin). `none` is for
   * probes. `credential` is for an open RPC whose request is its credential: a good one counts against its subject,
   * which the handler reports by `charge`, a bad one against the address it came from.
   */
  readonly tier?: "poot" | "payout" | "credential" | "none";
}

// Tokens as signed text: JWT (RFC 7519) with HS256 and nothing else. Other Lucid services that share the secret may
// sign their own. If a privileged key ring is set, only that ring signs and verifies tokens that grant power: payers,
// approvers, admins, refresh and enrolment tokens.

import { randomUUID } from "node:crypto";
import { decodeJwt, decodeProtectedHeader, jwtVerify, SignJWT } from "jose";
import { unauthenticated } from "../failure.js";
import { present } from "../present.js";
import type { SigningKey } from "./keyring.js";
import { nodeRoles, privilegedRoles, type Role, serviceRoles } from "./permission.js";

export const tokenTypes = [
  "service_access",
  "node_access",
  "node_refresh",
  "service_refresh",
  "node_enrollment",
] as const;
export type TokenType = (typeof tokenTypes)[number];

export interface Claims {
  readonly subject: string;
  readonly role: Role;
  readonly nodeId: string | undefined;
  readonly tokenType: TokenType;
  readonly jti: string;
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  /** Of a node's token: the enrolment it belongs to. Absent when another service made the token. */
  readonly enrollmentEpoch?: number | undefined;
}

export interface KeyRings {
  /** The first key signs, all keys verify. */
  readonly common: readonly SigningKey[];
  readonly privileged: readonly SigningKey[] | undefined;
}

const issuer = "lucid-node-management";
const audience = "lucid";
const leewaySeconds = 30;
/** Times in a token are whole seconds, at most this far ahead: anything later is a mistake, such as milliseconds. */
const aheadSecondsMax = 10 * 365 * 86_400;

/**
 * How far ahead a token may be dated: clocks differ, and ours may have been set back since. A token dated later would
 * outlast resets of its node's enrolment, which compare this date when the token names no enrolment.
 */
const issuedAheadSecondsMax = 86_400;

export const newJti = (): string => randomUUID();

const needsPrivilege = (role: unknown, tokenType: unknown): boolean =>
  privilegedRoles.includes(role as Role) ||
  ["node_refresh", "service_refresh", "node_enrollment"].includes(tokenType as string);

const ringFor = (rings: KeyRings, role: unknown, tokenType: unknown): readonly SigningKey[] =>
  (needsPrivilege(role, tokenType) ? rings.privileged : undefined) ?? rings.common;

/** Signs the claims. Times are kept in whole seconds, and the same claims always give the same text. */
export function signToken(rings: KeyRings, claims: Claims): Promise<string> {
  const [key] = ringFor(rings, claims.role, claims.tokenType);
  if (key === undefined) throw new Error("There is no key to sign with");
  const seconds = (date: Date) => Math.floor(date.getTime() / 1000);
  return new SignJWT({
    role: claims.role,
    token_type: claims.tokenType,
    ...present({ node_id: claims.nodeId, enrollment_epoch: claims.enrollmentEpoch }),
  })
    .setProtectedHeader({ alg: "HS256", typ: "JWT", kid: key.kid })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject(claims.subject)
    .setJti(claims.jti)
    .setIssuedAt(seconds(claims.issuedAt))
    .setExpirationTime(seconds(claims.expiresAt))
    .sign(Buffer.from(key.secret));
}

/** Checks signature, algorithm, issuer, audience, times (30 s leeway) and the shape of the claims. @throws Failure 4011 */
export async function verifyToken(rings: KeyRings, token: string, now: Date): Promise<Claims> {
  try {
    const unverified = decodeJwt(token);
    const { kid } = decodeProtectedHeader(token);
    const ring = ringFor(rings, unverified.role, unverified.token_type);
    const key = kid === undefined ? ring[0] : ring.find((candidate) => candidate.kid === kid);
    if (key === undefined) throw new Error("Signed with an unknown key");
    const { payload } = await jwtVerify(token, Buffer.from(key.secret), {
      algorithms: ["HS256"],
      issuer,
      audience,
      clockTolerance: leewaySeconds,
      requiredClaims: ["sub", "jti", "iat", "exp", "role", "token_type"],
      currentDate: now,
    });
    assertTimes(payload, now);
    return toClaims(payload);
  } catch (error) {
    const expired = error instanceof Error && "code" in error && error.code === "ERR_JWT_EXPIRED";
    throw unauthenticated(expired ? "The token has expired" : "The token is not valid", error);
  }
}

/** JSON can hold 1e999, which is Infinity, and fractions. A token with such an expiry would never expire. */
function assertTimes(payload: Record<string, unknown>, now: Date): void {
  for (const name of ["iat", "exp", "nbf"]) {
    const seconds = payload[name];
    if (name === "nbf" && seconds === undefined) continue;
    if (!isWhole(seconds) || seconds > now.getTime() / 1000 + aheadSecondsMax) {
      throw new Error(`${name} is not a whole number of seconds within 10 years`);
    }
  }
  if (Number(payload.iat) > now.getTime() / 1000 + issuedAheadSecondsMax) throw new Error("iat lies in the future");
}

function toClaims(payload: Record<string, unknown>): Claims {
  const { sub, jti, iat, exp, role, token_type: tokenType, node_id: nodeId } = payload;
  const knownRole = [...nodeRoles, ...serviceRoles].find((known) => known === role);
  const knownType = tokenTypes.find((known) => known === tokenType);
  if (knownRole === undefined || knownType === undefined) throw new Error("Unknown role or token type");
  if (typeof sub !== "string" || typeof jti !== "string" || sub === "" || jti === "")
    throw new Error("sub or jti missing");
  const forNode = knownType.startsWith("node_");
  const nodeRole = (nodeRoles as readonly string[]).includes(knownRole);
  if (forNode !== (typeof nodeId === "string") || forNode !== nodeRole) {
    throw new Error("Node tokens name a node and a node's role, others neither");
  }
  const enrollmentEpoch = payload.enrollment_epoch;
  if (enrollmentEpoch !== undefined && !(forNode && isWhole(enrollmentEpoch))) {
    throw new Error("An enrolment epoch is a whole number in a node's token");
  }
  return {
    subject: sub,
    jti,
    role: knownRole,
    tokenType: knownType,
    nodeId: typeof nodeId === "string" ? nodeId : undefined,
    issuedAt: new Date(Number(iat) * 1000),
    expiresAt: new Date(Number(exp) * 1000),
    ...(enrollmentEpoch === undefined ? {} : { enrollmentEpoch }),
  };
}

/** A whole number, 0 or more. */
const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

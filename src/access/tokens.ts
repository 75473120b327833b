// Tokens and their use: issued, verified (and remembered for a while), refreshed once, spent, revoked.
import { type Announcement, createAnnouncer } from "../announcement.js";
import type { Clock } from "../clock.js";
import { sha256Hex } from "../crypto.js";
import { unauthenticated, unavailable } from "../failure.js";
import { present } from "../present.js";
import type { Collection, CollectionDefinition, Cursor, Store } from "../storage/collection.js";
import { createDatedReader } from "../storage/dated.js";
import { insertUnlessThere } from "../storage/insert.js";
import { outage, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";
import type { Caller } from "./caller.js";
import { type Claims, type KeyRings, newJti, signToken, type TokenType, verifyToken } from "./jwt.js";
import type { NodeRole, Role } from "./permission.js";

/** A token that was used up or revoked; `_id` is the kind and the jti, or the kind and the hash of a challenge. */
interface TokenDocument {
  readonly _id: string;
  readonly kind: "revoked" | "refresh" | "enrollment" | "challenge";
  readonly at: Date;
  /** Of an enrolment token: the fingerprint of the key it was spent for. */
  readonly spent_for?: string;
  /**
   * Absent for revocations: only the jti of a revoked token is known, and a token may live as long as its maker likes.
   */
  readonly expires_at?: Date;
}

export const tokensCollection: CollectionDefinition = {
  name: "tokens",
  durability: "durable",
  dates: ["at", "expires_at"],
  indexes: [
    { name: "idx_kind_at", key: ["kind", "at"] },
    { name: "idx_expires_at", key: ["expires_at"], ttlSeconds: 0 },
  ],
};

export const accessMs = 3_600_000;
export const refreshMs = 86_400_000;
export const enrollmentMs = 900_000;
/** If the answer to a refresh was lost, the caller may ask for it again this long. */
const refreshReplayMs = 60_000;
/** A spent token is remembered for longer than it can be verified, even if a clock steps back by hours. */
const spentMarginMs = 3 * 3_600_000;
const cacheMax = 50_000;
const cacheMs = 60_000;
const pollMs = 1_000;

export interface TokenPair {
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly expiresAt: Date;
}

export interface Grant {
  readonly subject: string;
  readonly role: Role;
  readonly nodeId: string | undefined;
  readonly ttlMs?: number;
  /** Of a node's token: the enrolment it belongs to. */
  readonly enrollmentEpoch?: number | undefined;
}

/** Resets of enrolments, which end the tokens of their nodes, on all replicas. */
export interface EnrollmentResets {
  /** Takes in new resets. Rejects when the store is away. */
  look(): Promise<void>;
  /** Whether the token is older than the last reset of the node's enrolment. */
  outdates(nodeId: string, token: Pick<Caller, "issuedAt" | "enrollmentEpoch">): boolean;
}

export type Tokens = Awaited<ReturnType<typeof createTokens>>;

export async function createTokens(parts: {
  readonly store: Store;
  readonly clock: Clock;
  readonly rings: KeyRings;
  readonly resets: EnrollmentResets;
  /** The longest lifetime of a token that is issued here. */
  readonly ttlMaxMs: number;
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { clock, rings } = parts;
  const documents: Collection<TokenDocument> = await parts.store.collection<TokenDocument>(tokensCollection);
  const revocations = createAnnouncer<string>();
  const revoked = new Set<string>();
  const verified = new Map<string, { claims: Claims; untilMs: number }>();
  let loaded = false;

  const endOf = (from: Date, ttlMs: number): Date => new Date(from.getTime() + Math.min(ttlMs, parts.ttlMaxMs));

  const pairFor = async (grant: Grant, from: { at: Date; jtiOf: (part: string) => string }): Promise<TokenPair> => {
    const kind = grant.nodeId === undefined ? "service" : "node";
    const expiresAt = endOf(from.at, grant.ttlMs ?? accessMs);
    const claims = (part: "access" | "refresh", until: Date): Claims => ({
      subject: grant.subject,
      role: grant.role,
      nodeId: grant.nodeId,
      tokenType: `${kind}_${part}` as TokenType,
      jti: from.jtiOf(part),
      issuedAt: from.at,
      expiresAt: until,
      enrollmentEpoch: grant.enrollmentEpoch,
    });
    return {
      accessToken: await signToken(rings, claims("access", expiresAt)),
      refreshToken: await signToken(rings, claims("refresh", endOf(from.at, refreshMs))),
      expiresAt,
    };
  };

  /** Verified claims of a token that is not revoked. @throws Failure 4011; 5031 before revocations were first read */
  const check = async (token: string): Promise<Claims> => {
    if (!loaded) throw unavailable("Revoked tokens are not known yet", pollMs);
    const key = sha256Hex(token);
    const claims = cached(key) ?? remember(key, await verifyToken(rings, token, clock.now()));
    if (revoked.has(claims.jti)) throw unauthenticated("The token was revoked");
    const { nodeId, issuedAt, enrollmentEpoch } = claims;
    if (nodeId !== undefined && parts.resets.outdates(nodeId, { issuedAt, enrollmentEpoch })) {
      throw unauthenticated("The node's enrolment was reset");
    }
    return claims;
  };

  const cached = (key: string): Claims | undefined => {
    const hit = verified.get(key);
    if (hit === undefined) return undefined;
    if (hit.untilMs > clock.now().getTime() && hit.untilMs - clock.now().getTime() <= cacheMs) return hit.claims;
    verified.delete(key);
    return undefined;
  };

  const remember = (key: string, claims: Claims): Claims => {
    const oldest = verified.size >= cacheMax ? verified.keys().next().value : undefined;
    if (oldest !== undefined) verified.delete(oldest);
    const untilMs = Math.min(claims.expiresAt.getTime(), clock.now().getTime() + cacheMs);
    verified.set(key, { claims, untilMs });
    return claims;
  };

  /** Marks it used. Answers when it was first used; that is now if this is the first use. */
  const spend = async (
    kind: "refresh" | "enrollment" | "challenge",
    id: string,
    expiresAt: Date,
    spent_for?: string,
  ): Promise<{ first: boolean; at: Date; spentFor?: string | undefined }> => {
    const at = clock.now();
    const _id = `${kind}:${id}`;
    const expires_at = new Date(expiresAt.getTime() + spentMarginMs);
    const use = { _id, kind, at, expires_at, ...present({ spent_for }) };
    if (await insertUnlessThere(documents, use)) return { first: true, at };
    const used = await documents.findOne({ _id });
    return { first: false, at: used?.at ?? new Date(0), spentFor: used?.spent_for };
  };

  const load = async (): Promise<void> => {
    await Promise.all([lookRevoked(), parts.resets.look()]);
    loaded = true;
  };

  const take = (document: TokenDocument): void => {
    const jti = document._id.slice("revoked:".length);
    if (revoked.has(jti)) return;
    revoked.add(jti);
    revocations.announce(jti);
  };

  /** Takes in what other replicas revoked since the last look. */
  const lookRevoked = createDatedReader({
    page: (since: Date, after?: Cursor) =>
      documents.page({ kind: "revoked", at: { $gte: since } }, { index: "idx_kind_at", limit: 500, after }),
    take,
    storeNow: parts.store.now,
    clock,
  });

  const away = outage({
    log: parts.log,
    began: "New revocations are not read now; known ones stay in force",
    ended: "New revocations are read again",
  });

  return {
    task: turns({ clock, everyMs: pollMs, turn: load, away }).task,
    /** Each jti that was revoked, here or, within seconds, on another replica. */
    revocations: revocations as Announcement<string>,

    /** @throws Failure 4011 for anything but a valid access or enrolment token */
    verify: async (token: string): Promise<Caller> => {
      const { tokenType, ...claims } = await check(token);
      if (tokenType === "node_refresh" || tokenType === "service_refresh") {
        throw unauthenticated("A refresh token is not an access token");
      }
      return { ...claims, enrollmentEpoch: claims.enrollmentEpoch, tokenType };
    },

    issue: (grant: Grant): Promise<TokenPair> => pairFor(grant, { at: clock.now(), jtiOf: newJti }),

    issueEnrollment: async (grant: {
      subject: string;
      role: NodeRole;
      nodeId: string;
      ttlMs?: number;
      enrollmentEpoch?: number;
    }): Promise<{ token: string; expiresAt: Date }> => {
      const issuedAt = clock.now();
      const expiresAt = endOf(issuedAt, grant.ttlMs ?? enrollmentMs);
      const claims: Claims = { ...grant, tokenType: "node_enrollment", jti: newJti(), issuedAt, expiresAt };
      return { token: await signToken(rings, claims), expiresAt };
    },

    /** An enrolment token ready to be spent. @throws Failure 4011 */
    enrollment: async (token: string) => {
      const claims = await check(token);
      if (claims.tokenType !== "node_enrollment" || claims.nodeId === undefined) {
        throw unauthenticated("An enrolment token is required");
      }
      return {
        nodeId: claims.nodeId,
        subject: claims.subject,
        issuedAt: claims.issuedAt,
        enrollmentEpoch: claims.enrollmentEpoch,
        // The same key may spend it again, because the pinning after the first time may have failed.
        spend: async (fingerprint: string) => {
          const { first, spentFor } = await spend("enrollment", claims.jti, claims.expiresAt, fingerprint);
          return first || spentFor === fingerprint;
        },
      };
    },

    /**
     * A new pair for a refresh token. Asked again within 60 s of its first use it gives exactly the same pair. `proven`
     * is called once the token was verified, before anything is changed; it may refuse. `holderOf` may refuse a node's
     * token too, and the pair gets the role and the enrolment that it answers.
     * @throws Failure 4011
     */
    refresh: async (
      token: string,
      proven: (subject: string) => Promise<void>,
      holderOf: (
        nodeId: string,
        token: Pick<Caller, "issuedAt" | "enrollmentEpoch">,
      ) => Promise<{ readonly role: NodeRole; readonly enrollmentEpoch: number }>,
    ): Promise<TokenPair> => {
      const claims = await check(token);
      if (claims.tokenType !== "node_refresh" && claims.tokenType !== "service_refresh") {
        throw unauthenticated("A refresh token is required");
      }
      await proven(claims.nodeId ?? claims.subject);
      const { nodeId, issuedAt, enrollmentEpoch } = claims;
      const holder = nodeId === undefined ? {} : await holderOf(nodeId, { issuedAt, enrollmentEpoch });
      const { first, at } = await spend("refresh", claims.jti, claims.expiresAt);
      if (!first && clock.now().getTime() - at.getTime() > refreshReplayMs) {
        throw unauthenticated("The refresh token was used before");
      }
      return pairFor(
        { ...claims, ...holder },
        { at, jtiOf: (part) => sha256Hex(`${part}:${claims.jti}`).slice(0, 32) },
      );
    },

    /** Refuses the token for ever, on every replica within seconds. A second call does no harm. */
    revoke: async (jti: string): Promise<void> => {
      // Replicas find revocations by their date, so the store's clock gives it.
      const at = await parts.store.now();
      const document: TokenDocument = { _id: `revoked:${jti}`, kind: "revoked", at };
      await insertUnlessThere(documents, document);
      take(document);
    },

    isRevoked: (jti: string): boolean => revoked.has(jti),

    /** Reads all revocations; no token is accepted before that. */
    load,

    /** Marks an enrolment challenge as used; false when it was used before. `id` is its hash. */
    spendChallenge: async (id: string, expiresAt: Date): Promise<boolean> =>
      (await spend("challenge", id, expiresAt)).first,
  };
}

// Tokens as text: which are accepted, and every reason to refuse one.
import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type Claims, type KeyRings, signToken, verifyToken } from "../../src/access/jwt.js";
import { Failure } from "../../src/failure.js";

const now = new Date("2026-01-01T00:00:00Z");
const seconds = now.getTime() / 1000;
const key = (kid: string, secret = `${kid}-secret-0123456789-0123456789-abcdef`) => ({ kid, secret });
const rings: KeyRings = { common: [key("a"), key("b")], privileged: undefined };
const split: KeyRings = { common: [key("a")], privileged: [key("a", "privileged-0123456789-0123456789-abcdef")] };

const claims: Claims = {
  subject: "svc",
  role: "operator",
  nodeId: undefined,
  tokenType: "service_access",
  jti: "jti-1",
  issuedAt: now,
  expiresAt: new Date(now.getTime() + 3_600_000),
};
const nodeClaims: Claims = { ...claims, role: "worker", nodeId: "node_abc", tokenType: "node_access" };

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
/** A token made by hand, with any header and payload, signed with any secret. */
function forge(payload: object, header: object = {}, secret = key("a").secret, algorithm = "sha256"): string {
  const text = `${encode({ alg: "HS256", typ: "JWT", kid: "a", ...header })}.${encode({ ...plain, ...payload })}`;
  return `${text}.${createHmac(algorithm, secret).update(text).digest("base64url")}`;
}
const plain = {
  iss: "lucid-node-management",
  aud: "lucid",
  sub: "svc",
  role: "operator",
  token_type: "service_access",
  jti: "jti-1",
  iat: seconds,
  exp: seconds + 3600,
};

const verify = (token: string, at = now, under = rings) => verifyToken(under, token, at);
async function expectRefused(token: string, at = now, under = rings): Promise<void> {
  const error = await verify(token, at, under).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Failure);
  expect(error).toMatchObject({ reason: "LUCID_ERR_4011" });
}

describe("a token", () => {
  test("comes back as what it was signed for, and the same claims are the same text", async () => {
    expect(await verify(await signToken(rings, claims))).toEqual(claims);
    expect(await verify(await signToken(rings, nodeClaims))).toEqual(nodeClaims);
    expect(await signToken(rings, claims)).toBe(await signToken(rings, claims));
  });

  test("that another service has signed by hand is accepted, with or without kid", async () => {
    expect(await verify(forge({}))).toEqual(claims);
    expect(await verify(forge({}, { kid: undefined }))).toEqual(claims);
    expect(await verify(forge({ aud: ["other", "lucid"] }))).toEqual(claims);
  });

  test("is found by its kid: the first key signs, all verify, one taken away no longer does", async () => {
    const signed = await signToken({ common: [key("b")], privileged: undefined }, claims);
    expect(await verify(signed)).toEqual(claims);
    expect(
      JSON.parse(Buffer.from((await signToken(rings, claims)).split(".")[0] ?? "", "base64url").toString()),
    ).toEqual({ alg: "HS256", typ: "JWT", kid: "a" });
    await expectRefused(signed, now, { common: [key("a")], privileged: undefined });
    await expectRefused(forge({}, { kid: "c" }));
    await expectRefused(forge({}, { kid: "b" }));
    await expectRefused(forge({}, { kid: 1 }));
  });

  test.each<[string, string]>([
    ["alg none", `${encode({ alg: "none", kid: "a" })}.${encode(plain)}.`],
    ["alg None", `${encode({ alg: "None", kid: "a" })}.${encode(plain)}.`],
    ["alg none with a good signature", forge({}, { alg: "none" })],
    ["alg HS512", forge({}, { alg: "HS512" }, key("a").secret, "sha512")],
    ["alg HS384", forge({}, { alg: "HS384" }, key("a").secret, "sha384")],
    ["alg RS256", forge({}, { alg: "RS256" })],
    ["no alg", forge({}, { alg: undefined })],
    ["another secret", forge({}, {}, "another-secret-0123456789-0123456789")],
    ["an unknown critical header", forge({}, { crit: ["x"], x: 1 })],
    ["no signature", `${encode({ alg: "HS256", kid: "a" })}.${encode(plain)}.`],
    ["nothing", ""],
    ["noise", "a.b.c"],
    ["five parts", "a.b.c.d.e"],
    ["a payload that is no object", `${encode({ alg: "HS256", kid: "a" })}.${encode("x")}.AAAA`],
  ])("with %s is refused", async (_, token) => {
    await expectRefused(token);
  });

  test.each<[string, object]>([
    ["another issuer", { iss: "somebody" }],
    ["no issuer", { iss: undefined }],
    ["another audience", { aud: "other" }],
    ["no audience", { aud: undefined }],
    ["no exp", { exp: undefined }],
    ["an exp that is no number", { exp: "tomorrow" }],
    ["no iat", { iat: undefined }],
    ["no sub", { sub: undefined }],
    ["an empty sub", { sub: "" }],
    ["no jti", { jti: undefined }],
    ["an empty jti", { jti: "" }],
    ["no role", { role: undefined }],
    ["an unknown role", { role: "root" }],
    ["a role of another type", { role: ["admin"] }],
    ["a role of Object's own", { role: "constructor" }],
    ["no token_type", { token_type: undefined }],
    ["an unknown token_type", { token_type: "access" }],
    ["a node's token without a node", { role: "worker", token_type: "node_access" }],
    ["a node_id that is no text", { role: "worker", token_type: "node_access", node_id: 5 }],
    ["a service's token with a node", { node_id: "node_abc" }],
    ["a node role in a service's token", { role: "worker" }],
    ["a service role in a node's token", { role: "admin", token_type: "node_access", node_id: "node_abc" }],
    ["not before later", { nbf: seconds + 3600 }],
  ])("with %s is refused", async (_, payload) => {
    await expectRefused(forge(payload));
  });

  test.each(["exp", "iat", "nbf"])(
    "whose %s is no whole number of seconds within 10 years is refused",
    async (name) => {
      const decade = 10 * 365 * 86_400;
      const good = name === "nbf" ? [seconds, 0] : name === "iat" ? [seconds, 0] : [seconds + decade];
      for (const value of good) await verify(forge({ [name]: value }));
      const odd = ["1e999", "-1e999", "1e300", `${seconds * 1000}`, `${seconds + decade + 1}`, "-1", "-0.5"];
      odd.push(`${seconds + 0.5}`, `"${seconds + 3600}"`, "null", "true", "[]", `[${seconds + 3600}]`, "{}", "1e400");
      for (const value of odd) {
        const payload = JSON.stringify({ ...plain, [name]: "VALUE" }).replace('"VALUE"', value);
        const text = `${encode({ alg: "HS256", typ: "JWT", kid: "a" })}.${Buffer.from(payload).toString("base64url")}`;
        const signature = createHmac("sha256", key("a").secret).update(text).digest("base64url");
        await expectRefused(`${text}.${signature}`);
      }
    },
  );

  test("dated up to a day ahead is good, for a clock may be set back, and one dated later is refused", async () => {
    const day = 86_400;
    for (const iat of [seconds + 1, seconds + day]) await verify(forge({ iat, exp: seconds + 2 * day }));
    for (const iat of [seconds + day + 1, seconds + 365 * day]) await expectRefused(forge({ iat, exp: iat + 3600 }));
  });

  test("is good until 30 s after its end", async () => {
    const token = await signToken(rings, claims);
    const end = claims.expiresAt.getTime();
    await verify(token, new Date(end + 29_000));
    await expectRefused(token, new Date(end + 30_000));
  });

  test("with its payload changed is refused", async () => {
    const [header, , signature] = (await signToken(rings, claims)).split(".");
    await expectRefused(`${header}.${encode({ ...plain, role: "admin" })}.${signature}`);
  });
});

describe("with a privileged key", () => {
  const privilegedSecret = split.privileged?.[0]?.secret ?? "";

  test.each<[string, Partial<Claims>]>([
    ["admin", { role: "admin" }],
    ["payer", { role: "payer" }],
    ["approver", { role: "approver" }],
    ["a service's refresh", { tokenType: "service_refresh" }],
    ["a node's refresh", { ...nodeClaims, tokenType: "node_refresh" }],
    ["an enrolment", { ...nodeClaims, tokenType: "node_enrollment" }],
  ])("%s is signed and verified by it alone", async (_, tweaks) => {
    const wanted = { ...claims, ...tweaks };
    expect(await verify(await signToken(split, wanted), now, split)).toEqual(wanted);
    await expectRefused(await signToken({ common: split.common, privileged: undefined }, wanted), now, split);
  });

  test.each<[string, Claims]>([
    ["an operator", claims],
    ["a node", nodeClaims],
  ])("%s is signed and verified by the common one alone", async (_, wanted) => {
    expect(await verify(await signToken(split, wanted), now, split)).toEqual(wanted);
    const other = [{ kid: "a", secret: privilegedSecret }];
    await expectRefused(await signToken({ common: other, privileged: undefined }, wanted), now, split);
  });
});

// The limit of a call without a token: it counts for the subject once its credential is proved, else for its address.
import { Code } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { Role, TokenType } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { anIdentity } from "../support/clients/enroll.js";
import { openWorld } from "../support/world/world.js";

const settings = {
  RATE_LIMIT_ENABLED: "true",
  RATE_LIMIT_PUBLIC_PER_MINUTE: "20",
  RATE_LIMIT_PER_MINUTE: "40",
  RATE_LIMIT_ADMIN_PER_MINUTE: "100000",
};
const codesOf = (results: readonly PromiseSettledResult<unknown>[]) => {
  const counts = new Map<string, number>();
  for (const result of results) {
    const key = result.status === "fulfilled" ? "OK" : (Code[(result.reason as { code: Code }).code] ?? "?");
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return Object.fromEntries(counts);
};

test("a fleet behind one address refreshes its tokens, though somebody beside it guesses", async () => {
  await using world = await openWorld({ settings });
  const nobody = world.as(undefined);
  const pairs = await Promise.all(
    Array.from({ length: 130 }, (_, index) =>
      world.admin.issueToken({ role: Role.OPERATOR, subject: `service-${index}` }),
    ),
  );
  const guess = () => nobody.admin.refreshToken({ refreshToken: "a.b.c" });
  const guesses = await Promise.allSettled(Array.from({ length: 50 }, guess));
  expect(codesOf(guesses)).toEqual({ Unauthenticated: 20, ResourceExhausted: 30 });
  const refreshed = await Promise.allSettled(
    pairs.map(({ refreshToken }) => nobody.admin.refreshToken({ refreshToken })),
  );
  expect(codesOf(refreshed)).toEqual({ OK: 130 });
});

test("one subject's good credentials count against that subject", async () => {
  await using world = await openWorld({ settings });
  const nobody = world.as(undefined);
  const { refreshToken } = await world.admin.issueToken({ role: Role.OPERATOR, subject: "one" });
  const again = await Promise.allSettled(Array.from({ length: 60 }, () => nobody.admin.refreshToken({ refreshToken })));
  expect(codesOf(again)).toEqual({ OK: 40, ResourceExhausted: 20 });
});

test("those who are told to wait are spread over the window", async () => {
  await using world = await openWorld({ settings });
  const nobody = world.as(undefined);
  const waits = new Set<number>();
  const refused = await Promise.allSettled(
    Array.from({ length: 60 }, () => nobody.admin.refreshToken({ refreshToken: "x" })),
  );
  for (const result of refused) {
    if (result.status === "fulfilled") continue;
    const [info] = result.reason.findDetails(RetryInfoSchema);
    if (info?.retryDelay) waits.add(Number(info.retryDelay.seconds));
  }
  expect(waits.size).toBeGreaterThan(10);
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(0);
});

test("what is done with an enrolment token counts against its node, not the operator who asked for it", async () => {
  await using world = await openWorld({ settings });
  const operator = world.as(await world.token("operator", { subject: "op" }));
  const { node } = await operator.nodes.createNode({ name: "node", nodeType: NodeType.WORKER });
  const nodeId = node?.nodeId ?? "";
  const { accessToken } = await world.admin.issueToken({ tokenType: TokenType.NODE_ENROLLMENT, nodeId, subject: "op" });
  const { publicKey } = anIdentity(nodeId);
  const begun = await Promise.allSettled(
    Array.from({ length: 100 }, () => world.as(accessToken).nodes.beginEnrollment({ nodeId, publicKey })),
  );
  expect(codesOf(begun)).toEqual({ OK: 40, ResourceExhausted: 60 });
  await operator.nodes.getNode({ nodeId });
});

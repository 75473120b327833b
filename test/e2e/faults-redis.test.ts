// What callers, nodes and probes see while Redis is away, forgets, refuses, or hangs: more lines of the table of faults
// in docs/operations.md. Losing Redis costs limits and speed, never a call, a node's state, or a proof.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { HealthStatus } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { anIdentity, enrollmentToken } from "../support/clients/enroll.js";
import { connectNode, openNodeStream } from "../support/clients/node-stream.js";
import { hasMongoProgram, type MongoUnderTest, startMongo } from "../support/engines/mongo.js";
import { canStartRedis, ownPrefix, type RedisUnderTest, sparePort, startRedis } from "../support/engines/redis.js";
import {
  deadline,
  type FaultyWorld,
  healthOf,
  measured,
  openFaultyWorld,
  type Probes,
  startBeats,
  startProbes,
  timedUntil,
} from "../support/fleet/faults.js";
import { watchNodes } from "../support/fleet/watcher.js";
import { aNode } from "../support/world/builders.js";
import { expectRefusal, refusalOf, toRefusal } from "../support/world/refusal.js";
import { until } from "../support/world/until.js";
import type { Clients } from "../support/world/world.js";

/** How many calls a subject may make in a minute. */
const limit = 5;
const settings = { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_PER_MINUTE: String(limit), NODE_HEARTBEAT_INTERVAL: "1" };
/** How long a command may take before the service gives it up. */
const commandMs = 500;
/** A busy machine answers this much later. */
const lateMs = 1_500;
const returnMs = 20_000;

const tests = "the service under faults of Redis";

describe.skipIf(!canStartRedis(tests))("Redis", () => {
  let redis: RedisUnderTest;
  beforeEach(async () => {
    redis = await startRedis();
  });
  afterEach(() => redis?.stop());

  const open = (): Promise<FaultyWorld> =>
    openFaultyWorld({ redis: { url: redis.url, keyPrefix: ownPrefix() }, settings });
  /** Each caller is a new subject, so that the calls of no other test count against it. */
  let subjects = 0;
  const caller = async (world: FaultyWorld): Promise<Clients> =>
    world.as(await world.token("operator", { subject: `caller-${++subjects}` }));
  const call = ({ nodes }: Clients) => nodes.listNodes({ limit: 1 }, deadline);
  const isLimited = (clients: Clients): Promise<boolean> =>
    call(clients).then(
      () => false,
      (error: unknown) => toRefusal(error).reason === "4291",
    );
  /** Makes more calls than the limit allows; answers the time of the slowest. */
  const callFreely = async (clients: Clients, count = 3 * limit): Promise<number> => {
    let slowestMs = 0;
    for (let n = 0; n < count; n++) {
      const beganMs = performance.now();
      await call(clients);
      slowestMs = Math.max(slowestMs, performance.now() - beganMs);
    }
    return slowestMs;
  };
  const expectLimited = async (world: FaultyWorld): Promise<void> => {
    const clients = await caller(world);
    await callFreely(clients, limit);
    await expectRefusal(call(clients), "ResourceExhausted 4291");
  };
  const isDegraded = async (world: FaultyWorld): Promise<boolean> => (await healthOf(world)).status === "degraded";
  const untilDegraded = (world: FaultyWorld, degraded: boolean): Promise<number> =>
    timedUntil(async () => (await isDegraded(world)) === degraded, `degraded: ${degraded}`, returnMs);
  /** Waits until calls count again; answers how long that took. */
  const untilLimited = async (world: FaultyWorld): Promise<number> => {
    const clients = await caller(world);
    return timedUntil(() => isLimited(clients), "limits count again", returnMs);
  };
  const expectStanding = async (probes: Probes): Promise<void> => {
    await probes.stop();
    expect([probes.liveFailures, probes.readiness]).toEqual([0, [true]]);
  };
  const outages = (world: FaultyWorld) =>
    world.lines.filter((line) => /Redis (does not serve|serves again)/.test(line));
  /** Expects a line when the outage begins and a line when it ends. A busy machine may lose a connection once more. */
  const expectFewLines = async (world: FaultyWorld): Promise<void> => {
    await until(() => outages(world).at(-1)?.includes("serves again") === true, "the end of the outage", returnMs);
    const lines = outages(world);
    expect(lines[0]).toContain("does not serve");
    expect(lines.length, lines.join("")).toBeLessThanOrEqual(4);
  };

  test("away at start: ready, unlimited, degraded; limits count once it comes", async () => {
    await redis.kill();
    await using world = await open();
    const probes = startProbes(world);
    await callFreely(await caller(world));
    const { nodeId } = await aNode(world.nodes);
    await (await connectNode(world, nodeId)).beat();
    await untilDegraded(world, true);
    const { status, checks } = await world.admin.getServiceHealth({});
    expect([status, checks.coordination?.status]).toEqual([HealthStatus.DEGRADED, HealthStatus.DEGRADED]);
    expect(outages(world)).toEqual([expect.stringMatching(/127\.0\.0\.1:\d+.*\n?.*ECONNREFUSED/)]);

    await redis.restart();
    const limitedMs = await untilLimited(world);
    const healthyMs = await untilDegraded(world, false);
    await expectStanding(probes);
    await expectFewLines(world);
    measured("Redis away at start", { limits_again_ms: limitedMs, healthy_again_ms: healthyMs });
  });

  test("away later: no call is refused or slow, beats go on; limits count once it is back", async () => {
    await using world = await open();
    const { nodeId } = await aNode(world.nodes);
    const stream = await connectNode(world, nodeId);
    const beats = startBeats([stream]);
    const probes = startProbes(world);
    await expectLimited(world);
    await redis.kill();
    const slowestMs = await callFreely(await caller(world), 10 * limit);
    const degradedMs = await untilDegraded(world, true);
    const before = beats.count;
    await until(() => beats.count > before + 3, "beats are acknowledged", returnMs);
    // A stream opens although nobody can count it.
    const other = await aNode(world.nodes);
    await (await connectNode(world, other.nodeId)).beat();

    await redis.restart();
    const limitedMs = await untilLimited(world);
    const healthyMs = await untilDegraded(world, false);
    await beats.stop();
    await expectStanding(probes);
    expect(stream.end).toBeUndefined();
    expect(slowestMs).toBeLessThan(commandMs + lateMs);
    await expectFewLines(world);
    measured("Redis away", {
      call_max_ms: slowestMs,
      degraded_ms: degradedMs,
      limits_again_ms: limitedMs,
      healthy_again_ms: healthyMs,
    });
  });

  test("flushed: windows begin anew, and a challenge that served serves no more", async () => {
    await using world = await open();
    const { nodeId } = await aNode(world.nodes);
    const identity = anIdentity(nodeId);
    const { nodes } = world.as(await enrollmentToken(world, nodeId));
    const { challenge } = await nodes.beginEnrollment({ nodeId, publicKey: identity.publicKey });
    const answer = { nodeId, challenge, signature: identity.sign(challenge) };
    await nodes.completeEnrollment(answer);
    const clients = await caller(world);
    await callFreely(clients, limit);
    await expectRefusal(call(clients), "ResourceExhausted 4291");

    await redis.command("flushall");
    await callFreely(clients, limit);
    await expectRefusal(call(clients), "ResourceExhausted 4291");
    const again = await expectRefusal(nodes.completeEnrollment(answer), "Unauthenticated 4011");
    expect(again.message).toContain("used before");
    expect(outages(world)).toEqual([]);
  });

  const refusing: readonly [what: string, begin: () => Promise<unknown>, end: () => Promise<unknown>][] = [
    [
      "read-only",
      async () => redis.command("replicaof", "127.0.0.1", String(await sparePort())),
      () => redis.command("replicaof", "no", "one"),
    ],
    [
      "out of memory",
      () => redis.command("config", "set", "maxmemory", "1"),
      () => redis.command("config", "set", "maxmemory", "0"),
    ],
  ];
  test.each(refusing)(
    "%s: no call is refused, the report says so; limits count once it takes writes",
    async (what, begin, end) => {
      await using world = await open();
      const { nodeId } = await aNode(world.nodes);
      const beats = startBeats([await connectNode(world, nodeId)]);
      const probes = startProbes(world);
      await expectLimited(world);
      await begin();
      const slowestMs = await callFreely(await caller(world), 10 * limit);
      const degradedMs = await untilDegraded(world, true);
      await end();
      const limitedMs = await untilLimited(world);
      const healthyMs = await untilDegraded(world, false);
      await beats.stop();
      await expectStanding(probes);
      expect(slowestMs).toBeLessThan(commandMs + lateMs);
      await expectFewLines(world);
      measured(`Redis ${what}`, {
        call_max_ms: slowestMs,
        degraded_ms: degradedMs,
        limits_again_ms: limitedMs,
        healthy_again_ms: healthyMs,
      });
    },
  );

  test("stalled: calls wait as long as a command may take, and soon not at all; beats never do", {
    timeout: 60_000,
  }, async () => {
    await using world = await open();
    const { nodeId } = await aNode(world.nodes);
    const beats = startBeats([await connectNode(world, nodeId)]);
    const probes = startProbes(world);
    await until(() => beats.count > 0, "a beat", returnMs);
    await expectLimited(world);
    beats.takeSlowestMs();
    const clients = await caller(world);
    await redis.pause();
    const beganMs = performance.now();
    let firstMs = 0;
    await until(
      async () => {
        const tookMs = await callFreely(clients, 1);
        firstMs = Math.max(firstMs, tookMs);
        return tookMs < commandMs / 5;
      },
      "calls that do not wait",
      returnMs,
    );
    const noticedMs = performance.now() - beganMs;
    expect(firstMs).toBeLessThan(commandMs + lateMs);
    const laterMs: number[] = [];
    for (let n = 0; n < 20; n++) laterMs.push(await callFreely(clients, 1));
    // Now and then a call meets an attempt to reconnect. It must not wait for that either.
    const typicalMs = laterMs.toSorted((one, other) => one - other)[10] ?? 0;
    expect(typicalMs).toBeLessThan(commandMs / 5);
    const degradedMs = await untilDegraded(world, true);
    const slowestBeatMs = beats.takeSlowestMs();
    expect(slowestBeatMs).toBeLessThan(commandMs);

    redis.resume();
    const limitedMs = await untilLimited(world);
    const healthyMs = await untilDegraded(world, false);
    await beats.stop();
    await expectStanding(probes);
    measured("Redis stalled", {
      call_max_ms: firstMs,
      noticed_ms: noticedMs,
      call_then_ms: typicalMs,
      call_then_max_ms: Math.max(...laterMs),
      degraded_ms: degradedMs,
      beat_max_ms: slowestBeatMs,
      limits_again_ms: limitedMs,
      healthy_again_ms: healthyMs,
    });
  });

  describe.skipIf(!hasMongoProgram("two replicas without Redis"))("away under two replicas", () => {
    let mongo: MongoUnderTest;
    beforeEach(async () => {
      mongo = await startMongo();
    });
    afterEach(() => mongo?.[Symbol.asyncDispose]());

    test("takeovers, bans, revocations and changes are found through the store", { timeout: 90_000 }, async () => {
      const engines = {
        mongo: { url: mongo.url, database: mongo.freshDatabase() },
        redis: { url: redis.url, keyPrefix: ownPrefix() },
      };
      const shared = { ...settings, RATE_LIMIT_ENABLED: "false" };
      await redis.kill();
      await using one = await openFaultyWorld({ ...engines, settings: { ...shared, HOSTNAME: "one" } });
      await using two = await openFaultyWorld({ ...engines, settings: { ...shared, HOSTNAME: "two" } });
      const [moved, copied, banned, revoked] = await Promise.all(Array.from({ length: 4 }, () => aNode(one.nodes)));
      const idOf = (node: { nodeId: string } | undefined) => node?.nodeId ?? "";
      const streams = {
        moved: await connectNode(one, idOf(moved)),
        copied: await connectNode(one, idOf(copied), { bootId: "boot-1" }),
        banned: await connectNode(one, idOf(banned)),
        revoked: await connectNode(one, idOf(revoked), {
          token: await one.nodeToken(idOf(revoked), "worker", { jti: "jti-of-the-revoked" }),
        }),
      };
      const beats = [streams.moved, streams.copied].map((stream) => startBeats([stream]));
      using watcher = watchNodes(one, { nodeIds: [idOf(banned)] });
      await watcher.untilSnapshot();

      const beganMs = performance.now();
      const took = async (ended: Promise<unknown>) => {
        await ended;
        return performance.now() - beganMs;
      };
      const [sameBoot, otherBoot, ban, revocation] = [
        streams.moved,
        streams.copied,
        streams.banned,
        streams.revoked,
      ].map((stream) => stream.ended(returnMs));
      await connectNode(two, idOf(moved));
      await connectNode(two, idOf(copied), { bootId: "boot-2" });
      await two.nodes.banNode({ nodeId: idOf(banned), reason: "elsewhere" });
      await two.admin.revokeToken({ jti: "jti-of-the-revoked" });
      const figures = {
        takeover_ms: await took(Promise.all([sameBoot, otherBoot])),
        ban_ms: await took(Promise.resolve(ban)),
        revocation_ms: await took(Promise.resolve(revocation)),
        watch_ms: await took(watcher.untilChanges(1)),
      };
      expect(await sameBoot).toBeUndefined();
      expect(toRefusal(await otherBoot)).toMatchObject({ code: "Aborted", reason: "5013" });
      expect(toRefusal(await ban)).toMatchObject({ code: "PermissionDenied", reason: "4031" });
      expect(toRefusal(await revocation)).toMatchObject({ code: "Unauthenticated", reason: "4011" });
      await Promise.allSettled(beats.map((beat) => beat.stop()));
      const refused = await refusalOf(
        openNodeStream(two.as(await two.nodeToken(idOf(banned))).nodes, { nodeId: idOf(banned) }).hello(),
      );
      expect(refused.reason).toBe("4031");

      await redis.restart();
      for (const world of [one, two]) await untilDegraded(world, false);
      const withRedisMs = await takeoverMs(two, one, idOf(revoked));
      await redis.kill();
      const withoutMs = await takeoverMs(two, one, idOf(moved));
      measured("two replicas without Redis", {
        ...figures,
        takeover_with_redis_ms: withRedisMs,
        takeover_later_ms: withoutMs,
      });
    });
  });
});

/** How long a stream lives on after its node has opened another one at the other replica. */
async function takeoverMs(from: FaultyWorld, to: FaultyWorld, nodeId: string): Promise<number> {
  const stream = await connectNode(from, nodeId);
  const beats = startBeats([stream]);
  await until(() => beats.count > 0, "a beat", returnMs);
  const beganMs = performance.now();
  await connectNode(to, nodeId);
  expect(await stream.ended(returnMs)).toBeUndefined();
  await Promise.allSettled([beats.stop()]);
  return performance.now() - beganMs;
}

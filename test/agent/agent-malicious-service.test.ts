// Agents of a service that has gone wrong or is an impostor: the node's key signs nothing that it should not, and no
// answer makes the agent flood the service, sleep too long or waste memory.
import { createServer as createHttp2Server, type Http2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, describe, expect, test } from "vitest";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import type { HeartbeatRequest } from "../../gen/lucid/node/v1/node_service_pb.js";
import { type AgentOptions, runAgent } from "../../src/agent/agent.js";
import {
  bounded,
  graceBounds,
  metricsBounds,
  paceBounds,
  reconnectBounds,
  waitingMax,
} from "../../src/agent/bounds.js";
import { type Credentials, createMemoryCredentials, UnfitChallengeError } from "../../src/agent/credentials.js";
import { createPassport } from "../../src/agent/passport.js";
import { createQueue } from "../../src/agent/queue.js";
import { createServiceTime } from "../../src/agent/service-time.js";
import { runMachineAgent } from "../../src/cli/agent.js";
import { createLucidClient } from "../../src/client/client.js";
import { type Clock, systemClock } from "../../src/clock.js";
import { verifyEd25519 } from "../../src/crypto.js";
import { challengeBody } from "../../src/nodes/challenge-form.js";
import { signedText } from "../../src/poot/verdict.js";
import { type Answer, type MaliciousService, openMaliciousService } from "../support/clients/malicious-service.js";
import { createTestClock } from "../support/world/clock.js";
import { until, within } from "../support/world/until.js";

const nodeId = "node_honest";
const leaving: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const leave of leaving.splice(0)) await leave();
});

function startAgent(
  service: MaliciousService,
  { credentials = withTokens(systemClock), ...given }: Partial<AgentOptions> & { credentials?: Credentials } = {},
) {
  const control = new AbortController();
  const said: string[] = [];
  const { nodes, admin } = service.clients;
  const { clock = systemClock } = given;
  const serviceTime = createServiceTime(clock, () => undefined);
  const end = runAgent(
    {
      nodes,
      nodeId,
      passport: createPassport({ nodes, admin, credentials, enrollmentToken: undefined, now: serviceTime.now }),
      serviceTime,
      clock,
      random: () => 0,
      agentVersion: "test/1",
      sample: async () => undefined,
      describe: async () => undefined,
      onState: (state, detail) => said.push(`${state} ${detail}`),
      ...given,
    },
    control.signal,
  );
  leaving.push(async () => {
    control.abort();
    await service[Symbol.asyncDispose]();
    await within(end, "the agent leaves");
  });
  return { said };
}

/** Tokens that are valid for a day. */
const withTokens = (clock: Clock): Credentials =>
  createMemoryCredentials(nodeId, {
    accessToken: "a",
    refreshToken: "b",
    expiresAt: new Date(clock.now().getTime() + 86_400_000),
  });

const span = (ms: number) => durationFromMs(ms);
const welcomeOf = (intervalMs: number): Answer => ({
  message: {
    case: "welcome",
    value: { sessionEpoch: 1n, heartbeatInterval: span(intervalMs), gracePeriod: span(60_000) },
  },
});
const ackOf = (sequence: bigint, nextMs: number): Answer => ({
  message: { case: "ack", value: { sequence, nextHeartbeatAfter: span(nextMs) } },
});

describe("the key", () => {
  const { identity } = createMemoryCredentials(nodeId);
  const other = createMemoryCredentials(nodeId).identity;
  const proof = { nodeId, outputHash: "00".repeat(32), at: { seconds: 1, nanos: 0 }, nonce: "nonce-nonce" };
  const fields = { nodeId, random: new Uint8Array(16), expiresAt: new Date(1e12), publicKey: identity.publicKey };
  const challenge = (change: Partial<typeof fields> = {}, tail = 32) =>
    new Uint8Array([...challengeBody({ ...fields, ...change }), ...new Uint8Array(tail)]);
  const bytesOf = (text: string) => new TextEncoder().encode(text);

  test("signs an enrolment challenge for its node and itself", () => {
    const bytes = challenge();
    expect(verifyEd25519(identity.publicKey, bytes, identity.signEnrollment(bytes))).toBe(true);
  });

  test.each<[string, Uint8Array]>([
    ["nothing", new Uint8Array()],
    ["a proof of output", bytesOf(signedText(proof))],
    ["a proof that is as long as a challenge", bytesOf(signedText(proof).padEnd(challenge().length, "x"))],
    ["a challenge with more behind it", challenge({}, 33)],
    ["a challenge that is cut short", challenge({}, 31)],
    ["a challenge for another node", challenge({ nodeId: "node_hones2" })],
    ["a challenge for a node whose name goes on", challenge({ nodeId: `${nodeId}x` })],
    ["a challenge for another key", challenge({ publicKey: other.publicKey })],
    ["a challenge of another kind", challenge().map((byte, place) => (place === 0 ? byte ^ 1 : byte))],
    ["a challenge of a service older than the agent", new Uint8Array(1 + 16 + 8 + 32 + 32).fill(1, 0, 1)],
    ["random bytes", crypto.getRandomValues(new Uint8Array(200))],
    ["a transaction of somebody's", bytesOf(`{"pay":"everything"}`.padEnd(challenge().length, " "))],
  ])("does not sign %s where a challenge is due, and the agent says so and goes on", async (_, bytes) => {
    expect(() => identity.signEnrollment(bytes)).toThrow(UnfitChallengeError);
    const service = await openMaliciousService({ challenge: () => bytes });
    const credentials = createMemoryCredentials(nodeId);
    const { said } = startAgent(service, { credentials: { ...credentials, identity } });
    await until(() => said.some((line) => line.startsWith("waiting") && line.includes("not signed")), "it is refused");
    expect(service.signatures).toEqual([]);
  });

  test("signs proofs under a beginning that no challenge has", () => {
    const signature = identity.signProof(proof);
    expect(verifyEd25519(identity.publicKey, bytesOf(signedText(proof)), signature)).toBe(true);
    expect(signedText(proof).startsWith("lucid.poot.v1\n")).toBe(true);
    expect(new TextDecoder().decode(challenge()).startsWith(`lucid.enrollment.v1\n${nodeId}\n`)).toBe(true);
  });
});

const tenMillionYearsMs = 10_000_000 * 31_557_600_000;
const beatsAnswered =
  (nextMs: number, times = 1) =>
  (message: HeartbeatRequest["message"]) => {
    if (message.case === "hello") return Array.from({ length: times }, () => welcomeOf(1_000));
    if (message.case !== "beat") return [];
    const { sequence } = message.value;
    return Array.from({ length: times }, () => ackOf(sequence, nextMs));
  };

/** The milliseconds between one time and the next. */
const gaps = (times: readonly number[]) => times.slice(1).map((time, place) => time - (times[place] ?? 0));

describe("an agent", () => {
  test.each([0, -1_000, -tenMillionYearsMs])("told to beat again after %d ms beats once a second", async (nextMs) => {
    const service = await openMaliciousService({ answers: beatsAnswered(nextMs) });
    startAgent(service);
    await until(() => service.beatsAtMs.length >= 3, "three beats");
    for (const gap of gaps(service.beatsAtMs)) expect(gap).toBeGreaterThan(900);
  });

  test("whose every beat is acknowledged a hundred times, and who is welcomed as often, beats once a second", async () => {
    const service = await openMaliciousService({ answers: beatsAnswered(1_000, 100) });
    startAgent(service);
    await until(() => service.beatsAtMs.length >= 3, "three beats");
    for (const gap of gaps(service.beatsAtMs)) expect(gap).toBeGreaterThan(900);
  });

  test("told to beat again in ten million years beats within hours", async () => {
    const service = await openMaliciousService({ answers: beatsAnswered(tenMillionYearsMs) });
    const clock = createTestClock();
    let acks = 0;
    startAgent(service, {
      clock,
      credentials: withTokens(clock),
      onAck: () => {
        acks++;
      },
    });
    await until(async () => {
      await clock.advance(10);
      return acks === 1;
    }, "the first beat is acknowledged");
    await clock.advance(paceBounds.maxMs);
    await until(() => service.beatsAtMs.length >= 2, "the next beat");
  });

  test.each([0, -1_000, -tenMillionYearsMs])("told to reconnect after %d ms does so once a second", async (afterMs) => {
    const service = await openMaliciousService({
      answers: () => [
        welcomeOf(1_000),
        { message: { case: "reconnect", value: { after: span(afterMs), reason: "away" } } },
        "end",
      ],
    });
    startAgent(service);
    await until(() => service.streamsAtMs.length >= 3, "three streams");
    for (const gap of gaps(service.streamsAtMs)) expect(gap).toBeGreaterThan(900);
  });

  test("told to reconnect in ten million years does so within ten minutes", async () => {
    const service = await openMaliciousService({
      answers: () => [
        welcomeOf(1_000),
        { message: { case: "reconnect", value: { after: span(tenMillionYearsMs), reason: "away" } } },
        "end",
      ],
    });
    const clock = createTestClock();
    const { said } = startAgent(service, { clock, credentials: withTokens(clock) });
    await until(() => said.some((line) => line.startsWith("connected")), "connected");
    await until(async () => {
      await clock.advance(0);
      return clock.sleepers === 1;
    }, "it waits to come back");
    await clock.advance(reconnectBounds.maxMs);
    await until(() => service.streamsAtMs.length >= 2, "the next stream");
  });

  test("leaves a service that sends commands and reads none of the answers", () => {
    let full = 0;
    const queue = createQueue<number>(waitingMax, () => {
      full++;
    });
    for (let item = 0; item < waitingMax + 5; item++) queue.push(item);
    expect(full).toBe(5);
  });
});

test.each([
  ["a pace", paceBounds],
  ["a grace", graceBounds],
  ["a time between samples", metricsBounds],
  ["a time to reconnect", reconnectBounds],
])("%s is kept within bounds", (_, bounds) => {
  const { minMs, maxMs } = bounds;
  for (const ms of [-tenMillionYearsMs, -1, minMs - 1, Number.NEGATIVE_INFINITY, Number.NaN]) {
    expect(bounded(ms, bounds)).toBe(minMs);
  }
  for (const ms of [maxMs + 1, tenMillionYearsMs, Number.POSITIVE_INFINITY]) expect(bounded(ms, bounds)).toBe(maxMs);
  expect(bounded(minMs + 1, bounds)).toBe(minMs + 1);
});

describe("a message of 400 MB", () => {
  const messageBytes = 400 * 1024 * 1024;

  /** A server that answers each call with a message of that size, and sends as much of it as the client takes. */
  async function openFlood() {
    const sent = { bytes: 0 };
    const sessions = new Set<Http2Session>();
    const server = createHttp2Server();
    server.on("session", (session) => sessions.add(session));
    server.on("stream", (stream) => {
      stream.on("error", () => undefined);
      stream.respond({ ":status": 200, "content-type": "application/grpc+proto" });
      const head = Buffer.alloc(5);
      head.writeUInt32BE(messageBytes, 1);
      stream.write(head);
      const piece = Buffer.alloc(64 * 1024);
      const more = () => {
        while (!stream.destroyed && sent.bytes < messageBytes) {
          sent.bytes += piece.length;
          if (!stream.write(piece)) return void stream.once("drain", more);
        }
      };
      more();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return {
      baseUrl,
      sent,
      [Symbol.asyncDispose]: async () => {
        for (const session of sessions) session.destroy();
        await new Promise((resolve) => server.close(resolve));
      },
    };
  }

  test("to a client is refused by its length, and hardly any of it is taken", async () => {
    await using flood = await openFlood();
    using lucid = createLucidClient({ baseUrl: flood.baseUrl, accessToken: "a", retries: 0 });
    await expect(lucid.nodes.listNodes({})).rejects.toThrow(/larger than configured readMaxBytes 4194304/);
    await expect(lucid.nodes.watchNodes({})[Symbol.asyncIterator]().next()).rejects.toThrow(/readMaxBytes 4194304/);
    expect(flood.sent.bytes).toBeLessThan(20 * 1024 * 1024);
  });

  test("to an agent is refused by its length, and the agent goes on", async () => {
    await using flood = await openFlood();
    const control = new AbortController();
    const said: string[] = [];
    const end = runMachineAgent(
      {
        baseUrl: flood.baseUrl,
        credentials: createMemoryCredentials(nodeId),
        onState: (state, detail) => said.push(`${state} ${detail}`),
      },
      control.signal,
    );
    leaving.push(() => {
      control.abort();
      return within(end, "the agent leaves");
    });
    await until(() => said.filter((line) => line.startsWith("waiting")).length >= 2, "it has tried again");
    expect(said.join("\n")).toContain("readMaxBytes 1048576");
    expect(flood.sent.bytes).toBeLessThan(20 * 1024 * 1024);
  });
});

describe("an agent that is told when to come again", () => {
  test.each<[string, number | undefined, number, number]>([
    ["waits that long at the least", 20_000, 0, 20_000],
    ["adds up to a quarter of its own", 20_000, 0.8, 24_000],
    ["waits its own time where nothing is asked", undefined, 0.5, 1_500],
    ["waits its own time where less than nothing is asked", -20_000, 0.5, 1_500],
    ["waits no longer than ten minutes and a quarter", tenMillionYearsMs, 0.999, 749_850],
  ])("%s", async (_, askedMs, random, expected) => {
    const service = await openMaliciousService({
      answers: () => {
        const refusal = new ConnectError("too many", Code.ResourceExhausted);
        if (askedMs !== undefined) {
          refusal.details.push({ desc: RetryInfoSchema, value: { retryDelay: span(askedMs) } });
        }
        throw refusal;
      },
    });
    const slept: number[] = [];
    const clock: Clock = {
      ...systemClock,
      sleep: (ms, signal) => {
        slept.push(ms);
        return systemClock.sleep(ms, signal);
      },
    };
    const { said } = startAgent(service, { clock, random: () => random });
    await until(() => said.some((line) => line.startsWith("waiting")), "it is refused");
    await until(() => Math.abs((slept.at(-1) ?? 0) - expected) < 1, `it waits ${expected} ms`);
  });
});

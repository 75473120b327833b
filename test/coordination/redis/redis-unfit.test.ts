// Servers that the service cannot use, or only in part: a cluster, a Sentinel, a user without the rights that it needs.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CoordinationRefusedError, CoordinationUnavailableError } from "../../../src/coordination/coordination.js";
import { createRedisCoordination } from "../../../src/coordination/redis/redis.js";
import { startServer } from "../../../src/server.js";
import { parseSettings } from "../../../src/settings/environment.js";
import { createLogger, type LogFields } from "../../../src/telemetry/log.js";
import { startFakeRedis } from "../../support/engines/fake-redis.js";
import { canStartRedis, startRedis } from "../../support/engines/redis.js";
import { until } from "../../support/world/until.js";

let dataDir: string;
let lines: string[];
const line =
  (level: string) =>
  (message: string, fields: LogFields = {}) =>
    void lines.push(`${level} ${message} ${fields.error instanceof Error ? fields.error.message : ""}`.trim());
const log = { info: line("info"), warn: line("warn"), error: line("error") };
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "lucid-unfit-"));
  lines = [];
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

/** Starts the whole service from settings. */
const serve = (redisUrl: string) => {
  const write = (text: string) => void lines.push(text);
  return startServer(parseSettings({ DATA_DIR: dataDir, PORT: "0", METRICS_PORT: "0", REDIS_URL: redisUrl }), {
    log: createLogger({ level: "INFO", format: "standard", service: "unfit", version: "0", write }),
  });
};
const startCluster = async () => {
  const server = await startRedis({ args: ["--cluster-enabled", "yes"] });
  // The server holds half of the keys, like one of two masters.
  await server.command("cluster", "addslotsrange", "0", "8191");
  const isServing = async () => String(await server.command("cluster", "info")).includes("cluster_slots_ok:8192");
  await until(isServing, "slots that are served");
  await server.command("config", "set", "cluster-require-full-coverage", "no");
  await until(
    async () => String(await server.command("cluster", "info")).includes("cluster_state:ok"),
    "a cluster that serves",
  );
  return server;
};

describe.skipIf(!canStartRedis("Redis that cannot be used"))("a Redis Cluster", () => {
  it("is refused at start, in a sentence", async () => {
    await using server = await startCluster();
    const started = serve(server.url);
    await expect(started).rejects.toThrow(CoordinationRefusedError);
    await expect(started).rejects.toThrow(
      /^Redis at 127\.0\.0\.1:\d+ belongs to a Redis Cluster, .*: name a single Redis server/,
    );
  });

  it("that comes later serves no call, its pings neither, and is told of once", async () => {
    await using server = await startCluster();
    await using one = createRedisCoordination({ url: server.url, log, quietMs: 20 });
    for (let n = 0; n < 30; n++) {
      for (const call of [one.hit(`key-${n}`, 9, 60_000), one.ping()]) {
        await expect(call).rejects.toMatchObject({
          name: "CoordinationUnavailableError",
          cause: expect.any(CoordinationRefusedError),
        });
      }
    }
    expect(lines).toEqual([expect.stringMatching(/^warn Redis does not serve; going on without .*Redis Cluster/)]);
  });

  it("that does not say what it is shows by its answers: one that a key is elsewhere is no success", async () => {
    await using server = await startCluster();
    await server.command("acl", "setuser", "lucid", "on", ">secret", "~lucid:*", "&*", "+@all", "-info");
    await using one = createRedisCoordination({
      url: server.url.replace("//", "//lucid:secret@"),
      log,
      quietMs: 20,
    });
    const outcomes: string[] = [];
    for (let n = 0; n < 60; n++) {
      outcomes.push(
        await one.hit(`key-${n}`, 9, 60_000).then(
          () => "counted",
          (error) => (error instanceof CoordinationUnavailableError ? "refused" : String(error)),
        ),
      );
    }
    // Some calls may have counted before the first key that another master holds, but none after it.
    const first = outcomes.indexOf("refused");
    expect(first).toBeGreaterThanOrEqual(0);
    expect(new Set(outcomes.slice(first))).toEqual(new Set(["refused"]));
    await expect(one.ping()).rejects.toThrow(CoordinationUnavailableError);
    expect(lines).toHaveLength(1);
  });
});

it("a Sentinel is refused at start, in a sentence", async () => {
  await using server = await startFakeRedis("# Server\r\nredis_version:7.4.0\r\nredis_mode:sentinel\r\n");
  const started = serve(server.url);
  await expect(started).rejects.toThrow(CoordinationRefusedError);
  await expect(started).rejects.toThrow(/^Redis at 127\.0\.0\.1:\d+ is a Sentinel, .*: name the primary/);
});

describe.skipIf(!canStartRedis("Redis without all rights"))("a user without rights to channels", () => {
  it("lets the service start and serve; it is told of once, and wake-up calls come with the rights", async () => {
    await using server = await startRedis();
    // Redis 7 allows a new user no channel.
    await server.command("acl", "setuser", "lucid", "on", ">secret", "~lucid:*", "+@all");
    await using running = await serve(server.url.replace("//", "//lucid:secret@"));
    let hasFailed = false;
    running.failed.catch(() => {
      hasFailed = true;
    });
    const told = () => lines.filter((text) => text.includes("Redis refuses a subscription; going on by polls"));
    await until(() => told().length > 0, "a line in the log");
    const answer = await fetch(`http://127.0.0.1:${running.metricsPort}/health`);
    expect(answer.status).toBe(200);
    expect(hasFailed).toBe(false);
    expect(told()).toHaveLength(1);
    expect(told().join()).toContain("NOPERM");
    expect(told().join()).not.toContain("secret");
  });

  it("is asked for again until the rights are there, each channel by itself", async () => {
    await using server = await startRedis();
    await server.command("acl", "setuser", "lucid", "on", ">secret", "~lucid:*", "+@all", "&lucid:channel:0:free");
    await using one = createRedisCoordination({
      url: server.url.replace("//", "//lucid:secret@"),
      log,
      refusedRetryMs: 20,
    });
    const heard: string[] = [];
    const { signal } = new AbortController();
    const hearing = ["barred", "also barred"].map((channel) =>
      one.subscribe(channel, (message) => heard.push(`${channel} ${message}`), signal),
    );
    await one.subscribe("free", (message) => heard.push(`free ${message}`), signal);
    await one.publish("free", "1");
    await until(() => heard.length === 1, "a message on the channel that is free");
    await until(() => lines.length > 0, "a line in the log");
    await server.command("acl", "setuser", "lucid", "&lucid:*");
    await Promise.all(hearing);
    await one.publish("barred", "2");
    await one.publish("also barred", "3");
    await until(() => heard.length === 3, "messages on all channels");
    expect(heard).toEqual(["free 1", "barred 2", "also barred 3"]);
    expect(lines).toEqual([
      expect.stringMatching(/^error Redis refuses a subscription; going on by polls .*NOPERM/),
      "info Redis takes subscriptions again",
    ]);
  });

  it("ends a subscription that waits when its signal aborts or the coordination closes", async () => {
    await using server = await startRedis();
    await server.command("acl", "setuser", "lucid", "on", ">secret", "~lucid:*", "+@all");
    const one = createRedisCoordination({ url: server.url.replace("//", "//lucid:secret@"), log, refusedRetryMs: 20 });
    const control = new AbortController();
    const aborted = one.subscribe("barred", () => undefined, control.signal);
    const closed = one.subscribe("barred too", () => undefined, new AbortController().signal);
    await until(() => lines.length > 0, "a line in the log");
    control.abort();
    await aborted;
    const rejected = expect(closed).rejects.toThrow("The coordination is closed");
    await one[Symbol.asyncDispose]();
    await rejected;
  });
});

it.skipIf(!canStartRedis("the rights of a Redis user"))("the rights that the handbook names are enough", async () => {
  const handbook = readFileSync(new URL("../../../docs/operations.md", import.meta.url), "utf8");
  const command = /^ACL SETUSER lucid .*$/m.exec(handbook)?.[0] ?? "";
  await using server = await startRedis();
  await server.command(...command.split(" "));
  await using one = createRedisCoordination({ url: server.url.replace("//", "//lucid:password@"), log });
  expect(await one.hit("key", 2, 60_000)).toMatchObject({ count: 1 });
  const heard: string[] = [];
  const control = new AbortController();
  await one.subscribe("news", (message) => heard.push(message), control.signal);
  await one.publish("news", "1");
  await one.ping();
  await until(() => heard.length === 1, "the message");
  await server.command("script", "flush");
  expect(await one.hit("key", 2, 60_000)).toMatchObject({ count: 2 });
  control.abort();
  expect(lines).toEqual([]);
});

// Coordination by Redis: the contract, what two replicas share, and how the service logs in.
import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Coordination, CoordinationUnavailableError } from "../../../src/coordination/coordination.js";
import { observeCoordination } from "../../../src/coordination/observed.js";
import { createRedisCoordination, type RedisCoordinationOptions } from "../../../src/coordination/redis/redis.js";
import { describeCoordination } from "../../contract/coordination.js";
import { canStartRedis, hasRedis, ownPrefix, sharedRedis, startRedis } from "../../support/engines/redis.js";
import { findTool } from "../../support/tools.js";
import { until, within } from "../../support/world/until.js";

const tests = "coordination by Redis";

describe.skipIf(!hasRedis(tests))("with a server", () => {
  let server: Awaited<ReturnType<typeof sharedRedis>>;
  let admin: Redis;
  beforeAll(async () => {
    server = await sharedRedis();
    admin = new Redis(server.url);
  });
  afterAll(async () => {
    admin?.disconnect();
    await server?.[Symbol.asyncDispose]();
  });
  const open = (options: Partial<RedisCoordinationOptions> = {}): Coordination =>
    createRedisCoordination({ url: server.url, keyPrefix: ownPrefix(), ...options });

  /** Lets time pass for these keys: moves their expiry nearer by so much. */
  const pass = async (prefix: string, ms: number): Promise<void> => {
    for (const key of await admin.keys(`${prefix}*`)) await admin.pexpire(key, (await admin.pttl(key)) - ms);
  };

  describeCoordination("redis", async () => {
    const keyPrefix = ownPrefix();
    const [coordination, other] = [open({ keyPrefix }), open({ keyPrefix })];
    return {
      coordination,
      other,
      pass: (ms) => pass(keyPrefix, ms),
      close: async () => {
        await coordination[Symbol.asyncDispose]();
        await other[Symbol.asyncDispose]();
      },
    };
  });

  it("lets no more than the limit through two replicas together", async () => {
    const keyPrefix = ownPrefix();
    await using one = open({ keyPrefix });
    await using other = open({ keyPrefix });
    const hits = await Promise.all(Array.from({ length: 200 }, (_, n) => (n % 2 ? one : other).hit("key", 70, 60_000)));
    expect(hits.filter(({ allowed }) => allowed)).toHaveLength(70);
    expect(hits.map(({ count }) => count).sort((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, n) => n + 1));
  });

  it("counts windows by the server's clock", async () => {
    await using one = open();
    await one.hit("key", 1, 60);
    await one.hit("key", 1, 60);
    await until(async () => (await one.hit("key", 1, 60)).count === 1, "the next window");
  });

  it("leaves nothing behind when time has passed", async () => {
    const keyPrefix = ownPrefix();
    await using one = open({ keyPrefix });
    await one.hit("key", 1, 50);
    await until(async () => (await admin.keys(`${keyPrefix}*`)).length === 0, "an empty server");
  });

  it("begins a window anew where a counter has lost its end", async () => {
    const keyPrefix = ownPrefix();
    await using one = open({ keyPrefix });
    for (let n = 0; n < 5; n++) await one.hit("key", 1, 60_000);
    await admin.persist(`${keyPrefix}hit:key`);
    const hit = await one.hit("key", 1, 60_000);
    expect(hit).toEqual({ allowed: true, count: 1, resetMs: 60_000 });
    expect(await admin.pttl(`${keyPrefix}hit:key`)).toBeGreaterThan(0);
  });

  it("refuses times that are no whole numbers before anything is sent", async () => {
    await using one = open();
    for (const ms of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(one.hit("key", 1, ms)).rejects.toThrow(RangeError);
    }
    expect(await one.hit("key", 1, 1000)).toMatchObject({ count: 1 });
  });

  it("goes on when the server has forgotten the scripts", async () => {
    await using one = open();
    await one.hit("key", 9, 60_000);
    await admin.script("FLUSH");
    const hits = await Promise.all(Array.from({ length: 20 }, () => one.hit("key", 9, 60_000)));
    expect(hits.map(({ count }) => count)).toEqual(Array.from({ length: 20 }, (_, n) => n + 2));
  });

  it("sends a script whole once and by its digest from then on", async () => {
    const calls = async (name: string) => {
      const stats = await admin.info("commandstats");
      return Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
    };
    await using one = open();
    await one.hit("key", 9, 60_000);
    const before = { eval: await calls("eval"), evalsha: await calls("evalsha") };
    for (let n = 0; n < 10; n++) await one.hit("key", 9, 60_000);
    expect(await calls("evalsha")).toBeGreaterThanOrEqual(before.evalsha + 10);
    if (process.env.LUCID_TEST_REDIS_URL === undefined) expect(await calls("eval")).toBe(before.eval);
  });

  it("keeps to the database of its URL, with messages too", async () => {
    const keyPrefix = ownPrefix();
    await using zero = open({ keyPrefix });
    await using seven = open({ keyPrefix, url: withPath(server.url, "/7") });
    await zero.hit("key", 1, 60_000);
    expect(await seven.hit("key", 1, 60_000)).toMatchObject({ count: 1 });
    const heard: string[] = [];
    const { signal } = new AbortController();
    await zero.subscribe("news", (message) => heard.push(`zero ${message}`), signal);
    await seven.subscribe("news", (message) => heard.push(`seven ${message}`), signal);
    await zero.publish("news", "1");
    await seven.publish("news", "2");
    await until(() => heard.length >= 2, "both messages");
    expect(heard).toEqual(["zero 1", "seven 2"]);
  });

  it("does not settle for another database than the one asked for", async () => {
    await using one = open({ url: withPath(server.url, "/9999") });
    await expect(one.hit("key", 1, 60_000)).rejects.toMatchObject({
      name: "CoordinationUnavailableError",
      cause: expect.objectContaining({ message: expect.stringContaining("DB index is out of range") }),
    });
  });

  it("leaves a channel that nobody listens to any more", async () => {
    const keyPrefix = ownPrefix();
    await using one = open({ keyPrefix });
    const control = new AbortController();
    const listeners = async () => (await admin.pubsub("CHANNELS", `${keyPrefix}*`)).length;
    await one.subscribe("news", () => undefined, control.signal);
    expect(await listeners()).toBe(1);
    control.abort();
    await until(async () => (await listeners()) === 0, "no listeners");
  });

  it("is counted and timed, its refusals too", async () => {
    const seen: [string, string, number][] = [];
    let nowMs = 0;
    const monotonicMs = () => (nowMs += 250);
    const inner = open();
    const one = observeCoordination(inner, (...given) => void seen.push(given), { monotonicMs });
    expect(one.engine).toBe("redis");
    expect(await one.hit("key", 0, 60_000)).toMatchObject({ allowed: false, count: 1 });
    const heard: string[] = [];
    await one.subscribe("news", (message) => heard.push(message), new AbortController().signal);
    await one.publish("news", "1");
    await until(() => heard.length === 1, "the message");
    await one.ping();
    await one[Symbol.asyncDispose]();
    await expect(one.ping()).rejects.toThrow("closed");
    await expect(inner.ping()).rejects.toThrow("closed");
    expect(seen).toEqual([
      ["hit", "success", 0.25],
      ["publish", "success", 0.25],
      ["ping", "success", 0.25],
      ["ping", "error", 0.25],
    ]);
  });
});

describe("the URL", () => {
  const refusal = (url: string): Error => {
    try {
      void createRedisCoordination({ url })[Symbol.asyncDispose]();
    } catch (error) {
      return error as Error;
    }
    throw new Error(`taken: ${url}`);
  };

  it.each([
    ["not one", "pa55word", "begins with redis://"],
    ["of another kind", "http://:pa55word@localhost", "begins with redis://"],
    ["with a path", "redis://:pa55word@localhost/zero", "database number"],
    ["with parameters unknown", "redis://:pa55word@localhost?enableOfflineQueue=1", "enableOfflineQueue"],
    ["with an authority and no TLS", "redis://:pa55word@localhost?tlsCAFile=ca.pem", "tlsCAFile"],
    ["with an authority that is not there", "rediss://:pa55word@localhost?tlsCAFile=/none.pem", "/none.pem"],
  ])("%s is refused, without showing it", (_, url, message) => {
    const error = refusal(url);
    expect(error.message).toContain(message);
    expect(`${error.stack}${JSON.stringify(error)}`).not.toContain("pa55word");
  });
});

describe.skipIf(!canStartRedis(`${tests}: passwords and TLS`))("a server of its own", () => {
  it("lets in who has the password, and does not repeat the one who has not", async () => {
    await using server = await startRedis({ password: "p:a/ss w%rd" });
    await using right = createRedisCoordination({ url: server.url });
    expect(await right.hit("key", 1, 60_000)).toMatchObject({ count: 1 });

    const lines: string[] = [];
    const log = {
      info: (message: string) => void lines.push(message),
      warn: (message: string, fields: object = {}) => void lines.push(message, show(Object.values(fields))),
      error: (message: string) => void lines.push(message),
    };
    const wrongUrl = server.url.replace(/:[^:]*@/, ":hunter2@");
    await using wrong = createRedisCoordination({ url: wrongUrl, log });
    const error = await wrong.hit("key", 1, 60_000).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(CoordinationUnavailableError);
    expect(show([error])).toContain("WRONGPASS");
    await until(() => lines.length > 0, "a line in the log");
    expect(lines.join("\n")).toContain("WRONGPASS");
    expect(`${show([error])}${lines.join("\n")}`).not.toContain("hunter2");

    await using none = createRedisCoordination({ url: server.url.replace(/:[^:]*@/, "") });
    await expect(none.ping()).rejects.toThrow(CoordinationUnavailableError);
  });

  it("lets in a user of its own name, with a key prefix and channels of its own", async () => {
    await using server = await startRedis();
    await server.command("acl", "setuser", "lucid", "on", ">secret", "~lucid:*", "+@all");
    await using one = createRedisCoordination({ url: server.url.replace("//", "//lucid:secret@") });
    expect(await one.hit("key", 1, 60_000)).toMatchObject({ count: 1 });
    const { signal } = new AbortController();
    await server.command("acl", "setuser", "lucid", "&lucid:*");
    await within(
      one.subscribe("news", () => undefined, signal),
      "subscribed",
    );
  });

  it.skipIf(findTool("openssl") === undefined)("may be left in the middle of a handshake that it fails", async () => {
    await using server = await startRedis({ tls: true });
    const [plain = ""] = server.url.split("?");
    const uncaught: Error[] = [];
    const note = (error: Error) => void uncaught.push(error);
    process.on("uncaughtExceptionMonitor", note);
    const leave = async () => {
      const one = createRedisCoordination({ url: plain });
      await new Promise((resolve) => setImmediate(resolve));
      await one[Symbol.asyncDispose]();
    };
    await Promise.all(Array.from({ length: 50 }, leave));
    const clients = async () => String(await server.command("info", "clients"));
    await until(async () => (await clients()).includes("connected_clients:1\r"), "nobody connected");
    process.removeListener("uncaughtExceptionMonitor", note);
    expect(uncaught).toEqual([]);
  });

  it.skipIf(findTool("openssl") === undefined)("speaks TLS and checks whom it speaks to", async () => {
    await using server = await startRedis({ tls: true, password: "secret" });
    await using one = createRedisCoordination({ url: server.url });
    expect(await one.hit("key", 1, 60_000)).toMatchObject({ count: 1 });
    const heard: string[] = [];
    await one.subscribe("news", (message) => heard.push(message), new AbortController().signal);
    await one.publish("news", "1");
    await until(() => heard.length === 1, "the message");

    const [plain = ""] = server.url.split("?");
    await using distrusting = createRedisCoordination({ url: plain });
    await expect(distrusting.ping()).rejects.toMatchObject({ cause: { code: "SELF_SIGNED_CERT_IN_CHAIN" } });
    await expect(distrusting.hit("key", 1, 1000)).rejects.toThrow(CoordinationUnavailableError);
    await using misnamed = createRedisCoordination({ url: server.url.replace("127.0.0.1", "localhost") });
    await expect(misnamed.ping()).rejects.toMatchObject({ cause: { code: "ERR_TLS_CERT_ALTNAME_INVALID" } });
    await using cleartext = createRedisCoordination({ url: plain.replace("rediss:", "redis:") });
    await expect(cleartext.ping()).rejects.toThrow(CoordinationUnavailableError);
  });
});

it("every script names its keys and arguments", () => {
  const script = readFileSync(new URL("../../../src/coordination/redis/hit.lua", import.meta.url), "utf8");
  for (const [used] of script.matchAll(/(KEYS|ARGV)\[\d\]/g)) expect(script).toContain(`-- ${used}  `);
});

function withPath(url: string, path: string): string {
  const changed = new URL(url);
  changed.pathname = path;
  return changed.href;
}

/** All that an error holds, as a careless logger would write it. */
function show(values: readonly unknown[]): string {
  const texts = values.map((value) =>
    value instanceof Error
      ? `${value.stack} ${JSON.stringify(Object.assign({}, value))} ${value.cause === undefined ? "" : show([value.cause])}`
      : JSON.stringify(value),
  );
  return texts.join("\n");
}

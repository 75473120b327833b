// What happens to the service while Redis dies, comes back, forgets, freezes, or refuses.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Coordination, CoordinationUnavailableError } from "../../../src/coordination/coordination.js";
import { createRedisCoordination, type RedisCoordinationOptions } from "../../../src/coordination/redis/redis.js";
import type { LogFields } from "../../../src/telemetry/log.js";
import { canStartRedis, type RedisUnderTest, sparePort, startRedis } from "../../support/engines/redis.js";
import { openProxy } from "../../support/fleet/proxy.js";
import { until, within } from "../../support/world/until.js";

const commandMs = 300;
const quietMs = 100;
/** On a busy machine, timers and processes are this much late. */
const lateMs = 700;

describe.skipIf(!canStartRedis("Redis that fails"))("Redis", () => {
  let server: RedisUnderTest;
  let lines: string[];
  let log: NonNullable<RedisCoordinationOptions["log"]>;
  beforeEach(async () => {
    server = await startRedis();
    lines = [];
    const line =
      (level: string) =>
      (message: string, fields: LogFields = {}) => {
        const error = fields.error instanceof Error ? ` (${fields.error.message})` : "";
        lines.push(`${level} ${message}${error}`);
      };
    log = { info: line("info"), warn: line("warn"), error: line("error") };
  });
  afterEach(() => server?.stop());

  const open = (options: Partial<RedisCoordinationOptions> = {}): Coordination =>
    createRedisCoordination({ url: server.url, log, commandMs, quietMs, ...options });
  const hit = (coordination: Coordination) => coordination.hit("key", 1_000_000, 600_000);
  const rejection = async (call: Promise<unknown>): Promise<{ readonly cause?: Error }> => {
    const answer = await call.then(
      (value) => new Error(`answered ${JSON.stringify(value)}`),
      (error: unknown) => error,
    );
    expect(answer).toBeInstanceOf(CoordinationUnavailableError);
    return answer as { readonly cause?: Error };
  };
  const answers = (call: () => Promise<unknown>): Promise<boolean> =>
    call().then(
      () => true,
      () => false,
    );
  /** Whether a subscription has to wait for its confirmation. */
  const waits = async (coordination: Coordination, channel: string): Promise<boolean> => {
    const control = new AbortController();
    const subscribed = coordination.subscribe(channel, () => undefined, control.signal).then(() => false);
    const turn = new Promise<boolean>((resolve) => setImmediate(() => resolve(true)));
    const found = await Promise.race([subscribed, turn]);
    control.abort();
    return found;
  };
  const timed = async <Result>(call: Promise<Result>): Promise<[Result, number]> => {
    const beganMs = performance.now();
    return [await call, performance.now() - beganMs];
  };

  describe("away", () => {
    it("at the start is waited for in the background", async () => {
      await server.kill();
      await using one = open();
      expect((await rejection(hit(one))).cause?.message).toContain("ECONNREFUSED");
      const [, tookMs] = await timed(rejection(one.ping()));
      expect(tookMs).toBeLessThan(100);
      await rejection(one.publish("news", "1"));
      const heard: string[] = [];
      const subscribed = one.subscribe("news", (message) => heard.push(message), new AbortController().signal);

      await server.restart();
      await until(() => answers(() => hit(one)), "a hit counts", 2_000);
      await within(subscribed, "subscribed", 2_000);
      await one.publish("news", "2");
      await until(() => heard.length > 0, "the message");
      expect(heard).toEqual(["2"]);
      await until(() => lines.length === 2, "two lines");
      expect(lines).toEqual([
        expect.stringMatching(/^warn Redis does not serve.*ECONNREFUSED/),
        "info Redis serves again",
      ]);
    });

    it("keeps a subscriber waiting until it aborts, and no longer than the coordination lives", async () => {
      await server.kill();
      await using one = open();
      const control = new AbortController();
      const ended = one.subscribe("news", () => undefined, control.signal);
      const closed = one.subscribe("news", () => undefined, new AbortController().signal);
      await rejection(one.ping());
      control.abort();
      await within(ended, "the subscriber's end");
      const refused = expect(closed).rejects.toThrow("The coordination is closed");
      await one[Symbol.asyncDispose]();
      await refused;
    });

    it("is noticed and got over under load, time and again", async () => {
      await using one = open();
      const heard: string[] = [];
      const { signal } = new AbortController();
      for (const channel of ["news", "weather"]) {
        await one.subscribe(channel, (message) => heard.push(`${channel} ${message}`), signal);
      }
      const load = startLoad(() => hit(one));
      for (let round = 0; round < 3; round++) {
        await until(() => load.answered() > 50, "work under way");
        await server.kill();
        const seen = load.failed();
        await until(() => load.failed() > seen, "a call that rejects", 1_000);
        await server.restart();
        load.reset();
        await until(() => load.answered() > 0, "an answer again", 2_000);
        for (const channel of ["news", "weather"]) {
          const heardAgain = async () => {
            await one.publish(channel, String(round));
            return heard.includes(`${channel} ${round}`);
          };
          await until(heardAgain, "subscriptions live again", 2_000);
        }
        await until(() => lines.length === 2 * (round + 1), "the end of the outage");
      }
      const { slowestMs, errors } = await load.stop();
      expect(slowestMs).toBeLessThan(commandMs + lateMs);
      expect(errors.every((error) => error instanceof CoordinationUnavailableError)).toBe(true);
      // The log has one pair of lines for each outage, however many calls failed.
      expect(lines.map((text) => text.split(" ")[0])).toEqual(["warn", "info", "warn", "info", "warn", "info"]);
    });

    it("for one subscription more, made meanwhile, and one ended meanwhile", async () => {
      await using one = open();
      const heard: string[] = [];
      const [kept, left] = [new AbortController(), new AbortController()];
      await one.subscribe("kept", (message) => heard.push(`kept ${message}`), kept.signal);
      await one.subscribe("left", (message) => heard.push(`left ${message}`), left.signal);
      await server.kill();
      await until(async () => !(await answers(() => one.ping())), "gone");
      left.abort();
      const added = one.subscribe("added", (message) => heard.push(`added ${message}`), kept.signal);
      // The connection for messages may notice the kill a moment later.
      await until(() => waits(one, "kept"), "a channel that stands waits for Redis as well");
      const again = one.subscribe("kept", (message) => heard.push(`again ${message}`), kept.signal);
      await server.restart();
      await within(Promise.all([added, again]), "subscribed", 2_000);
      await until(() => answers(() => one.ping()), "back", 2_000);
      const channels = async () => ((await server.command("pubsub", "channels")) as string[]).length;
      await until(async () => (await channels()) === 2, "two channels");
      for (const channel of ["left", "kept", "added"]) await one.publish(channel, "1");
      await until(() => heard.length >= 3, "three messages");
      expect(heard).toEqual(["kept 1", "again 1", "added 1"]);
    });

    it("by one connection only: it is made anew", async () => {
      await using one = open();
      const heard: string[] = [];
      await one.subscribe("news", (message) => heard.push(message), new AbortController().signal);
      for (const type of ["pubsub", "normal"]) {
        await server.command("client", "kill", "type", type);
        heard.length = 0;
        const works = async () => {
          await one.publish("news", "1");
          return heard.length > 0;
        };
        await until(() => works().catch(() => false), `works without its ${type} connection`, 2_000);
      }
    });
  });

  it("that is flushed begins windows anew and goes on", async () => {
    await using one = open();
    const load = startLoad(() => hit(one));
    await until(() => load.answered() > 50, "work under way");
    const before = await hit(one);
    await server.command("flushall");
    const after = await hit(one);
    expect(after.count).toBeLessThan(before.count);
    await server.command("script", "flush");
    expect((await hit(one)).count).toBeGreaterThan(after.count);
    expect((await load.stop()).errors).toEqual([]);
    expect(lines).toEqual([]);
  });

  describe("that refuses writes", () => {
    it("as a replica: hits reject, pings are answered, and it comes back", async () => {
      await using one = open();
      await hit(one);
      await server.command("replicaof", "127.0.0.1", String(await sparePort()));
      expect((await rejection(hit(one))).cause?.message).toContain("READONLY");
      await until(() => answers(() => one.ping()), "a ping", 2_000);
      // A new connection may reach another server. Here it reaches the same one, which must not get a storm of them.
      const connections = async () => {
        const info = String(await server.command("info", "stats"));
        return Number(/total_connections_received:(\d+)/.exec(info)?.[1]);
      };
      const before = await connections();
      for (let n = 0; n < 20; n++) {
        await rejection(hit(one));
        await until(() => answers(() => one.ping()), "a connection", 2_000);
      }
      expect((await connections()) - before).toBeLessThan(10);
      await server.command("replicaof", "no", "one");
      await until(() => answers(() => hit(one)), "a hit counts", 2_000);
      await until(() => lines.length === 2, "two lines");
      expect(lines).toEqual([expect.stringMatching(/^warn Redis does not serve.*READONLY/), "info Redis serves again"]);
    });

    it("for want of replicas", async () => {
      await using one = open();
      await hit(one);
      await server.command("config", "set", "min-replicas-to-write", "1");
      expect((await rejection(hit(one))).cause?.message).toContain("NOREPLICAS");
      await one.ping();
      await server.command("config", "set", "min-replicas-to-write", "0");
      expect(await hit(one)).toMatchObject({ count: 2 });
    });

    it("for want of memory", async () => {
      await using one = open();
      await hit(one);
      await server.command("config", "set", "maxmemory", "1");
      for (let n = 0; n < 20; n++) expect((await rejection(hit(one))).cause?.message).toContain("OOM");
      await one.ping();
      await one.publish("news", "1");
      await server.command("config", "set", "maxmemory", "0");
      expect(await hit(one)).toMatchObject({ count: 2 });
      await until(() => lines.length > 1, "the end of the outage");
      expect(lines).toEqual([expect.stringMatching(/^warn .*OOM/), "info Redis serves again"]);
    });

    it("time and again within a short while: it is told of once", async () => {
      await using one = open({ quietMs: 1_000 });
      await hit(one);
      for (let n = 0; n < 10; n++) {
        await server.command("config", "set", "maxmemory", "1");
        await rejection(hit(one));
        await server.command("config", "set", "maxmemory", "0");
        await hit(one);
      }
      expect(lines).toEqual([expect.stringMatching(/^warn .*OOM/)]);
      await until(() => lines.length > 1, "the end of the outage");
      expect(lines).toEqual([expect.stringMatching(/^warn .*OOM/), "info Redis serves again"]);
    });

    it("before it has seen the script", async () => {
      await using one = open();
      await one.ping();
      await server.command("config", "set", "maxmemory", "1");
      expect((await rejection(hit(one))).cause?.message).toContain("OOM");
      await server.command("config", "set", "maxmemory", "0");
      expect(await hit(one)).toMatchObject({ count: 1 });
    });
  });

  describe("that stands still", () => {
    it("is waited for no longer than a command may take, and serves again once it moves", async () => {
      await using one = open();
      const heard: string[] = [];
      await one.subscribe("news", (message) => heard.push(message), new AbortController().signal);
      await hit(one);
      await server.pause();
      const [error, tookMs] = await timed(rejection(hit(one)));
      expect(error.cause?.message).toContain("timed out");
      expect(tookMs).toBeGreaterThan(commandMs - 50);
      expect(tookMs).toBeLessThan(commandMs + lateMs);
      // Soon the service gives the connection up, and callers do not wait at all.
      await until(async () => (await timed(rejection(hit(one))))[1] < 50, "calls that reject at once", 3_000);
      server.resume();
      await until(() => answers(() => hit(one)), "a hit counts", 2_500);
      const heardAgain = async () => {
        await one.publish("news", "1");
        return heard.length > 0;
      };
      await until(() => heardAgain().catch(() => false), "subscriptions live", 2_500);
    });

    it("for a moment is not given up", async () => {
      await using one = open({ commandMs: 2_000 });
      await hit(one);
      await server.pause();
      const waiting = hit(one);
      expect(await answers(() => within(waiting, "an answer", 200))).toBe(false);
      server.resume();
      expect(await waiting).toMatchObject({ count: 2 });
      expect(lines).toEqual([]);
    });

    it("while it is connected to", async () => {
      await server.pause();
      await using one = open();
      const [, tookMs] = await timed(rejection(one.ping()));
      expect(tookMs).toBeLessThan(commandMs + lateMs);
      const subscribed = one.subscribe("news", () => undefined, new AbortController().signal);
      server.resume();
      await within(subscribed, "subscribed", 2_500);
      await until(() => answers(() => hit(one)), "a hit counts", 2_500);
    });
  });

  it("behind a network that swallows all is left for a new connection, that of messages too", async () => {
    await using proxy = await openProxy(server.port);
    await using one = open({ url: `redis://127.0.0.1:${proxy.port}` });
    const heard: string[] = [];
    await one.subscribe("news", (message) => heard.push(message), new AbortController().signal);
    await hit(one);
    proxy.swallow();
    await rejection(hit(one));
    await until(() => answers(() => hit(one)), "a hit counts", 3_000);
    // A connection that only listens is tested by nothing but the pings of health checks.
    const heardAgain = async () => {
      await one.ping();
      await one.publish("news", "1");
      return heard.length > 0;
    };
    await until(() => heardAgain().catch(() => false), "subscriptions live", 3_000);
  });

  describe("and the end", () => {
    const conditions: [string, () => Promise<void>][] = [
      ["there", async () => undefined],
      ["away", () => server.kill()],
      ["frozen", () => server.pause()],
    ];
    it.each(conditions)("comes within a second while it is %s, and nothing waits on", async (_, bring) => {
      const one = open();
      const { signal } = new AbortController();
      await one.subscribe("news", () => undefined, signal);
      await hit(one);
      await bring();
      const settled = Promise.allSettled([hit(one), one.publish("news", "1"), one.subscribe("else", () => {}, signal)]);
      const [, tookMs] = await timed(one[Symbol.asyncDispose]());
      expect(tookMs).toBeLessThan(1_000);
      await within(settled, "all settled", 1_000);
      await expect(hit(one)).rejects.toThrow("The coordination is closed");
      await expect(one.subscribe("news", () => undefined, signal)).rejects.toThrow("The coordination is closed");
    });

    it("comes as soon as it has begun", async () => {
      const one = open();
      const waiting = expect(hit(one)).rejects.toThrow("closed");
      await within(one[Symbol.asyncDispose](), "closed", 1_000);
      await waiting;
    });

    it("comes between two attempts", async () => {
      await server.kill();
      const one = open();
      await rejection(one.ping());
      await within(one[Symbol.asyncDispose](), "closed", 1_000);
    });

    it("leaves no connection", async () => {
      const one = open();
      await one.subscribe("news", () => undefined, new AbortController().signal);
      await hit(one);
      const names = async () => String(await server.command("client", "list")).match(/name=lucid-\w+/g) ?? [];
      expect((await names()).sort()).toEqual(["name=lucid-commands", "name=lucid-subscriptions"]);
      await one[Symbol.asyncDispose]();
      await until(async () => (await names()).length === 0, "nobody connected");
      expect(lines).toEqual([]);
    });
  });

  it("a handler that throws keeps no other from hearing", async () => {
    await using one = open();
    const heard: string[] = [];
    const { signal } = new AbortController();
    const broken = () => {
      throw new Error("broken");
    };
    await one.subscribe("news", broken, signal);
    await one.subscribe("news", (message) => heard.push(message), signal);
    await one.publish("news", "1");
    await one.publish("news", "2");
    await until(() => heard.length === 2, "both messages");
    expect(lines).toEqual(Array(2).fill("error A handler of messages failed (broken)"));
    expect(await hit(one)).toMatchObject({ count: 1 });
  });
});

interface Load {
  answered(): number;
  failed(): number;
  /** Starts the counts at zero again; errors and the slowest call stay. */
  reset(): void;
  stop(): Promise<{ readonly slowestMs: number; readonly errors: readonly unknown[] }>;
}

/** Eight callers that call again as soon as they have an answer, or one turn after a refusal. */
function startLoad(call: () => Promise<unknown>): Load {
  const errors: unknown[] = [];
  let [answered, failed, slowestMs, running] = [0, 0, 0, true];
  const caller = async (): Promise<void> => {
    while (running) {
      const beganMs = performance.now();
      try {
        await call();
        answered++;
      } catch (error) {
        failed++;
        errors.push(error);
        await new Promise((resolve) => setImmediate(resolve));
      }
      slowestMs = Math.max(slowestMs, performance.now() - beganMs);
    }
  };
  const callers = Array.from({ length: 8 }, caller);
  return {
    answered: () => answered,
    failed: () => failed,
    reset: () => {
      [answered, failed] = [0, 0];
    },
    stop: async () => {
      running = false;
      await Promise.all(callers);
      return { slowestMs, errors };
    },
  };
}

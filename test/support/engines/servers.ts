// Starts MongoDB and Redis before the first test that runs on the production engines. Each worker has a MongoDB of its
// own, since the stand-in uses no more than one core.
import type { TestProject } from "vitest/node";
import { givenUrls, hasMongo, sharedMongo, startMongo } from "./mongo.js";
import { hasRedis, sharedRedis } from "./redis.js";

const what = "the suite on MongoDB and Redis";

export default async function setup({ vitest }: TestProject): Promise<(() => Promise<void>) | undefined> {
  if (!hasMongo(what) || !hasRedis(what)) return undefined;
  const [mongo, redis] = [await sharedMongo(), await sharedRedis()];
  const isOurs = mongo.pid !== undefined;
  const others = isOurs
    ? await Promise.all(Array.from({ length: vitest.config.maxWorkers - 1 }, () => startMongo()))
    : [];
  process.env[givenUrls] = [mongo, ...others].map(({ url }) => url).join(" ");
  process.env.LUCID_TEST_REDIS_URL = redis.url;
  return async () => {
    process.stdout.write(`MongoDB of the tests: ${mongo.name}; Redis: redis-server\n`);
    for (const server of [mongo, ...others]) await server[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  };
}

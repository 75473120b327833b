// One MongoDB and one Redis for the tests that run on the production engines, started before the first of them.
import type { TestProject } from "vitest/node";
import { hasMongo, sharedMongo } from "./mongo.js";
import { hasRedis, sharedRedis } from "./redis.js";

const what = "the suite on MongoDB and Redis";

export default async function setup(_project: TestProject): Promise<(() => Promise<void>) | undefined> {
  if (!hasMongo(what) || !hasRedis(what)) return undefined;
  const [mongo, redis] = [await sharedMongo(), await sharedRedis()];
  process.env.LUCID_TEST_MONGODB_URL = mongo.url;
  process.env.LUCID_TEST_REDIS_URL = redis.url;
  return async () => {
    process.stdout.write(`MongoDB of the tests: ${mongo.name}; Redis: redis-server\n`);
    await mongo[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  };
}

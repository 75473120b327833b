import { defineConfig } from "vitest/config";

const root = new URL("..", import.meta.url).pathname;
const shared = { root, testTimeout: 30_000, hookTimeout: 60_000, pool: "forks" } as const;

/** What talks to the service as a whole: it must be the same on every engine. */
const throughTheService = ["test/{admin,agent,client,nodes,pools}/**/*.test.ts", "test/contract-rules.test.ts"];

// Files that kill processes, hold thousands of streams or listen to timing run beside one other at the most.
export default defineConfig({
  root,
  test: {
    reporters: ["default", "./test/support/summary.ts"],
    maxWorkers: 2,
    globalSetup: ["test/support/servers.ts"],
    projects: [
      { test: { ...shared, name: "embedded", include: ["test/**/*.test.ts"] } },
      {
        test: {
          ...shared,
          name: "mongodb and redis",
          include: throughTheService,
          // Several replicas under one moved clock share the embedded store in either case.
          exclude: ["test/nodes/replicas.test.ts"],
          env: { LUCID_TEST_ENGINES: "production" },
          // The MongoDB of the tests may be one that is far slower than MongoDB.
          testTimeout: 180_000,
        },
      },
    ],
  },
});

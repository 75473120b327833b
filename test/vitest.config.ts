import { defineConfig } from "vitest/config";

// Files that kill processes, hold thousands of streams or listen to timing run one at a time.
export default defineConfig({
  root: new URL("..", import.meta.url).pathname,
  test: {
    include: ["test/**/*.test.ts"],
    reporters: ["default", "./test/support/summary.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: "forks",
    maxWorkers: 2,
  },
});

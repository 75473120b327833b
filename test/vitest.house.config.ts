// The rules of the house alone, for `make check`: they need no program beside npm's.
import { defineConfig } from "vitest/config";

export default defineConfig({
  root: new URL("..", import.meta.url).pathname,
  test: { include: ["test/{house,scenarios}.test.ts"] },
});

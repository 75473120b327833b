// For `make quick`, between two changes: the embedded engine, and files that need no build and no other program.
import { defineConfig } from "vitest/config";
import { quick, root } from "./vitest.config.js";

export default defineConfig({ root, test: quick });

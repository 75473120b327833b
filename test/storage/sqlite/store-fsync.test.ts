// Shows by a trace of system calls that each write is on disk before it is acknowledged.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { startChild } from "../../support/fleet/child.js";

const hasStrace = spawnSync("strace", ["-V"]).status === 0;
if (!hasStrace) console.warn("SKIPPED: strace not found");
const required = process.env.CI === "true";
const dir = mkdtempSync(join(tmpdir(), "lucid-fsync-"));
const trace = join(dir, "trace");
const writeCount = 6;
afterAll(() => rmSync(dir, { recursive: true, force: true }));

it.runIf(hasStrace || required)("syncs the log between the beginning of a write and its acknowledgement", async () => {
  expect(hasStrace, "strace not found").toBe(true);
  const calls = ["strace", "-f", "-y", "-s", "64", "-e", "trace=fdatasync,fsync,write,pwrite64", "-o", trace];
  const child = startChild(new URL("fsync-writer.ts", import.meta.url), { args: [dir], under: calls });
  expect(await child.ended).toBe(0);
  const lines = readFileSync(trace, "utf8").split("\n");
  for (let n = 0; n < writeCount; n++) {
    const from = lines.findIndex((line) => line.includes(`"begin ${n}\\n"`));
    const to = lines.findIndex((line) => line.includes(`"acknowledged ${n}\\n"`));
    expect(to, `write ${n}`).toBeGreaterThan(from);
    const between = lines.slice(from, to);
    const written = between.findLastIndex((line) => /\bpwrite64\(\d+<[^>]*lucid\.db-wal>/.test(line));
    const synced = between.findLastIndex((line) => /\bf(?:data)?sync\(\d+<[^>]*lucid\.db-wal>\)\s+= 0/.test(line));
    expect(written, `write ${n} reaches the log`).toBeGreaterThan(0);
    expect(synced, `write ${n} is synced after its last byte`).toBeGreaterThan(written);
  }
});

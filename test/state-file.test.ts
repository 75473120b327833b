// The small state files of a process are whole at any moment, also after a kill, and on disk when the write returns.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createStateFile, parseStateFile, readStateFile, writeStateFile } from "../src/state-file.js";
import { startChild } from "./support/fleet/child.js";

const kills = Number(process.env.CRASH_KILLS ?? 5);
const hasStrace = spawnSync("strace", ["-V"]).status === 0;
if (!hasStrace) console.warn("SKIPPED: strace not found");

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-state-"));
  file = join(directory, "state.json");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const writer = new URL("state-file-writer.ts", import.meta.url);
const rules = { readers: "owner", remedy: "restore it" } as const;
const versionNow = () => Number(parseStateFile(file, readStateFile(file, rules) ?? "", rules.remedy).version);

test(`a writer that is killed ${kills} times leaves a whole file, no older than what it was told is written`, async () => {
  for (let kill = 0; kill < kills; kill++) {
    const child = startChild(writer, { args: [file] });
    await child.line((line) => line === `wrote ${20 + kill}`);
    await child.kill();
    const told = Number(/\d+/.exec(child.lines.at(-1) ?? "")?.[0]);
    expect(versionNow()).toBeGreaterThanOrEqual(told);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  }
}, 60_000);

test.runIf(hasStrace || process.env.CI === "true")(
  "the text, then the name are on disk before a write returns",
  async () => {
    const trace = join(directory, "trace");
    const calls = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,write", "-o", trace];
    const child = startChild(writer, { args: [file, "2"], under: calls });
    expect(await child.ended).toBe(0);
    const lines = readFileSync(trace, "utf8").split("\n");
    const after = (from: number, pattern: RegExp) =>
      lines.findIndex((line, place) => place > from && pattern.test(line));
    let at = -1;
    for (const version of [1, 2]) {
      const written = after(at, /write\(\d+<[^>]*state\.json\.\d+-\w+>/);
      const synced = after(written, /fsync\(\d+<[^>]*state\.json\.\d+-\w+>\)\s+= 0/);
      const renamed = after(synced, /rename\w*\(.*state\.json.*= 0/);
      const folderSynced = after(renamed, new RegExp(`fsync\\(\\d+<${directory}>\\)\\s+= 0`));
      at = after(folderSynced, new RegExp(`"wrote ${version}`));
      expect(Math.min(written, synced, renamed, folderSynced, at), `write ${version}: in this order`).toBeGreaterThan(
        -1,
      );
    }
  },
);

test("a file that is made does not take the place of another", () => {
  createStateFile(file, '{"made":"first"}');
  createStateFile(file, '{"made":"second"}');
  expect(readStateFile(file, rules)).toBe('{"made":"first"}');
  writeStateFile(file, '{"made":"third"}');
  expect(readStateFile(file, rules)).toBe('{"made":"third"}');
  expect(readdirSync(directory)).toEqual(["state.json"]);
});

test("no message repeats what the file holds", () => {
  const secret = "hunter2-hunter2";
  for (const text of [secret, `{"key":"${secret}`, `["${secret}"]`, `{"key":{"${secret}":1}}`, `"${secret}"`]) {
    let message = "";
    try {
      parseStateFile(file, text, rules.remedy);
    } catch (error) {
      message = `${String(error)} ${error instanceof Error ? String(error.cause) : ""}`;
    }
    expect(message).toContain("is damaged");
    expect(message).not.toContain("hunter");
  }
});

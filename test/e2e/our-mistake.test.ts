// A mistake of this program in long-lived work, as an operator sees it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { within } from "../support/world/until.js";
import { commandLine, requireBuilt } from "./built.js";
import { startProgram } from "./process.js";

beforeAll(requireBuilt);

/** Makes the embedded store's next read fail with a TypeError, once the process is told to. */
const mistaken = `
  import { StatementSync } from "node:sqlite";
  const all = StatementSync.prototype.all;
  process.once("SIGUSR2", () => {
    StatementSync.prototype.all = function () {
      StatementSync.prototype.all = all;
      throw new TypeError("a mistake in the store");
    };
  });
`;

test("a mistake in long-lived work ends the process with exit code 1, and the log names the task and the error", async () => {
  const directory = mkdtempSync(join(tmpdir(), "lucid-mistake-"));
  try {
    const preload = `--import=data:text/javascript,${encodeURIComponent(mistaken)}`;
    await using program = startProgram(process.execPath, [preload, commandLine, "serve"], {
      cwd: directory,
      env: { PORT: "0", METRICS_PORT: "0" },
    });
    await program.printed(/"Serving"/);
    program.kill("SIGUSR2");
    const { code, stdout } = await within(program.ended, "the process ends", 20_000);
    expect(code).toBe(1);
    const told = stdout.split("\n").filter((line) => line.includes("The service cannot go on"));
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(/"level":"ERROR".*The task \w+ failed.*TypeError: a mistake in the store/);
    expect(stdout).toContain('"Stopped"');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

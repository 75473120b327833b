// Commands that produce the output that a node proves: what they print, and how they are ended when they hang.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { outputOf } from "../../src/cli/produce.js";
import { systemClock } from "../../src/clock.js";
import { type HangingCommands, hangingCommands } from "../support/fleet/hanging-commands.js";
import { createTestClock } from "../support/world/clock.js";
import { until, within } from "../support/world/until.js";

let directory: string;
let commands: HangingCommands;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-produce-"));
  commands = hangingCommands(directory, ["hang"]);
});
afterEach(() => {
  for (const pid of commands.running()) process.kill(pid, "SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

const never = new AbortController().signal;
const produce = (command: string) => outputOf(command, "seed", { clock: systemClock, signal: never });

describe("a command that produces", () => {
  test("is given the nonce, and what it prints is taken byte by byte", async () => {
    expect(Buffer.from(await produce(`printf '%s\\000\\377' "$1"`))).toEqual(Buffer.from("seed\0\xff", "latin1"));
  });

  test.each([
    ["that fails", "echo half; exit 3", "it ended with 3"],
    ["that prints nothing", "true", "it printed nothing"],
    ["that is killed", "kill -9 $$", "it ended with SIGKILL"],
    ["that prints without end", "yes", "it printed more than 1048576 bytes"],
  ])("%s has no output", async (_, command, message) => {
    await expect(produce(command)).rejects.toThrow(`The command did not produce: ${message}`);
  });

  test("that hangs and ignores SIGTERM is given up after its time, with all its processes", async () => {
    const clock = createTestClock();
    const hanging = outputOf(`${directory}/bin/hang; echo done`, "seed", { clock, signal: never });
    hanging.catch(() => undefined);
    await until(() => commands.running().length === 2, "it hangs");
    await clock.advance(60_000);
    await expect(within(hanging, "it is given up")).rejects.toThrow("it was not done within 60000 ms");
    await until(() => commands.running().length === 0, "its processes are gone");
  });

  test("that hangs holds up no agent that stops", async () => {
    const control = new AbortController();
    const hanging = outputOf(`${directory}/bin/hang`, "seed", { clock: systemClock, signal: control.signal });
    hanging.catch(() => undefined);
    await until(() => commands.running().length === 2, "it hangs");
    control.abort();
    await expect(within(hanging, "it is given up")).rejects.toThrow("the agent stops");
    await until(() => commands.running().length === 0, "its processes are gone");
  });

  test("leaves no process behind that it has begun beside its output", async () => {
    const left = join(directory, "left");
    await produce(`sleep 100000 >/dev/null & echo $! > ${left}; echo output`);
    const pid = Number(readFileSync(left, "utf8"));
    await until(
      () => !existsSync(`/proc/${pid}`) || /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8")),
      "gone",
    );
  });
});

// Looks at a machine whose commands hang: real processes, which are ended together with all that they started.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/clock.js";
import { createLook } from "../../src/machine/look.js";
import { createCollector } from "../../src/machine/machine.js";
import { type HangingCommands, hangingCommands } from "../support/fleet/hanging-commands.js";
import { until, within } from "../support/world/until.js";

let directory: string;
let commands: HangingCommands;
const { PATH } = process.env;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-look-"));
  commands = hangingCommands(directory, ["df", "lsblk", "lscpu", "dmidecode"]);
  process.env.PATH = commands.path;
});
afterEach(() => {
  process.env.PATH = PATH;
  for (const pid of commands.running()) process.kill(pid, "SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

describe("a look at the machine", () => {
  test("whose command hangs and ignores SIGTERM ends without an answer in its time, and with all its processes", async () => {
    const look = createLook({ clock: systemClock, limitMs: 1_500 });
    expect(await within(look("disks"), "the look is given up", 5_000)).toBeUndefined();
    expect(commands.begun().length).toBeGreaterThan(0);
    await until(() => commands.running().length === 0, "its commands are gone");
  });

  test("is one at a time: who asks meanwhile gets the same answer", async () => {
    const look = createLook({ clock: systemClock, limitMs: 1_500 });
    const answers = await Promise.all(Array.from({ length: 10 }, () => look("fsSize")));
    expect(new Set(answers)).toEqual(new Set([undefined]));
    const children = 2;
    expect(commands.begun().length).toBeLessThanOrEqual(children);
  });

  test("whose command hangs takes no other with it", async () => {
    const look = createLook({ clock: systemClock, limitMs: 5_000 });
    const disks = look("disks");
    expect(await look("memory")).toMatchObject({ total: expect.any(Number) });
    const [one] = (await look("fileSystems", JSON.stringify(["/"]))) ?? [];
    expect(one?.totalBytes).toBeGreaterThan(one?.freeBytes ?? 0);
    expect(await disks).toBeUndefined();
  });

  test("at a disk that may not be asked has the answers of the others", async () => {
    const look = createLook({ clock: systemClock, limitMs: 5_000 });
    const gone = `${directory}/none`;
    // The path leads through a file as if it were a directory, which fails for every user, even root.
    writeFileSync(`${directory}/file`, "");
    const closed = `${directory}/file/below`;
    const answers = await look("fileSystems", JSON.stringify([gone, "/", closed]));
    expect(answers).toEqual([{ path: "/", totalBytes: expect.any(Number), freeBytes: expect.any(Number) }]);
    const another = createLook({ clock: systemClock, limitMs: 5_000 });
    expect(await another("fileSystems", JSON.stringify([gone, closed]))).toEqual([]);
  });
});

describe("a machine whose commands hang", () => {
  test("is sampled and described in its time by what can be read, and the rest is left out", async () => {
    const collector = createCollector({
      clock: systemClock,
      describeLook: createLook({ clock: systemClock, limitMs: 2_000 }),
    });
    const sample = await within(collector.sample(), "a sample", 5_000);
    expect(sample).toMatchObject({ cpuPercent: expect.any(Number), memoryTotalBytes: expect.any(Number) });
    const described = await within(collector.describe(), "a description", 8_000);
    expect(described).toMatchObject({ cpu: { cores: expect.any(Number) }, memory: { totalBytes: expect.any(Number) } });
    expect(described.storage).toEqual([]);
  });

  test("has the figures of the disks that may be asked", async () => {
    mkdirSync(`${directory}/proc/self`, { recursive: true });
    const mounts = ["27 1 254:1 / / rw - ext4 /dev/vda rw", "28 27 254:2 / /no/such/mount rw - ext4 /dev/vdb rw"];
    writeFileSync(`${directory}/proc/self/mountinfo`, mounts.join("\n"));
    const collector = createCollector({ clock: systemClock, platform: "linux", root: directory });
    expect((await collector.sample()).diskTotalBytes).toBeGreaterThan(0);
  });

  test("has no disk figures, rather than zero, when its disks do not answer", async () => {
    const collector = createCollector({ clock: systemClock, look: async () => undefined });
    const { diskUsedBytes, diskTotalBytes, memoryTotalBytes } = await collector.sample();
    expect([diskUsedBytes, diskTotalBytes]).toEqual([undefined, undefined]);
    expect(memoryTotalBytes).toBeGreaterThan(0);
  });
});

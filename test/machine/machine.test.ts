// What is reported about a machine. A directory of files plays the whole machine.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Look } from "../../src/machine/look.js";
import { createCollector, systemCollector } from "../../src/machine/machine.js";
import { createTestClock } from "../support/world/clock.js";
import { until } from "../support/world/until.js";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "lucid-machine-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(files: Readonly<Record<string, string>>): void {
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
}

const gibibyte = 2 ** 30;
const host = {
  "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 4194304 kB\n",
  "proc/stat": "cpu0 100 0 0 100 0 0 0 0\ncpu1 100 0 0 100 0 0 0 0\n",
  "proc/self/status": "Cpus_allowed_list:\t0-1\n",
  "proc/net/dev":
    "  lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\neth0: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\nveth1: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n",
  "sys/class/net/lo/type": "772",
  "sys/class/net/eth0/type": "1",
  "sys/class/net/veth1/type": "1",
  "proc/self/cgroup": "0::/\n",
  "proc/self/mountinfo":
    "600 500 0:60 / / rw - overlay overlay rw\n" +
    "30 600 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n" +
    "602 600 254:1 /hosts /etc/hosts rw - ext4 /dev/vda1 rw\n" +
    "603 600 0:70 / /mnt/nfs rw - nfs4 server:/models rw\n",
};

/** Answers with a disk of 84 GB, and with nothing else; `asked` collects the paths it was asked for. */
function aDisk(asked: unknown[]): Look {
  const answer = (name: string, argument = "") => {
    if (name !== "fileSystems") return undefined;
    const paths: string[] = JSON.parse(argument);
    asked.push(paths);
    return paths.map((path) => ({ path, totalBytes: 84e9, freeBytes: 24e9 }));
  };
  return (async (name: string, argument?: string) => answer(name, argument)) as Look;
}

async function sampleOf(change: () => void, spanMs: number) {
  const clock = createTestClock();
  const asked: unknown[] = [];
  const collector = createCollector({ clock, root, platform: "linux", processors: 2, look: aDisk(asked) });
  const first = collector.sample();
  await until(() => clock.sleepers === 1, "it waits for a span of processor time");
  await clock.advance(200);
  await first;
  change();
  await clock.advance(spanMs);
  return { sample: await collector.sample(), asked, collector };
}

test("a container with limits reports what it may use, not its host", async () => {
  write({
    ...host,
    "sys/fs/cgroup/memory.max": `${2 * gibibyte}\n`,
    "sys/fs/cgroup/memory.current": `${gibibyte}\n`,
    "sys/fs/cgroup/memory.stat": "inactive_file 0\n",
    "sys/fs/cgroup/cpu.max": "100000 100000\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 1000000\n",
  });
  // The container used a quarter of its one processor for 10 s.
  const change = () => write({ "sys/fs/cgroup/cpu.stat": "usage_usec 3500000\n" });
  const { sample, asked, collector } = await sampleOf(change, 10_000);
  expect(sample.cpuPercent).toBeCloseTo(25, 1);
  expect(sample).toMatchObject({
    memoryUsedBytes: gibibyte,
    memoryTotalBytes: 2 * gibibyte,
    diskUsedBytes: 60e9,
    diskTotalBytes: 84e9,
    networkRxBytes: 10,
    networkTxBytes: 20,
  });
  expect(asked).toEqual([["/etc/hosts"], ["/etc/hosts"]]);
  const described = await collector.describe();
  expect(described.cpu.cores).toBe(1);
  expect(described.memory?.totalBytes).toBe(2 * gibibyte);
  expect(described.network.map((card) => card.interface)).not.toContain("lo");
});

test("a machine without limits reports all of it", async () => {
  write({ ...host, "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/cpu.max": "max 100000\n" });
  const change = () => write({ "proc/stat": "cpu0 130 0 0 170 0 0 0 0\ncpu1 100 0 0 200 0 0 0 0\n" });
  const { sample, collector } = await sampleOf(change, 10_000);
  expect(sample).toMatchObject({ cpuPercent: 15, memoryUsedBytes: 12 * gibibyte, memoryTotalBytes: 16 * gibibyte });
  expect((await collector.describe()).cpu.cores).toBe(2);
});

test("a process that may run on some processors reports those", async () => {
  write({ ...host, "proc/self/status": "Cpus_allowed_list:\t1\n" });
  const change = () => write({ "proc/stat": "cpu0 200 0 0 100 0 0 0 0\ncpu1 125 0 0 175 0 0 0 0\n" });
  const { sample } = await sampleOf(change, 10_000);
  expect(sample.cpuPercent).toBe(25);
});

test("a machine of which nothing can be read has no figures, rather than zeros", async () => {
  const look = (async () => undefined) as Look;
  const collector = createCollector({ clock: createTestClock(), root, platform: "linux", processors: 2, look });
  expect(new Set(Object.values(await collector.sample()))).toEqual(new Set([undefined]));
});

test("a machine of another kind of which nothing can be read has no figures either", async () => {
  const look = (async () => undefined) as Look;
  const collector = createCollector({ clock: createTestClock(), platform: "darwin", look, describeLook: look });
  expect(new Set(Object.values(await collector.sample()))).toEqual(new Set([undefined]));
  expect(await collector.describe()).toMatchObject({ memory: undefined, storage: [], network: [] });
});

test("this machine uses no more than it has, twice at once as well as once", async () => {
  for (const sample of await Promise.all([systemCollector.sample(), systemCollector.sample()])) {
    expect(sample.cpuPercent).toBeGreaterThanOrEqual(0);
    expect(sample.cpuPercent).toBeLessThanOrEqual(100);
    expect(sample.memoryUsedBytes).toBeLessThanOrEqual(sample.memoryTotalBytes ?? 0);
    expect(sample.diskUsedBytes ?? 0).toBeLessThanOrEqual(sample.diskTotalBytes ?? 0);
  }
});
